"""What a run on one participant asks of the file system does not grow with the others, nor with their results."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bids_trees import write_tree
from fast_app import write_card, write_head

# Python's own calls: audit hooks stay for good, so that they get a process of their own.
COUNTING = """
import json, os, sys
answer, *folders = sys.argv[1].split(":")
counts = {folder: [] for folder in folders}
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.symlink"):
        name = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
        for folder in folders:
            if name == folder or name.startswith(folder + "/"):
                counts[folder].append(event)
sys.addaudithook(note)
from fast_app import run_fast
code = run_fast(sys.argv[2:])
with open(answer, "w") as stream:
    json.dump(counts, stream)
sys.exit(code)
"""
LABEL = "0007"
SCAN = f"sub-{LABEL}_space-T1w_seg-toyFast"


def write_many(root: Path, out: Path, n_subjects: int) -> None:
    """Make a dataset in which one participant has a scan, and an output folder with something of all others."""
    labels = [f"{i:04d}" for i in range(n_subjects)]
    write_tree(root, [*(f"sub-{label}/anat/sub-{label}_T1w.json" for label in labels), "T1w.json", "participants.tsv"])
    write_head(root / f"sub-{LABEL}/anat/sub-{LABEL}_T1w.nii.gz")
    others = [label for label in labels if label != LABEL]
    write_tree(out, [f"logs/sub-{label}/sub-{label}_failure.json" for label in others], None)
    write_tree(out, [f"sub-{label}.html" for label in others], None)


def traced(path: Path) -> list[str]:
    """Words that run a program and write down its calls of the file system; none where that is not to be had."""
    strace = shutil.which("strace")
    words = [str(strace), "-f", "-qq", "--seccomp-bpf", "-e", "trace=%file,getdents64", "-o", str(path)]
    may = strace is not None and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode
    return words if may else []


def run_one(folder: Path, n_subjects: int) -> tuple[dict[str, Counter[str]], int | None]:
    """Count calls by folder of a run on one participant: Python's by kind, and the system's in the raw root."""
    root, out, answer, trace = (folder / name for name in ("bids", "out", "answer.json", "trace"))
    write_many(root, out, n_subjects)
    words = [root, out, "participant", "--participant-label", LABEL, "--model", f"{write_card(folder)}:toy_fast"]
    words += ["--device", "cpu", "--nprocs", "1", "--omp-nthreads", "1", "--work-dir", folder / "work"]
    noting = f"{answer}:{root}:{out}"
    command = [*traced(trace), sys.executable, "-c", COUNTING, noting, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / f"logs/sub-{LABEL}/{SCAN}_provenance.json").is_file()
    counts = {Path(name).name: Counter(events) for name, events in json.loads(answer.read_text()).items()}
    own = re.compile(rf'"{re.escape(str(root))}[/"]')
    return counts, sum(map(bool, map(own.search, trace.read_text().splitlines()))) if trace.exists() else None


def test_calls_are_few_and_the_same_at_ten_times_the_participants(tmp_path: Path) -> None:
    (few, few_traced), (many, many_traced) = (run_one(tmp_path / str(n), n) for n in (100, 1000))
    assert few == many
    assert few["bids"]["os.symlink"] == 4  # the validator's: description, sidecar in the root, image and its own
    assert 10 < few["bids"].total() < 300
    # Neither the folder of results nor that of logs is listed.
    assert few["out"]["os.listdir"] + few["out"]["os.scandir"] < 40
    if few_traced is not None:
        assert few_traced == many_traced
        assert 10 < few_traced < 300
