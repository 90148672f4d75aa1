"""Answers of ``hsf-hub``, for people and as JSON."""

import json
import logging
import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from bids_hsf.cli.console import complain, show
from bids_hsf.errors import BidsHsfError


@dataclass(frozen=True)
class Answer:
    """What a command has to say.

    Attributes
    ----------
    data : object
        For --json: built of dicts, lists, dataclasses and plain values.
    text : str
        For people.
    exit_code : int
    """

    data: Any
    text: str
    exit_code: int = 0


def plain(value: Any) -> Any:
    """Dataclasses to dicts, paths to strings, NaN to None: what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _json(data: Any) -> str:
    """JSON in which what is not printable is spelt out as JSON has it."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_answer(answer: Answer, as_json: bool) -> int:
    """Print an answer; returns its exit code."""
    show(_json(plain(answer.data)) if as_json else answer.text)
    return answer.exit_code


def report_error(error: BidsHsfError, as_json: bool) -> int:
    """Print an error and its hint to stderr, and for --json to stdout too; returns its exit code."""
    complain(f"error: {error.message}", logging.ERROR)
    if error.hint:
        complain(f"hint: {error.hint}")
    if as_json:
        show(_json({"error": error.message, "hint": error.hint, "exit_code": error.exit_code}))
    return error.exit_code
