"""The app with an instant localization, a toy network and empty pictures; all else is the real thing.

As a script it takes the app's own arguments. Brains are not looked at: the scans are phantoms in the
template's space, where the hippocampi lie by definition.
"""

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bids_trees import write_scan, write_tree

from bids_hsf.bids.names import FIGURES, UNFOLDED
from bids_hsf.cli.app import main
from bids_hsf.localization.location import Location
from bids_hsf.workflow import Seams

CARD = """
schema: 1
family: toy
version: 1.0.0
description: Sorts voxels by intensity
orientation: RAS
contrasts: [{contrasts}]
voxel_size_mm: native
normalization: zscore
pad_multiple: 8
output: probabilities
coordinates: {{path: coordinates.onnx, sha256: "{coordinates}", labels: [front]}}
labels:
  - {{index: 1, name: Front, abbreviation: front, color: "#ff0000"}}
  - {{index: 2, name: Back, abbreviation: back, color: "#00ff00"}}
license: CC0-1.0
citation: Nobody, 2026
authors: [Nobody]
training_data: none
models:
  toy_fast:
    members: [{{path: toy.onnx, sha256: "{sha256}"}}]
  toy_voting:
    members: [{{path: toy.onnx, sha256: "{sha256}"}}]
    n_augmentations: 2
"""

# 4 mm voxels over the template's head.
SHAPE = (46, 55, 46)
AFFINE = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])


def write_card(folder: Path, contrasts: str = "T1w") -> Path:
    """Make the toy model; returns its card."""
    from twins import write_coordinates_twin, write_twin  # their onnx takes a second to import

    networks = write_twin(folder / "toy.onnx", n_classes=3), write_coordinates_twin(folder / "coordinates.onnx")
    card = folder / "toy.yaml"
    sha256, coordinates = (hashlib.sha256(network.read_bytes()).hexdigest() for network in networks)
    card.write_text(CARD.format(sha256=sha256, coordinates=coordinates, contrasts=contrasts), encoding="utf-8")
    return card


def write_head(path: Path, seed: int = 0) -> Path:
    """Write noise over the template's head, different for each seed."""
    data = np.random.default_rng(seed).integers(0, 1000, SHAPE, dtype=np.int16)
    return write_scan(path, data, AFFINE)


def write_dataset(root: Path, n_subjects: int) -> Path:
    """Make a dataset of such heads, subjects 01, 02, ..."""
    write_tree(root, [])
    for i in range(1, n_subjects + 1):
        write_head(root / f"sub-{i:02d}" / "anat" / f"sub-{i:02d}_T1w.nii.gz", seed=i)
    return root


def locate(_data: Any, _grid: Any, **_options: Any) -> Location:
    """Say that scan and template coincide: after a while, or once a file is there, if a test wants it."""
    time.sleep(float(os.environ.get("FAST_APP_SECONDS", "0")))
    gate = os.environ.get("FAST_APP_GATE")
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    return Location(np.eye(4), 1.0, {"L": 1.0, "R": 1.0}, 1.5e6)


def draw(result: Any, _n_threads: int) -> dict[str, str]:
    """Draw empty pictures."""
    empty = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'
    unfolded = (UNFOLDED,) if "AP" in result.hippocampi.maps else ()
    return dict.fromkeys((*FIGURES, *unfolded), empty)


def four_cores() -> int:
    """Say that four cores may be used, on any machine."""
    return 4


def nothing() -> None:
    """Make nothing ready: nobody will look for a head."""


SEAMS = Seams(locate, draw, four_cores, nothing)


def run_fast(arguments: Sequence[str]) -> int:
    """Run the app with stand-ins for what takes long; returns its exit code."""
    return main(list(arguments), SEAMS)


if __name__ == "__main__":
    sys.exit(run_fast(sys.argv[1:]))
