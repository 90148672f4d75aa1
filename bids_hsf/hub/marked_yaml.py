"""YAML as plain values that know their lines.

No Python object is ever built from a tag, and scalars are taken as they are written (a version 4.0 stays "4.0"): the
schema says which type is meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bids_hsf.errors import CardError
from bids_hsf.files import read_text

MAX_CARD_BYTES = 2**18  # forty times HSF's own; a second to read, whatever it holds
MAX_DEPTH = 20
MAX_NODES = 20_000  # YAML aliases let a small file stand for a huge tree

Place = tuple[str | int, ...]


@dataclass
class MarkedYaml:
    """A YAML file as dicts, lists and strings, None where nothing stands.

    Attributes
    ----------
    path : Path
    content : object
    lines : dict of tuple to int
        Line of each piece, counted from 1, by the keys and indices that lead to it.
    """

    path: Path
    content: Any = None
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """Line of a piece, or of the innermost one around it that is there."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, message: str) -> CardError:
        """Error that points at a piece."""
        return CardError(
            f"{self.path}, line {self.line(place)}: {message}", "models_hub/README.md describes each field."
        )


class _FewNodes(yaml.SafeLoader):
    """Gives up on a file of many items while it is read; afterwards it would have taken its time."""

    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Build the next node."""
        self.count += 1
        if self.count > MAX_NODES:
            raise yaml.YAMLError("it holds too many items")
        return super().compose_node(parent, index)


def yaml_text(content: Mapping[str, Any]) -> str:
    """Write plain values as YAML, in their order."""
    return str(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120))


def read_yaml(path: Path) -> MarkedYaml:
    """Read a YAML file of limited size, depth and number of items.

    Raises
    ------
    CardError
        The file cannot be read, is no YAML, or is beyond a limit; keys are no words or stand twice.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CARD_BYTES:
            raise CardError(f"{path}: expected a card of at most {MAX_CARD_BYTES} bytes, got {size}")
        node = yaml.compose(read_text(path), Loader=_FewNodes)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise CardError(
            f"{path}, line {line}: not valid YAML: {error.problem}", "Check indentation and quotes."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(f"{path}: not a YAML text file: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise CardError(f"{path}: the card cannot be read: {error.strerror}", "Check the path.") from error
    if node is None:
        raise CardError(f"{path}: the card is empty")
    marked = MarkedYaml(path)
    marked.content = _plain(node, (), marked)
    return marked


def _plain(node: yaml.Node, place: Place, marked: MarkedYaml) -> Any:
    """Value of a node, with aliases spelled out; notes the line of each piece."""
    marked.lines.setdefault(place, node.start_mark.line + 1)
    if len(place) > MAX_DEPTH or len(marked.lines) > MAX_NODES:
        raise CardError(f"{marked.path}: the card holds too many items, or aliases that multiply")
    if isinstance(node, yaml.ScalarNode) and not _is_text(node.value):
        raise marked.error(place, "expected text, got half a character (a surrogate)")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, index), marked) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    content: dict[str, Any] = {}
    for key, value in node.value:
        inner = (*place, str(key.value).encode("utf-8", "backslashreplace").decode())
        if not isinstance(key, yaml.ScalarNode) or not key.value or key.value in content:
            told = f"{key.value} stands twice" if isinstance(key, yaml.ScalarNode) and key.value else "expected a word"
            marked.lines[inner] = key.start_mark.line + 1
            raise marked.error(inner, told)
        marked.lines.setdefault(inner, key.start_mark.line + 1)
        if not _is_text(key.value):
            raise marked.error(inner, "expected text, got half a character (a surrogate)")
        content[key.value] = _plain(value, inner, marked)
    return content


def _is_text(value: str) -> bool:
    r"""Whether a text can be written: escapes such as "\ud800" make what no encoding has."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
