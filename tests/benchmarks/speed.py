"""Where the time goes: one scan, stage by stage, on each execution provider, against the bare network passes.

    python tests/benchmarks/speed.py [--scan T1w.nii.gz] [--models NAME ...] [--tta N] [--rounds 3] [--growth]
                                     [--json FILE] [--tsv FILE]

Each run is a process of its own with copies of one scan, so that the cost of starting shows in the first scan and not
in the further ones. Stages are wall seconds of the main thread; what goes on beside it (the validator, the helper
thread that makes samples) stands in brackets and is not part of the sum. Each pass of a further scan is repeated

    - by a bare loop over plain ONNX Runtime sessions of the same provider, and
    - by the OpenVINO runtime itself with static shapes, where the package openvino is to be had
      (--openvino-python names another environment that has it),

processes of their own on the same cores: right behind the app's pass, or with more than one thread, where the app goes
on beside its passes, behind the scan. So both see the machine at one speed, which swings by a third within minutes.

A further scan is held against its own passes in processor seconds, too: all from loading to the last picture, helper
threads included. --tsv writes both down for the documentation.

--growth measures how the cost grows with passes, members, voxels and scans instead.
"""

import argparse
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from measuring import REPOSITORY, app_command, machine, make_card, make_dataset, measure, table, write_rows

from bids_hsf.machine import keep_numpy_small

SCAN = REPOSITORY / "tests" / "data" / "bids" / "sub-icbm152" / "anat" / "sub-icbm152_T1w.nii.gz"
NETWORK = REPOSITORY / "models_hub" / "longaxis" / "single.onnx"
MODELS = ("longaxis_single_fast", "longaxis_single_accurate")
STAGES = (
    "start",
    "index",
    "validate",
    "device",
    "load",
    "register",
    "crop",
    "passes",
    "augment",
    "invert",
    "restore",
    "figures",
    "write",
    "report",
    "exit",
    "other",
)
# What belongs to which stage: module of the package, then a function or Class.method, by the name of its caller.
TIMED = {
    "index": ("workflow:make_plan",),
    "validate": ("bids.validation:read_report",),
    "device": ("runs.scheduling:choose_device",),
    "load": ("workflow:check_memory", "workflow:load_scan"),
    "register": ("workflow:locate_scans",),
    "crop": ("segmentation.hippocampi:show",),
    "passes": ("networks.predictor:OnnxPredictor.__call__", "networks.predictor:OnnxPredictor.__init__"),
    "augment": ("segmentation.votes:Tally._prepare",),
    "invert": ("segmentation.votes:Tally._add_pass",),
    "restore": ("segmentation.hippocampi:decide_on_scan", "segmentation.hippocampi:join_sides"),
    "write": ("workflow:write_result",),
    "report": ("workflow:write_subject_report",),
}
STARTED = "BENCH_STARTED"
NO_RUNTIME = 3  # as bare_loop.py ends; to import it would load NumPy before the app


def main() -> None:
    options = parse()
    if options.child:
        run_instrumented(options.child, options)
        return
    keep_numpy_small()  # as the app does; what is run instrumented imports NumPy before the app could
    subject: dict[str, Any] = {"machine": machine(), "scan": str(options.scan), "rounds": options.rounds}
    if options.growth:
        subject["growth"] = growth(options)
    else:
        subject["runs"] = [compare(model, device, options) for device in options.devices for model in options.models]
    if options.tsv:
        write_rows(options.tsv, [further_row(run) for run in subject["runs"]])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(subject, indent=2))
        print(f"written: {options.json}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, default=SCAN)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--devices", nargs="+", default=None, help="default: all that work on this machine")
    parser.add_argument("--scans", type=int, default=3, help="copies of the scan in a run, two or more")
    parser.add_argument("--rounds", type=int, default=3, help="runs; medians are told")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--validate", action="store_true", help="let the app validate the dataset, as it does by default"
    )
    parser.add_argument("--openvino-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--tta", type=int, help="random views beside the plain pass, instead of the model's number")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--tsv", type=Path)
    parser.add_argument("--json", type=Path, default=REPOSITORY / "bench" / "speed.json")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scans < 2:
        parser.error("--scans: two or more, as the first one bears the start")
    if options.devices is None and not options.child:
        options.devices = working_devices()
    return options


def working_devices() -> list[str]:
    code = "from bids_hsf.networks.device import list_devices as l; print(*[t.name for t in l() if t.state == 'works'])"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()


