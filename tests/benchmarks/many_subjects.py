"""Time and memory of looking through a dataset of many subjects: ``--dry-run``, ``status``, a selection, validation.

::

    python tests/benchmarks/many_subjects.py [--subjects 5000] [--folder /tmp/many]

Each subject has two sessions with a T2w (empty, and none of a T1w model's business), a sidecar, a diffusion and a
functional image; the first session has a T1w with a true header and noise for voxels.
"""

import argparse
import gzip
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from measuring import watch

MODEL = "longaxis_single_fast"
LIMITS = {"seconds": 60, "mb": 1000}
# What a run does beside its first scans, with nothing beside it.
VALIDATE = """
import logging, sys
from pathlib import Path
from bids_hsf.bids.folders import known_participants
from bids_hsf.bids.validation import validating
logging.basicConfig(level=logging.INFO, format="%(message)s")
bids_dir, work_dir, *labels = sys.argv[1:]
with validating(Path(bids_dir), labels or known_participants(Path(bids_dir)), Path(work_dir)):
    pass
"""
NAMES = ["anat/{}_T1w.json", "anat/{}_T2w.nii.gz", "dwi/{}_dwi.nii.gz", "func/{}_task-rest_bold.nii.gz"]


def write_subjects(root: Path, n_subjects: int) -> None:
    """Make the dataset, unless it is there."""
    if (root / "dataset_description.json").exists():
        return
    head = nib.Nifti1Image(
        np.random.default_rng(0).integers(0, 99, (40, 48, 40), np.int16), np.diag([4.5, 4.5, 4.5, 1])
    )
    content = gzip.compress(head.to_bytes())
    for i in range(n_subjects):
        for session in ("1", "2"):
            stem = f"sub-{i:05d}_ses-{session}"
            folder = root / f"sub-{i:05d}" / f"ses-{session}"
            for name in NAMES:
                path = folder / name.format(stem)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("{}" if path.suffix == ".json" else "")
        (root / f"sub-{i:05d}/ses-1/anat/sub-{i:05d}_ses-1_T1w.nii.gz").write_bytes(content)
    (root / "dataset_description.json").write_text('{"Name": "Many", "BIDSVersion": "1.10.0"}')


def main() -> None:
    """Measure, print a table, and fail where the dry run takes too long or too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the dataset for the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        root, out = str(folder / "bids"), str(Path(temporary) / "out")
        write_subjects(folder / "bids", arguments.subjects)
        app = ("-m", "bids_hsf", root, out, "--model", MODEL, "--device", "cpu", "-m", "T1w")
        validate = ("-c", VALIDATE, root, temporary)
        runs = {
            "dry run of all": (*app, "participant", "--dry-run"),
            "dry run of one": (*app, "participant", "--dry-run", "--participant-label", "00003"),
            "status": (*app, "status"),
            "selection alone": (*app, "participant", "--boilerplate-only"),
            "validation of all": validate,
            "validation of one": (*validate, "00003"),
        }
        figures = {name: watch([sys.executable, *words]) for name, words in runs.items()}
    for name, (cost, said) in figures.items():
        last = next(reversed(said.strip().splitlines()), "")
        print(f"{name:30s} {cost.seconds:6.1f} s {cost.peak_mb:6d} MB   {last.strip()[:60]}")
    cost, _ = figures["dry run of all"]
    if cost.seconds > LIMITS["seconds"] or cost.peak_mb > LIMITS["mb"]:
        sys.exit(f"The dry run must take less than {LIMITS['seconds']} s and {LIMITS['mb']} MB")


if __name__ == "__main__":
    main()
