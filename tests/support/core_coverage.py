"""Tell what the tests reach of the rooms that compute, from ``.coverage``; leave by 1 where it is too little.

``coverage report`` joins lines and branches into one figure, in which the branches go under.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coverage import Coverage

CORE = ("segmentation", "networks", "localization")


def measure(coverage: Coverage) -> dict[str, Any]:
    """Counts of each file of the core: number of statements and branches, and of those that were reached."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path), include=[f"*/bids_hsf/{room}/*" for room in CORE])
        files = json.loads(path.read_text())["files"]
    return {Path(name).as_posix(): file["summary"] for name, file in files.items()}


def shares(counts: Mapping[str, Any], room: str = "") -> tuple[float, float]:
    """Per cent of lines and of branches that were reached in a room, or in all of them."""
    found = [each for name, each in counts.items() if f"bids_hsf/{room}" in name]
    reached = [sum(each[f"covered_{kind}"] for each in found) for kind in ("lines", "branches")]
    there = [sum(each[f"num_{kind}"] for each in found) for kind in ("statements", "branches")]
    lines, branches = (100 * part / whole if whole else 100.0 for part, whole in zip(reached, there, strict=True))
    return lines, branches


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a room; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=float, default=0, help="per cent of the core's lines that must be reached")
    parser.add_argument("--branches", type=float, default=0, help="per cent of its branches")
    least = parser.parse_args(argv)
    coverage = Coverage()
    coverage.load()
    counts = measure(coverage)
    print(f"{'room':<14}{'lines':>9}{'branches':>11}")
    for room in (*CORE, ""):
        lines, branches = shares(counts, room)
        print(f"{room or 'the core':<14}{lines:>7.1f} %{branches:>9.1f} %")
    print(f"{'at least':<14}{least.lines:>7.1f} %{least.branches:>9.1f} %")
    return int(lines < least.lines or branches < least.branches)


if __name__ == "__main__":
    sys.exit(main())
