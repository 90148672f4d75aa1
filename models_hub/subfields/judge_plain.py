"""The plain way on CIT168: HippUnfold's MNI labels carried over by the app's own affine; needs bids-hsf.

    python judge_plain.py RESOURCES/CITI168 HIPPUNFOLD_SUBFIELDS --networks NET.onnx ...

Prints how dark SRLM is against CA1 on the T2w average, slice by slice of the body, and the Dice of these labels with
the networks' on the T2w.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from cit168 import UPRIGHT_MM, citi168_cases, rigid, upright_middle
from fitting import grid_points
from judge_crops import Networks
from judge_scans import darkness, dice_by_group, hippunfold_labels

from bids_hsf.images import load_scan
from bids_hsf.localization.locate import locate

MNI = "tpl-MNI152NLin2009cSym_hemi-L_desc-subfields_dseg.nii.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("citi168", type=Path)
    parser.add_argument("hippunfold_subfields", type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    scan = load_scan(arguments.citi168 / "T1w_head_700um.nii.gz")
    template_from_head = np.linalg.inv(locate(scan.data, scan.grid).scan_from_template)
    labels = hippunfold_labels(arguments.hippunfold_subfields)
    voxel_from_mni = np.linalg.inv(nib.load(arguments.hippunfold_subfields / MNI).affine)
    networks = Networks(arguments.networks)
    rotation_and_shift = rigid(arguments.citi168 / "CoronalOblique_rigid.txt")
    for name, images in citi168_cases(arguments.citi168):
        side = name[-1]
        points = grid_points(images["T2w"].shape, UPRIGHT_MM, UPRIGHT_MM)
        crop = nib.load(arguments.citi168 / f"T2w_300umCoronalOblique_hemi-{side}.nii.gz")
        world = points.numpy() * ([-1, 1, 1] if side == "R" else 1) + upright_middle(crop, *rotation_and_shift)
        at = nib.affines.apply_affine(voxel_from_mni @ template_from_head, world).round().astype(int)
        plain = labels[side][tuple(at.transpose(3, 0, 1, 2))]
        t2w = images["T2w"].numpy()[tuple(slice(n) for n in plain.shape)]
        darker, n, ratio = darkness(plain, t2w)
        found = networks.probabilities(images["T2w"], UPRIGHT_MM, points).argmax(0).numpy()
        print(
            name, f"SRLM darker than CA1 in {darker} of {n} slices, ratio {ratio:.3f}; Dice with the networks", end=" "
        )
        print({k: round(v, 2) for k, v in dice_by_group(plain, found).items()})


if __name__ == "__main__":
    main()
