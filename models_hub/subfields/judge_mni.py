"""Judge a model of CoBrALab's protocol on MNI templates, by the app; needs bids-hsf.

    python judge_mni.py BIDS_DIR MNI_HIPPOCAMPUS_LABELS --model cobralab_bagging_sq [--figures DIR]

BIDS_DIR holds sub-icbm152 (T1w and T2w) and sub-colin27 (T1w), MNI_HIPPOCAMPUS_LABELS the labels that MAGeT gave them
from the five manual brains, which no step of the training reads. Prints, left / right: Dice with these labels, volumes,
and T1w against T2w. The goal is how well two runs of that protocol agree, MAGeT's and CAT12's.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from judge_scans import dice_by_group, mosaic, renumbered, row, sides

GROUPS = {"Sub": (1,), "CA1": (2,), "CA23": (3,), "DG": (4,), "SRLM": (5,), "whole": range(1, 6)}
GOALS = {"Sub": (0.77, 0.65), "CA1": (0.80, 0.74), "CA23": (0.59, 0.46), "DG": (0.81, 0.79), "SRLM": (0.68, 0.58)}
GOALS |= {"whole": (0.91, 0.88)}
FROM_MAGET = {"L": {8: 1, 7: 2, 10: 3, 9: 4, 11: 5}, "R": {89: 1, 88: 2, 91: 3, 90: 4, 92: 5}}
SCANS = {
    ("icbm152", "T1w"): "mni_icbm152_t1_tal_nlin_sym_09c_labels.nii.gz",
    ("icbm152", "T2w"): "mni_icbm152_t1_tal_nlin_sym_09c_labels.nii.gz",
    ("colin27", "T1w"): "colin27_t1_tal_lin_labels.nii.gz",
}
LIKE_SUBFIELDS = np.array([0, 1, 2, 4, 5, 6])  # for the colors of the mosaics


def truth_of(path: Path) -> dict[str, np.ndarray]:
    """MAGeT's labels of each side, numbered as the family's."""
    data = np.asarray(nib.load(path).dataobj).round().astype(int)
    return {side: renumbered(data, table) for side, table in FROM_MAGET.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--model", default="cobralab_bagging_sq")
    parser.add_argument("--figures", type=Path, help="mosaics, the networks' labels above MAGeT's; needs matplotlib")
    arguments = parser.parse_args()
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bids_hsf", str(arguments.bids_dir), folder, "participant"]
        command += ["--model", arguments.model, "--skip-bids-validation", "--participant-label", "icbm152", "colin27"]
        subprocess.run(command, check=True)  # noqa: S603
        for subject, contrast in SCANS:
            path = next(Path(folder).glob(f"sub-{subject}/**/*space-{contrast}_seg-cobralab*_dseg.nii.gz"))
            found[subject, contrast] = sides(np.asarray(nib.load(path).dataobj))
    print(f"{arguments.model:24}", *(name.rjust(11) for name in GROUPS))
    row("goal", *({name: GOALS[name][k] for name in GROUPS} for k in (0, 1)), ".2f")
    for (subject, contrast), labels in found.items():
        truth = truth_of(arguments.labels / SCANS[subject, contrast])
        row(f"{subject} {contrast}, Dice", *(dice_by_group(labels[s], truth[s], GROUPS) for s in "LR"), ".2f")
        for title, maps in (("MAGeT", truth), ("found", labels)):
            volumes = [{g: float(np.isin(maps[s], m).sum()) for g, m in GROUPS.items()} for s in "LR"]
            row(f"    {title}, mm3", *volumes, ".0f")
        if arguments.figures:
            arguments.figures.mkdir(parents=True, exist_ok=True)
            scan = arguments.bids_dir / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}.nii.gz"
            image = np.asarray(nib.load(scan).dataobj, dtype=float)
            for s in "LR":
                shown = (LIKE_SUBFIELDS[each[s]] for each in (labels, truth))
                mosaic(arguments.figures / f"{subject}_{contrast}_{s}.png", image, *shown)
    pair = found["icbm152", "T1w"], found["icbm152", "T2w"]
    row("T1w against T2w, Dice", *(dice_by_group(pair[0][s], pair[1][s], GROUPS) for s in "LR"), ".2f")


if __name__ == "__main__":
    main()
