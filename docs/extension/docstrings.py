"""Docstrings as Sphinx has to have them."""

import re
from typing import Any

# Names that share one type, as numpydoc has them; lines of text stand further in.
NAMES = re.compile(r"(?P<names>\w+(?:, \w+)+) : (?P<what>.+)")


def part_names(*said: Any) -> None:
    """Give each name an entry of its own: of ``a, b : int`` Sphinx would show ``b`` with the type ``(a,)``."""
    lines: list[str] = said[-1]
    parted: list[str] = []
    for number, line in enumerate(lines):
        found = NAMES.fullmatch(line)
        if found is None:
            parted.append(line)
            continue
        body = []
        for text in lines[number + 1 :]:
            if not text.startswith(" "):
                break
            body.append(text)
        names = found["names"].split(", ")
        for each in names[:-1]:
            parted += [f"{each} : {found['what']}", *body]
        parted.append(f"{names[-1]} : {found['what']}")
    lines[:] = parted
