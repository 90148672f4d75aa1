"""Nobody runs the benchmarks for weeks: each still finds what it imports, and says how it is called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
CALLED = sorted(path.name for path in FOLDER.glob("*.py") if "ArgumentParser(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CALLED)
def test_a_benchmark_says_how_it_is_called(name: str, tmp_path: Path) -> None:
    # By itself, as people call it: within the tests what they import is found anyway.
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), "--help"], cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert name in done.stdout.split("\n", 1)[0]


def test_the_bare_loop_tells_the_seconds_of_each_pass() -> None:
    network = str(FOLDER.parents[1] / "models_hub" / "longaxis" / "single_sq.onnx")
    passes = "".join(json.dumps([network, shape]) + "\n" for shape in ([16, 16, 16], [16, 16, 16], [16, 24, 16]))
    command = [sys.executable, str(FOLDER / "bare_loop.py"), "onnxruntime", "CPUExecutionProvider", "1"]
    done = subprocess.run(command, input=passes, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, *seconds = done.stdout.splitlines()
    assert name.startswith("onnxruntime ")
    assert len(seconds) == 3
    assert all(0 < float(each) < 60 for each in seconds)
