"""Judge outlines of subfields networks on Task04 once another protocol's border is accounted for; onnxruntime.

    python judge_borders.py Task04_Hippocampus --networks NET.onnx ... --longaxis ../longaxis/bagging_0_sq.onnx ...
        [--splits ../longaxis/splits.json] [--every 4] [--keep DIR] [--blocks]

The manual masks and longaxis's labels take in more than HippUnfold on some sides, and less on others. A border model
says where their border lies, given what the networks found: a logistic regression of whether a voxel belongs to the
other protocol's hippocampus on the signed distance to the outline (an even growth), then also on the direction of the
nearest outline, on the place along and across the hippocampus, and on the networks' own probabilities. It sees no
intensities. It is fitted on four fifths of the cases and judged on the fifth, five times.

Prints Dice with the manual masks and with the union of longaxis's labels: of the outline as it is, with the other cut
evenly to 0.84 of its volume, grown to the other's very volume, of a mean shape laid by the outline's middle, axes and
spread alone, and by each border model; how much of the millimetre within and beyond the outline is the other's, by
direction; and, with `--splits`, Dice of longaxis's members that never saw a case.

`--keep` is a folder for what the networks give, so that a second run need not ask them. `--blocks` takes the folds as
runs of consecutive names instead of every fifth: scans of one head, if they are numbered together, share a fold.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice
from pathlib import Path

import numpy as np
import torch
from fitting import grid_points, level_for_volume, sample, signed_distance
from judge_crops import Networks, msd_cases
from judge_scans import dice
from pool import POOL_MM, target_field
from samples import VOXEL_MM
from scipy import ndimage
from torch import Tensor

LONGAXIS_MM = 1.0
N_FOLDS = 5
SHARE = 0.84  # of HippUnfold's volume in that of the other protocol's
REACH_MM = 4.0  # beyond the outline; what the other protocol has further out counts as missed
N_SAMPLED = 4000  # voxels of a case that a model is fitted to
BLURS_MM = (0.0, 1.0, 2.0)  # of the networks' probabilities
RIDGE = 30.0  # prior precision of a standardised term's weight
STEPS = 8
LEVELS = np.linspace(-1.0, 0.5, 31)  # log odds from which a voxel belongs to the hippocampus
# The measures of a voxel, in their order: what is read of the outline, and of the networks' probabilities.
DISTANCE, DIRECTION, PLACE, ODDS = slice(0, 1), slice(1, 4), slice(4, 7), slice(7, 10)
MODELS = {
    "mean shape, no outline": ("shape",),
    "even growth": ("distance",),
    "and direction": ("distance", "direction"),
    "and place": ("distance", "direction", "place"),
    "and probabilities": ("distance", "direction", "place", "odds"),
}


@dataclass
class Case:
    """A crop, at POOL_MM, within REACH_MM of the outline that the subfields networks found.

    Attributes
    ----------
    name : str
    measures : numpy.ndarray
        (voxels, 10) float16: see `measured`.
    others : dict of str to numpy.ndarray
        (voxels,) bool: what the other protocol calls hippocampus, by who says so.
    beyond : dict of str to int
        How many voxels of each of `others` lie further out.
    plain : dict of str to list of float
        Dice of the outline with each of `others` as it is, cut evenly, and grown to its very volume.
    unseen : float
        Dice of longaxis's members that never saw the case with the manual mask; NaN if there are none.
    """

    name: str
    measures: np.ndarray
    others: dict[str, np.ndarray]
    beyond: dict[str, int]
    plain: dict[str, list[float]]
    unseen: float


def outputs(sets: Sequence[Networks], image: Tensor, kept: Path | None) -> list[Tensor]:
    """Mean probabilities (classes, x, y, z) that each set of networks gives an image at 1 mm, on the set's own grid."""
    if kept is not None and kept.is_file():
        return list(torch.from_numpy(np.load(kept).astype(np.float32)))
    means = [np.mean(networks.passes(image, 1.0), axis=0) for networks in sets]
    if kept is not None:
        np.save(kept, np.stack(means).astype(np.float16))
    return [torch.from_numpy(mean) for mean in means]


