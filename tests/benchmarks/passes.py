"""Seconds of one network pass, for each network of some models, on each execution provider that works here.

    python tests/benchmarks/passes.py [--models NAME ...] [--shape 40 56 48] [--rounds 15] [--reduced-precision]

Prints a table of medians; the first pass, which compiles, is not counted.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from measuring import machine, table

from bids_hsf.hub.models import fetch, find_card
from bids_hsf.networks.device import choose_device, list_devices
from bids_hsf.networks.sessions import MemberFile

MODELS = ("longaxis_single_fast", "longaxis_single_sq", "longaxis_bagging_fast", "longaxis_bagging_sq")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--shape", nargs=3, type=int, default=(40, 56, 48))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--reduced-precision", action="store_true", help="as the app computes by this option")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    print(machine())
    devices = [trial.name for trial in list_devices() if trial.state == "works"]
    print(table(list(rows(options, devices))))


def rows(options: argparse.Namespace, devices: list[str]) -> Iterator[dict[str, object]]:
    crop = np.random.default_rng(0).normal(size=(1, 1, *options.shape)).astype(np.float32)
    for model in options.models:
        path = fetch(find_card(model)).member_paths[0]
        seconds = {device: seconds_of_a_pass(path, device, crop, options) for device in devices}
        yield {"first network of": model, **seconds}


def seconds_of_a_pass(path: Path, device: str, crop: np.ndarray, options: argparse.Namespace) -> float:
    file = MemberFile(path)
    chosen = choose_device(device, file, options.threads, reduced_precision=options.reduced_precision)
    network = file.open(chosen.session_settings)
    network.run(crop)
    times = []
    for _ in range(options.rounds):
        started = time.perf_counter()
        network.run(crop)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
