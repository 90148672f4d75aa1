import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from bids_trees import model_card

from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.selection import Selection
from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.errors import NoInputError
from bids_hsf.runs.config import Behaviour, Config, Method
from bids_hsf.runs.overview import rest_line, status_of_derivatives
from bids_hsf.runs.planning import Job, plan_jobs


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
