"""Put the heads of synthseg_context around the atlases, as label maps to make synthetic images of.

    python pool.py atlas.npz SYNTHSEG_CONTEXT OUT_DIR [--per-side 3] [--seed 0]

The atlas keeps its shape; the head is bent until its FreeSurfer hippocampus (17, and 53 mirrored) lies upon it, as far
as the two protocols mean the same: around CA1 to CA3 it leaves room for the alveus, and what HippUnfold's subiculum
has beyond FreeSurfer's hippocampus covers the head's cortex. Then both are scaled and bent together, at random.
OUT_DIR receives a .npz a map, at 0.5 mm; what is there already is kept, so that a stopped run goes on.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from fitting import Map, carried, filled, fit, grid_points, level_for_volume, rounded, sample, signed_distance
from scipy import ndimage
from torch.nn import functional as F

ATLAS_MM, CONTEXT_MM, POOL_MM = 0.4, 1.0, 0.5
MARGIN_MM = 10
# How much of the alveus, which FreeSurfer takes in and HippUnfold leaves out, lies upon each label (0 to 6).
ALVEUS_ON = np.array([0, 0.1, 1.0, 1.0, 0.9, 0.5, 0.5])
ALVEUS_MM = (0.0, 0.4)
OVERLAY_MM = (0.2, 1.3)  # thickness upon CA1 to CA3 over what the head has there; the greater of both holds
# The hippocampal-amygdaloid transition area, a tissue of its own in tpl-upenn, lies in front of the subfields and above
# them; those who draw the whole hippocampus take it in, HippUnfold's subfields leave it out. In tpl-upenn it lies upon
# the medial side of the head, over 74 to 91 % of the length, up to 2.5 mm thick.
TRANSITION_MM = (0.0, 2.0)  # thickness
TRANSITION_SHARE = 0.25  # of the length, from the front
TRANSITION_TOWARD = (0.6, 0.8)  # to the front and up, on the medial side
# FreeSurfer's hippocampus, and that of manual raters, begins in front of HippUnfold's: what lies around its front lies
# so much ahead in real heads.
AHEAD_MM = (0.0, 2.5)
AHEAD_FROM = (0.7, 0.95)  # of the length: where nothing and all of it is moved
# Between the head and the amygdala lies a recess of the temporal horn: on CIT168 both contrasts show a little of white
# matter upon the head, then in places fluid, 1 to 1.5 mm beyond the border, and grey matter again 2.5 mm beyond it, on
# sub-073 no fluid. The bent heads have a horn of several millimetres there.
RECESS_ALVEUS_MM, RECESS_MM, RECESS_FROM = (0.2, 1.0), (-0.8, 0.8), 0.75  # white matter, fluid; share of the length
RECESS_DRY_MM = (-1.5, 8.0)  # how far what else is fluid there becomes amygdala
# Subiculum ends within a sheet of cortex that goes on to the middle (presubiculum, entorhinal and, behind these,
# retrosplenial cortex). The bent heads have fluid at its end in most places: networks learned that it ends where the
# sheet does.
SHEET_MM = (0.0, 8.0)  # how far the sheet goes on
SHEET_RISE = (0.5, -0.35)  # for one to the middle, at the tail's end and from a third of the length on
BEYOND_FREESURFER = (0.0, 0.35)  # share of the subiculum, from its medial end, that FreeSurfer may not take in
MEAN_SCALE, SCALE_SD = 1.05, 0.07  # of an axis; the averages are of small heads
# Knots of the deformations that atlas and head share, in mm, and the standard deviation of their displacement.
BENDS_MM = ((22.0, 1.6), (14.0, 1.0), (7.0, 0.45))
# Tissues around a hippocampus, numbered on from its six labels, and the FreeSurfer numbers of each.
TISSUES = {
    "alveus": (),
    "gap": (),
    "white": (2, 41, 85, 251, 252, 253, 254, 255),
    "cortex": (3, 42),
    "ventricle": (4, 5, 14, 15, 43, 44, 31, 63),
    "thalamus": (10, 49),
    "deep": (11, 12, 13, 26, 50, 51, 52, 58, 136, 137, 163, 164),
    "amygdala": (18, 54),
    "ventral": (28, 60),
    "brainstem": (16,),
    "cerebellar white": (7, 46),
    "cerebellar cortex": (8, 47),
    "fluid": (24,),
    "vessel": (30, 62),
    "transition": (),
    "outside": (0,),
}
FIRST_TISSUE = 7
NUMBER = {name: FIRST_TISSUE + index for index, name in enumerate(TISSUES)}
N_TISSUES = FIRST_TISSUE + len(TISSUES)


def tissues_of(freesurfer: np.ndarray) -> np.ndarray:
    """Numbers of TISSUES for FreeSurfer's; hippocampi stay 0, the extra-cerebral ones are outside."""
    table = np.full(1024, NUMBER["outside"])
    for name, members in TISSUES.items():
        table[list(members)] = NUMBER[name]
    table[[17, 53]] = 0
    return table[freesurfer.astype(int)]


