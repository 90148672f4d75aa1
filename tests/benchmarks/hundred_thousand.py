"""A hundred thousand T1w on paper: core-hours, bytes and files by model, and the time that shards take with failures.

::

    python tests/benchmarks/hundred_thousand.py [--scans 100000] [--models NAME ...] [--at-once 50] [--tasks 1000]
        [--device openvino] [--write tests/benchmarks/results/hundred_thousand.tsv]

Seconds are the estimates of the dry run, which tests/benchmarks/estimates.py holds against measurements; bytes and
files those of one scan that is segmented here. The simulation deals participants out as ``--shard`` does, and lets
tasks be killed and scans fail by chance; a task that was killed comes again at the end of the queue, and skips what is
done, as the app does. Fails where a scan is lost or done twice.
"""

import argparse
import heapq
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from measuring import table, write_rows

from bids_hsf.bids.shards import Shard
from bids_hsf.hub.models import find_card
from bids_hsf.runs import estimates

MODELS = (
    "longaxis_single_fast",
    "longaxis_bagging_accurate",
    "longaxis_bagging_sq",
    "subfields_single_fast",
    "subfields_single_accurate",
    "subfields_bagging_sq",
    "cobralab_single_fast",
    "cobralab_bagging_sq",
    "single_fast",
    "bagging_accurate",
    "bagging_sq",
)
SCAN = Path(__file__).parents[1] / "data/bids/sub-icbm152/anat/sub-icbm152_T1w.nii.gz"
START_SECONDS = 2.0
KILLED, FAILED = 0.02, 0.002  # of tasks, and of scans


def outputs_of_one_scan() -> tuple[int, int, int]:
    """Bytes, files and folders that a further scan of a run leaves."""
    with tempfile.TemporaryDirectory() as temporary:
        root, out = Path(temporary) / "bids", Path(temporary) / "out"
        path = root / "sub-01/anat/sub-01_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(SCAN.read_bytes())
        (root / "dataset_description.json").write_text('{"Name": "One", "BIDSVersion": "1.10.0"}')
        words = [sys.executable, "-m", "bids_hsf", root, out, "participant", "--model", MODELS[0], "--device", "cpu"]
        subprocess.run([*map(str, words), "--skip-bids-validation"], check=True, capture_output=True)
        own = [path for path in out.rglob("*") if "sub-01" in path.as_posix() and not path.name.startswith("run_")]
        files = [path for path in own if path.is_file()]
        return sum(path.stat().st_size for path in files), len(files), len(own) - len(files)


def rows_of_models(n_scans: int, names: list[str], device: str) -> list[dict[str, str]]:
    """Tell what each model takes."""
    rows = []
    for name in names:
        card = find_card(name)
        n_augmentations = card.n_augmentations
        seconds = estimates.seconds(estimates.USUAL_VOXELS, card, n_augmentations, 1, device=device)
        hours = seconds * n_scans / 3600
        gpu = estimates.flop_of(card, n_augmentations) * n_scans / estimates.FLOP_PER_SECOND_ON_GPU / 3600
        rows.append(
            {
                "model": name,
                "s a scan": f"{seconds:.1f}",
                "core-hours": f"{hours:,.0f}",
                "hours on 100 cores": f"{hours / 100:,.1f}",
                "passes, GPU-hours": f"{gpu:,.1f}",
                "MB a worker, at most": f"{estimates.memory_mb(estimates.USUAL_VOXELS, card, n_augmentations):,}",
            }
        )
    return rows


def simulate(n_scans: int, n_tasks: int, at_once: int, mean_seconds: float) -> tuple[float, Counter[str], int]:
    """Play an array of shards; returns its seconds, how often each participant was done or failed, and the kills."""
    chance = random.Random(1)
    labels = [f"{i:06d}" for i in range(n_scans)]
    lengths = {label: mean_seconds * chance.lognormvariate(-0.03, 0.25) for label in labels}
    queue = [(k, iter(Shard(k, n_tasks).of(labels))) for k in range(1, n_tasks + 1)]
    waiting = [(number, list(shard)) for number, shard in queue]
    free = [0.0] * at_once
    ended: Counter[str] = Counter()
    kills, last = 0, 0.0
    while waiting:
        number, shard = waiting.pop(0)
        begun = heapq.heappop(free)
        total = START_SECONDS + sum(lengths[label] for label in shard)
        limit = chance.uniform(0, total) if chance.random() < KILLED else total + 1
        now, rest = START_SECONDS, list(shard)
        while rest and now + lengths[rest[0]] <= limit:
            now += lengths[rest[0]]
            ended[rest.pop(0)] += 1
        if rest:
            kills, now = kills + 1, limit
            waiting.append((number, rest))
        heapq.heappush(free, begun + now)
        last = max(last, begun + now)
    return last, ended, kills


def main() -> None:
    """Print the tables and the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--device", default="openvino", help="whose speed is assumed")
    parser.add_argument("--write", type=Path, help="the table of models, parted by tabs")
    arguments = parser.parse_args()
    n_scans = arguments.scans
    rows = rows_of_models(n_scans, arguments.models, arguments.device)
    print(table(rows))
    if arguments.write is not None:
        write_rows(arguments.write, rows)
    n_bytes, n_files, n_folders = outputs_of_one_scan()
    print(
        f"Outputs of a scan: {n_bytes / 1e6:.2f} MB in {n_files} files and {n_folders} folders; of {n_scans:,}: "
        f"{n_bytes * n_scans / 1e12:.2f} TB, {(n_files + n_folders) * n_scans:,} inodes"
    )
    card = find_card(arguments.models[0])
    mean = estimates.seconds(estimates.USUAL_VOXELS, card, card.n_augmentations, 1, device=arguments.device)
    seconds, ended, kills = simulate(n_scans, arguments.tasks, arguments.at_once, mean)
    ideal = n_scans * mean / arguments.at_once
    chance = random.Random(2)
    failed = sum(chance.random() < FAILED for _ in range(n_scans))
    print(
        f"{arguments.tasks} shards, {arguments.at_once} at once, {kills} killed, {failed} scans failed: "
        f"{seconds / 3600:.2f} h, {seconds / ideal:.3f} times what so many cores take without a loss"
    )
    twice = [label for label, times in ended.items() if times > 1]
    if len(ended) != n_scans or twice:
        sys.exit(f"{n_scans - len(ended)} scan(s) lost, {len(twice)} done twice")
    print(f"Nothing lost, nothing done twice: {len(ended):,} scans ended, failed ones with their reason")


if __name__ == "__main__":
    main()
