"""Overrides as Hydra writes them, such as ``roiloc.margin=[8,8,8]``: what a shell leaves of quotes included."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bids_hsf.errors import UsageError

WORDS = {"null": None, "true": True, "false": False}
CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Override:
    """One ``name=value``.

    Attributes
    ----------
    name : str
        Without the "+" of what Hydra's own files do not hold.
    value : object
        None, bool, int, float, str, list or dict.
    word : str
        As it was typed.
    """

    name: str
    value: Any
    word: str


def read_overrides(words: Sequence[str]) -> list[Override]:
    """Read words, in their order.

    Raises
    ------
    UsageError
        A word is none, or its brackets do not close.
    """
    overrides = []
    for word in words:
        name, equals, text = word.partition("=")
        if name.startswith("~"):
            raise UsageError(f"{word} takes a setting away, as Hydra does: here all have a value", "Leave it out.")
        if not equals or not re.fullmatch(r"\+{0,2}[A-Za-z_][\w./@-]*", name):
            hint = "Such as files.path=~/MRI, without blanks; options of bids-hsf have one word, too: --nprocs=2"
            raise UsageError(f"expected NAME=VALUE as HSF has it, got {word!r}", hint)
        overrides.append(Override(name.lstrip("+"), read_value(text, word), word))
    return overrides


def read_value(text: str, word: str = "") -> Any:
    """Read a value.

    >>> read_value("[16,4,16]"), read_value("1/23"), read_value("False"), read_value("''")
    ([16, 4, 16], '1/23', False, '')
    >>> read_value("[[CUDAExecutionProvider,{device_id:0}],CPUExecutionProvider]")
    [['CUDAExecutionProvider', {'device_id': 0}], 'CPUExecutionProvider']

    Raises
    ------
    UsageError
    """
    if text[:1] not in CLOSING:
        return _plain(text)
    value, rest = _nested(text, word or text)
    if rest.strip():
        raise _unreadable(word or text, f"{rest.strip()!r} behind the last bracket")
    return value


def _nested(text: str, word: str) -> tuple[Any, str]:
    """Read a list, a mapping or a plain value at the front; what is behind it comes along."""
    text = text.lstrip()
    if text[:1] not in CLOSING:
        plain = re.match(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,\]}]*)""", text)
        assert plain is not None
        return _plain(plain[1].strip()), text[plain.end() :]
    closing, items, rest = CLOSING[text[0]], [], text[1:].lstrip()
    while not rest.startswith(closing):
        if not rest:
            raise _unreadable(word, f"no {closing!r}")
        key = None
        if closing == "}":
            found = re.match(r"""\s*["']?([^"':,{}\[\]]+)["']?\s*:""", rest)
            if found is None:
                raise _unreadable(word, "a mapping has the form {name:value}")
            key, rest = found[1].strip(), rest[found.end() :]
        value, rest = _nested(rest, word)
        items.append((key, value))
        rest = rest.lstrip()
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif rest and not rest.startswith(closing):
            raise _unreadable(word, f"{rest[:20]!r} where ',' or {closing!r} was expected")
    return (dict(items) if closing == "}" else [value for _, value in items]), rest[1:]


def _plain(text: str) -> Any:
    """Read a value without brackets."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for number in (int, float):
        if re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _unreadable(word: str, reason: str) -> UsageError:
    return UsageError(f"{word!r} cannot be read: {reason}", "Put single quotes around the whole word, for the shell.")
