"""What the pages of the site tell people to type, and how each of it is tried.

As a script: a table of all of it, by the way in which it is tried.

======== =====================================================================================
run      by the program itself, or by bash, in a folder that has what the pages speak of
parsed   what needs another machine (a container engine, a scheduler, a network, a dataset of
         the reader's): its words for the program go through the program's own parser, names of
         models through the hub, and the files of this repository that it names must be there
looked at viewers, R, and what sets up an environment: files, columns, packages that they name
         must be there
======== =====================================================================================
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>console|python|r)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)
OURS = ("bids-hsf", "hsf-hub", "hsf")
ENGINES = ("docker", "podman", "singularity", "apptainer")
VIEWERS = ("itksnap", "freeview", "fsleyes", "Slicer")
SHELL = ("ls", "cut", "cat", "head", "printf")
SET_UP = ("git", "python3", ".", "pip", "conda", "make", "export")


@dataclass(frozen=True)
class Block:
    """One block of a page: commands with what they answer, or code.

    Attributes
    ----------
    page : Path
    language : str
        "console", "python" or "r".
    text : str
    """

    page: Path
    language: str
    text: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands, each with the lines that are to be seen after it; lines that end with a backslash are joined."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line:
                assert found, f"{self.page.name}: {line!r} stands before any command"
                found[-1][1].append(line)
        return found


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in its order."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.M)
        found.append(Block(page, match["language"], body))
    return found


def way(command: str) -> str:
    """How a command is tried: "run", "parsed" or "looked at"."""
    program = command.split()[0]
    if program in OURS:
        return "run" if can_run(shlex.split(command)) else "parsed"
    if program in ENGINES or program.endswith("sbatch"):
        return "parsed"
    if program in SHELL:
        return "run"
    if program in VIEWERS or program in SET_UP:
        return "looked at"
    raise AssertionError(f"nobody knows how to try {command!r}")


def can_run(words: list[str]) -> bool:
    """Whether one of our programs can do it here: not what fetches, takes minutes, or has folders of the reader's."""
    if words[1] in ("fetch", "verify", "evaluate", "quantize"):
        return False
    return not any(re.search(r"(^|=)[/~]", word) for word in words)  # of the reader's machine


def words_for_the_program(command: str) -> list[str] | None:
    """What a command hands to ``bids-hsf`` through a container or a scheduler; None for one that starts no run."""
    words = shlex.split(command.rstrip(")").partition("$(")[2] if "=$(" in command else command)
    if words[0] == "sbatch":
        script = next(i for i, word in enumerate(words) if word.endswith(".sh"))
        rest = words[script + 1 :]
        return ["/bids", "/out", *(rest if rest[:1] == ["group"] else ["participant", *rest])]
    if words[1] != "run":
        return None
    rest = words[2:]
    while rest[0].startswith("-"):
        has_value = rest[0] in ("-v", "-e", "-B", "--user", "--gpus", "--env", "--entrypoint")
        rest = rest[2 if has_value else 1 :]
    return rest[1:]


def told_before(page: Path, command: str) -> bool:
    """Whether the page of the first scan tells the same, where it is tried: the front page and the README do."""
    first = [told for block in blocks(DOCS / "first-scan.md") for told, _ in block.commands]
    return page.stem in ("index", "README") and command in first


def everything() -> Iterator[tuple[str, str, str]]:
    """Page, way and text of all that is told to be typed."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "console":
                yield from ((page.name, way(command), command) for command, _ in block.commands)
            else:
                yield page.name, "run" if block.language == "python" else "looked at", f"{block.language} block"


if __name__ == "__main__":
    for name, how, text in everything():
        print(f"{name:20} {how:10} {text}")
    print(*sorted(Counter(how for _, how, _ in everything()).items()))
