"""What grows with a dataset: a task for one participant, a shard, the status, by processor seconds and calls.

::

    python tests/benchmarks/growth_of_datasets.py [--subjects 1000 10000 100000] [--done 1000 5000] [--folder FOLDER]

The dataset has one small T1w a participant. For the status, one participant is segmented, and its results are written
again under the names of the others. Prints a table; fails where a task for one participant takes more than 300 calls
in the root of the raw data or 1.5 processor seconds before its first scan.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from bids_trees import write_tree
from fast_app import write_card, write_head
from measuring import watch

from bids_hsf.bids.provenance import describe_file

CALLS, SECONDS = 300, 1.5
# The app up to its first scan.
BEFORE = """
import os, resource, sys
from bids_hsf.machine import keep_numpy_small
keep_numpy_small()  # as the app does, before NumPy is imported
from bids_hsf import workflow
from fast_app import run_fast
def stop(job, worker):
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("BEFORE", used.ru_utime + used.ru_stime, flush=True)
    os._exit(0)
workflow.process_scan = stop
run_fast(sys.argv[1:])
"""


def write_subjects(root: Path, n_subjects: int) -> None:
    """Make a dataset; images are links to one, so that it fits."""
    if (root / "dataset_description.json").exists():
        return
    for i in range(n_subjects):
        path = root / f"sub-{i:06d}/anat/sub-{i:06d}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 10_000 == 0:
            head = write_head(path)
        else:
            path.hardlink_to(head)
    write_tree(root, [])


def run(*words: object) -> tuple[float, str]:
    """Run Python; returns processor seconds and what it printed."""
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    cost, said = watch(words, PYTHONPATH=path)
    return cost.cpu_seconds, said


def calls_in(root: Path, words: list[object], folder: Path) -> int | None:
    """Calls of the file system in a folder, where strace is to be had."""
    if shutil.which("strace") is None:
        return None
    trace = folder / "trace"
    traced = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=%file,getdents64", "-o", trace]
    run(*traced, sys.executable, "-c", BEFORE, *words)
    own = re.compile(rf'"{re.escape(str(root))}[/"]')
    return sum(map(bool, map(own.search, trace.read_text(errors="replace").splitlines())))


def before_the_first_scan(root: Path, card: Path, folder: Path, *selection: str) -> tuple[float, int | None]:
    """Processor seconds and calls of a task."""
    words = [root, folder / "out", "participant", *selection, "--model", f"{card}:toy_fast", "--device", "cpu"]
    words += ["--nprocs", "1", "--omp-nthreads", "1", "--skip-bids-validation"]
    seconds = []
    for _ in range(3):
        shutil.rmtree(folder / "out", ignore_errors=True)
        _, said = run(sys.executable, "-c", BEFORE, *words)
        seconds.append(float(re.search(r"BEFORE (\S+)", said)[1]))
    return min(seconds), calls_in(root, words, folder)


def copy_results(root: Path, out: Path, n_scans: int) -> None:
    """Write the results of the first participant again as those of others."""
    first = "000000"
    files = [path for path in out.rglob(f"*sub-{first}*") if path.is_file() and "run_" not in path.name]
    contents = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    for i in range(1, n_scans):
        label = f"{i:06d}"
        record = None
        for name, content in contents.items():
            path = out / name.replace(first, label)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".json", ".tsv", ".html"):
                content = content.replace(first.encode(), label.encode())
            path.write_bytes(content)
            record = path if name.endswith("_provenance.json") else record
        known = json.loads(record.read_text())
        for kind, folder in (("Inputs", root), ("Outputs", out)):
            known[kind] = [describe_file(each["Path"], folder / each["Path"]).to_json() for each in known[kind]]
        record.write_text(json.dumps(known))


def main() -> None:
    """Measure, print the tables, and fail where a task takes too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--done", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--folder", type=Path, default=None, help="keeps the datasets for the next time")
    arguments = parser.parse_args()
    too_much = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        card = write_card(folder)
        print(f"{'participants':>12s} {'one: s':>8s} {'calls':>6s} {'shard of 100: s':>16s} {'calls':>6s}")
        for n_subjects in arguments.subjects:
            root = folder / f"bids{n_subjects}"
            write_subjects(root, n_subjects)
            one = before_the_first_scan(root, card, Path(temporary), "--participant-label", "000003")
            shard = before_the_first_scan(root, card, Path(temporary), "--shard", f"1/{max(1, n_subjects // 100)}")
            print(f"{n_subjects:12d} {one[0]:8.2f} {one[1]!s:>6s} {shard[0]:16.2f} {shard[1]!s:>6s}", flush=True)
            if one[0] > SECONDS or (one[1] or 0) > CALLS:
                too_much.append(n_subjects)
        for n_scans in arguments.done:
            root, out = folder / f"bids{n_scans}", folder / f"out{n_scans}"
            write_subjects(root, n_scans)
            words = [root, out, "--model", f"{card}:toy_fast"]
            fast = Path(__file__).parents[1] / "support/fast_app.py"
            if not out.exists():
                first = ["participant", "--participant-label", "000000", "--skip-bids-validation"]
                run(sys.executable, fast, *words, *first)
                copy_results(root, out, n_scans)
            status, said = run(sys.executable, "-m", "bids_hsf", *words, "status")
            bare, _ = run(sys.executable, "-m", "bids_hsf", *words, "status", "--participant-label", "000000")
            again, _ = run(sys.executable, fast, *words, "participant", "--skip-bids-validation")
            each = 1000 * (status - bare) / n_scans
            print(
                f"{n_scans:12d} done: status {status:.1f} s, {each:.2f} ms a scan; run with nothing to do {again:.1f} s"
            )
            print(f"             {said.strip().splitlines()[-1][:100]}", flush=True)
    if too_much:
        sys.exit(f"More than {CALLS} calls or {SECONDS} s for one of {too_much}")


if __name__ == "__main__":
    main()