def own_axes(hippocampus: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Find the axes of a hippocampus in a head: unit vectors (3, 3) to the front along it, to the middle, and up.

    The middle is where the subiculum lies, seen from CA1: crops of both sides are told apart by it.
    """
    at = np.argwhere(hippocampus)
    along = np.linalg.eigh(np.cov(at.T))[1][:, -1]
    along *= np.sign(along[1])
    sides = [np.argwhere(labels == label)[:, 0].mean() for label in (1, 2)]
    middle = np.array([np.sign(sides[0] - sides[1]), 0.0, 0.0])
    middle -= (middle @ along) * along
    middle /= np.linalg.norm(middle)
    up = np.cross(along, middle)
    return np.stack([along, middle, up * np.sign(up[2])])


def distance_to(hippocampus: np.ndarray) -> np.ndarray:
    """Signed distance in mm to the outline of a mask (x, y, z) at POOL_MM, without the steps of its voxels."""
    return ndimage.gaussian_filter(signed_distance(hippocampus, POOL_MM, clip_mm=8.0), 0.7)


def measured(found: np.ndarray) -> np.ndarray:
    """Measures (x, y, z, 10) of voxels by what networks gave: probabilities (7, x, y, z) at POOL_MM.

    The signed distance to the outline in mm; the direction outwards from it, a unit vector; the place, from the middle
    of the hippocampus in standard deviations of its voxels, both along its own axes; the log odds of hippocampus
    against background, blurred by each of BLURS_MM.
    """
    outline = found[0] < 0.5
    axes = own_axes(outline, found.argmax(0))
    distance = distance_to(outline)
    # Blurred, or it would be the direction of the grid's steps.
    outwards = -np.stack(np.gradient(ndimage.gaussian_filter(distance, 2.0)), axis=-1)
    outwards /= np.maximum(np.linalg.norm(outwards, axis=-1, keepdims=True), 1e-3)
    place = (np.moveaxis(np.indices(outline.shape), 0, -1) - np.argwhere(outline).mean(0)) @ axes.T
    place /= place[outline].std(0)
    blurred = [np.clip(ndimage.gaussian_filter(found[0], mm / POOL_MM), 1e-3, 1 - 1e-3) for mm in BLURS_MM]
    odds = np.stack([np.log((1 - background) / background) for background in blurred], axis=-1)
    return np.concatenate([distance[..., None], outwards @ axes.T, place, odds], axis=-1)


def products(values: np.ndarray, degree: int) -> np.ndarray:
    """All products of up to `degree` of the columns of values (n, columns), with repetition."""
    chosen = [c for k in range(degree) for c in combinations_with_replacement(range(values.shape[1]), k + 1)]
    return np.stack([np.prod(values[:, c], axis=1) for c in chosen], axis=1)


def terms(measures: np.ndarray, parts: Sequence[str]) -> np.ndarray:
    """Terms (n, terms) of a border model for measures (n, 10): a constant, and those of each part."""
    wide = measures.astype(np.float32)
    place = np.clip(wide[:, PLACE], -3.5, 3.5) / 2
    makers = {
        "distance": lambda: wide[:, DISTANCE],
        "direction": lambda: products(wide[:, DIRECTION], 2),
        "place": lambda: products(place, 3),
        "shape": lambda: products(place, 6),
        "odds": lambda: wide[:, ODDS],
    }
    return np.concatenate([np.ones((len(wide), 1), np.float32), *(makers[part]() for part in parts)], axis=1)


@dataclass
class BorderModel:
    """Log odds that voxels belong to the other protocol's hippocampus, and those from which they are taken to."""

    parts: Sequence[str]
    weights: np.ndarray
    level: float = 0.0

    def log_odds(self, measures: np.ndarray) -> np.ndarray:
        return terms(measures, self.parts) @ self.weights


def fitted(measures: np.ndarray, truth: np.ndarray, parts: Sequence[str]) -> BorderModel:
    """Fit a border model to measures (n, 10) and truth (n,) by Newton's steps; its level has the highest Dice there."""
    raw = terms(measures, parts)
    scale = np.maximum(raw.std(0), 1e-6)
    scale[0] = 1.0
    scaled = raw / scale
    precision = np.full(len(scale), RIDGE)
    precision[0] = 0.0
    weights = np.zeros(len(scale), np.float32)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(scaled @ weights, -20, 20)))
        slope = scaled.T @ (truth - chance) - precision * weights
        curvature = (scaled * (chance * (1 - chance))[:, None]).T @ scaled + np.diag(precision)
        weights = (weights + np.linalg.solve(curvature, slope)).astype(np.float32)
    log_odds = scaled @ weights
    level = max(LEVELS, key=lambda level: dice(log_odds > level, truth))
    return BorderModel(parts, weights / scale, float(level))


