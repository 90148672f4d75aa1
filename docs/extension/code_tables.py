"""Columns, keys, labels and models, from the code's own constants and docstrings."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from bids_hsf.bids import provenance, sidecars
from bids_hsf.bids.group_dictionary import CHANGES
from bids_hsf.bids.maps import DESCRIPTIONS
from bids_hsf.bids.tables import TSV_COLUMNS
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import is_packaged, list_cards, member_path
from bids_hsf.labels import COORDINATES, bilateral
from bids_hsf.reports.review import KEYS
from bids_hsf.runs.config import LAUNCHERS
from extension.markdown import cell, code, from_docstring, plain, table


def dseg_columns(_: str) -> str:
    """Columns of the table of a scan."""
    return described_columns(TSV_COLUMNS)


# What a dictionary must leave out: pybids would take the column for the entity of the table itself.
UNTOLD = {"suffix": {"Description": "Contrast by the scan's suffix; two joined by + where the votes of two scans were"}}


def described_columns(columns: Mapping[str, Any]) -> str:
    """Columns of a table by its data dictionary; words that stand in it are explained."""
    rows = []
    for name, told in columns.items():
        how = told or UNTOLD.get(name, {})
        levels = "; ".join(f"{word}: {what}" for word, what in how.get("Levels", {}).items())
        rows.append(
            (code(name), plain(". ".join(filter(None, [how.get("Description"), levels]))), how.get("Units", ""))
        )
    return table(["column", "what", "unit"], rows)


def review_keys(_: str) -> str:
    """Keys of the page on which scans are rated."""
    return table(["key", "what it does"], [(" ".join(map(code, keys.split())), plain(text)) for keys, text in KEYS])


@cache
def cards() -> tuple[ModelCard, ...]:
    """All packaged cards."""
    return tuple(list_cards([]))


def launchers(_: str) -> str:
    """List schedulers and workflow tools that `--print-launcher` knows."""
    return ", ".join(map(code, LAUNCHERS)) + "\n"


def changes(_: str) -> str:
    """Columns of the table of changes between sessions."""
    return described_columns(CHANGES)


def attributes(name: str) -> str:
    """Fields of a dataclass as its docstring explains them: ``sidecars.Sidecar``."""
    module, _, of = name.rpartition(".")
    kind = getattr({"sidecars": sidecars, "provenance": provenance}[module], of)
    keys = _keys(kind)
    rows = []
    for field_name, what, text in described(kind):
        if not text:
            raise ValueError(f"{name}.{field_name} has no line of documentation, which a page shows")
        rows.append((code(keys.get(field_name, "...")), plain(in_json(what)), from_docstring(text)))
    return table(["key", "kind", "what"], rows)


# A type of ours in the words of those who read the file, each where the ones before it have been put in.
IN_JSON = {
    r"tuple of tuple of float, \(4, 4\)": "4 rows of 4 numbers",
    r"mapping of str to value": "object",
    r"mapping of str to": "object of",
    r"\btuple of KnownFile\b": "list of files",
    r"\btuple of str\b": "list of texts",
    r"\btuple of (\w+)\b": r"list of objects",
    r"\b(Model|Localization|Coregistration)\b": "object",
    r"\bstr\b": "text",
    r"\bof float\b": "of numbers",
    r"\bfloat\b": "number",
    r"\bint\b": "whole number",
    r"\bNone\b": "null",
}


def in_json(what: str) -> str:
    """Say a type of Python as those who read JSON would.

    >>> in_json("mapping of str to float"), in_json("tuple of str"), in_json("float or None")
    ('object of numbers', 'list of texts', 'number or null')
    """
    for pattern, words in IN_JSON.items():
        what = re.sub(pattern, words, what)
    return what


def _keys(kind: Any) -> dict[str, str]:
    """Names of a dataclass's fields to the keys under which its ``to_json`` writes them."""
    keys: dict[str, str] = {}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind.to_json)))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                for inner in ast.walk(value):
                    is_own = isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "self"
                    if is_own and isinstance(key, ast.Constant):
                        keys.setdefault(inner.attr, key.value)
    return keys | ({"sources": "Sources"} if "sources" in vars(kind).get("__annotations__", {}) else {})


