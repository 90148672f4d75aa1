"""YAML read against a schema, with the line of each mistake.

Files are parsed to nodes that know their line; no Python object is ever built from a tag. Scalars are taken as they are
written (a version 4.0 stays "4.0"), for the schema says which type is meant.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from bids_hsf.errors import CardError

MAX_CARD_BYTES = 2**20
MAX_DEPTH = 20
MAX_NODES = 20_000  # YAML aliases let a small file stand for a huge tree


@dataclass(frozen=True)
class Entry:
    """A piece of a YAML file that knows its line and reads itself as the type that is expected.

    Every method raises CardError, with the line, where the piece is something else.
    """

    node: yaml.Node
    path: Path

    def error(self, message: str) -> CardError:
        """Error that points at this piece."""
        return CardError(
            f"{self.path}, line {self.node.start_mark.line + 1}: {message}",
            "models_hub/README.md describes each field.",
        )

    def scalar(self, text: str) -> "Entry":
        """Entry that reads as if `text` stood in the file."""
        return Entry(
            yaml.ScalarNode("tag:yaml.org,2002:str", text, self.node.start_mark, self.node.end_mark), self.path
        )

    def pairs(self) -> "list[tuple[Entry, Entry]]":
        """Keys and values of a mapping; a key stands once."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"expected a mapping of 'key: value' lines, got {self._shown()}")
        pairs = [(Entry(key, self.path), Entry(value, self.path)) for key, value in self.node.value]
        seen: set[str] = set()
        for key, _ in pairs:
            if key.text() in seen:
                raise key.error(f"{key.text()} stands twice")
            seen.add(key.text())
        return pairs

    def fields(self, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> "dict[str, Entry]":
        """Values of a mapping by key, which must be known ones."""
        known = required + optional
        fields = {}
        for key, value in self.pairs():
            if key.text() not in known:
                near = difflib.get_close_matches(key.text(), known, n=1)
                meant = f"; did you mean {near[0]}?" if near else f"; expected one of: {', '.join(known)}"
                raise key.error(f"unknown field {key.text()!r}{meant}")
            fields[key.text()] = value
        missing = [key for key in required if key not in fields]
        if missing:
            raise self.error(f"missing field{'s' if len(missing) > 1 else ''}: {', '.join(missing)}")
        return fields

    def items(self) -> "list[Entry]":
        """Items of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"expected a list, got {self._shown()}")
        return [Entry(item, self.path) for item in self.node.value]

    def text(self, pattern: str = r"(?s).*\S.*", expected: str = "text") -> str:
        """Scalar as it is written, outer blanks removed; all of it must match `pattern`."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag == "tag:yaml.org,2002:null":
            raise self.error(f"expected {expected}, got {self._shown()}")
        value = str(self.node.value).strip()
        if not re.fullmatch(pattern, value) or any(ord(letter) < 32 and letter not in "\n\t" for letter in value):
            raise self.error(f"expected {expected}, got {value!r}")
        return value

    def choice(self, options: tuple[str, ...]) -> str:
        """Read one of a few words."""
        value = self.text(expected=" or ".join(options))
        if value not in options:
            raise self.error(f"expected {' or '.join(options)}, got {value!r}")
        return value

    def number(self, low: float, high: float) -> float:
        """Read a number from `low` to `high`."""
        expected = f"a number from {low:g} to {high:g}"
        value = float(self.text(r"-?\d+(\.\d*)?([eE][+-]?\d+)?", expected))
        if not low <= value <= high:
            raise self.error(f"expected {expected}, got {value:g}")
        return value

    def number_or(self, word: str, low: float, high: float) -> float | None:
        """Read a number from `low` to `high`, or None where `word` stands."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.value == word:
            return None
        if isinstance(self.node, yaml.ScalarNode) and not re.match(r"[-\d]", self.node.value):
            raise self.error(f"expected {word!r} or a number from {low:g} to {high:g}, got {self._shown()}")
        return self.number(low, high)

    def integer(self, low: int, high: int) -> int:
        """Read a whole number from `low` to `high`."""
        expected = f"a whole number from {low} to {high}"
        value = int(self.text(r"-?\d{1,18}", expected))
        if not low <= value <= high:
            raise self.error(f"expected {expected}, got {value}")
        return value

    def distinct(self, values: list[str]) -> tuple[str, ...]:
        """Return `values`, which must be there and differ."""
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice or not values:
            raise self.error(f"{', '.join(twice)} stands twice" if twice else "expected at least one item, got none")
        return tuple(values)

    def _shown(self) -> str:
        """Describe the piece in a word or two, for error messages."""
        if isinstance(self.node, yaml.ScalarNode):
            return "nothing" if self.node.tag == "tag:yaml.org,2002:null" else repr(self.node.value)
        return "a mapping" if isinstance(self.node, yaml.MappingNode) else "a list"


def read_yaml(path: Path) -> Entry:
    """Parse a YAML file to nodes, without building any Python object from it."""
    try:
        size = path.stat().st_size
        if size > MAX_CARD_BYTES:
            raise CardError(f"{path}: expected a card of at most {MAX_CARD_BYTES} bytes, got {size}")
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise CardError(
            f"{path}, line {line}: not valid YAML: {error.problem}", "Check indentation and quotes."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(f"{path}: not a YAML text file: {error}") from error
    except OSError as error:
        raise CardError(f"{path}: the card cannot be read: {error.strerror}", "Check the path.") from error
    if node is None:
        raise CardError(f"{path}: the card is empty")
    if _count_nodes(node, 0) > MAX_NODES:
        raise CardError(f"{path}: the card holds too many items, or aliases that multiply")
    return Entry(node, path)


def _count_nodes(node: yaml.Node, depth: int, budget: int = MAX_NODES) -> int:
    """Count the nodes of the tree with aliases spelled out; stops once `budget` is spent."""
    if depth > MAX_DEPTH:
        return budget + 1
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    count = 1
    for child in children:
        if count > budget:
            break
        count += _count_nodes(child, depth + 1, budget - count)
    return count
