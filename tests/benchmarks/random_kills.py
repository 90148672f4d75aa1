"""Kill runs at random until a dataset is complete: is a scan lost, done otherwise, or left half-written?

    python tests/benchmarks/random_kills.py [--scans 30] [--ways pool dask shards] [--rounds 12] [--seed 0]

Tiny heads are segmented by the fast app of the tests: by a pool of two processes, on two workers of Dask, and by three
shards at once in one output folder. In each round one process is hit by SIGTERM, SIGKILL, SIGINT or SIGUSR1: the run,
or one of its workers, at a random moment, now and then while it is still starting. Then the same command goes on. After
--rounds nobody is hit any more. Between rounds nothing of a run may live on, and what has its own name must be whole;
in the end the files must be those of an undisturbed run, byte by byte. Tells each round; fails where one of it is not
so.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fast_app import write_card, write_dataset
from toy_runs import APP, Place, assert_whole, contents, leftovers, wait_until

SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGUSR1)
SECONDS = "0.1"  # that a scan takes longer
EARLY = 0.2  # of the rounds: hit while the run starts
N_SHARDS = 3

Processes = list["subprocess.Popen[bytes]"]


def start(place: Place, out: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a run in a session of its own."""
    command = [sys.executable, str(APP), *place.words(out, "participant", *words)]
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def members(session: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of_session = path.read_text().rpartition(")")[2].split()[:4]
            if int(of_session) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def is_empty(session: int) -> bool:
    """Whether nothing of a session lives on."""
    return not members(session)


def hit(processes: Processes, others: Sequence[int], chance: random.Random, is_at_work: Callable[[], bool]) -> str:
    """Send a random signal at a random moment; says which, and to whom."""
    if chance.random() < EARLY:
        time.sleep(chance.uniform(0, 3))
    else:
        wait_until(lambda: is_at_work() or all(process.poll() is not None for process in processes))
        time.sleep(chance.uniform(0, 4))
    process, sent = chance.choice(processes), chance.choice(SIGNALS)
    workers = [*others, *(pid for pid in members(process.pid) if pid != process.pid)]
    # A worker knows no signal but the one that nobody can catch.
    victim, sent = (
        (chance.choice(workers), signal.SIGKILL) if workers and chance.random() < 0.4 else (process.pid, sent)
    )
    with suppress(ProcessLookupError):
        os.kill(victim, sent)
    return f"{sent.name} to {'the run' if victim == process.pid else 'a worker'}"


def complete(place: Place, out: Path, ways: Sequence[Sequence[str]], others: Callable[[], list[int]], options) -> None:
    """Run and kill until every scan is done."""
    chance = random.Random(f"{options.seed} {out.name}")
    for number in range(options.rounds + 3):
        processes = [start(place, out, words) for words in ways]
        told = "nobody is hit"
        if number < options.rounds:
            told = hit(processes, others(), chance, lambda: any(out.glob("logs/**/*.lock")))
        codes = [process.wait() for process in processes]
        for process in processes:
            wait_until(partial(is_empty, process.pid))
        assert_whole(out)
        n_done = sum(not path.name.startswith(".") for path in out.rglob("*_dseg.json"))
        print(f"{out.name:7s} round {number:2d}: {told:24s} exit {codes}, {n_done} done", flush=True)
        if codes == [0] * len(ways):
            return
    sys.exit(f"{out.name} is not complete after {number + 1} rounds: see {out}.log")


@contextmanager
def ways_of(name: str) -> Iterator[tuple[list[list[str]], Callable[[], list[int]]]]:
    """Options of the commands that run at once, and who else may be hit."""
    if name == "pool":
        yield [["--nprocs", "2"]], lambda: []
    elif name == "shards":
        yield [["--shard", f"{number}/{N_SHARDS}"] for number in range(1, N_SHARDS + 1)], lambda: []
    else:
        from distributed import LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
            words = ["--executor", "dask", "--dask-scheduler", cluster.scheduler_address]
            yield [words], lambda: [nanny.pid for nanny in cluster.workers.values() if nanny.pid]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--ways", nargs="+", default=["pool", "dask", "shards"], choices=["pool", "dask", "shards"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="random-kills-"))
    os.environ["FAST_APP_SECONDS"] = SECONDS
    place = Place(write_dataset(folder / "bids", options.scans), write_card(folder), folder / "reference")
    assert start(place, place.reference, ["--nprocs", "2"]).wait() == 0
    expected = contents(place.reference)
    for name in options.ways:
        out = folder / name
        with ways_of(name) as (ways, others):
            complete(place, out, ways, others, options)
        found = contents(out)
        differing = sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))
        left = [path for path in leftovers(out) if path.suffix != ".lock"]
        print(f"{name}: {len(expected)} files, {len(differing)} differ; left over {[path.name for path in left]}")
        if differing:
            sys.exit(f"Not as in an undisturbed run: {', '.join(differing[:5])}; see {folder}")


if __name__ == "__main__":
    main()