def described(kind: type) -> Iterable[tuple[str, str, str]]:
    """Name, type and text of each attribute in a numpydoc docstring."""
    text = (inspect.getdoc(kind) or "").partition("Attributes\n----------\n")[2]
    told = {}
    for head, body in re.findall(r"^(\S.*?)\n((?:    .*\n?)*)", text + "\n", flags=re.MULTILINE):
        names, _, what = head.partition(" : ")
        told.update({name.strip(): (what, " ".join(body.split())) for name in names.split(",")})
    for field in fields(kind):
        what, body = told[field.name]
        yield field.name, what, body


def map_descriptions(suffix: str) -> str:
    """List the maps of a suffix, "probseg" or "coords"."""
    of_suffix = {name: text for name, text in DESCRIPTIONS.items() if (name in COORDINATES) == (suffix == "coords")}
    rows = [(code(f"*_desc-{name}_{suffix}.nii.gz"), plain(text)) for name, text in of_suffix.items()]
    return table(["file", "what each voxel holds"], rows)


def labels(family: str) -> str:
    """List indices, names and colours of the label maps of a family."""
    card = next(card for card in cards() if card.family == family)
    left, right = [[label for at, label in bilateral(card.labels) if at == side] for side in ("L", "R")]
    rows = [
        (a.index, b.index, plain(a.name), code(a.abbreviation), code(a.color)) for a, b in zip(left, right, strict=True)
    ]
    return table(["left", "right", "structure", "abbreviation", "colour"], rows)


def merges(family: str) -> str:
    """List what ``--ca-mode`` offers for a family."""
    card = next(card for card in cards() if card.family == family)
    rows = [
        (
            code(f"--ca-mode {merge.name}"),
            ", ".join(code(label.abbreviation) for label in merge.labels),
            _seg(card, merge.suffix),
        )
        for merge in card.merges
    ]
    return table(["option", "structures", "in file names"], rows)


def _seg(card: ModelCard, suffix: str) -> str:
    return code(f"seg-{card.family}{suffix}")


def models(family: str) -> str:
    """All models of the hub, or those of one family, as their cards tell them."""
    shown = [card for card in cards() if family in ("", card.family)]
    return table(
        ["model", "networks x views", "precision", "size", "where from"],
        [
            (
                code(card.name),
                f"{len(card.members)} x {1 + card.n_augmentations}",
                card.precision,
                _size(card),
                "in the package" if _packaged(card) else "download",
            )
            for card in shown
        ],
    )


def _packaged(card: ModelCard) -> bool:
    paths = [member_path(member, card) for member in card.members]
    return all(path.is_file() and is_packaged(member) for path, member in zip(paths, card.members, strict=True))


def _size(card: ModelCard) -> str:
    sizes = [member.size for member in card.members]
    return f"{sum(filter(None, sizes)) / 1e6:.1f} MB" if all(sizes) else "told when it is fetched"


def family_facts(family: str) -> str:
    """Tell what the card of a family says of it."""
    card = next(card for card in cards() if card.family == family)
    voxels = "the scan's own" if card.voxel_size_mm is None else f"{card.voxel_size_mm:g} mm"
    facts = {
        "Structures": ", ".join(label.abbreviation for label in card.labels),
        "Contrasts": ", ".join(card.contrasts),
        "Voxels that the networks see": voxels,
        "Licence of the weights": card.license,
        "Trained on": card.training_data,
        "Measured": card.evaluation,
        "To be cited": card.citation,
    }
    return "\n".join(f"**{name}**: {plain(cell(text))}\n" for name, text in facts.items())


MAKERS = {
    "launchers": launchers,
    "review-keys": review_keys,
    "dseg-columns": dseg_columns,
    "changes": changes,
    "attributes": attributes,
    "map-descriptions": map_descriptions,
    "labels": labels,
    "merges": merges,
    "models": models,
    "family": family_facts,
}
