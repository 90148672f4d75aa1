"""How many scans a machine does in a time: one at a time, several at once, and as the app chooses by itself.

::

    python tests/benchmarks/throughput.py [--model longaxis_single_fast] [--scans 40] [--at-once 2] [--device auto]

Copies of one scan, each a participant, are segmented with one thread a scan: one after the other, in so many processes
at once, and with neither number given. Start, proving of the device and pages are counted. Wall seconds say something
on a machine that has nothing else to do alone; the load before is printed. Outputs must be the same files, byte by
byte; fails where they are not, or where several at once are not 1.6 times as fast.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import REPOSITORY, app_command, make_dataset, table, watch

SCAN = REPOSITORY / "tests/data/bids/sub-icbm152/anat/sub-icbm152_T1w.nii.gz"
TIMES = 1.6
KINDS = (".nii.gz", ".tsv", ".json", ".svg", ".webp", ".png", ".html")


def outputs(folder: Path) -> dict[str, bytes]:
    """Files that equal runs leave equal: all but logs."""
    paths = [path for path in folder.rglob("*") if path.name.endswith(KINDS) and path.is_file()]
    known = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in known.items() if not name.startswith("logs/")}


def main() -> None:
    """Measure, print a table, and fail where it is too slow or results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="longaxis_single_fast")
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--image", type=Path, default=SCAN)
    options = parser.parse_args()
    ways = {
        "one at a time": ["--nprocs", "1", "--omp-nthreads", "1"],
        f"{options.at_once} at once": ["--nprocs", str(options.at_once), "--omp-nthreads", "1"],
        "by default": [],
    }
    print(f"Load before: {os.getloadavg()[0]:.2f}")
    rows, found = [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = make_dataset([options.image] * options.scans, Path(temporary) / "bids")
        for place, (way, words) in enumerate(ways.items()):
            out = Path(temporary) / f"out{place}"
            more = ["--device", options.device, "--skip-bids-validation", *words]
            cost, _ = watch(app_command(root, out, options.model, *more))
            found.append((cost.seconds, outputs(out)))
            rows.append(
                {
                    "way": way,
                    "s": cost.seconds,
                    "scans an hour": round(3600 * options.scans / cost.seconds),
                    "times": found[0][0] / cost.seconds,
                    "core seconds": cost.cpu_seconds,
                }
            )
            print(*rows[-1].values(), flush=True)
    print(table(rows))
    if any(files != found[0][1] for _, files in found):
        sys.exit("One at a time, several at once and the default left other bytes")
    print(f"{len(found[0][1])} files, the same byte by byte")
    if found[0][0] < TIMES * found[1][0]:
        sys.exit(f"{options.at_once} at once are not {TIMES} times as fast as one")


if __name__ == "__main__":
    main()
