r"""How well HippUnfold agrees with itself, and what shape alone tells of a label; no network is judged; torch.

    python judge_protocol.py HIPPUNFOLD_TEMPLATEFLOW atlas.npz

HIPPUNFOLD_TEMPLATEFLOW is a clone of github:khanlab/hippunfold-templateflow: HippUnfold's labels on ICBM152's averages
of its 152 people, who were registered in several ways. None of these is ever trained on; only labels are read. Prints
the Dice with the labels of the 2009c symmetric average, whose image `judge_scans.py` judges by: of its other side,
mirrored (two runs on one image), and of the other averages, laid upon it by the best affine of the two outlines and, so
that outlines agree and only what is inside is compared, by further free-form deformations.

Then the labels of each left atlas of training (atlas.py), told by those of the other brains: bent into its very
outline, and into its very outline, SRLM, subiculum and CA1 with CA2 at once, so that CA3 and DG alone remain.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from fitting import KNOTS_MM, carried, filled, fit, grid_points
from judge_cobralab import at_atlas_mm
from judge_scans import FROM_HIPPUNFOLD, GOALS, GROUPS, dice_by_group
from pool import ATLAS_MM, shape_field
from scipy import ndimage

JUDGE = "MNI152NLin2009cSym"
OTHERS = ("MNI152NLin2009cAsym", "MNI152NLin2009aSym", "MNI152NLin2009bSym", "MNI152NLin6Sym", "MNI152NLin6Asym")
SPACINGS_MM = {"affine": (), "in its outline": KNOTS_MM}
PARTS = {"by the outline": (), "by all but CA3 and DG": ((6,), (1,), (2, 3))}
BLUR_VOXELS, WEIGHT = 1.0, 4.0  # of a part's indicator, beside a distance in mm


def labels_of(folder: Path, template: str, side: str) -> np.ndarray:
    """One side as a left one, at ATLAS_MM."""
    path = folder / f"tpl-{template}" / f"tpl-{template}_hemi-{side}_space-T1w_desc-subfields_dseg.nii.gz"
    if not path.is_file():
        sys.exit(f"{path}: no such file; expected a clone of khanlab/hippunfold-templateflow")
    image = nib.as_closest_canonical(nib.load(path))
    numbers = FROM_HIPPUNFOLD[np.asarray(image.dataobj).astype(int)]
    return at_atlas_mm(numbers, float(image.header.get_zooms()[0]), side)


def fields_of(labels: np.ndarray, parts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Make fields that `fit` compares, of the outline and of parts of what is inside."""
    inside = [
        torch.from_numpy(ndimage.gaussian_filter(np.isin(labels, part).astype(np.float32), BLUR_VOXELS) * WEIGHT)
        for part in parts
    ]
    return torch.cat([shape_field(filled(labels > 0, ATLAS_MM), ATLAS_MM), *(field[None] for field in inside)])


def laid_upon(
    labels: np.ndarray, target: np.ndarray, spacings_mm: Sequence[float], parts: Sequence[Sequence[int]] = ()
) -> np.ndarray:
    """Shares (7, x, y, z) of one atlas's labels on the grid of another."""
    fields = [fields_of(volume, parts) for volume in (labels, target)]
    mapping, _ = fit(fields[0], ATLAS_MM, fields[1], ATLAS_MM, spacings_mm=spacings_mm)
    return carried(labels, ATLAS_MM, mapping, grid_points(target.shape, ATLAS_MM, ATLAS_MM))


def show(title: str, rows: Sequence[dict[str, float]]) -> None:
    print(f"{title:38}", *("/".join(f"{row[name]:.2f}" for row in rows).rjust(10) for name in GROUPS), flush=True)


def judge_runs(folder: Path) -> None:
    truth = {side: labels_of(folder, JUDGE, side) for side in "LR"}
    show("its right side, mirrored", [dice_by_group(laid_upon(truth["R"], truth["L"], ()).argmax(0), truth["L"])])
    for template in OTHERS:
        for way, spacings_mm in SPACINGS_MM.items():
            found = {s: laid_upon(labels_of(folder, template, s), truth[s], spacings_mm).argmax(0) for s in "LR"}
            show(f"{template}, {way}", [dice_by_group(found[s], truth[s]) for s in "LR"])


def judge_shapes(path: Path) -> None:
    with np.load(path) as stored:
        atlases = {name.removesuffix("-L"): stored[name] for name in stored if name.endswith("-L")}
    for name, truth in atlases.items():
        for way, parts in PARTS.items():
            others = [laid_upon(atlases[other], truth, KNOTS_MM, parts) for other in atlases if other != name]
            show(f"{name}, {way}", [dice_by_group(np.mean(others, axis=0).argmax(0), truth)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("templateflow", type=Path)
    parser.add_argument("atlas", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':38}", *(name.rjust(10) for name in GROUPS))
    print(f"{'goal':38}", *(f"{GOALS[name]:.2f}".rjust(10) if name in GOALS else " " * 10 for name in GROUPS))
    judge_runs(arguments.templateflow)
    judge_shapes(arguments.atlas)


if __name__ == "__main__":
    main()
