"""What a further scan takes in two versions of the app, scan by scan in turns.

::

    git worktree add /tmp/before REVISION
    python tests/benchmarks/two_versions.py /tmp/before [--model longaxis_single_fast] [--scans 25] [--image SCAN]

Two processes, one of each version, segment copies of one scan with one thread. Only one of them works at a time, and
after each scan it is the other's turn: the speed of a shared machine changes by a third from minute to minute, and so
it changes for both. The first two scans of each, which load and warm what all share, do not count. Processor seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from measuring import REPOSITORY, make_dataset, table

from bids_hsf.machine import keep_numpy_small

SCAN = REPOSITORY / "tests/data/bids/sub-icbm152/anat/sub-icbm152_T1w.nii.gz"
N_FIRST = 2

# Waits for its turn before each scan, and tells what it took: the same for all versions that have a `process_scan`.
TAKING_TURNS = """
import os, sys, time
from bids_hsf import workflow

told = int(sys.argv.pop(1))
process_scan = workflow.process_scan

def in_turn(*args, **options):
    sys.stdin.readline()
    started = time.process_time()
    try:
        return process_scan(*args, **options)
    finally:
        os.write(told, f"{time.process_time() - started}\\n".encode())

workflow.process_scan = in_turn
try:
    from bids_hsf.cli.app import main
except ImportError:
    from bids_hsf.cli import main
sys.exit(main())
"""


class Version:
    """A process of one version of the app, which stands in `checkout`, at work on a dataset."""

    def __init__(self, checkout: Path, root: Path, output: Path, model: str) -> None:
        reading, telling = os.pipe()
        words = ["--model", model, "--nprocs", "1", "--omp-nthreads", "1", "--skip-bids-validation"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKING_TURNS, str(telling), str(root), str(output), "participant", *words],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[telling],
            text=True,
        )
        os.close(telling)
        self.told = os.fdopen(reading)

    def next_scan(self) -> float:
        """Let it do one scan; processor seconds that this took."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.told.readline()
        if not line:
            sys.exit(f"A version has stopped:\n{self.process.communicate()[1]}")
        return float(line)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the other version")
    parser.add_argument("--model", default="longaxis_single_fast")
    parser.add_argument("--scans", type=int, default=25)
    parser.add_argument("--image", type=Path, default=SCAN)
    options = parser.parse_args()
    print(f"Load before: {os.getloadavg()[0]:.2f}")
    keep_numpy_small()  # as the app does; here `workflow` is imported, and NumPy with it, before the app could
    with tempfile.TemporaryDirectory() as temporary:
        root = make_dataset([options.image] * options.scans, Path(temporary) / "bids")
        versions = [
            Version(checkout, root, Path(temporary) / name, options.model)
            for name, checkout in (("before", options.before), ("now", REPOSITORY))
        ]
        seconds = np.array([[version.next_scan() for version in versions] for _ in range(options.scans)])[N_FIRST:]
        for version in versions:
            version.process.communicate()
    picks = np.random.default_rng(0).integers(0, len(seconds), (2000, len(seconds)))
    sums = seconds[picks].sum(axis=1)
    low, high = np.percentile(sums[:, 1] / sums[:, 0], [2.5, 97.5])
    before, now = seconds.mean(axis=0)
    row = {"before, s": before, "now, s": now, "now / before": now / before, "95 %": f"{low:.3f} to {high:.3f}"}
    print(table([row]))


if __name__ == "__main__":
    main()
