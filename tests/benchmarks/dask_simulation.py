"""Send very many scans through Dask, with work that only takes its time: is one lost, and what does the engine cost?

    python tests/benchmarks/dask_simulation.py --scans 100000 --workers 2 --faster 1000

Each scan sleeps as long as scans of a model take (log-normal about --seconds), divided by --faster; some cannot be
processed, and a few kill their worker, always or once. Told are: scans lost or told twice (none is right), scans a
second, processor seconds of the client a scan, its peak memory, and how well workers were filled: the time that the
work alone would take with none of them ever idle, over the time it took.
"""

import argparse
import collections
import logging
import os
import random
import resource
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from distributed import LocalCluster

from bids_hsf.errors import ScanError
from bids_hsf.runs.dask_engine import DaskEngine

BROKEN, DEADLY, DEADLY_ONCE = 0.01, 1e-4, 5e-4


@dataclass(frozen=True)
class FakeScan:
    """A scan that sleeps.

    Attributes
    ----------
    key, kin : str
    seconds : float
    fate : str
        "", "broken", "deadly" or the path of a mark that one deadly attempt leaves.
    """

    key: str
    kin: str
    seconds: float
    fate: str = ""


def sleep(scan: FakeScan) -> None:
    time.sleep(scan.seconds)
    if scan.fate == "broken":
        raise ScanError(f"{scan.key}: no head")
    if scan.fate == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if scan.fate and scan.fate != "broken" and not Path(scan.fate).exists():
        Path(scan.fate).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def open_tools():
    return sleep


def scans(options: argparse.Namespace, marks: Path) -> list[FakeScan]:
    chance = random.Random(options.seed)
    found = []
    for number in range(options.scans):
        fate = ""
        if (draw := chance.random()) < BROKEN:
            fate = "broken"
        elif draw < BROKEN + DEADLY:
            fate = "deadly"
        elif draw < BROKEN + DEADLY + DEADLY_ONCE:
            fate = str(marks / str(number))
        seconds = options.seconds * chance.lognormvariate(0, 0.3) / options.faster
        found.append(FakeScan(f"sub-{number:06d}_T1w", f"sub-{number:06d}", seconds, fate))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one scan, as measured")
    parser.add_argument("--faster", type=float, default=1000.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", type=int, default=1000, help="scans between two lines")
    options = parser.parse_args()
    marks = Path(tempfile.mkdtemp(prefix="dask-simulation-"))
    todo = scans(options, marks)
    ended: collections.Counter[str] = collections.Counter()
    n_told = 0
    failed: set[str] = set()
    with LocalCluster(
        n_workers=options.workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        # As a batch system does it: a worker whose process was not there when it was looked for is closed for good,
        # which after many kills hits all of a cluster that asks for no others.
        cluster.adapt(minimum=options.workers, maximum=options.workers)
        started, processor = time.perf_counter(), time.process_time()
        for outcome in DaskEngine(cluster.scheduler_address).run(todo, open_tools, False):
            ended[outcome.key] += 1
            n_told += 1
            if n_told % options.progress == 0:
                passed, used = time.perf_counter() - started, time.process_time() - processor
                print(f"{n_told:8d} told after {passed:7.1f} s, {used:6.1f} s of the client", flush=True)
            failed |= {outcome.key} if outcome.error is not None else set()
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    expected = {scan.key for scan in todo if scan.fate in ("broken", "deadly")}
    work = sum(scan.seconds for scan in todo) / options.workers
    print(f"scans {len(todo)}, workers {options.workers}, failing {len(expected)}")
    print(f"lost {len(todo) - len(ended)}, told twice {sum(n > 1 for n in ended.values())}")
    print(f"wrongly failed {len(failed - expected)}, wrongly done {len(expected - failed)}")
    print(f"{seconds:.1f} s, {len(todo) / seconds:.0f} scans/s, workers filled {work / seconds:.0%}")
    print(f"client and scheduler: {1000 * processor / len(todo):.2f} ms of processor a scan, ", end="")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")


if __name__ == "__main__":
    main()
