import json
import platform
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from bids_trees import model_card

from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.provenance import Failure
from bids_hsf.bids.selection import Selection
from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.errors import NoInputError
from bids_hsf.files import write_json
from bids_hsf.runs.beginnings import Beginning
from bids_hsf.runs.census import rest_line, shown, status, status_of_derivatives
from bids_hsf.runs.config import Behaviour, Config, Method
from bids_hsf.runs.jobs import Job, Plan
from bids_hsf.runs.planning import plan_jobs


def jobs(config: Config, *participants: str) -> list[Job]:
    paths = [f"sub-{label}/anat/sub-{label}_T1w.nii.gz" for label in participants]
    scans = [Scan(Path("/bids") / path, path, "T1w", (("sub", path[4:].partition("/")[0]),)) for path in paths]
    return plan_jobs(scans, model_card(), None, config)


def test_rest_line_keeps_the_settings_and_names_the_participants() -> None:
    words = shlex.split("/bids /out status -w /scratch/status --model 'my model' -m T1w --tta 3 --bids-filter-file")
    config = config_of(parse([*words, '{"t1w": {"run": 1}}']), words)
    line = shlex.split(rest_line(jobs(config, "02", "01", "02"), config))
    again = config_of(parse(line[1:]), ())
    selection = replace(config.selection, participants=("01", "02"))
    assert again == replace(config, levels=("participant",), selection=selection, command=("bids-hsf",))


def test_rest_line_of_a_saved_run_has_its_settings() -> None:
    config = Config(Path("/bids"), Path("/out"), ("status",), method=Method(seed=7, members={"toy.onnx": "ab" * 32}))
    assert rest_line(jobs(config, "01"), config) == (
        "bids-hsf /bids /out participant --participant-label 01 --random-seed 7"
    )


def test_rest_line_forces_only_what_differs_and_runs_in_earnest() -> None:
    behaviour = Behaviour(dry_run=True, reports_only=True, boilerplate_only=True)
    config = Config(Path("/bids"), Path("/out"), ("status",), Selection(participants=("05",)), behaviour=behaviour)
    line = "bids-hsf /bids /out participant --participant-label 01"
    assert rest_line(jobs(config, "01"), config) == line
    assert rest_line(jobs(config, "01"), config, force=True) == f"{line} --force"


def test_rest_line_of_many_participants_names_none() -> None:
    config = Config(Path("/bids"), Path("/out"), ("status",))
    line = rest_line(jobs(config, *(f"{i:03}" for i in range(300))), config)
    assert line == "bids-hsf /bids /out participant"


def test_status_without_derivatives(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="No derivatives"):
        status_of_derivatives(tmp_path)


def write_records(config: Config) -> list[Job]:
    """Leave what runs leave of four scans: one that failed, one killed, one at work elsewhere, one not begun."""
    four = jobs(config, "01", "02", "03", "04")
    write_json(four[0].outputs.failure, Failure("It is cut", "Fetch it", 65).to_json())
    killed = Beginning("today", "node7", 12, "99_2", "SIGTERM")
    for job, beginning in ((four[1], killed), (four[2], replace(killed, ended_by=None))):
        write_json(job.outputs.started, beginning.to_json())
    return four


def test_status_as_json_tells_of_each_scan_and_its_settings(tmp_path: Path) -> None:
    method = Method("toy_fast", seed=7)
    config = Config(tmp_path, tmp_path / "out", ("status",), Selection(("01", "02", "03", "04")), method)
    part = status(Plan(write_records(config), model_card(), None, []), config, asked=True)
    found = json.loads(shown([part], as_json=True))
    (model,) = found["models"]
    assert (found["complete"], model["complete"], part.is_complete) == (False, False, False)
    assert model["counts"] == {"done": 0, "failed": 1, "killed": 1, "running": 1, "missing": 1, "to_do_again": 0}
    assert model["failed"] == [
        {"scan": "sub-01_T1w", "participant": "01", "reason": "It is cut", "hint": "Fetch it", "exit_code": 65}
    ]
    (killed,) = model["killed"]
    assert killed["reason"] == "job 99_2 on node7 began it at today and was ended by SIGTERM"
    assert model["running"][0]["reason"] == "since today, on node7"
    assert model["missing"] == [{"scan": "sub-04_T1w", "participant": "04"}]
    assert model["settings"]["method"]["seed"] == 7
    assert model["settings"]["outputs"]["uncertainty"] == "entropy"
    assert shlex.split(model["command"])[3] == "participant"
    # People read the same.
    assert "1 failed, 1 killed, 1 running, 1 missing" in part.text


def test_status_of_derivatives_tells_who_was_killed_and_what_is_not_known(tmp_path: Path) -> None:
    config = Config(tmp_path, tmp_path / "out", ("status",))
    write_records(config)
    part = status_of_derivatives(config.output_dir)
    assert "0 done, 1 failed, 1 killed, 1 running; the BIDS folder is not there" in part.text
    found = json.loads(shown([part], as_json=True))
    assert (found["complete"], part.is_complete) == (False, False)
    assert found["models"][0]["missing"] is None
    assert [scan["scan"] for scan in found["models"][0]["killed"]] == ["sub-02_space-T1w_seg-toyFast"]


def test_a_disk_that_takes_nothing_now_is_told_with_what_could_not_say_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(tmp_path, tmp_path / "out", ("status",))
    planned = Plan(write_records(config), model_card(), None, [])
    beginning = Beginning("today", platform.node(), 12)
    write_json(planned.jobs[3].outputs.started, beginning.to_json())
    sound = status(planned, config)
    assert sound.data["disk"] is None
    assert "The disk of" not in sound.text
    assert "was killed without a word (memory, time, a lost node?), or its disk took none any more" in sound.text
    monkeypatch.setattr("bids_hsf.runs.census.disk_fault", lambda _folder: "is read-only")
    for part in (status(planned, config), status_of_derivatives(config.output_dir)):
        assert (
            f"The disk of {config.output_dir} is read-only now: what is at work there can write nothing." in part.text
        )
    assert status(planned, config).data["disk"] == "is read-only"
    assert "The disk of" not in status(Plan([], model_card(), None, []), config).text