def cut_around(labels: np.ndarray, number: int, margin: int) -> np.ndarray:
    """Cut out a structure and what lies within `margin` voxels, borders repeated where the volume ends."""
    box = ndimage.find_objects((labels == number).astype(int))[0]
    padded = np.pad(labels, margin, mode="edge")
    return padded[tuple(slice(s.start, s.stop + 2 * margin) for s in box)]


def resampled(labels: np.ndarray, voxel_mm: float, points: torch.Tensor) -> np.ndarray:
    """Labels at finer points, each indicator smoothed and interpolated for itself."""
    half = np.array([(n - 1) / 2 for n in labels.shape])
    at = (points.numpy() / voxel_mm + half).transpose(3, 0, 1, 2)
    best, found = np.zeros(at.shape[1:], np.float32), np.zeros(at.shape[1:], np.uint8)
    for label in np.unique(labels):
        smooth = ndimage.gaussian_filter((labels == label).astype(np.float32), 0.6)
        field = ndimage.map_coordinates(smooth, at, order=1, mode="nearest")
        found[field > best] = label
        best = np.maximum(best, field)
    return found


def composed(hippocampus: np.ndarray, surroundings: np.ndarray) -> np.ndarray:
    """Label map of both; `surroundings` has 0 for what FreeSurfer calls hippocampus."""
    labels = np.where(hippocampus > 0, hippocampus, surroundings)
    left_over = labels == 0
    within = filled(hippocampus > 0, POOL_MM, 1.0)
    labels[left_over] = np.where(within, NUMBER["gap"], NUMBER["alveus"])[left_over]
    return labels.astype(np.uint8)


def hippocampus_within(labels: np.ndarray, margin: int) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Box around a hippocampus and, in it, its mask, the distance from it in voxels, and its nearest voxel."""
    hippocampus = (labels > 0) & (labels < FIRST_TISSUE)
    box = ndimage.find_objects(hippocampus.astype(int))[0]
    near = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
    distance, nearest = ndimage.distance_transform_edt(~hippocampus[near], return_indices=True)
    return near, hippocampus[near], distance, nearest


def with_alveus(labels: np.ndarray, thickness_mm: float) -> np.ndarray:
    """Cover the outside of CA1 to CA3 with alveus in a label map at POOL_MM; the fold and the amygdala stay."""
    near, hippocampus, distance, nearest = hippocampus_within(labels, 4)
    part = labels[near].copy()
    layer = thickness_mm * ALVEUS_ON[part[tuple(nearest)]] / POOL_MM
    free = ~filled(hippocampus, POOL_MM, 1.0) & ~np.isin(part, (NUMBER["amygdala"], NUMBER["cortex"]))
    # The middle of the first voxel lies half of one beyond the border.
    part[free & (distance - 0.5 < layer - 0.25)] = NUMBER["alveus"]
    covered = labels.copy()
    covered[near] = part
    return covered


def along_of(held: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Place of each voxel's nearest one, from 0 at the tail's end to 1 in front."""
    ends = np.flatnonzero(held.any(axis=(0, 2)))
    return (nearest[1] - ends[0]) / (ends[-1] - ends[0])


