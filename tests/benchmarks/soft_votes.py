"""Do few views come nearer to the vote of many if they vote by shares, and the plain crop counts less?

::

    python tests/benchmarks/soft_votes.py [--models longaxis_single_fast] [--seeds 4] [--reference 160] [--looks 6 8 12]

A pass of a vote by shares gives each class its probability to a power, over their sum; the plain crop has a weight of
its own. The reference is the app's vote, one class a voxel and pass, over many views of a sequence, under HSF's recipe;
beside it stand 20 random views that vote so, HSF's way. Prints means over scans, sides and seeds: share of hippocampal
voxels with another label, and the largest error of a volume, in percent. One network; models of several are no question
here, since 7 views of each are enough.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from measuring import table
from sampling import SCANS, crops_of, independent, sobol

from bids_hsf.hub.models import fetch, find_card
from bids_hsf.segmentation.augmentation import place
from bids_hsf.segmentation.hippocampi import Crop
from bids_hsf.segmentation.model import open_ensemble
from bids_hsf.segmentation.sampling import Look
from bids_hsf.segmentation.transforms import WRITTEN_OUT
from bids_hsf.segmentation.votes import Field, Predictor, _with_background

POWERS = (None, 1.0, 1.5, 2.0)
PLAIN_WEIGHTS = (1.0, 0.4)
N_RANDOM = 20

Way = tuple[str, int, str, float]


def passes(crop: Crop, network: Predictor, looks: Iterator[Look]) -> Iterator[Field]:
    """Probabilities (C, X, Y, Z) of each view, carried back to the crop; zero where the network saw nothing."""
    image = np.ascontiguousarray(crop.data, dtype=np.float32)
    for look in looks:
        sample = look.samples[0]
        if sample is None:
            yield network(image)
            continue
        warp = place(sample, image.shape, crop.grid.voxel_sizes, WRITTEN_OUT)
        structures = warp.invert(network(warp.apply(image))[1:], slice(None))
        yield _with_background(structures, warp.seen.astype(np.float32))


def voted(probabilities: Field, power: float | None) -> Field:
    """Vote of one pass: a class a voxel, or shares; none where it saw nothing."""
    if power is None:
        winners = (probabilities == probabilities.max(axis=0)).astype(np.float32)
    else:
        winners = probabilities**power
    seen = probabilities.sum(axis=0)
    return winners * (seen / np.maximum(winners.sum(axis=0), 1e-12))


def compared(votes: Field, reference: Field) -> tuple[float, float]:
    """Other labels, and the largest error of a volume, in percent of the reference."""
    found, truth = votes.argmax(axis=0), reference.argmax(axis=0)
    sizes, true_sizes = (np.bincount(labels.ravel(), minlength=len(votes))[1:] for labels in (found, truth))
    other = (found != truth).sum() / (truth > 0).sum()
    return 100 * float(other), 100 * float(np.abs(sizes / true_sizes - 1).max())


def errors_on(crop: Crop, network: Predictor, options: argparse.Namespace) -> Iterator[tuple[Way, tuple[float, float]]]:
    """Yield the name of each way on a crop, and its errors."""
    recipe = find_card("bagging_accurate").recipe
    many = islice(sobol(recipe, 1, np.random.default_rng(987)), options.reference + 1)
    reference = sum(voted(each, None) for each in passes(crop, network, many))
    for seed in range(options.seeds):
        random = islice(independent(recipe, 1, np.random.default_rng(seed)), N_RANDOM + 1)
        votes = sum(voted(each, None) for each in passes(crop, network, random))
        yield ("random", N_RANDOM, "one class", 1.0), compared(votes, reference)
        drawn = islice(sobol(recipe, 1, np.random.default_rng(seed)), max(options.looks) + 1)
        plain, *views = passes(crop, network, drawn)
        for n_views in options.looks:
            for power in POWERS:
                of_views = sum(voted(each, power) for each in views[:n_views])
                name = "one class" if power is None else f"shares, power {power:g}"
                for weight in PLAIN_WEIGHTS:
                    votes = of_views + weight * voted(plain, power)
                    yield ("sobol", n_views, name, weight), compared(votes, reference)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["longaxis_single_fast"])
    parser.add_argument("--scans", nargs="+", type=Path, default=SCANS)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--reference", type=int, default=160)
    parser.add_argument("--looks", nargs="+", type=int, default=[6, 8, 12])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rows = []
    for name in options.models:
        model = open_ensemble(fetch(find_card(name)), n_threads=options.threads)
        network = next(iter(model.groups()))[1][0]
        found: dict[Way, list[tuple[float, float]]] = {}
        for crop in crops_of(options.scans, model):
            for way, errors in errors_on(crop, network, options):
                found.setdefault(way, []).append(errors)
        for way, errors in sorted(found.items()):
            labels, volume = np.mean(errors, axis=0)
            columns = ("views", "number", "vote", "weight of the plain crop")
            rows.append({"model": name, **dict(zip(columns, map(str, way), strict=True))})
            rows[-1] |= {"other labels %": f"{labels:.2f}", "worst volume %": f"{volume:.2f}"}
    print(table(rows))


if __name__ == "__main__":
    main()
