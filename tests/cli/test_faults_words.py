"""Strangers' words on the terminal and in the log; terminals that are gone; folders of others."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fast_app import write_card, write_dataset
from toy_runs import Place, run_here

from bids_hsf.cli import hub
from bids_hsf.cli.console import OneLine, RunLog, show
from bids_hsf.errors import UsageError
from bids_hsf.hub import models
from bids_hsf.runs import logs, overview, provenance
from bids_hsf.runs.config import Config, Method, config_from
from bids_hsf.text_table import printable, text_table

EVIL = "a\x1b[2J\r\nERROR forged\x9b\u202e\udce9"
SPELT = r"a\x1b[2J\r\nERROR forged\x9b\u202e\udce9"


def test_words_are_spelt_out_where_they_would_command() -> None:
    assert printable(EVIL, kept="") == SPELT
    assert printable("sub-張三 é\tx\n") == "sub-張三 é\tx\n"
    assert text_table(("a", "b"), [(EVIL, "x")])[1] == f"{SPELT}  x"


def test_a_record_is_one_line_and_a_traceback_keeps_its_own() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logger = logging.getLogger("bids_hsf.words")
    logger.addHandler(handler)
    logger.propagate = False  # reports of tests know no surrogates
    try:
        try:
            raise ValueError(EVIL)
        except ValueError:
            logger.exception("%s", EVIL)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    first, second, *_ = stream.getvalue().splitlines()
    assert first == f"ERROR {SPELT}"
    assert second.startswith("Traceback")
    assert "\x1b" not in stream.getvalue()


def test_log_of_a_run_is_clean_too(tmp_path: Path) -> None:
    with RunLog() as log:
        logging.getLogger("bids_hsf.words").warning("%s", EVIL[:-1])
        log.open(tmp_path / "run.log")
    assert SPELT[:-6] in (tmp_path / "run.log").read_text()
    assert len((tmp_path / "run.log").read_text().splitlines()) == 1


def test_what_is_shown_is_clean_in_any_encoding(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    show(f"{EVIL}\nnext")
    assert capsys.readouterr().out == "a\\x1b[2J\\r\nERROR forged\\x9b\\u202e\\udce9\nnext\n"
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", narrow)
    show("sub-é 張")
    assert narrow.buffer.getvalue() == b"sub-\\xe9 \\u5f35\n"


def test_cards_words_are_clean_in_text_and_whole_in_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(models.HUB_VARIABLE, raising=False)
    card = write_card(tmp_path)
    card.write_text(card.read_text().replace("Sorts voxels by intensity", r'"\e[2J by \x9b\u202e"'))
    assert hub.main(["show", f"{card}:toy_fast"]) == 0
    assert r"\x1b[2J by \x9b\u202e" in capsys.readouterr().out
    assert hub.main(["show", f"{card}:toy_fast", "--json"]) == 0
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert "\x1b[2J by \x9b\u202e" in json.dumps(json.loads(shown), ensure_ascii=False).replace("\\u001b", "\x1b")
    assert hub.main(["show", "none\x1b[2J\nerror: forged"]) == 69
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["2>/dev/full", "2>&-", "2>&1 | head -1"])
def test_errors_that_nobody_can_read_change_no_exit_code(tmp_path: Path, gone: str) -> None:
    program = f"{sys.executable} -c 'import sys; from bids_hsf.cli.hub import main; sys.exit(main())'"
    line = f"set -o pipefail; {program} show nobody {gone}"
    assert subprocess.run(["/bin/bash", "-c", line], capture_output=True, check=False).returncode == 69


class TestStatus:
    """Whoever wrote the settings in the output folder is asked for the method, and for nothing else."""

    def test_no_folder_of_theirs_is_made_or_searched(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        saved = Config(
            Path("/elsewhere"),
            Path("/elsewhere/out"),
            ("participant",),
            method=Method(seed=7),
            work_dir=tmp_path / "made",
            hub_dirs=(tmp_path / "hub",),
            bids_database_dir=tmp_path / "database",
            command=("rm", "-rf"),
        )
        path = tmp_path / "config.toml"
        path.write_text(f"work_dir = '{saved.work_dir}'\n")
        record = {**saved.as_record(), "bids_dir": "/elsewhere"}
        assert config_from(record).work_dir == saved.work_dir
        import tomli_w

        path.write_text(tomli_w.dumps(without_none(record)))
        asked = Config(tmp_path / "bids", tmp_path / "out", ("status",))
        taken = overview.with_settings_of(asked, path)
        assert taken.method.seed == 7
        assert (taken.work_dir, taken.hub_dirs, taken.bids_database_dir, taken.command) == (None, (), None, ())
        assert (taken.bids_dir, taken.output_dir) == (asked.bids_dir, asked.output_dir)
        assert "--hub-dir" in caplog.text

    def test_status_makes_no_database(self, tmp_path: Path) -> None:
        place = Place(write_dataset(tmp_path / "bids", 1), write_card(tmp_path / "hub"), tmp_path / "out")
        assert place.run(place.reference, "participant").returncode == 0
        (path,) = logs.latest_configs(place.reference)
        path.write_text(
            f"bids_database_dir = '{tmp_path / 'database'}'\nwork_dir = '{tmp_path / 'w'}'\n{path.read_text()}"
        )
        shown = run_here(str(place.bids_dir), str(place.reference), "status")
        assert (shown.returncode, "1 done" in shown.stdout) == (0, True), shown.stderr
        assert not (tmp_path / "database").exists()
        assert not (tmp_path / "w").exists()

    def test_pipe_among_the_settings_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "logs").mkdir()
        os.mkfifo(tmp_path / "logs" / "config_99990101T000000_0000.toml")
        assert logs.latest_configs(tmp_path) == []


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return value


BASE = "bids_dir = '/b'\noutput_dir = '/o'\nlevels = ['participant']\n"
HOSTILE_SETTINGS = {
    "no toml": "[[[",
    "no text": "\x00",
    "a number for a section": "method = 3",
    "a list for a section": "resources = []",
    "a section for a number": "[method.seed]\nx = 1",
    "a text for a number": "[method]\nseed = 'x'",
    "a boolean for a number": "[method]\nseed = true",
    "a date for a text": "[method]\nmodel = 2020-01-01",
    "not a number": "[method]\nbox_margin_mm = nan",
    "endless": "[method]\nbox_margin_mm = inf",
    "a huge number": f"[method]\nseed = {'9' * 5000}",
    "less than none": "[resources]\nnthreads = -1",
    "nothing at all": "[resources]\nmem_mb = 0",
    "an unknown level": "levels = ['destroy']",
    "an unknown setting": "[method]\nsede = 1",
    "an unknown section": "[mehtod]\nseed = 1",
    "a path that is a list": "work_dir = ['a']",
    "a path with a null": 'work_dir = "a\\u0000b"',
    "filters that are a list": "[selection]\nfilters = [1]",
    "filters of lists": "[selection.filters]\nt1w = [1]",
    "members that are a number": "[method]\nmembers = 1",
    "an unknown viewer": "[behaviour]\nexport_lut = ['vi']",
    "nested a thousandfold": f"x = {'[' * 5000}{']' * 5000}",
    "members that are lists": "[method.members]\na = [1]",
    "control characters": '[method]\n"\\u001b[2J" = 1',
}


@pytest.mark.parametrize("text", HOSTILE_SETTINGS.values(), ids=HOSTILE_SETTINGS)
def test_hostile_saved_run_ends_in_a_line_and_2(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    base = "".join(line for line in BASE.splitlines(keepends=True) if line.split()[0] != text.split(" ")[0])
    path.write_text(f"{base}{text}\n")
    done = run_here("--config-file", str(path))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Internal error" not in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 3000


def test_saved_run_that_is_a_folder_or_gone(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        assert run_here("--config-file", str(path)).returncode == 2
    with pytest.raises(UsageError, match="expected at most"):
        (tmp_path / "large.toml").write_text("#" * 2**21)
        logs.read_config(tmp_path / "large.toml")


class TestWorkFolder:
    """In a place where anybody may make folders."""

    def test_one_of_somebody_else_is_not_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        usual = tmp_path / f"bids-hsf-{os.getuid()}"
        assert provenance.default_work_dir(Path("/out")) == usual
        usual.symlink_to("/etc")
        assert provenance.default_work_dir(Path("/out")) == tmp_path / f"bids-hsf-{os.getuid()}-1"
        usual.unlink()
        usual.mkdir()
        if os.getuid() == 0:
            os.chown(usual, 12345, 12345)
            assert provenance.default_work_dir(Path("/out")) == tmp_path / f"bids-hsf-{os.getuid()}-1"
            os.chown(usual, 0, 0)
        usual.chmod(0o777)
        assert provenance.default_work_dir(Path("/out")) == usual
        assert usual.stat().st_mode & 0o777 == 0o700

    def test_where_others_hold_all_names_the_output_has_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        for ending in ("", *(f"-{number}" for number in range(1, 10))):
            (tmp_path / f"bids-hsf-{os.getuid()}{ending}").write_text("mine")
        assert provenance.default_work_dir(Path("/out")) == Path("/out/.work")

    def test_a_run_makes_it_for_its_user_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        place = Place(write_dataset(tmp_path / "bids", 1), write_card(tmp_path / "hub"), tmp_path / "out")
        words = [word for word in place.words(place.reference, "participant") if word != "--skip-bids-validation"]
        assert run_here(*words).returncode == 0
        assert (tmp_path / f"bids-hsf-{os.getuid()}").stat().st_mode & 0o777 == 0o700
