"""What the margin of the crop does to labels and to work: how much context the networks need.

    python tests/benchmarks/margins.py [--models NAME ...] [--scans FILE ...] [--margins 2 3 4 5 6 8] [--tsv FILE]

Each margin's labels are held against those of the model's own margin, without test-time augmentation: the share of
hippocampal voxels with another label, the largest error of a volume (of structures that make up a tenth of their
hippocampus at least), and the voxels of the crop, which passes cost in proportion to; means over scans and sides. No
margin is the true one: intensities are normalised over the crop, so that each is another view, and those that networks
were trained at suit them best.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from measuring import table, write_rows

from bids_hsf.hub.models import fetch, find_card
from bids_hsf.images import load_scan
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.locate import locate
from bids_hsf.localization.location import Location
from bids_hsf.segmentation.hippocampi import Hippocampus, segment
from bids_hsf.segmentation.model import Model, Options, open_ensemble

BIDS = Path(__file__).parents[1] / "data" / "bids"
SCANS = tuple(sorted(BIDS.glob("sub-*/anat/*.nii.gz")))
MODELS = ("longaxis_single_fast", "subfields_single_fast")
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Change:
    """One hippocampus at one margin against its own."""

    other_labels: float
    volume_error: float
    voxels: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--scans", nargs="+", type=Path, default=SCANS)
    parser.add_argument("--margins", nargs="+", type=float, default=(2, 3, 4, 5, 6, 8))
    parser.add_argument("--tsv", type=Path, help="write the table there")
    options = parser.parse_args()
    located = list(read(options.scans))
    found = [row for name in options.models for row in rows(open_ensemble(fetch(find_card(name))), located, options)]
    print(table(found))
    if options.tsv:
        write_rows(options.tsv, found)


def read(paths: Sequence[Path]) -> Iterator[tuple[AlignedScan, Location]]:
    for path in paths:
        loaded = load_scan(path)
        yield AlignedScan(path.name.split(".")[0], loaded.data, loaded.grid), locate(loaded.data, loaded.grid)


def rows(
    model: Model, located: Sequence[tuple[AlignedScan, Location]], options: argparse.Namespace
) -> Iterator[dict[str, object]]:
    truths = [segmented(scan, location, model, None) for scan, location in located]
    for margin in options.margins:
        changes = [
            change(found, true, scan)
            for (scan, location), sides in zip(located, truths, strict=True)
            for found, true in zip(segmented(scan, location, model, margin), sides, strict=True)
        ]
        yield {
            "model": model.card.name,
            "margin mm": margin,
            "other labels %": f"{100 * np.mean([each.other_labels for each in changes]):.2f}",
            "worst volume %": f"{100 * np.mean([each.volume_error for each in changes]):.2f}",
            "voxels": int(np.mean([each.voxels for each in changes])),
        }


def segmented(scan: AlignedScan, location: Location, model: Model, margin_mm: float | None) -> tuple[Hippocampus, ...]:
    return segment([scan], location, model, Options(n_augmentations=0, margin_mm=margin_mm)).sides


def change(found: Hippocampus, true: Hippocampus, scan: AlignedScan) -> Change:
    labels, own = (np.zeros(scan.grid.shape, np.uint8) for _ in range(2))
    labels[found.slices], own[true.slices] = found.segmentation.labels, true.segmentation.labels
    inside = (labels > 0) | (own > 0)
    volumes, expected = (np.bincount(each[inside], minlength=100)[1:].astype(float) for each in (labels, own))
    large = expected >= LEAST_SHARE * expected.sum()
    return Change(
        float((labels != own)[inside].mean()),
        float((np.abs(volumes - expected)[large] / expected[large]).max()),
        int(np.prod(found.crop.shape)),
    )


if __name__ == "__main__":
    main()
