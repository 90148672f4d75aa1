"""Sections of a Singularity definition file."""

import re
from collections.abc import Mapping
from pathlib import Path


def sections(path: Path) -> dict[str, str]:
    """Section name without its per cent sign -> its text."""
    parts = re.split(r"^%(\w+)[^\n]*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def filled_in(text: str, arguments: Mapping[str, str]) -> str:
    """Text with its ``{{ NAME }}`` replaced, as by ``apptainer build --build-arg``."""
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda match: arguments[match[1]], text)


def files(path: Path) -> list[tuple[str, str]]:
    """Pairs of source and target of %files."""
    pairs = (line.split() for line in sections(path)["files"].splitlines() if line.strip())
    return [(source, target) for source, target in pairs]


def with_environment(path: Path, section: str) -> str:
    """Text of a section as Singularity runs it: after %environment."""
    content = sections(path)
    return f"{content['environment']}\n{content[section]}"
