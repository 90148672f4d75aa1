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
from atlas import CA1, CA2, SRLM, SUB
from fitting import KNOTS_MM, carried_upon
from judge_cobralab import at_atlas_mm
from judge_scans import FROM_HIPPUNFOLD, GOALS, GROUPS, dice_by_group
from pool import ATLAS_MM

JUDGE = "MNI152NLin2009cSym"
OTHERS = ("MNI152NLin2009cAsym", "MNI152NLin2009aSym", "MNI152NLin2009bSym", "MNI152NLin6Sym", "MNI152NLin6Asym")
SPACINGS_MM = {"affine": (), "in its outline": KNOTS_MM}
PARTS = {"by the outline": (), "by all but CA3 and DG": ((SRLM,), (SUB,), (CA1, CA2))}


def labels_of(folder: Path, template: str, side: str) -> np.ndarray:
    """One side as a left one, at ATLAS_MM."""
    path = folder / f"tpl-{template}" / f"tpl-{template}_hemi-{side}_space-T1w_desc-subfields_dseg.nii.gz"
    if not path.is_file():
        sys.exit(f"{path}: no such file; expected a clone of khanlab/hippunfold-templateflow")
    image = nib.as_closest_canonical(nib.load(path))
    numbers = FROM_HIPPUNFOLD[np.asarray(image.dataobj).astype(int)]
    return at_atlas_mm(numbers, float(image.header.get_zooms()[0]), side)


def show(title: str, rows: Sequence[dict[str, float]]) -> None:
    print(f"{title:38}", *("/".join(f"{row[name]:.2f}" for row in rows).rjust(10) for name in GROUPS), flush=True)


def judge_runs(folder: Path) -> None:
    truth = {side: labels_of(folder, JUDGE, side) for side in "LR"}
    mirrored = carried_upon(truth["R"], truth["L"], ATLAS_MM, spacings_mm=()).argmax(0)
    show("its right side, mirrored", [dice_by_group(mirrored, truth["L"])])
    for template in OTHERS:
        for way, spacings_mm in SPACINGS_MM.items():
            rows = []
            for side, wanted in truth.items():
                found = carried_upon(labels_of(folder, template, side), wanted, ATLAS_MM, spacings_mm)
                rows.append(dice_by_group(found.argmax(0), wanted))
            show(f"{template}, {way}", rows)


def judge_shapes(path: Path) -> None:
    with np.load(path) as stored:
        atlases = {name.removesuffix("-L"): stored[name] for name in stored if name.endswith("-L")}
    for name, truth in atlases.items():
        for way, parts in PARTS.items():
            others = [
                carried_upon(labels, truth, ATLAS_MM, parts=parts) for other, labels in atlases.items() if other != name
            ]
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
