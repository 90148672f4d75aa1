"""Texts for people: tables, near words, and strangers' words made harmless."""

import difflib
import re
from collections.abc import Iterable, Sequence


def printable(text: str, kept: str = "\n\t") -> str:
    r"""Text in which nothing commands a terminal: what is not printable is spelt out, but for what is kept.

    Names of files, labels and cards are strangers' words. Escape sequences would erase what was printed before, and a
    new line would forge a line of the log.

    >>> printable("sub-01\x1b[2J"), printable("two\nlines", kept="")
    ('sub-01\\x1b[2J', 'two\\nlines')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: columns as wide as their longest cell, nothing after the last one.

    >>> text_table(("scan", "state"), [("sub-01", "done")])
    ['scan    state', 'sub-01  done']
    """
    rows = [[printable(cell, kept="") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows)
    ]


def near(word: str, known: Iterable[str]) -> str:
    """Ask whether another word was meant, where one is near; whoever writes it in other cases means it, too.

    >>> near("--modle", ["--model", "--mem"]), near("GROUP", ["group", "status"]), near("x", ["group"])
    ('Did you mean --model? ', 'Did you mean group? ', '')
    """
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"Did you mean {by_lower[found[0]]}? " if found else ""


def natural_order(text: str) -> list[tuple[int, str]]:
    """Sort key by which run-2 comes before run-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
