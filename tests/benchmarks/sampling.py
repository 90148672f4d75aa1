"""Error of labels and volumes against the number of random views, for ways to draw them.

    python tests/benchmarks/sampling.py [--models longaxis_bagging_fast ...] [--seeds 6] [--reference 256]
                                        [--scans FILE ...] [--looks 6 7 8 20] [--recipe-of NAME] [--csv FILE]
    python tests/benchmarks/sampling.py --read FILE.csv ... [--tsv FILE]

For each model, scan and hippocampus, the reference is the vote for one class, HSF's, of many views of a Sobol sequence
whose seed no trial shares. Each trial votes as its way says; after 2, 4, ... 20 looks its labels and volumes are held
against the reference's. Printed are medians and means over scans, sides and seeds: the share of hippocampal voxels with
another label, the largest error of a volume (of structures that make up a tenth of their hippocampus at least), and how
far the standard error that the app tells (`volume_se_sampling`) is from the errors that were there (root mean square of
error over standard error: 1 is right, less is careful). By default, networks that are in the package, on the scans that
are in the repository, under HSF's recipe.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count, islice, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

sys.path.insert(0, str(Path(__file__).parent))

from measuring import table, write_rows

from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.hub.models import fetch, find_card
from bids_hsf.images import load_scan
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.locate import locate
from bids_hsf.segmentation.ballots import PLURALITY, SHARES, Ballot
from bids_hsf.segmentation.decision import decide
from bids_hsf.segmentation.hippocampi import Crop, cut_crops
from bids_hsf.segmentation.model import Model, Options, open_ensemble
from bids_hsf.segmentation.sampling import N_DIMENSIONS, Look, looks, samples_at
from bids_hsf.segmentation.sampling_error import sampling_error
from bids_hsf.segmentation.transforms import Sample
from bids_hsf.segmentation.votes import Predictor, Tally

BIDS = Path(__file__).parents[1] / "data" / "bids"
SCANS = (
    BIDS / "sub-icbm152/anat/sub-icbm152_T1w.nii.gz",
    BIDS / "sub-icbm152/anat/sub-icbm152_T2w.nii.gz",
    BIDS / "sub-colin27/anat/sub-colin27_T1w.nii.gz",
)
CHECKPOINTS = (2, 4, 6, 7, 8, 12, 16, 20)
LEAST_SHARE = 0.1

Rng = np.random.Generator
Unit = NDArray[np.float64]
Draw = Callable[[AugmentationRecipe, int, Rng], Iterator[Look]]


def independent(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """HSF's way: drawn one by one, the same views for all networks."""
    return looks(replace(recipe, sampling="random"), n_networks, rng)


