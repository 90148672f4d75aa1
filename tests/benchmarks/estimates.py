"""Is the estimate of a dry run what a scan takes? Processor seconds of further scans, with one thread, by model.

::

    python tests/benchmarks/estimates.py [--models NAME ...] [--scan T1w.nii.gz] [--scans 4]

Each model segments one copy of a scan, and then several, in processes of their own: the difference is what a further
scan takes, the reports included. Processor seconds are as good on a busy machine as on an idle one, nearly.
Fails where an estimate is off by more than a factor of 1.5.
"""

import argparse
import math
import shutil
import sys
import tempfile
from pathlib import Path

import nibabel as nib

sys.path.insert(0, str(Path(__file__).parent))

from measuring import watch

from bids_hsf.hub.models import find_card
from bids_hsf.runs import estimates

REPOSITORY = Path(__file__).parents[2]
SCAN = REPOSITORY / "tests/data/bids/sub-icbm152/anat/sub-icbm152_T1w.nii.gz"
MODELS = (
    "longaxis_single_fast",
    "longaxis_bagging_accurate",
    "longaxis_bagging_sq",
    "subfields_single_accurate",
    "subfields_bagging_sq",
)
FACTOR = 1.5


def processor_seconds(scan: Path, n_scans: int, model: str, folder: Path) -> float:
    """Processor seconds of a run on copies of a scan."""
    root = folder / f"bids{n_scans}"
    for i in range(n_scans):
        path = root / f"sub-{i:02d}/anat/sub-{i:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan, path)
    (root / "dataset_description.json").write_text('{"Name": "Copies", "BIDSVersion": "1.10.0"}')
    words = [sys.executable, "-m", "bids_hsf", str(root), str(folder / f"out{n_scans}-{model}"), "participant"]
    words += ["--model", model, "--device", "cpu", "--omp-nthreads", "1", "--nprocs", "1", "--skip-bids-validation"]
    cost, _ = watch(words, OMP_NUM_THREADS="1")
    return cost.cpu_seconds


def main() -> None:
    """Measure, print a table, and fail where an estimate is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--scan", type=Path, default=SCAN)
    parser.add_argument("--scans", type=int, default=4)
    arguments = parser.parse_args()
    header = nib.load(arguments.scan).header
    n_voxels = math.prod(int(n) for n in header.get_data_shape()[:3])
    volume = math.prod(float(mm) for mm in header.get_zooms()[:3])
    off = []
    print(f"{'model':32s} {'start':>7s} {'a scan':>7s} {'estimate':>8s} {'ratio':>6s}")
    for model in arguments.models:
        card = find_card(model)
        with tempfile.TemporaryDirectory() as folder:
            one, more = (processor_seconds(arguments.scan, n, model, Path(folder)) for n in (1, arguments.scans))
        measured = (more - one) / (arguments.scans - 1)
        estimate = estimates.seconds(n_voxels, card, card.n_augmentations, 1, volume)
        ratio = estimate / measured
        print(f"{model:32s} {one - measured:7.2f} {measured:7.2f} {estimate:8.2f} {ratio:6.2f}", flush=True)
        if not 1 / FACTOR <= ratio <= FACTOR:
            off.append(model)
    if off:
        sys.exit(f"Off by more than a factor of {FACTOR}: {', '.join(off)}")


if __name__ == "__main__":
    main()