def dice_beyond(found: np.ndarray, truth: np.ndarray, beyond: int) -> float:
    """Dice where `truth` has further voxels that cannot be found."""
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum() + beyond)


def folds(n_cases: int, *, blocks: bool) -> np.ndarray:
    """Fold of each case, 0 to 4."""
    return np.arange(n_cases) * N_FOLDS // n_cases if blocks else np.arange(n_cases) % N_FOLDS


def judged(cases: Sequence[Case], other: str, parts: Sequence[str], fold_of: np.ndarray) -> np.ndarray:
    """Dice and volume ratio (cases, 2) of outlines moved by a border model that was fitted without the case's fold."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(len(c.measures), N_SAMPLED, replace=False) for c in cases]
    measures = np.stack([c.measures[at] for c, at in zip(cases, chosen, strict=True)])
    truth = np.stack([c.others[other][at] for c, at in zip(cases, chosen, strict=True)])
    rows = np.zeros((len(cases), 2))
    for fold in range(N_FOLDS):
        rest = fold_of != fold
        model = fitted(np.concatenate(measures[rest]), truth[rest].ravel(), parts)
        for index in np.flatnonzero(~rest):
            case = cases[index]
            found = model.log_odds(case.measures) > model.level
            mask, beyond = case.others[other], case.beyond[other]
            rows[index] = dice_beyond(found, mask, beyond), found.sum() / (mask.sum() + beyond)
    return rows


class Longaxis:
    """Members of longaxis, each with the cases that it was trained on, if they are known."""

    def __init__(self, paths: Sequence[Path], splits: Path | None) -> None:
        self.members = [Networks([path], LONGAXIS_MM) for path in paths]
        known = json.loads(splits.read_text()) if splits else {}
        self.seen = [set(known[p.stem.removesuffix("_sq")]["train"]) for p in paths] if known else None

    def hippocampi(self, name: str, found: Sequence[Tensor], points: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """At points: the union of the labels of all members, and of those that never saw a case."""
        background = torch.stack([sample(f[:1], LONGAXIS_MM, points)[0] for f in found]).numpy()
        unseen = [name not in seen for seen in self.seen] if self.seen else [False]
        return background.mean(0) < 0.5, background[unseen].mean(0) < 0.5 if any(unseen) else None


def evenly(hippocampus: np.ndarray, n_voxels: float) -> np.ndarray:
    """Grow or cut a hippocampus at POOL_MM evenly to a number of voxels."""
    distance = distance_to(hippocampus)
    return distance > level_for_volume(distance, POOL_MM, n_voxels * POOL_MM**3)


def plain_dices(outline: np.ndarray, other: np.ndarray) -> list[float]:
    """Dice as they are, with the other cut evenly to SHARE, and with the outline grown to the other's very volume."""
    cut, grown = evenly(other, SHARE * other.sum()), evenly(outline, other.sum())
    return [dice(outline, other), dice(outline, cut), dice(grown, other)]


