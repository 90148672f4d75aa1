import contextlib
import importlib.metadata
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bids_trees import write_scan, write_tree

from bids_hsf import __version__, workflow
from bids_hsf.cli import app, arguments
from bids_hsf.cli.arguments import build_parser, config_of, parse
from bids_hsf.errors import UnknownAnalysisLevelError, UsageError
from bids_hsf.runs.config import LEVELS, Config

PATHS = ["/bids", "/out"]


def config(*words: str) -> Config:
    return config_of(parse(words), words)


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


class TestPositionals:
    def test_paths_become_absolute_and_links_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        monkeypatch.chdir(tmp_path)
        settings = config("link/../link", "out", "participant")
        assert (settings.bids_dir, settings.output_dir) == (tmp_path / "link", tmp_path / "out")

    @pytest.mark.parametrize(
        "words",
        [
            "/bids /out participant group --participant-label 01 02 -m T1w",
            "--participant-label 01 02 -m T1w -- /bids /out participant group",
            "--participant-label 01 02 /bids /out participant group -m T1w",
            "/bids --participant-label 01 02 /out participant group -m T1w",
            "/bids /out --participant-label 01 02 participant group -m T1w",
            "/bids /out -m T1w --participant-label 01 02 participant group",
            "-m T1w --participant-label 01 02 /bids /out participant group",
            "--participant-label 01 02 -m T1w /bids /out participant group",
            "/bids /out participant -m T1w --participant-label 01 --participant_label sub-02 -v group",
        ],
    )
    def test_stand_anywhere(self, words: str) -> None:
        settings = config(*words.split())
        assert (str(settings.bids_dir), str(settings.output_dir)) == ("/bids", "/out")
        assert settings.levels == ("participant", "group")
        assert settings.selection.participants == ("01", "02")
        assert settings.selection.modalities == ("T1w",)

    def test_participants_may_be_called_like_levels(self) -> None:
        settings = config(*PATHS, "participant", "--participant-label", "group", "status")
        assert settings.levels == ("participant",)
        assert settings.selection.participants == ("group", "status")

    def test_levels_given_twice_run_once(self) -> None:
        assert config(*PATHS, "group", "participant", "group").levels == ("group", "participant")

    @pytest.mark.parametrize("level", ["subject", "Participant", "participants", "-"])
    def test_unknown_level(self, level: str) -> None:
        with pytest.raises(UnknownAnalysisLevelError, match="Unknown analysis level") as caught:
            parse([*PATHS, level])
        assert "participant, group, status" in (caught.value.hint or "")

    @pytest.mark.parametrize("words", [[], ["/bids"], PATHS, [*PATHS, "--participant-label", "01", "02"]])
    def test_missing_ones_are_named(self, words: list[str]) -> None:
        with pytest.raises(UsageError, match="required: .*LEVEL"):
            parse(words)


