"""The card of an int8 twin: that of its float model, with other files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_hsf.files import checksums, write_text
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.marked_yaml import read_yaml, yaml_text


def write_twin_card(path: Path, card: ModelCard, name: str, files: Sequence[Path], remark: str) -> None:
    """Write the card file of a model's int8 twin.

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
    members = []
    for file in files:
        place = file.relative_to(path.parent).as_posix()
        members.append({"path": place, "size": file.stat().st_size, **checksums(file)})
    description = f"int8 twin of {card.name}: {card.description}"
    model |= {"description": description, "precision": "int8", "evaluation": remark, "members": members}
    text = yaml_text({**family, "models": {name: model}})
    write_text(path, f"# Made by hsf-hub quantize of {card.path.name}: {card.name} {card.version}.\n{text}")
