import contextlib
import importlib.metadata
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bids_trees import write_scan, write_tree

from bids_hsf import __version__, workflow
from bids_hsf.cli import app
from bids_hsf.runs.config import LEVELS

PATHS = ["/bids", "/out"]


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the app as a user does."""
    command = [sys.executable, "-m", "bids_hsf", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "bids", ["sub-01/anat/sub-01_T2w.nii.gz", "sub-01/func/sub-01_task-x_bold.nii.gz"])
    write_scan(root / "sub-01/anat/sub-01_T1w.nii.gz")
    return root


def code_of(*words: object) -> int:
    return app.main([str(word) for word in words])


class TestWithoutPositionals:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            app.main(["--version"])
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"bids-hsf v{__version__}\n"
        assert importlib.metadata.version("bids-hsf") == __version__

    @pytest.mark.parametrize("flag", ["--bids-exec-spec", "--bids_exec_spec"])
    def test_descriptor(self, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            app.main([flag])
        assert caught.value.code == 0
        assert json.loads(capsys.readouterr().out)["name"] == "bids-hsf"

    def test_devices(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bids_hsf.networks.device.format_devices", lambda: "a table")
        with pytest.raises(SystemExit) as caught:
            app.main(["--device", "list"])
        assert caught.value.code == 0
        assert capsys.readouterr().out == "a table\n"


class TestExitCodes:
    """In the order in which the app looks: level, input, validation, selection, output, model."""

    def test_bad_arguments(self, tmp_path: Path) -> None:
        assert code_of(tmp_path, tmp_path, "participant") == 2
        assert code_of(tmp_path) == 2
        assert code_of(tmp_path, tmp_path / "out", "participant", "--tta", "x") == 2

    def test_level_comes_before_input(self, tmp_path: Path) -> None:
        assert code_of(tmp_path / "gone", tmp_path / "out", "subject") == 17

    def test_no_input(self, tmp_path: Path) -> None:
        assert code_of(tmp_path / "gone", tmp_path / "out", "participant", "--participant-label", "9") == 66
        assert code_of(tmp_path / "gone", tmp_path / "out", "group") == 66
        assert code_of(tmp_path / "gone", tmp_path / "out", "status") == 66
        assert code_of(tmp_path / "gone", tmp_path / "out", "participant", "--reports-only") == 66

    def test_invalid_dataset_comes_before_selection(self, tmp_path: Path) -> None:
        root = write_tree(tmp_path / "bids", ["sub-01/anat/sub-01_T1w.nii.gz"], None)
        assert code_of(root, tmp_path / "out", "participant", "--participant-label", "9") == 16

    def test_selection_comes_before_output(self, dataset: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert code_of(dataset, tmp_path / "file", "participant", "--participant-label", "9") == 18
        assert code_of(dataset, tmp_path / "file", "participant", "--session-label", "9") == 18

    def test_output_comes_before_model(self, dataset: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert code_of(dataset, tmp_path / "file", "participant", "--model", "nobody") == 73
        assert code_of(dataset, tmp_path / "file" / "out", "participant", "--model", "nobody") == 73
        raw = write_tree(tmp_path / "raw", [])
        assert code_of(dataset, raw, "participant") == 73
        other = {"Name": "x", "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
        foreign = write_tree(tmp_path / "foreign", [], other)  # type: ignore[arg-type]
        assert code_of(dataset, foreign, "participant") == 73

    def test_model_that_cannot_be_had(self, dataset: Path, tmp_path: Path) -> None:
        assert code_of(dataset, tmp_path / "out", "participant", "--model", "nobody") == 69
        assert code_of(dataset, tmp_path / "out", "participant", "--model", tmp_path / "no.yaml") == 69
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("error", "code"),
        [(MemoryError(), 70), (KeyError("x"), 70), (OSError(28, "No space left"), 74), (KeyboardInterrupt(), 130)],
    )
    def test_errors_from_within(
        self, error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> int:
            raise error

        monkeypatch.setattr(workflow, "run", fail)
        assert code_of(*PATHS, "participant") == code
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        assert "ERROR" in shown

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    @pytest.mark.parametrize("place", ["cli.arguments.build_parser", "workflow.run"])
    def test_signals_at_any_time(
        self, number: signal.Signals, code: int, place: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        cleaned = []

        def interrupted(*_: object) -> int:
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                # People press Ctrl-C twice, and schedulers say it again.
                os.kill(os.getpid(), number)
                cleaned.append(True)
            return 0

        monkeypatch.setattr(f"bids_hsf.{place}", interrupted)
        handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            left = code_of(*PATHS, "participant")
        finally:
            ignored = signal.getsignal(number)
            for name, handler in handlers.items():
                signal.signal(name, handler)
        assert (left, cleaned, ignored) == (code, [True], signal.SIG_IGN)
        shown = capsys.readouterr().err
        assert "the same command goes on with the rest" in shown
        assert "Traceback" not in shown

    def test_signal_that_a_library_turns_into_its_own_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> int:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            raise ImportError("initialization failed")

        monkeypatch.setattr(workflow, "run", interrupted)
        handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            assert code_of(*PATHS, "participant") == 130
        finally:
            for name, handler in handlers.items():
                signal.signal(name, handler)

    def test_worst_level_counts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(workflow, "participant", lambda *_, **__: 65)
        assert code_of(tmp_path, tmp_path / "out", "participant", "group") == 65
        monkeypatch.setattr(workflow, "participant", lambda *_, **__: 1)
        monkeypatch.setattr(workflow, "group", lambda *_: 0)
        assert code_of(tmp_path, tmp_path / "out", "participant", "group") == 1
        assert set(LEVELS) == {"participant", "group", "status"}


class TestTerminal:
    def test_errors_and_hints_go_to_stderr(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert code_of(tmp_path, tmp_path, "participant") == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        assert "ERROR The output folder is the BIDS folder itself" in lines[0]
        assert "hint: " in lines[1]
        assert len(lines) == 2

    def test_handlers_are_gone_afterwards(self, tmp_path: Path) -> None:
        before = list(logging.getLogger().handlers)
        code_of(tmp_path, tmp_path, "participant")
        code_of(tmp_path / "gone", tmp_path / "out", "participant")
        assert logging.getLogger().handlers == before

    def test_home_that_is_unknown(self, tmp_path: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "HOME"}
        done = run(str(tmp_path / "gone"), str(tmp_path / "out"), "participant", env=environment, cwd=tmp_path)
        assert done.returncode == 66
        assert list(tmp_path.iterdir()) == []
