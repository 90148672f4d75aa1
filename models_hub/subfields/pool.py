"""Put the atlases into the heads of synthseg_context, as label maps to make synthetic images of.

    python pool.py atlas.npz SYNTHSEG_CONTEXT OUT_DIR [--per-side 3] [--seed 0]

Each hippocampus of each head (FreeSurfer's 17, and 53 mirrored) takes several atlases, fitted by shape to its mask cut
to the protocol's border; what the atlas leaves of the mask is alveus, or a gap within the fold. OUT_DIR receives a
.npz a map, at 0.5 mm; what is there already is kept, so that a stopped run goes on.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from fitting import carried, filled, fit, grid_points, level_for_volume, sample, signed_distance
from scipy import ndimage

ATLAS_MM, CONTEXT_MM, POOL_MM = 0.4, 1.0, 0.5
MARGIN_MM = 10
SHARE_OF_MASK = (0.84, 0.97)  # what HippUnfold's border leaves of a FreeSurfer hippocampus
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


def put(atlas: np.ndarray, field: torch.Tensor, context: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    """One atlas in one cut-out context (FreeSurfer's numbers of one left side only)."""
    target = target_field(context == 17, CONTEXT_MM, share)
    mapping, misfit = fit(field, ATLAS_MM, target, POOL_MM)
    points = grid_points(context.shape, CONTEXT_MM, POOL_MM)  # the target's own
    hippocampus = carried(atlas, ATLAS_MM, mapping, points).argmax(0)
    return composed(hippocampus, resampled(tissues_of(context), CONTEXT_MM, points)), misfit


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
    fields = {name: shape_field(filled(labels > 0, ATLAS_MM), ATLAS_MM) for name, labels in atlases.items()}
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
                composite, misfit = put(atlases[name], fields[name], context, rng.uniform(*SHARE_OF_MASK))
                np.savez_compressed(out, labels=composite)
                volumes = np.bincount(composite.ravel(), minlength=8)[1:8] * POOL_MM**3
                print(out.stem, f"{misfit:.2f}", *volumes.round().astype(int), flush=True)


if __name__ == "__main__":
    main()