def near(outline: np.ndarray) -> tuple[slice, ...]:
    """Box around an outline at POOL_MM that holds all within REACH_MM, and what is blurred into it."""
    margin = round((REACH_MM + 3.0) / POOL_MM)
    box = ndimage.find_objects(outline.astype(int))[0]
    return tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)


def read_cases(arguments: argparse.Namespace) -> Iterator[Case]:
    subfields, longaxis = [Networks(arguments.networks)], Longaxis(arguments.longaxis, arguments.splits)
    keep = arguments.keep
    for name, image, voxel_mm, mask in islice(msd_cases(arguments.folder), 0, None, arguments.every):
        points = grid_points(image.shape, voxel_mm, POOL_MM)
        (found,) = outputs(subfields, image, keep and keep / f"subfields_{name}.npy")
        found = sample(found, VOXEL_MM, points).numpy()
        box = near(found[0] < 0.5)
        members = outputs(longaxis.members, image, keep and keep / f"longaxis_{name}.npy")
        union, unseen = longaxis.hippocampi(name, members, points)
        manual = target_field(mask, voxel_mm, 1.0)[0].numpy() > 0
        others = {"manual mask": manual, "longaxis": union}
        outline = found[0][box] < 0.5
        measures = measured(found[(slice(None), *box)])
        within = measures[..., 0] > -REACH_MM
        kept = {who: other[box][within] for who, other in others.items()}
        yield Case(
            name,
            measures[within].astype(np.float16),
            kept,
            {who: int(other.sum() - kept[who].sum()) for who, other in others.items()},
            {who: plain_dices(outline, other[box]) for who, other in others.items()},
            np.nan if unseen is None else dice(unseen, manual),
        )


def by_direction(cases: Sequence[Case], other: str) -> Iterator[str]:
    """Say how much of the millimetre inside and outside of the outlines is the other's, by where it looks to."""
    measures = np.concatenate([case.measures for case in cases])
    theirs = np.concatenate([case.others[other] for case in cases])
    distance = measures[:, 0]
    for axis, ends in enumerate((("front", "back"), ("medial", "lateral"), ("above", "below"))):
        for end, sign in zip(ends, (1, -1), strict=True):
            there = sign * measures[:, DIRECTION][:, axis] > np.sqrt(0.5)  # within 45 degrees of the axis
            inner = theirs[there & (distance > 0) & (distance < 1)].mean()
            outer = theirs[there & (distance < 0) & (distance > -1)].mean()
            yield f"    {end:8} {100 * inner:3.0f} % of the inner mm, {100 * outer:3.0f} % of the outer"


def line(title: str, values: np.ndarray) -> str:
    known = values[~np.isnan(values)]
    figures = f"mean {known.mean():.3f} sd {known.std(ddof=1):.3f} lowest {known.min():.3f}"
    return f"    {title:28} {figures} n {len(known)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    parser.add_argument("--longaxis", type=Path, nargs="+", required=True)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--blocks", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    cases = list(read_cases(arguments))
    fold_of = folds(len(cases), blocks=arguments.blocks)
    for other in ("manual mask", "longaxis"):
        print(f"{other}, Dice of {len(cases)} outlines")
        plain = np.array([case.plain[other] for case in cases]).T
        for title, values in zip(("as it is", f"cut evenly to {SHARE}", "grown to its volume"), plain, strict=True):
            print(line(title, values))
        for title, parts in MODELS.items():
            dices, ratios = judged(cases, other, parts, fold_of).T
            print(line(title, dices), f"volume {ratios.mean():.2f} sd {ratios.std(ddof=1):.2f}", flush=True)
        print(*by_direction(cases, other), sep="\n")
    unseen = np.array([case.unseen for case in cases])
    if not np.isnan(unseen).all():
        print("manual mask, by longaxis's members that never saw a case")
        print(line("longaxis", unseen))


if __name__ == "__main__":
    main()
