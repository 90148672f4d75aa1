"""The PNC average with HippUnfold's own labels: a real T1w of the training, from 2 mm voxels.

    python pnc.py HIPPUNFOLD_SUBFIELDS PNC-2x2x2.nii.gz OUT.npz

The image is `space/PNC/PNC-2x2x2.nii.gz` in the history of github:PennLINC/xcpEngine (commit 1f2771d), TemplateFlow's
tpl-PNC at 2 mm (CC BY 4.0). The labels are those of atlas.py, where HippUnfold has drawn them. It is the only real
image of which these are known exactly: where on a real hippocampus HippUnfold's labels end is learned from it.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from atlas import drawn_by_hippunfold, labels_at
from cit168 import UPRIGHT_SIZE_MM
from fitting import grid_points
from pool import POOL_MM
from samples import VOXEL_MM
from scipy import ndimage

# Both files name the same voxels, TemplateFlow's from left to right and with a typing error, -120.934 for -121.934.
IMAGE_FROM_LABELS_MM = np.array([2 * 95.89820099 - 201 * 0.9375, -1.0, 0.0])
RIBBON_REACH_MM = 0.16  # with which volumes are within 1 % of HippUnfold's own, with atlas.py's 3 %


def points_around(middle: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Points (x, y, z, 3) in mm, `voxel_mm` apart."""
    return grid_points([round(mm / voxel_mm) for mm in UPRIGHT_SIZE_MM], voxel_mm, voxel_mm).numpy() + middle


def main() -> None:
    folder, image_path, out = (Path(argument) for argument in sys.argv[1:4])
    image = nib.load(image_path)
    data, to_voxels = image.get_fdata(dtype=np.float32), np.linalg.inv(image.affine)
    cases = {}
    for side in "LR":
        drawn = drawn_by_hippunfold(folder, "PNC", side)
        middle = (drawn.points.min(0) + drawn.points.max(0)) / 2
        points = points_around(middle, POOL_MM)
        labels = labels_at(drawn, points.reshape(-1, 3), RIBBON_REACH_MM).reshape(points.shape[:3])
        at = nib.affines.apply_affine(to_voxels, points_around(middle, VOXEL_MM) + IMAGE_FROM_LABELS_MM)
        seen = ndimage.map_coordinates(data, at.transpose(3, 0, 1, 2), order=3, mode="nearest")
        if side == "R":
            labels, seen = labels[::-1], seen[::-1]
        name = f"PNC-{side}-T1w"
        cases[f"image/{name}"] = ((seen - seen.mean()) / seen.std()).astype(np.float16)
        cases[f"labels/{name}"] = labels.astype(np.uint8)
        cases[f"voxels/{name}"] = np.array([VOXEL_MM, POOL_MM])
        print(name, *(np.bincount(labels.ravel(), minlength=7)[1:] * POOL_MM**3).round().astype(int))
    np.savez(out, **cases)


if __name__ == "__main__":
    main()
