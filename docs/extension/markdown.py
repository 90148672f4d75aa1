"""Tables in Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Write a table; what would end a cell or a line is made harmless.

    >>> print(table(["a", "b"], [[1, "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\|y |
    <BLANKLINE>
    """
    lines = [list(heads), *[list(row) for row in rows]]
    texts = ["| " + " | ".join(cell(value) for value in line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(heads), *texts[1:], ""])


def cell(value: Any) -> str:
    """One cell, on one line."""
    return " ".join(str(value).replace("|", "\\|").split())


def code(text: Any) -> str:
    """Mark as code, whatever is in it."""
    return f"`{text}`" if "`" not in str(text) else f"`` {text} ``"


def from_docstring(text: str) -> str:
    """Text of a docstring, with its marks of code kept.

    >>> from_docstring("The ``seg-`` entity of `Sidecar`")
    'The `seg-` entity of `Sidecar`'
    """
    parts = re.split(r"``(.+?)``|`(.+?)`", text)
    return "".join(plain(p) if i % 3 == 0 else code(p) for i, p in enumerate(parts) if p)


def plain(text: str) -> str:
    r"""Text of a program, in which no letter is Markdown's.

    >>> print(plain("NAME|CARD.yaml, OUT/logs/config_*.toml and <run>"))
    NAME|CARD.yaml, OUT/logs/config\_\*.toml and &lt;run>
    """
    for letter in "\\*_[]`$":
        text = text.replace(letter, "\\" + letter)
    return text.replace("<", "&lt;").replace("~", "\\~")