def independent_own(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Drawn one by one, views of its own for each network."""
    return zipped([looks(replace(recipe, sampling="random"), 1, rng) for _ in range(n_networks)])


def sobol(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """The app's way: points of a sequence, views of its own for each network."""
    return looks(replace(recipe, sampling="sobol"), n_networks, rng)


def sobol_shared(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Points of a sequence, the same views for all networks."""
    return (Look(look.number, look.samples * n_networks) for look in looks(recipe, 1, rng))


def mirrored_pairs(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Antithetic: each view that was drawn is followed by its opposite, all parameters mirrored about their middle."""
    yield Look(0, (None,) * n_networks)
    number = 1
    while True:
        drawn = next(islice(looks(replace(recipe, sampling="random"), n_networks, rng), 1, None))
        for samples in (drawn.samples, tuple(opposite(sample, recipe) for sample in drawn.samples)):
            yield Look(number, samples)
            number += 1


def at_points(points: Iterator[Unit], recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Views of its own for each network at points of the unit cube, dealt out as the app deals out Sobol's."""
    yield Look(0, (None,) * n_networks)
    views = samples_at(points, recipe, rng)
    for number in count(1):
        yield Look(number, tuple(islice(views, n_networks)))


def lattice(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Rank-1 lattice rule, shifted at random, in the order of van der Corput: its first 4, 8, ... are rules, too."""
    vector, shift = lattice_vector(N_DIMENSIONS), rng.random(N_DIMENSIONS)
    return at_points(((radical_inverse(k) * vector + shift) % 1 for k in count()), recipe, n_networks, rng)


def kronecker(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Multiples of powers of the generalised golden ratio, shifted at random: a lattice of no fixed length."""
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (N_DIMENSIONS + 1))
    steps, shift = ratio ** -np.arange(1.0, N_DIMENSIONS + 1), rng.random(N_DIMENSIONS)
    return at_points(((shift + k * steps) % 1 for k in count()), recipe, n_networks, rng)


def stratified(recipe: AugmentationRecipe, n_networks: int, rng: Rng) -> Iterator[Look]:
    """Flips in turn and every fifth view elastic, so that shares are exact; Sobol points for the affine ones alone."""
    yield Look(0, (None,) * n_networks)
    views = samples_at(strata(recipe, rng), recipe, rng)
    for number in count(1):
        yield Look(number, tuple(islice(views, n_networks)))


def strata(recipe: AugmentationRecipe, rng: Rng) -> Iterator[Unit]:
    """Points for `stratified`."""
    sequence, start, phase = qmc.Sobol(N_DIMENSIONS - 2, seed=rng), rng.random(), int(rng.integers(2))
    share = 1 - recipe.affine_probability
    drawn = [0, 0]
    for k in count():
        is_elastic = int((k + 1) * share + start) > int(k * share + start)
        flip = (drawn[is_elastic] + phase) % 2
        drawn[is_elastic] += 1
        rest = np.zeros(N_DIMENSIONS - 2) if is_elastic else sequence.random(1)[0]
        yield np.concatenate([[0.0 if flip else 1.0, float(is_elastic)], rest])


def radical_inverse(number: int) -> float:
    """Mirror the binary digits of a number about the point: van der Corput's sequence."""
    value, weight = 0.0, 0.5
    while number:
        value, number, weight = value + weight * (number & 1), number >> 1, weight / 2
    return value


def lattice_vector(n_dimensions: int, log_points: int = 6) -> NDArray[np.int_]:
    """Find a rule component by component: least worst-case error for 4 to 64 points, those of Korobov's class 2."""
    sizes = [2**k for k in range(2, log_points + 1)]
    products, vector = {n: np.ones(n) for n in sizes}, []

    def factor(candidate: int, n: int) -> NDArray[np.float64]:
        x = np.arange(n) * candidate / n % 1
        return np.asarray(1 + 2 * np.pi**2 * (x * x - x + 1 / 6))

    def error(candidate: int) -> float:
        return float(sum(((products[n] * factor(candidate, n)).mean() - 1) * n**2 for n in sizes))

    for _ in range(n_dimensions):
        # Two equal components would be drawn as one.
        vector.append(min(set(range(1, sizes[-1], 2)) - set(vector), key=error))
        for n in sizes:
            products[n] = products[n] * factor(vector[-1], n)
    return np.array(vector)


# How views are drawn, and how a pass votes.
WAYS: dict[str, tuple[Draw, Ballot]] = {
    "random (HSF's)": (independent, PLURALITY),
    "random, own views": (independent_own, PLURALITY),
    "antithetic pairs": (mirrored_pairs, PLURALITY),
    "sobol, shared views": (sobol_shared, PLURALITY),
    "sobol, own views (the app's)": (sobol, PLURALITY),
    "rank-1 lattice": (lattice, PLURALITY),
    "golden-ratio lattice": (kronecker, PLURALITY),
    "flips and transforms in strata": (stratified, PLURALITY),
    "sobol, votes by shares": (sobol, SHARES),
    "sobol, shares, power 1": (sobol, replace(SHARES, power=1.0)),
    "sobol, shares, power 2": (sobol, replace(SHARES, power=2.0)),
    "sobol, shares, plain crop whole": (sobol, replace(SHARES, plain_weight=1.0)),
    "sobol, one class, plain crop .4": (sobol, replace(PLURALITY, plain_weight=SHARES.plain_weight)),
    "random, votes by shares": (independent, SHARES),
}


def zipped(streams: Sequence[Iterator[Look]]) -> Iterator[Look]:
    """Join looks of one network each to looks of all."""
    for each in zip(*streams, strict=True):
        yield Look(each[0].number, tuple(sample for look in each for sample in look.samples))


def opposite(sample: Sample | None, recipe: AugmentationRecipe) -> Sample | None:
    """Mirror the parameters of a sample about the middle of their ranges."""
    if sample is None:
        return None
    points = sample.control_points
    return Sample(
        not sample.flip,
        tuple(sum(recipe.scales) - scale for scale in sample.scales) if points is None else sample.scales,
        tuple(-angle for angle in sample.degrees),
        tuple(-shift for shift in sample.translation_mm),
        None if points is None else -points,
    )


@dataclass(frozen=True, eq=False)
class Result:
    """What a number of looks comes to: labels (X, Y, Z), volumes (C,) and their standard errors (C,) in mm3."""

    labels: np.ndarray
    volumes: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class Trial:
    """One crop, one way, one seed, one number of looks, against the reference."""

    model: str
    crop: str
    way: str
    seed: int
    looks: int
    other_labels: float
    volume_error: float
    error_over_se: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["longaxis_single_fast", "longaxis_bagging_fast"])
    parser.add_argument("--scans", nargs="+", type=Path, default=SCANS)
    parser.add_argument("--recipe-of", default="bagging_accurate")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--reference", type=int, default=256, help="looks of a single network; shared between several")
    parser.add_argument("--looks", nargs="+", type=int, default=CHECKPOINTS, help="after which errors are measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="write every trial there")
    parser.add_argument("--read", type=Path, nargs="+", help="trials of earlier calls, instead of new ones")
    parser.add_argument("--tsv", type=Path, help="write the table there")
    options = parser.parse_args()
    rows = list(rows_of(read_csv(options.read) if options.read else run(options)))
    print(table(rows))
    if options.tsv:
        write_rows(options.tsv, rows)


def run(options: argparse.Namespace) -> list[Trial]:
    """Try all ways on all scans."""
    recipe = find_card(options.recipe_of).recipe
    trials: list[Trial] = []
    for name in options.models:
        model = open_ensemble(fetch(find_card(name)), n_threads=options.threads)
        for crop in crops_of(options.scans, model):
            trials += list(trials_on(crop, model, recipe, options))
            print(f"{name}: {crop.scan.key} {crop.hemisphere}", file=sys.stderr, flush=True)
            if options.csv:
                write_csv(options.csv, trials)
    return trials


def crops_of(scans: Sequence[Path], model: Model) -> Iterator[Crop]:
    for path in scans:
        loaded = load_scan(path)
        aligned = AlignedScan(path.name.split(".")[0], loaded.data, loaded.grid)
        location = locate(loaded.data, loaded.grid)
        for side in "LR":
            yield from cut_crops([aligned], location, side, model, Options())


class Remembering:
    """A network that is not asked twice about one view: ways that differ in their vote alone share its passes."""

    def __init__(self, network: Predictor) -> None:
        self.network = network
        self.answers: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, view: NDArray[np.float32]) -> NDArray[np.float32]:
        key = sha256(np.ascontiguousarray(view)).digest()
        if key not in self.answers:
            self.answers[key] = self.network(view)
        return self.answers[key]


def trials_on(crop: Crop, model: Model, recipe: AugmentationRecipe, options: argparse.Namespace) -> Iterator[Trial]:
    networks = next(iter(model.groups()))[1]
    n_looks = options.reference // len(networks)
    many = sobol(recipe, len(networks), np.random.default_rng(987))
    *_, reference = results(crop, networks, many, model, (n_looks,), PLURALITY)
    name, place = model.card.name, f"{crop.scan.key} {crop.hemisphere}"
    for draw, seed in product(dict.fromkeys(WAYS[way][0] for way in options.ways), range(options.seeds)):
        remembering = [Remembering(network) for network in networks]
        for way in options.ways:
            if WAYS[way][0] is draw:
                drawn = draw(recipe, len(networks), np.random.default_rng(seed))
                found_after = results(crop, remembering, drawn, model, options.looks, WAYS[way][1])
                for number, found in zip(options.looks, found_after, strict=True):
                    yield Trial(name, place, way, seed, number, *compared(found, reference))


def results(
    crop: Crop,
    networks: Sequence[Predictor],
    drawn: Iterator[Look],
    model: Model,
    checkpoints: Sequence[int],
    ballot: Ballot,
) -> Iterator[Result]:
    """Vote as the app does; yields what there is after each number of looks."""
    tally, done = Tally(crop.data, crop.grid, ballot=ballot), -1
    for checkpoint in checkpoints:
        tally.add(networks, list(islice(drawn, checkpoint - done)), model.device.n_threads)
        done = checkpoint
        votes = tally.votes()
        labels = decide(votes, model.labels).labels
        volumes = np.bincount(labels.ravel(), minlength=len(model.labels) + 1) * crop.grid.voxel_volume
        yield Result(labels, volumes, sampling_error(votes.pass_volumes, votes.pass_looks, votes.plain_weight))


def compared(found: Result, reference: Result) -> tuple[float, float, float]:
    """Share of other labels, largest relative error of a volume, root mean square of errors over standard errors."""
    inside = (found.labels > 0) | (reference.labels > 0)
    volumes = reference.volumes[1:]
    large = volumes >= LEAST_SHARE * volumes.sum()
    away = np.abs(found.volumes[1:] - volumes)[large]
    ratio = away / found.errors[1:][large]
    return (
        float((found.labels != reference.labels)[inside].mean()),
        float((away / volumes[large]).max()),
        float(np.sqrt(np.mean(ratio**2))),
    )


def of_all(measure: str, shares: Sequence[float]) -> dict[str, str]:
    """Columns of a measure: its median and its mean, in percent."""
    return {f"{measure} %": f"{100 * np.median(shares):.2f}", f"{measure}, mean %": f"{100 * np.mean(shares):.2f}"}


def rows_of(trials: Sequence[Trial]) -> Iterator[dict[str, object]]:
    for model in dict.fromkeys(trial.model for trial in trials):
        for way in dict.fromkeys(trial.way for trial in trials):
            for number in sorted({trial.looks for trial in trials}):
                chosen = [t for t in trials if (t.model, t.way, t.looks) == (model, way, number)]
                if chosen:
                    yield {
                        "model": model,
                        "way": way,
                        "looks": number,
                        **of_all("other labels", [t.other_labels for t in chosen]),
                        **of_all("worst volume", [t.volume_error for t in chosen]),
                        "error / se": f"{np.sqrt(np.mean([t.error_over_se**2 for t in chosen])):.2f}",
                    }


def write_csv(path: Path, trials: Sequence[Trial]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Trial.__dataclass_fields__)
        writer.writerows([getattr(trial, name) for name in Trial.__dataclass_fields__] for trial in trials)


def read_csv(paths: Sequence[Path]) -> list[Trial]:
    rows = [row for path in paths for row in csv.DictReader(path.read_text().splitlines())]
    kinds = Trial.__annotations__
    return [Trial(**{name: kinds[name](value) for name, value in row.items()}) for row in rows]


if __name__ == "__main__":
    main()
