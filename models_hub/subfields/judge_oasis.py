"""Judge a subfields model on the 30 heads of OASIS30, by the app; needs bids-hsf.

    python judge_oasis.py OASIS30 HIPPUNFOLD_SUBFIELDS --model subfields_single_fast

OASIS30 is `thirdparty/oasis30` of github:PennLINC/xcpEngine: T1w heads without skull (Brains) and the manual labels of
the MICCAI challenge of 2012 (MICCAI2012ChallengeLabels), whose whole hippocampus is another protocol's. HippUnfold's
labels are those of OASIS30ANTs, the average of the same heads. Prints, left / right: Dice with the manual masks, volume
over theirs by fifths of the length from tail to head, and mean volumes beside HippUnfold's on the average.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from atlas import load_ras
from judge_scans import FROM_HIPPUNFOLD, LABELS, dice, sides

MANUAL = {"L": 48, "R": 47}


def as_bids(heads: Path, folder: Path) -> None:
    """Lay links to the heads out as a dataset."""
    folder.mkdir()
    description = {"Name": "OASIS30", "BIDSVersion": "1.8.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    for head in sorted(heads.glob("*.nii.gz")):
        name = head.name.removesuffix(".nii.gz")
        anat = folder / f"sub-{name}" / "anat"
        anat.mkdir(parents=True)
        (anat / f"sub-{name}_T1w.nii.gz").symlink_to(head.resolve())


def by_fifths(found: np.ndarray, manual: np.ndarray) -> list[float]:
    """Volume of found over manual, from the tail on; what lies beyond the ends counts to these."""
    held = np.flatnonzero(manual.any(axis=(0, 2)))
    cuts = np.linspace(held[0], held[-1] + 1, 6).round().astype(int)[1:-1]
    parts = [np.split(each.sum(axis=(0, 2)), cuts) for each in (found, manual)]
    return [float(ours.sum() / theirs.sum()) for ours, theirs in zip(*parts, strict=True)]


def average_volumes(folder: Path, side: str) -> list[float]:
    """HippUnfold's volumes of the six labels on OASIS30ANTs, mm3."""
    drawn, affine = load_ras(folder / f"tpl-OASIS30ANTs_hemi-{side}_desc-subfields_dseg.nii.gz")
    labels = FROM_HIPPUNFOLD[drawn.astype(int)]
    return [float((labels == k).sum() * abs(np.linalg.det(affine[:3, :3]))) for k in range(1, 7)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("oasis30", type=Path)
    parser.add_argument("hippunfold", type=Path)
    parser.add_argument("--model", default="subfields_single_fast")
    arguments = parser.parse_args()
    rows: dict[str, list[list[float]]] = {"L": [], "R": []}
    volumes: dict[str, list[list[int]]] = {"L": [], "R": []}
    with tempfile.TemporaryDirectory() as folder:
        dataset, out = Path(folder) / "bids", Path(folder) / "out"
        as_bids(arguments.oasis30 / "Brains", dataset)
        command = [sys.executable, "-m", "bids_hsf", str(dataset), str(out), "participant"]
        subprocess.run([*command, "--model", arguments.model, "--skip-bids-validation"], check=True)  # noqa: S603
        for path in sorted(out.glob("sub-*/**/*_dseg.nii.gz")):
            name = path.name.split("_")[0].removeprefix("sub-")
            manual, _ = load_ras(arguments.oasis30 / "MICCAI2012ChallengeLabels" / f"{name}.nii.gz")
            for side, found in sides(load_ras(path)[0]).items():
                theirs = manual == MANUAL[side]
                rows[side].append([dice(found > 0, theirs), *by_fifths(found > 0, theirs)])
                volumes[side].append([int((found == k).sum()) for k in range(1, 7)])  # voxels of 1 mm
    for side, each in rows.items():
        mean, lowest = np.mean(each, axis=0), np.min(each, axis=0)
        print(
            f"{side}: {len(each)} heads, Dice {mean[0]:.3f}, lowest {lowest[0]:.3f}; volume over theirs, fifths", end=""
        )
        print("", *(f"{ratio:.2f}" for ratio in mean[1:]))
        for title, mm3 in (
            ("found, mean", np.mean(volumes[side], axis=0)),
            ("HippUnfold", average_volumes(arguments.hippunfold, side)),
        ):
            print(f"    {title:12}", *(f"{n} {v:.0f}" for n, v in zip(LABELS, mm3, strict=True)), f"all {sum(mm3):.0f}")


if __name__ == "__main__":
    main()
