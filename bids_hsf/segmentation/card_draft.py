"""Begin the card of a network: what its file tells is filled in, and what people alone know is marked."""

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import ModelError
from bids_hsf.files import checksums
from bids_hsf.geometry import next_multiple
from bids_hsf.hub.cards import ModelCard
from bids_hsf.machine import allowed_cores
from bids_hsf.networks.probabilities import are_probabilities
from bids_hsf.networks.rehearsal import rehearse
from bids_hsf.networks.sessions import CPU, MemberFile, Network, SessionSettings, open_session

FILL_IN = "FILL IN"

# To what the sides of a crop may have to be a multiple: one level of pooling a factor of two.
MULTIPLES = (1, 2, 4, 8, 16, 32)
SIDES = (37, 50, 43)  # mm that a hippocampus takes; no multiples of anything

INT8_OPERATORS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "QLinearConv"})

OPEN_FIELDS = ("description", "contrasts", "voxel_size_mm", "license", "authors", "citation", "training_data")

CARD = """# yaml-language-server: $schema=https://raw.githubusercontent.com/clementpoiret/bids-hsf/main/models_hub/card.schema.json
# Begun by `hsf-hub new`. What says {fill_in} is for you; what each field means: models_hub/README.md of bids-hsf.
schema: 1
family: {family}  # letters and digits: it becomes the seg- entity of file names
version: {version}
description: "{fill_in}: one line"
orientation: RAS
contrasts: [T1w, T2w]  # {fill_in}: take out what it was not trained for
voxel_size_mm: native  # {fill_in}: or a number, to which crops are resampled
normalization: zscore
pad_multiple: {pad_multiple}
output: {output}

labels:  # {fill_in}: names and abbreviations, in the order of the output channels after background
{labels}

# merges:  # what --ca-mode offers: labels that are joined, by their abbreviations
#   whole:
#     suffix: Hippocampus
#     join:
#       - {{labels: [{abbreviations}], name: Hippocampus, abbreviation: hippocampus, color: "#9467bd"}}

license: "{fill_in}: of the weights, best an SPDX identifier such as CC-BY-4.0"
authors: ["{fill_in}"]
citation: "{fill_in}: what users cite"
training_data: "{fill_in}: what the network has seen"
# evaluation: how good it is, on what
# accuracy: the same in a few words

models:
  {name}:
    precision: {precision}
    members:
      - {source}
        filename: {filename}
        size: {size}
        sha256: {sha256}
        xxh3_64: "{xxh3_64}"
"""


@dataclass(frozen=True)
class Draft:
    """A card that was begun.

    Attributes
    ----------
    text : str
        YAML.
    findings : tuple of str
        What the network told, for people.
    open_fields : tuple of str
        What is to be filled in.
    """

    text: str
    findings: tuple[str, ...]
    open_fields: tuple[str, ...] = OPEN_FIELDS


def draft_card(network_path: Path, card_path: Path, url: str | None = None) -> Draft:
    """Run a network on made-up crops and write down what it is.

    Parameters
    ----------
    network_path : Path
        ONNX file.
    card_path : Path
        Where the card will lie: a file beside it, or below, is named by its path.
    url : str, optional
        Address that the file will have.

    Raises
    ------
    ModelError
        The file is no network of the contract.
    """
    settings = SessionSettings(CPU, {}, allowed_cores())
    rehearse([MemberFile(network_path)], [settings])
    network = open_session(network_path, settings)
    multiple, scores = smallest_multiple(network)
    output = "probabilities" if are_probabilities(scores) else "logits"
    precision = "int8" if INT8_OPERATORS & network.facts.operators else "float32"
    family, version = _name_and_version(network_path.name.removesuffix(".onnx"))
    text = CARD.format(
        fill_in=FILL_IN,
        family=family,
        version=version,
        pad_multiple=multiple,
        output=output,
        labels="\n".join(_labels(len(scores) - 1)),
        abbreviations=", ".join(f"L{index}" for index in range(1, len(scores))),
        name=f"{family}_fast",
        precision=precision,
        source=_source(network_path, card_path, url),
        filename=re.sub(r"[^A-Za-z0-9._+-]", "_", network_path.name),
        size=network_path.stat().st_size,
        **checksums(network_path),
    )
    findings = (
        f"Output: background and {len(scores) - 1} label(s), {output}.",
        f"Crops: sides that are multiples of {multiple}.",
        f"Precision: {precision}, {network.facts.width} feature maps at full resolution.",
    )
    return Draft(text, findings)


