"""``hsf-hub list``: all models in a table, and which of them suits this machine."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bids_hsf.cli.answers import Answer
from bids_hsf.hub import DEFAULT_MODEL, OFFLINE_MODEL
from bids_hsf.text_table import text_table

if TYPE_CHECKING:
    from bids_hsf.hub.cards import ModelCard

SPARSE_DEFAULT_MODEL = "bagging_sq"  # the default's labels and contrasts, int8
UNMEASURED = "not measured here"

# Heads of the table, and what stands below them.
COLUMNS = {
    "model": "model",
    "labels": "labels",
    "contrasts": "contrasts",
    "voxels": "voxels",
    "passes": "passes",
    "MB": "MB",
    "here": "cached",
    "licence": "licence",
    "accuracy": "measured Dice",
    "time": "time a scan",
    "note": "note",
}


def list_models(options: argparse.Namespace) -> Answer:
    """Show all models in a table."""
    from bids_hsf.hub.models import cache_root, list_cards
    from bids_hsf.machine import int8_feature

    cards = list_cards(options.hub_dir)
    reasons = recommendations(cards)
    rows = [_row(card, reasons) for card in cards]
    cells = [[_cell(row[column]) for column in COLUMNS] for row in rows]
    lines = [*text_table(list(COLUMNS.values()), cells), ""]
    lines += [f"Recommended here: {name}: {reason}" for name, reason in reasons.items()]
    if any(row["accuracy"].startswith(UNMEASURED) for row in rows):
        lines.append("Not measured here: `hsf-hub show NAME` cites what the authors have published.")
    lines += [f"Times are rough guesses for {_hardware()} and a scan of 1 mm.", f"Downloads go to {cache_root()}"]
    data = {"models": rows, "int8_feature": int8_feature(), "cache": str(cache_root())}
    return Answer(data, "\n".join(lines))


def recommendations(cards: "Sequence[ModelCard]") -> dict[str, str]:
    """Models that suit this machine, each with the reason why."""
    from bids_hsf.hub.models import member_path
    from bids_hsf.machine import find_gpus, int8_feature

    by_name = {card.name: card for card in cards}
    gpu, int8 = "NVIDIA" in find_gpus(), int8_feature()
    reasons = {}
    if gpu and DEFAULT_MODEL in by_name:
        reasons[DEFAULT_MODEL] = "the most accurate of HSF's, and an NVIDIA GPU is seen"
    elif int8 and SPARSE_DEFAULT_MODEL in by_name:
        reasons[SPARSE_DEFAULT_MODEL] = (
            f"HSF's subfields, and int8 networks are about twice as fast: this CPU has {int8}"
        )
    elif DEFAULT_MODEL in by_name:
        reasons[DEFAULT_MODEL] = "the most accurate of HSF's; int8 ones (sq) gain little: this CPU has no VNNI, no AMX"
    chosen = [by_name[name] for name in reasons]
    here = all(member_path(member, card).is_file() for card in chosen for member in card.files)
    if OFFLINE_MODEL in by_name and not (chosen and here):
        reasons[OFFLINE_MODEL] = "subfields by other borders, from this package: without any download"
    return reasons


def _row(card: "ModelCard", reasons: Mapping[str, str]) -> dict[str, Any]:
    """One model for the table."""
    from bids_hsf.hub.models import is_packaged, member_path
    from bids_hsf.machine import allowed_cores
    from bids_hsf.runs import estimates

    paths = [member_path(member, card) for member in card.files]
    here = [path.is_file() for path in paths]
    sizes = [
        path.stat().st_size if there else member.size or 0
        for path, there, member in zip(paths, here, card.files, strict=True)
    ]
    state = "yes" if all(here) else "no" if not any(here) else f"{sum(here)}/{len(here)}"
    seconds = estimates.mean_seconds([], card, card.n_augmentations, allowed_cores(), "cpu")
    marks = {"default": card.name == DEFAULT_MODEL, "recommended": card.name in reasons}
    return {
        "model": card.name,
        "family": card.family,
        "version": card.version,
        "labels": [label.abbreviation for label in card.labels],
        "contrasts": list(card.contrasts),
        "voxels": "native" if card.voxel_size_mm is None else f"{card.voxel_size_mm:g} mm",
        "members": len(card.members),
        "augmentations": card.n_augmentations,
        "passes": len(card.members) * (1 + card.n_augmentations),
        "MB": round(sum(sizes) / 1e6, 1) if all(sizes) else None,
        "here": "packaged" if all(here) and all(map(is_packaged, card.members)) else state,
        "licence": card.license,
        "accuracy": _accuracy(card, all(here)),
        "time": estimates.readable(seconds),
        **marks,
        "why": reasons.get(card.name),
        "note": ", ".join(name for name, holds in marks.items() if holds),
        "card": str(card.path),
    }


def _accuracy(card: "ModelCard", is_here: bool) -> str:
    """Measured Dice; of a model whose files are elsewhere, that nobody could measure it."""
    from bids_hsf.hub.cards import NOT_STATED
    from bids_hsf.hub.models import is_packaged

    if card.accuracy != NOT_STATED or any(map(is_packaged, card.members)):
        return card.accuracy
    return UNMEASURED if is_here else f"{UNMEASURED} (needs the download)"


def _hardware() -> str:
    """Name what the times were guessed for."""
    from bids_hsf.machine import allowed_cores

    return f"{allowed_cores()} core(s) of this machine, without a GPU"


def _cell(value: Any) -> str:
    """One value in a table for people."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "?" if value is None else str(value)