def medial(hippocampus: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """From 0 in the lateral half of a left hippocampus to 1 at its medial end, of each voxel's nearest one."""
    x = np.arange(len(hippocampus))[:, None, None]
    middle = (x * hippocampus).sum((0, 2)) / np.maximum(hippocampus.sum((0, 2)), 1)
    end = np.where(hippocampus, x, 0).max((0, 2))
    y = nearest[1]
    return np.clip((nearest[0] - middle[y]) / np.maximum(end - middle, 1)[y], 0, 1)


def with_transition(labels: np.ndarray, thickness_mm: float) -> np.ndarray:
    """Cover the head of a label map at POOL_MM with grey matter that is none of the subfields."""
    near, hippocampus, distance, nearest = hippocampus_within(labels, 6)
    part = labels[near].copy()
    y, z = np.arange(part.shape[1])[None, :, None], np.arange(part.shape[2])
    along = along_of(hippocampus, nearest)
    # Thickest in front, and on the medial side above; none where it would lie behind the subfields.
    front, up = y - nearest[1], z - nearest[2]
    above = medial(hippocampus, nearest) * (TRANSITION_TOWARD[0] * front + TRANSITION_TOWARD[1] * up)
    toward = np.clip(np.maximum(front, above) / np.maximum(distance, 1e-6), 0, 1)
    layer = thickness_mm / POOL_MM * np.clip((along - 1 + TRANSITION_SHARE) / (TRANSITION_SHARE / 2), 0, 1) * toward
    free = ~hippocampus & ~filled(hippocampus, POOL_MM, 1.0)
    part[free & (distance - 0.5 < layer - 0.25)] = NUMBER["transition"]
    covered = labels.copy()
    covered[near] = part
    return covered


def with_ahead(labels: np.ndarray, ahead_mm: float) -> np.ndarray:
    """Move what lies around the front of a label map at POOL_MM ahead, and leave grey matter where it lay."""
    near, held, distance, _ = hippocampus_within(labels, 24)
    part = labels[near]
    x, y, z = np.ogrid[tuple(slice(n) for n in part.shape)]
    ends = np.flatnonzero(held.any(axis=(0, 2)))
    by_place = np.clip(((y - ends[0]) / (ends[-1] - ends[0]) - AHEAD_FROM[0]) / (AHEAD_FROM[1] - AHEAD_FROM[0]), 0, 1)
    by_distance = np.clip(2 - distance * POOL_MM / 6, 0, 1)
    came_from = np.clip(y - np.rint(by_place * by_distance * ahead_mm / POOL_MM).astype(int), 0, None)
    moved = part[x, came_from, z]
    moved[(moved > 0) & (moved < FIRST_TISSUE)] = NUMBER["transition"]
    covered = labels.copy()
    covered[near] = np.where(held, part, moved)
    return covered


def with_recess(labels: np.ndarray, alveus_mm: float, fluid_mm: float, dry_mm: float) -> np.ndarray:
    """Lay alveus and fluid before and upon the head of a label map at POOL_MM, and amygdala into the fluid beyond."""
    near, held, distance, nearest = hippocampus_within(labels, 14)
    part = labels[near].copy()
    y, z = np.arange(part.shape[1])[None, :, None], np.arange(part.shape[2])
    toward = np.hypot(np.clip(y - nearest[1], 0, None), np.clip(z - nearest[2], 0, None)) / np.maximum(distance, 1e-6)
    begins = (along_of(held, nearest) > RECESS_FROM) & (medial(held, nearest) < 0.7) & (toward > 0.6)
    free = begins & ~held & ~filled(held, POOL_MM, 1.0)
    depth = (distance - 0.25) * POOL_MM  # as in with_alveus
    wet = np.isin(part, (NUMBER["ventricle"], NUMBER["fluid"]))
    part[free & wet & (depth < dry_mm)] = NUMBER["amygdala"]
    part[free & (depth < alveus_mm + max(fluid_mm, 0))] = NUMBER["ventricle"]
    part[free & (depth < alveus_mm)] = NUMBER["alveus"]
    covered = labels.copy()
    covered[near] = part
    return covered


def with_sheet(labels: np.ndarray, length_mm: float) -> np.ndarray:
    """Let a sheet of cortex go on from the medial end of the subiculum of a label map at POOL_MM."""
    near, held, distance, nearest = hippocampus_within(labels, 14)
    part = labels[near].copy()
    x, z = np.arange(len(part))[:, None, None], np.arange(part.shape[2])
    # At the tail's end the cortex turns up around the splenium, before it it turns down around the gyrus.
    rise = np.interp(along_of(held, nearest), (0.1, 0.35), SHEET_RISE)
    toward = ((x - nearest[0]) + rise * (z - nearest[2])) / np.hypot(1, rise) / np.maximum(distance, 1e-6)
    # Where it goes on to the middle, and as thick as its end: what lies above and below stays.
    from_end = (part[tuple(nearest)] == 1) & (medial(held, nearest) > 0.6) & (toward > 0.85)
    lies_free = np.isin(part, [NUMBER[name] for name in ("fluid", "ventricle", "vessel", "alveus", "gap", "ventral")])
    part[~held & lies_free & from_end & (distance - 0.5 < length_mm / POOL_MM)] = NUMBER["cortex"]
    covered = labels.copy()
    covered[near] = part
    return covered


def shape_field(mask: np.ndarray, voxel_mm: float) -> torch.Tensor:
    return torch.from_numpy(signed_distance(mask, voxel_mm))[None]


def target_field(mask: np.ndarray, voxel_mm: float, share: float) -> torch.Tensor:
    """Signed distance at POOL_MM to the level that leaves `share` of a mask's volume.

    The mask is smoothed and enlarged first: of voxels at 1 mm, half lie at the border, all equally far from it.
    """
    points = grid_points(mask.shape, voxel_mm, POOL_MM)
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), 0.6)
    fine = sample(torch.from_numpy(smooth)[None], voxel_mm, points)[0].numpy()
    distance = ndimage.gaussian_filter(signed_distance(fine > 0.5, POOL_MM, clip_mm=8.0), 0.7)
    level = level_for_volume(distance, POOL_MM, share * float(mask.sum()) * voxel_mm**3)
    return torch.from_numpy(np.clip(distance - level, -4, 4))[None]