def compare(model: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one model on one device several times, and the bare loops over its passes; prints the table."""
    rounds = [one_run(model, device, options) for _ in range(options.rounds)]
    first, further = ({s: median(run[k].get(s, 0.0) for run in rounds) for s in STAGES} for k in ("first", "further"))
    totals = {key: median(run[key] for run in rounds) for key in ("whole", "first_scan", "further_scan", "passes_only")}
    bare = median(run["bare"] for run in rounds)
    over_bare = median(run["further_scan"] / run["bare"] for run in rounds)
    cpu_share = median(run["further_cpu"] / run["passes_cpu"] for run in rounds)
    native = median(run["openvino"] for run in rounds) if "openvino" in rounds[0] else None
    print(f"\n{model} on {device}, {options.threads} thread(s), {rounds[0]['n_passes']} passes a scan")
    rows = [{"stage": s, "first scan": first[s], "further scan": further[s]} for s in STAGES]
    for row in rows:
        if row["stage"] in in_background(options.threads):
            row |= {"stage": f"({row['stage']})"}
    rows.append({"stage": "sum", "first scan": totals["first_scan"], "further scan": totals["further_scan"]})
    print(table(rows))
    peak = int(median(run["peak_mb"] for run in rounds))
    print(f"bare ONNX Runtime loop over one scan's passes: {bare:.3f} s")
    print(f"  passes of the app are {median(run['passes_only'] / run['bare'] for run in rounds):.2f} times that")
    print(f"  a further scan is {over_bare:.2f} times that")
    print(f"in processor seconds, a further scan is {cpu_share:.2f} times its passes")
    print(
        f"OpenVINO itself, static shapes: {native:.3f} s" if native else "OpenVINO itself: package openvino not found"
    )
    print(f"whole run of {options.scans} scans: {totals['whole']:.2f} s; peak memory {peak} MB")
    return {
        "model": model,
        "device": device,
        "threads": options.threads,
        "first": first,
        "further": further,
        **totals,
        "bare_onnxruntime": bare,
        "bare_openvino": native,
        "further_scan_over_bare": over_bare,
        "further_cpu": median(run["further_cpu"] for run in rounds),
        "passes_cpu": median(run["passes_cpu"] for run in rounds),
        "further_cpu_over_passes": cpu_share,
        "peak_mb": peak,
        "rounds": rounds,
    }


def further_row(run: dict[str, Any]) -> dict[str, object]:
    """Tell what a further scan costs beside its passes."""
    return {
        "model": run["model"],
        "provider": run["device"],
        "passes": run["rounds"][0]["n_passes"],
        "further scan, cpu seconds": f"{run['further_cpu']:.2f}",
        "its passes": f"{run['passes_cpu']:.2f}",
        "times": f"{run['further_cpu_over_passes']:.2f}",
        "times a bare loop, by the clock": f"{run['further_scan_over_bare']:.2f}",
    }


def one_run(model: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        bids_dir = make_dataset([options.scan] * options.scans, folder / "bids")
        flags = ["--device", device, "--omp-nthreads", str(options.threads), "--nprocs", "1"]
        flags += [] if options.validate else ["--skip-bids-validation"]
        flags += [] if options.tta is None else ["--tta", str(options.tta)]
        arguments = app_command(bids_dir, folder / "out", model, *flags)[3:]
        record = folder / "record.json"
        command = [sys.executable, __file__, "--child", str(record), "--threads", str(options.threads)]
        command += ["--openvino-python", str(options.openvino_python), "--", *arguments]
        started = time.perf_counter()
        cost = measure(command, folder / "log.txt", PYTHONPATH=str(REPOSITORY), **{STARTED: repr(started)})
        child = json.loads(record.read_text())
    child["scans"][-1]["exit"] = started + cost.seconds - child["ended"]
    return summarize(child, options.threads, cost.seconds, cost.peak_mb)


def summarize(child: dict[str, Any], n_threads: int, whole: float, peak_mb: int) -> dict[str, Any]:
    """First scan with all that is done once, and the mean of the others."""
    scans, walls = child["scans"], child["walls"]
    n_scans = len(walls)
    of_run = {stage: sum(s.get(stage, 0.0) for s in (scans[0], scans[-1])) for stage in STAGES}
    first = {stage: of_run[stage] + scans[1].get(stage, 0.0) for stage in STAGES}
    others = scans[2:-1]
    further = {stage: median(s.get(stage, 0.0) for s in others) if others else 0.0 for stage in STAGES}
    reports = of_run["report"] / n_scans  # written for each subject at the end of the run
    first["report"] = further["report"] = reports
    further_scan = (median(walls[1:]) if n_scans > 1 else 0.0) + reports
    whole -= sum(sum(seconds) for seconds in child["bare"].values())
    first_scan = whole - (n_scans - 1) * further_scan
    first["other"] = first_scan - foreground(first, n_threads)
    further["other"] = further_scan - foreground(further, n_threads)
    return {
        "first": first,
        "further": further,
        "whole": whole,
        "first_scan": first_scan,
        "further_scan": further_scan,
        "passes_only": further["passes"] if others else first["passes"],
        "n_passes": child["n_passes"],
        "further_cpu": median(child["busy"][1:]) if n_scans > 1 else 0.0,
        "passes_cpu": median(child["busy_passing"][1:]) if n_scans > 1 else 0.0,
        **{name: median(seconds) for name, seconds in child["bare"].items()},
        "peak_mb": peak_mb,
    }


def in_background(n_threads: int) -> tuple[str, ...]:
    """Tell which stages go on beside the main thread; with one thread it makes samples itself."""
    return ("validate", "augment") if n_threads > 1 else ("validate",)


def foreground(stages: dict[str, float], n_threads: int) -> float:
    beside = (*in_background(n_threads), "other")
    return sum(seconds for stage, seconds in stages.items() if stage not in beside)


def median(values: Any) -> float:
    return float(statistics.median(values))


class Stopwatch:
    """Exclusive wall seconds by stage, per scan: what a nested stage takes is not counted twice."""

    def __init__(self) -> None:
        # Before the first scan, the scans, after the last one.
        self.scans: list[dict[str, float]] = [{}]
        self.walls: list[float] = []
        self.busy: list[float] = []  # seconds of the processor, and those of the passes
        self.busy_passing: list[float] = []
        self.threads = threading.local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        stack = self.threads.__dict__.setdefault("stack", [])
        stack.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            own = seconds - stack.pop()
            if stack:
                stack[-1] += seconds
            self.scans[-1][name] = self.scans[-1].get(name, 0.0) + own

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return timed

    def install(self, stage: str, place: str) -> None:
        """Time a function of the app wherever it is called by this name."""
        module, _, path = place.partition(":")
        *owner, attribute = path.split(".")
        try:
            target = functools.reduce(getattr, owner, importlib.import_module(f"bids_hsf.{module}"))
            setattr(target, attribute, self.wrap(stage, getattr(target, attribute)))
        except (ImportError, AttributeError) as error:
            sys.exit(f"{place}: the app has no such function any more ({error}); mend TIMED in {__file__}")


class Bare:
    """A process that makes passes and nothing else, when it is told to (`bare_loop.py`).

    Attributes
    ----------
    works : bool
        Whether its runtime is there.
    """

    def __init__(self, python: Path, runtime: str, provider: str, n_threads: int) -> None:
        program = Path(__file__).with_name("bare_loop.py")
        command = [str(python), str(program), runtime, provider, str(n_threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.works = bool(self._read())
        if not self.works and self._process.wait() != NO_RUNTIME:
            sys.exit(f"The bare loop of {runtime} has failed")

    def seconds(self, path: Path, shape: Sequence[int]) -> float:
        """Make one pass over a crop of (X, Y, Z) voxels."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(path), list(shape)]) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class BareLoops:
    """The passes of the app once more, by plain sessions of ONNX Runtime and by OpenVINO itself.

    Attributes
    ----------
    seconds : dict
        By runtime, of all passes of each further scan.
    """

    def __init__(self, openvino_python: Path, n_threads: int) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._python = openvino_python
        self._n_threads = n_threads
        self._loops: dict[str, Bare] = {}

    def next_scan(self, provider: str) -> None:
        if not self._loops:
            self._loops["bare"] = Bare(Path(sys.executable), "onnxruntime", provider, self._n_threads)
            self._loops["openvino"] = Bare(self._python, "openvino", "CPU", self._n_threads)
            self._loops = {name: loop for name, loop in self._loops.items() if loop.works}
        for name in self._loops:
            self.seconds.setdefault(name, []).append(0.0)

    def after_pass(self, path: Path, shape: Sequence[int]) -> None:
        """Repeat a pass at once, unless threads of the app work meanwhile."""
        if self._n_threads == 1:
            self._repeat(path, shape)

    def after_scan(self, passes: Sequence[tuple[Path, Sequence[int], str]]) -> None:
        """Repeat all passes of a scan, where that could not be done at once."""
        if self._n_threads > 1:
            for path, shape, _ in passes:
                self._repeat(path, shape)

    def _repeat(self, path: Path, shape: Sequence[int]) -> None:
        for name, loop in self._loops.items():
            self.seconds[name][-1] += loop.seconds(path, shape)


def run_instrumented(record: Path, options: argparse.Namespace) -> None:
    """Run the app in this process with its functions timed, and write what was seen."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # the bare loops share these cores
    from bids_hsf import workflow
    from bids_hsf.cli import app
    from bids_hsf.networks import sessions
    from bids_hsf.runs.results import draw_figures

    watch = Stopwatch()
    bare = BareLoops(options.openvino_python, options.threads)
    passes: list[tuple[Path, tuple[int, ...], str]] = []
    for stage, places in TIMED.items():
        for place in places:
            watch.install(stage, place)
    run, process_scan = sessions.Network.run, workflow.process_scan

    def recorded_run(network: Any, tensor: Any) -> Any:
        passes.append((network.path, tensor.shape[2:], network.session.get_providers()[0]))
        busy = time.process_time()
        try:
            return run(network, tensor)
        finally:
            if watch.busy_passing:
                watch.busy_passing[-1] += time.process_time() - busy
            with watch.stage("bare"):
                bare.after_pass(network.path, tensor.shape[2:])

    def timed_scan(*args: Any, **kwargs: Any) -> Any:
        watch.scans.append({})
        watch.busy_passing.append(0.0)
        if len(watch.scans) > 2:  # the first one opens and warms
            bare.next_scan(passes[0][2])
        passes.clear()
        started, busy = time.perf_counter(), time.process_time()
        try:
            return process_scan(*args, **kwargs)
        finally:
            watch.walls.append(time.perf_counter() - started - watch.scans[-1].pop("bare", 0.0))
            watch.busy.append(time.process_time() - busy)
            bare.after_scan(passes)
            if len(watch.walls) == n_scans:
                watch.scans.append({})

    sessions.Network.run, workflow.process_scan = recorded_run, timed_scan
    n_scans = len(list(Path(options.arguments[0]).glob("sub-*")))
    watch.scans[0]["start"] = time.perf_counter() - float(os.environ[STARTED])
    code = app.main(options.arguments, workflow.Seams(draw=watch.wrap("figures", draw_figures)))
    outcome = {"scans": watch.scans, "walls": watch.walls, "n_passes": len(passes), "bare": bare.seconds}
    outcome |= {"busy": watch.busy, "busy_passing": watch.busy_passing}
    record.write_text(json.dumps({**outcome, "ended": time.perf_counter()}))
    sys.exit(code)


def growth(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Wall seconds and peak memory of whole runs as one thing grows; prints the table."""
    plain = {"augmentations": 4, "members": 1, "zoom": 1.0, "scans": 1}
    series = {"augmentations": (0, 4, 9, 20), "members": (1, 2, 5), "zoom": (1.0, 1.26, 1.59), "scans": (1, 2, 4)}
    rows = []
    for name, values in series.items():
        for value in values:
            rows.append({"grows": name, **plain, name: value, **whole_run({**plain, name: value}, options)})
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    return rows


def whole_run(setting: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    costs = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            scan = zoomed(options.scan, setting["zoom"], folder)
            bids_dir = make_dataset([scan] * setting["scans"], folder / "bids")
            card = make_card([NETWORK] * setting["members"], folder / "card", 2, setting["augmentations"])
            flags = ("--skip-bids-validation", "--nprocs", "1", "--omp-nthreads", str(options.threads))
            command = app_command(bids_dir, folder / "out", str(card), *flags)
            costs.append(measure(command, folder / "log.txt", PYTHONPATH=str(REPOSITORY)))
    return {"seconds": median(c.seconds for c in costs), "peak_mb": median(c.peak_mb for c in costs)}


def zoomed(scan: Path, zoom: float, folder: Path) -> Path:
    """Resample a scan to voxels that are `zoom` times smaller along each axis."""
    if zoom == 1.0:
        return scan
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    image = nib.load(scan)
    data = ndimage.zoom(np.asarray(image.dataobj, dtype=np.float32), zoom, order=1, grid_mode=True, mode="nearest")
    affine = image.affine.copy()
    affine[:3, :3] /= zoom
    path = folder / "zoomed.nii.gz"
    nib.save(nib.Nifti1Image(data.astype(np.int16), affine), path)
    return path


if __name__ == "__main__":
    main()
