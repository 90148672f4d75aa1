"""What is loaded by what people type every day, and what by that alone which needs it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from fast_app import SEAMS
from toy_runs import APP, HANG_SECONDS, Place

from bids_hsf.cli.app import main

# Runs command lines of the fast app in one process; tells after each what of TorchIO is loaded.
SCRIPT = """
import json, shlex, sys
from fast_app import run_fast
from bids_hsf.cli.hub import main as hub
for line in sys.stdin:
    words = shlex.split(line)
    code = hub(words[1:]) if words[0] == "hsf-hub" else run_fast(words[1:])
    loaded = sorted({"torch", "torchio"} & set(sys.modules))
    print(json.dumps([code, loaded]), file=sys.stderr)
"""


def loaded_after(*lines: list[str]) -> list[object]:
    """Exit code and what is loaded after each of some commands, in a process of their own."""
    typed = "\n".join(" ".join(line) for line in lines)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=typed,
        capture_output=True,
        text=True,
        cwd=APP.parent,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]


def test_torch_is_loaded_where_views_are_drawn_as_hsf_draws_them_and_nowhere_else(place: Place, tmp_path: Path) -> None:
    out, card = tmp_path / "out", tmp_path / "random.yaml"
    card.write_text(place.card.read_text() + "    augmentation: {sampling: random}\n")
    for network in ("toy.onnx", "coordinates.onnx"):
        shutil.copy(place.card.with_name(network), tmp_path)
    words = ["bids-hsf", str(place.bids_dir), str(out)]
    own = ["--participant-label", "01", "--skip-bids-validation", "--device", "cpu", "--nprocs", "1"]
    own += ["--omp-nthreads", "2"]  # with two, libraries are imported ahead

    found = loaded_after(
        [*words, "participant", "group", *own, "--model", f"{place.card}:toy_voting"],
        [*words, "status"],
        ["bids-hsf", "compare", str(out), str(out)],
        ["hsf-hub", "list"],
        ["hsf-hub", "validate", str(place.card)],
        [*words, "participant", *own, "--force", "--model", f"{card}:toy_voting"],
    )

    assert [loaded for _, loaded in found] == [[]] * 5 + [["torch", "torchio"]]
    assert found[-1][0] == found[0][0] == 0
    (record,) = (out / "logs").rglob("*_provenance.json")
    assert "torchio" in json.loads(record.read_text())["Packages"]


def test_workflow_loads_neither_registration_nor_what_rotates_for_it() -> None:
    # A tenth of a second each, and 90 MB: status, dry runs and launchers have no use for them.
    code = "import sys, bids_hsf.workflow; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"SimpleITK", "scipy.spatial", "scipy.stats", "onnxruntime", "bids"} & set(done.stdout.split())


def test_what_cannot_be_made_ready_ahead_is_left_to_the_scan(place: Place, tmp_path: Path) -> None:
    calls = []

    def make_ready() -> None:
        calls.append("made ready")
        raise MemoryError

    words = place.words(tmp_path / "out", "participant", "--participant-label", "01")
    assert main(words, replace(SEAMS, make_ready=make_ready)) == 0
    assert calls == ["made ready"]
    assert main(words, replace(SEAMS, make_ready=make_ready)) == 0
    assert len(calls) == 1  # nothing was left to do


def test_numpy_is_asked_to_be_small_before_it_is_there() -> None:
    code = (
        "import sys\n"
        "import bids_hsf.machine as machine\n"
        "machine.keep_numpy_small = lambda: print('numpy' in sys.modules)\n"
        "from bids_hsf.cli.app import main\n"
        "main(['/nowhere', '/nowhere/out', 'participant'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