def wanted_outline(atlas: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Signed distance at ATLAS_MM to where the border of FreeSurfer's hippocampus belongs around an atlas."""
    reach = ndimage.distance_transform_edt(atlas != 2)[atlas == 1]  # of the subiculum, away from CA1
    kept = reach <= np.quantile(reach, 1 - rng.uniform(*BEYOND_FREESURFER))
    core = atlas > 0
    core[atlas == 1] = kept
    nearest = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
    layer = ndimage.gaussian_filter(ALVEUS_ON[atlas[tuple(nearest)]], 1.5 / ATLAS_MM)
    distance = signed_distance(filled(core, ATLAS_MM), ATLAS_MM, clip_mm=8.0)
    outline = distance + rng.uniform(*ALVEUS_MM) * layer
    return torch.from_numpy(np.clip(outline, -4, 4).astype(np.float32))[None]


def bent(points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Points (x, y, z, 3) in mm of a random head to those of the atlas."""
    scale = MEAN_SCALE * np.exp(rng.normal(0, SCALE_SD) + rng.normal(0, SCALE_SD, 3))
    moved = points / torch.tensor(scale, dtype=torch.float32)
    extent = points[-1, -1, -1] - points[0, 0, 0]
    for knots_mm, sd_mm in BENDS_MM:
        shape = [max(4, round(float(e) / knots_mm) + 1) for e in extent]
        knots = torch.from_numpy(rng.normal(0, sd_mm, (1, 3, *shape)).astype(np.float32))
        field = F.interpolate(rounded(knots), points.shape[:3], mode="trilinear", align_corners=True)[0]
        moved = moved + field.permute(1, 2, 3, 0)
    return moved


def put(atlas: np.ndarray, context: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """One cut-out context (FreeSurfer's numbers of one left side only) around one atlas; misfit in mm."""
    mask = target_field(context == 17, CONTEXT_MM, 1.0)
    padded = np.pad(atlas, round((MARGIN_MM - 8) / ATLAS_MM))
    mapping, misfit = fit(mask, POOL_MM, wanted_outline(padded, rng), ATLAS_MM)
    return around(padded, context, mapping, rng), misfit


@torch.no_grad()
def around(atlas: np.ndarray, context: np.ndarray, mapping: Map, rng: np.random.Generator) -> np.ndarray:
    """Label map of both at POOL_MM, scaled and bent at random."""
    shape = [round(n * MEAN_SCALE) for n in atlas.shape]
    points = bent(grid_points(shape, ATLAS_MM, POOL_MM), rng)
    hippocampus = carried(atlas, ATLAS_MM, lambda at: at, points).argmax(0)
    both = composed(hippocampus, resampled(tissues_of(context), CONTEXT_MM, mapping(points)))
    covered = with_ahead(with_alveus(both, rng.uniform(*OVERLAY_MM)), rng.uniform(*AHEAD_MM))
    covered = with_transition(covered, rng.uniform(*TRANSITION_MM))
    covered = with_recess(covered, *(rng.uniform(*mm) for mm in (RECESS_ALVEUS_MM, RECESS_MM, RECESS_DRY_MM)))
    return with_sheet(covered, rng.uniform(*SHEET_MM))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("context_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--per-side", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    with np.load(arguments.atlas) as stored:
        atlases = {name: stored[name] for name in stored if name != "upenn"}  # its proportions are not those in vivo
    names = sorted(atlases)
    for turn in range(arguments.per_side):
        for path in sorted(arguments.context_dir.glob("*.nii.gz")):
            labels = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(int)
            for side, number in (("L", 17), ("R", 53)):
                rng = np.random.default_rng([arguments.seed, turn, number, *path.name.encode()])
                name = names[int(rng.integers(len(names)))]
                out = arguments.out_dir / f"{path.name.split('.')[0]}-{side}_{name}.npz"
                if out.exists():
                    continue
                context = cut_around(labels, number, MARGIN_MM)
                if side == "R":
                    context = context[::-1]
                context = np.where(context == number, 17, np.where(np.isin(context, (17, 53)), 3, context))
                composite, misfit = put(atlases[name], context, rng)
                np.savez_compressed(out, labels=composite)
                volumes = np.bincount(composite.ravel(), minlength=8)[1:8] * POOL_MM**3
                print(out.stem, f"{misfit:.2f}", *volumes.round().astype(int), flush=True)


if __name__ == "__main__":
    main()
