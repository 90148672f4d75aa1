"""Typed values out of JSON that anybody may have written: what is missing or of another kind is said by its name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}


class NotWholeError(ValueError):
    """A file of results is damaged or cut short; the text says what is wrong, as the end of a sentence."""


class ForeignFileError(NotWholeError):
    """A file is named like one of this app's, but of other software."""


@dataclass(frozen=True)
class Fields:
    """A JSON object whose fields are asked for by name and kind.

    A field that is missing or null is None or empty, unless it is `required`.

    >>> Fields({"Quality": "good"}, "Localization").number("Quality")
    Traceback (most recent call last):
        ...
    bids_hsf.bids.typed_json.NotWholeError: Localization.Quality is a text, expected a finite number

    Attributes
    ----------
    values : mapping of str to value
    place : str
        Name of the object within the file; empty for the file's own.
    """

    values: Mapping[str, Any]
    place: str = ""

    def required(self, name: str) -> str:
        """Read a text that must be there, and not be empty."""
        found = self.text(name)
        if not found:
            raise NotWholeError(f"{self._path(name)} is missing")
        return found

    def text(self, name: str) -> str | None:
        """Read a text."""
        found = self.values.get(name)
        return found if found is None or isinstance(found, str) else self._refuse(name, "a text")

    def number(self, name: str) -> float | None:
        """Read a finite number; whole ones stay whole."""
        found = self.values.get(name)
        return found if found is None or _is_number(found) else self._refuse(name, "a finite number")

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a list of texts."""
        return tuple(
            item if isinstance(item, str) else self._refuse(name, "a list of texts") for item in self._list(name)
        )

    def matrix(self, name: str) -> tuple[tuple[float, ...], ...]:
        """Read a list of lists of numbers."""
        rows = self._list(name)
        if not all(isinstance(row, list) and all(map(_is_number, row)) for row in rows):
            self._refuse(name, "a list of lists of numbers")
        return tuple(map(tuple, rows))

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Read an object, whatever its fields hold."""
        found = self.values.get(name)
        if found is None:
            return {}
        return found if isinstance(found, dict) else self._refuse(name, "an object")

    def numbers(self, name: str) -> Mapping[str, float]:
        """Read an object of finite numbers."""
        fields = self.fields(name)
        found = {key: fields.number(key) for key in fields.values}
        return {key: value for key, value in found.items() if value is not None}

    def fields(self, name: str) -> "Fields":
        """Read an object, to be asked for its fields."""
        return Fields(self.mapping(name), self._path(name))

    def objects(self, name: str) -> tuple["Fields", ...]:
        """Read a list of objects, to be asked for their fields."""
        items = self._list(name)
        if not all(isinstance(item, dict) for item in items):
            self._refuse(name, "a list of objects")
        return tuple(Fields(item, self._path(name)) for item in items)

    def _list(self, name: str) -> list[Any]:
        found = self.values.get(name)
        if found is None:
            return []
        return found if isinstance(found, list) else self._refuse(name, "a list")

    def _path(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def _refuse(self, name: str, expected: str) -> Any:
        found = self.values[name]
        raise NotWholeError(f"{self._path(name)} is {KINDS[type(found)]}, expected {expected}")


def _is_number(value: Any) -> bool:
    if type(value) is float:  # most are
        return math.isfinite(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a number of a thousand digits
        return False