class TestFlags:
    def test_every_flag_in_both_spellings(self) -> None:
        values = {"resources.mem_mb": "4G", "selection.filters": "/dev/null", "behaviour.uncertainty": "full",
                  "behaviour.export_lut": "itksnap"}  # fmt: skip
        for action in build_parser()._actions:
            for flag in action.option_strings:
                if not flag.startswith("--") or "-" not in flag[2:] or action.dest in ("bids_exec_spec", "help"):
                    continue
                if action.dest == "selection.filters":
                    continue
                words = [*PATHS, "participant", flag, *([] if action.nargs == 0 else [values.get(action.dest, "3")])]
                spelled = [word.replace("-", "_").replace("__", "--", 1) if word == flag else word for word in words]
                assert spelled != words
                assert parse(words) == parse(spelled)

    @pytest.mark.parametrize(
        ("words", "place", "expected"),
        [
            ("--participant-labels sub-01 01 02", "selection.participants", ("01", "02")),
            ("--exclude-participant-label sub-3", "selection.excluded_participants", ("3",)),
            ("--session-id ses-1 2", "selection.sessions", ("1", "2")),
            ("-m t1w UNIT1", "selection.modalities", ("T1w", "UNIT1")),
            ("-m T1w", "selection.modalities_asked", True),
            ("", "selection.modalities_asked", False),
            ("", "selection.modalities", ("T1w", "T2w")),
            ("--skip-bids-validation", "behaviour.validate", False),
            ("", "behaviour.validate", True),
            ("--bids-database-dir /db", "bids_database_dir", Path("/db")),
            ("--model hsf.yaml", "method.model", "hsf.yaml"),
            ("segmentation=single_fast", "method.model", "single_fast"),
            ("--participant-label 01 segmentation=single_fast", "method.model", "single_fast"),
            ("--participant-label 01 segmentation=single_fast", "selection.participants", ("01",)),
            ("--hub-dir /a /b", "hub_dirs", (Path("/a"), Path("/b"))),
            ("--ca-mode 1/23", "method.ca_mode", "1/23"),
            ("--tta 0", "method.n_augmentations", 0),
            ("--random-seed -5", "method.seed", -5),
            ("--box-margin-mm 4", "method.box_margin_mm", 4.0),
            ("--keep-islands", "method.keep_islands", True),
            ("--reduced-precision", "method.reduced_precision", True),
            ("--uncertainty full", "behaviour.full_uncertainty", True),
            ("--write-probseg", "behaviour.write_probabilities", True),
            ("--export-lut itksnap fsleyes", "behaviour.export_lut", ("itksnap", "fsleyes")),
            ("--force", "behaviour.force", True),
            ("--reports-only", "behaviour.reports_only", True),
            ("--boilerplate-only", "behaviour.boilerplate_only", True),
            ("--dry-run", "behaviour.dry_run", True),
            ("--device cuda", "resources.device", "cuda"),
            ("--n-cpus 8", "resources.nthreads", 8),
            ("--nprocs 2", "resources.nprocs", 2),
            ("--omp-nthreads 4", "resources.omp_nthreads", 4),
            ("--mem 8000", "resources.mem_mb", 8000),
            ("--mem-mb 8G", "resources.mem_mb", 8192),
            ("--mem-gb 8", "resources.mem_mb", 8192),
            ("--mem 512000KB", "resources.mem_mb", 500),
            ("--mem=1.5g", "resources.mem_mb", 1536),
            ("-w /work", "work_dir", Path("/work")),
            ("--stop-on-first-crash", "behaviour.stop_on_first_crash", True),
            ("-vv", "behaviour.verbosity", 2),
            ("--notrack", "behaviour.verbosity", 0),
        ],
    )  # fmt: skip
    def test_reaches_its_setting(self, words: str, place: str, expected: object) -> None:
        value: Any = config(*PATHS, "participant", *words.split())
        for name in place.split("."):
            value = getattr(value, name)
        assert value == expected
        assert type(value) is type(expected)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--tta many", "--tta"),
            ("--tta -1", "--tta must not be negative"),
            ("--nprocs 0", "--nprocs must be at least 1"),
            ("--mem lots", "not a size: 'lots'"),
            ("--mem 1e999", "not a size"),
            ("--participant-label", "expected at least one argument"),
            ("--uncertainty some", "invalid choice"),
            ("--export-lut word", "invalid choice"),
            ("--unknown-flag", "unrecognized arguments: --unknown-flag"),
            ("--partic 01", "unrecognized arguments: --partic"),
            ("--model a segmentation=b", "segmentation=b contradicts --model a"),
            ("--bids-filter-file /nowhere.json", "cannot be read"),
            ("--config-file /nowhere.toml", "cannot be read"),
            ("--work-dir /bids/work", "lies inside the BIDS folder"),
        ],
    )
    def test_wrong_values_are_usage_errors(self, words: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            config(*PATHS, "participant", *words.split())
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("content", ["[1]", '{"t1w": 3}', "{", "\xff"])
    def test_filter_file_must_hold_objects(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "filter.json"
        path.write_text(content, encoding="latin-1")
        with pytest.raises(UsageError, match="--bids-filter-file"):
            parse([*PATHS, "participant", "--bids-filter-file", str(path)])

    def test_saved_run_stands_for_all_and_the_command_line_wins(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text(
            'bids_dir = "/saved"\noutput_dir = "/out"\nlevels = ["group"]\n'
            'selection = {participants = ["01"], modalities = ["T2w"], modalities_asked = true}\n'
            'method = {model = "saved", seed = 7}\n'
        )
        alone = config("--config-file", str(path))
        assert (alone.bids_dir, alone.levels, alone.method.model) == (Path("/saved"), ("group",), "saved")
        mixed = config("/bids", "/out", "participant", "--config-file", str(path), "--random-seed", "8", "--force")
        assert (mixed.bids_dir, mixed.levels) == (Path("/bids"), ("participant",))
        assert (mixed.method.model, mixed.method.seed, mixed.selection.participants) == ("saved", 8, ("01",))
        assert mixed.behaviour.force
        assert mixed.command[0] == "bids-hsf"
        path.write_text('bids_dir = "/saved"')
        with pytest.raises(UsageError, match="lacks OUTPUT_DIR, LEVEL"):
            config("--config-file", str(path))

    def test_filter_file_keys_are_case_insensitive(self, tmp_path: Path) -> None:
        path = tmp_path / "filter.json"
        path.write_text('{"T1w": {"session": null}, "flair": {}}')
        filters = config(*PATHS, "participant", "--bids-filter-file", str(path)).selection.filters
        assert filters == {"t1w": {"session": None}, "flair": {}}

    def test_only_compatibility_flags_do_nothing(self) -> None:
        """Every flag changes the Config, all but --notrack."""
        idle = [
            action.option_strings
            for action in build_parser()._actions
            if action.option_strings and action.nargs == 0 and "--bids-exec-spec" not in action.option_strings
            and "--help" not in action.option_strings and "--version" not in action.option_strings
            and config(*PATHS, "participant", action.option_strings[-1]).as_record()["behaviour"]
            == config(*PATHS, "participant").as_record()["behaviour"]
            and config(*PATHS, "participant", action.option_strings[-1]).method == config(*PATHS, "participant").method
        ]  # fmt: skip
        assert idle == [["--notrack"]]


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

    def test_descriptor_and_parser_know_the_same_flags(self) -> None:
        path = Path(arguments.__file__).parents[1] / "data" / "bids_hsf.boutiques.json"
        inputs = json.loads(path.read_text())["inputs"]
        described = {entry["command-line-flag"] for entry in inputs if "command-line-flag" in entry}
        known = {flag for action in build_parser()._actions for flag in action.option_strings}
        assert described <= known
        # What ends the run at once, or says nothing, is no input of a pipeline.
        ours = {action.dest for action in build_parser()._actions if not described & set(action.option_strings)}
        assert ours <= {"help", "version", "bids_exec_spec", "notrack", "bids_dir", "output_dir", "levels"}

    def test_devices(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bids_hsf.networks.device.format_devices", lambda: "a table")
        with pytest.raises(SystemExit) as caught:
            app.main(["--device", "list"])
        assert caught.value.code == 0
        assert capsys.readouterr().out == "a table\n"

    def test_help_names_every_flag_in_groups_and_is_quick(self) -> None:
        started = time.perf_counter()
        done = run("--help")
        seconds = time.perf_counter() - started
        assert done.returncode == 0
        for action in build_parser()._actions:
            assert all(flag in done.stdout for flag in action.option_strings)
        for title in ("which scans:", "model:", "outputs:", "resources:", "run:", "exit codes:"):
            assert title in done.stdout
        assert "fmriprep calls --nprocs" in done.stdout
        assert all(len(line) <= 120 for line in done.stdout.splitlines())
        # Half a second on an idle machine; the imports below are what would break it.
        assert seconds < 5

    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; from bids_hsf.cli.arguments import build_parser\n"
            "build_parser().format_help(); print(*sys.modules)"
        )
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        heavy = {"numpy", "torch", "nibabel", "bids", "SimpleITK", "onnxruntime", "scipy", "pandas", "tqdm"}
        assert not heavy & set(loaded)


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
        monkeypatch.setattr(workflow, "participant", lambda *_: 65)
        assert code_of(tmp_path, tmp_path / "out", "participant", "group") == 65
        monkeypatch.setattr(workflow, "participant", lambda *_: 1)
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

    def test_closed_pipe_is_no_error(self, tmp_path: Path) -> None:
        code = "import sys; from bids_hsf.cli.console import show; show('x' * 100_000); show('y'); sys.exit(0)"
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | true; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_home_that_is_unknown(self, tmp_path: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "HOME"}
        done = run(str(tmp_path / "gone"), str(tmp_path / "out"), "participant", env=environment, cwd=tmp_path)
        assert done.returncode == 66
        assert list(tmp_path.iterdir()) == []
