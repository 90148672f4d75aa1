"""Is the estimate of a dry run what a scan takes? Processor seconds of further scans, with one thread, by model.

::

    python tests/benchmarks/estimates.py [--models NAME ...] [--tta 1 default 20] [--devices cpu openvino] [--scans 3]

Each model segments copies of a scan in one process, one after the other; what it takes from the second one on, the
reports included, is measured. Processor seconds are as good on a busy machine as on an idle one, nearly. With --write
the table goes to a file for the documentation. Fails where an estimate is off by more than a factor of 1.5.
"""

import argparse
import math
import re
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib

sys.path.insert(0, str(Path(__file__).parent))

from measuring import make_dataset, table, watch, write_rows

from bids_hsf.hub.models import find_card
from bids_hsf.runs import estimates
from bids_hsf.runs.pace import slowness
from bids_hsf.segmentation.model import Options

REPOSITORY = Path(__file__).parents[2]
SCANS = [REPOSITORY / f"tests/data/bids/sub-icbm152/anat/sub-icbm152_{contrast}.nii.gz" for contrast in ("T1w", "T2w")]
MODELS = (
    "longaxis_single_fast",
    "longaxis_single_sq",
    "longaxis_bagging_accurate",
    "longaxis_bagging_sq",
    "subfields_single_fast",
    "subfields_single_accurate",
    "subfields_single_sq",
    "subfields_bagging_sq",
)
DEFAULT = "default"
FACTOR = 1.5

# The app, telling what it took from its second scan on, by scan.
APP = """
import resource, sys
from bids_hsf.machine import keep_numpy_small
keep_numpy_small()  # as the app does, before NumPy is imported
from bids_hsf import workflow
from bids_hsf.cli.app import main
def used():
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime
begun, process_scan = [], workflow.process_scan
def counted(job, worker):
    begun.append(used())
    process_scan(job, worker)
workflow.process_scan = counted
code = main(sys.argv[1:])
print("A SCAN", (used() - begun[1]) / (len(begun) - 1), flush=True)
sys.exit(code)
"""


@dataclass(frozen=True)
class Trial:
    """What is measured: a model on copies of a scan, by so many views, on a device."""

    scan: Path
    model: str
    tta: str
    device: str

    @property
    def contrast(self) -> str:
        """Suffix of the scan."""
        return self.scan.name.partition(".")[0].rpartition("_")[2]

    def measured(self, n_scans: int) -> float:
        """Processor seconds of a further scan."""
        with tempfile.TemporaryDirectory() as folder:
            root = make_dataset([self.scan] * n_scans, Path(folder, "bids"), self.contrast)
            words = [sys.executable, "-c", APP, str(root), str(Path(folder, "out")), "participant"]
            words += ["--model", self.model, "--device", self.device, "--omp-nthreads", "1", "--nprocs", "1"]
            words += ["--skip-bids-validation", "-m", self.contrast]
            words += [] if self.tta == DEFAULT else ["--tta", self.tta]
            _, said = watch(words, OMP_NUM_THREADS="1")
        found = re.search(r"A SCAN (\S+)", said)
        assert found is not None, said
        return float(found[1])

    @property
    def n_augmentations(self) -> int:
        """Views beside the plain crop: of a model whose only other view is the mirrored crop, one at the most."""
        asked = None if self.tta == DEFAULT else int(self.tta)
        return Options(n_augmentations=asked).augmentations_of(find_card(self.model))

    def estimated(self) -> float:
        """Seconds that a dry run tells."""
        header = nib.load(self.scan).header
        n_voxels = math.prod(int(n) for n in header.get_data_shape()[:3])
        volume = math.prod(float(mm) for mm in header.get_zooms()[:3])
        # The pace of a shared machine changes from minute to minute.
        slowness.cache_clear()
        kinds, card = [(n_voxels, volume)], find_card(self.model)
        return estimates.mean_seconds(kinds, card, self.n_augmentations, 1, self.device)


def main() -> None:
    """Measure, print a table, and fail where an estimate is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tta", nargs="+", default=["1", DEFAULT, "20"])
    parser.add_argument("--devices", nargs="+", default=["cpu", "openvino"])
    parser.add_argument("--images", nargs="+", type=Path, default=SCANS, help="*_T1w.nii.gz and *_T2w.nii.gz")
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--write", type=Path, help="the table, parted by tabs")
    arguments = parser.parse_args()
    rows: list[dict[str, str]] = []
    seen = set()
    for words in product(arguments.images, arguments.models, arguments.tta, arguments.devices):
        trial = Trial(*words)
        what = (trial.scan, trial.model, trial.n_augmentations, trial.device)
        if what in seen:
            continue
        seen.add(what)
        before = trial.estimated()
        measured = trial.measured(arguments.scans)
        estimate = (before + trial.estimated()) / 2
        rows.append(
            {
                "model": trial.model,
                "contrast": trial.contrast,
                "views": str(1 + trial.n_augmentations),
                "device": trial.device,
                "s a scan": f"{measured:.2f}",
                "estimate": f"{estimate:.2f}",
                "ratio": f"{estimate / measured:.2f}",
            }
        )
        print(*rows[-1].values(), flush=True)
    print(table(rows))
    if arguments.write is not None:
        write_rows(arguments.write, rows)
    off = [row for row in rows if not 1 / FACTOR <= float(row["ratio"]) <= FACTOR]
    if off:
        sys.exit(f"Off by more than a factor of {FACTOR}:\n{table(off)}")


if __name__ == "__main__":
    main()