def _name_and_version(stem: str) -> tuple[str, str]:
    """Read a family and a version off the name of a file.

    >>> _name_and_version("my-lab_v2.1"), _name_and_version("net")
    (('mylab', '2.1'), ('net', '1.0.0'))
    """
    family = re.sub(r"[^A-Za-z0-9]", "", re.split(r"[_-]?v?\d+\.\d", stem)[0])[:32] or "mymodel"
    version = re.search(r"\d+(\.\d+)+", stem)
    return family, version[0] if version else "1.0.0"


def smallest_multiple(network: Network) -> tuple[int, NDArray[np.float32]]:
    """Find what the sides of a crop must be a multiple of, by trying; the answer (C, X, Y, Z) to that crop comes along.

    Raises
    ------
    ModelError
        No multiple works.
    """
    reason = ""
    for multiple in MULTIPLES:
        shape = tuple(_odd_multiple(side, multiple) for side in SIDES)
        crop = np.random.default_rng(0).standard_normal((1, 1, *shape), dtype=np.float32)
        try:
            scores = network.run(crop)
        except ModelError as error:
            reason = error.message
            continue
        if scores.ndim == crop.ndim and scores.shape[2:] == shape and scores.shape[1] > 1:
            return multiple, scores[0]
        reason = f"a crop of {shape} voxels gives an output of {list(scores.shape)}"
    raise ModelError(
        f"{network.path}: expected an output (1, background and labels, x, y, z) for an input (1, 1, x, y, z) with "
        f"sides that are multiples of at most {MULTIPLES[-1]}: {reason}",
        "Export the network under the contract of models_hub/README.md",
    )


def _odd_multiple(side: int, multiple: int) -> int:
    """Next multiple that is none of twice as much, so that a network which needs that much fails."""
    length = next_multiple(side, multiple)
    return length if (length // multiple) % 2 else length + multiple


def _labels(number: int) -> Sequence[str]:
    """Lines of a label table, in colours that are told apart."""
    lines = []
    for index in range(1, number + 1):
        rgb = colorsys.hsv_to_rgb((index - 1) / number, 0.7, 0.85)
        color = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
        lines.append(f'  - {{index: {index}, name: "{FILL_IN} {index}", abbreviation: L{index}, color: "{color}"}}')
    return lines


def _source(network_path: Path, card_path: Path, url: str | None) -> str:
    """Name where the file is: its address, its path below the card, or where it lies on this machine."""
    if url:
        return f'url: "{url}"'
    network, folder = network_path.resolve(), card_path.resolve().parent
    relative = network.relative_to(folder).as_posix() if network.is_relative_to(folder) else ""
    note = "  # or url: https://..., once others can have it there"
    usable = re.fullmatch(r"[A-Za-z0-9_.+/-]{1,200}", relative)
    return f'path: "{relative}"{note}' if usable else f'url: "{network.as_uri()}"{note}'


def unfilled(card: ModelCard) -> list[str]:
    """Names of the fields of a card in which still stands what is for people to fill in."""
    texts = {
        name: str(getattr(card, name)) for name in ("description", "license", "authors", "citation", "training_data")
    }
    texts["labels"] = " ".join(label.name for label in card.labels)
    return [name for name, text in texts.items() if FILL_IN in text]
