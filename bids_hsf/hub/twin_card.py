"""The card of an int8 twin: that of its float model, with other files."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_hsf.files import checksums, replacing, write_text
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.marked_yaml import read_yaml, yaml_text
from bids_hsf.hub.models import is_packaged, member_path


def write_twin_card(path: Path, card: ModelCard, name: str, files: Sequence[Path], remark: str) -> None:
    """Write the card file of a model's int8 twin; a network that ships with the card for coordinates comes along.

    Parameters
    ----------
    path : Path
        The YAML file; `files` lie in its folder or below.
    card : ModelCard
        Of the float model: labels, merges, licence and recipe are taken from its file.
    name : str
        Of the twin.
    files : sequence of Path
        Its ONNX files, in the order of the card's members.
    remark : str
        How it was made, and how far it agrees; stands under `evaluation`.
    """
    family: dict[str, Any] = read_yaml(card.path).content
    model = dict(family["models"][card.name])
    description = f"int8 twin of {card.name}: {card.description}"
    members = [_facts(file, path) for file in files]
    model |= {"description": description, "precision": "int8", "evaluation": remark, "members": members}
    if card.coordinates is not None and is_packaged(card.coordinates.network):
        network = card.coordinates.network
        file = path.parent / name / network.filename
        with replacing(file) as temporary:
            shutil.copyfile(member_path(network, card), temporary)
        told = model.get("coordinates") or family["coordinates"]
        model["coordinates"] = {**_facts(file, path), "labels": told["labels"]}
    text = yaml_text({**family, "models": {name: model}})
    write_text(path, f"# Made by hsf-hub quantize of {card.path.name}: {card.name} {card.version}.\n{text}")


def _facts(file: Path, path: Path) -> dict[str, Any]:
    """Tell a card at `path` of a file in its folder or below."""
    return {"path": file.relative_to(path.parent).as_posix(), "size": file.stat().st_size, **checksums(file)}
