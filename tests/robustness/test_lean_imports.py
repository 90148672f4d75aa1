"""What is loaded by what people type every day, and by that alone which asks for HSF's own way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from toy_runs import APP, HANG_SECONDS, Place

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
    shutil.copy(place.card.with_name("toy.onnx"), tmp_path)
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
