"""Words of other programs: taken, passed over with a word, never an error."""

import logging

import pytest

from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.errors import UsageError
from bids_hsf.runs.config import Config

PATHS = ["/bids", "/out", "participant"]


def config(*words: str) -> Config:
    return config_of(parse([*PATHS, *words]), words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--task-id rest", "no task"),
        ("--task_id rest nback", "no task"),
        ("--resource-monitor", "provenance.json"),
        ("--track-carbon --country-code FRA", "carbon is not measured"),
        ("--use-plugin plugin.yml", "--nprocs"),
        ("--fs-license-file /license.txt", "FreeSurfer is not needed"),
        ("--fs-no-reconall --anat-only", "FreeSurfer is not needed"),
        ("--longitudinal --no-submm-recon --write-graph", "group_changes.tsv"),
        ("--output-layout legacy", "BIDS derivatives"),
        ("--notrack --no-sub", ""),
    ],
)
def test_changes_nothing_and_is_answered(words: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        given = config(*words.split())
    assert given.as_record() | {"command": []} == config().as_record() | {"command": []}
    assert bool(caplog.messages) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize("words", ["--debug", "--debug all", "--debug compcor fieldmaps", "--debug -v"])
def test_debug_is_all_that_can_be_logged(words: str) -> None:
    given = config(*words.split())
    assert given.behaviour.verbosity == 2
    assert given.levels == ("participant",)


def test_debug_may_stand_before_the_folders() -> None:
    options = parse(["--debug", *PATHS, "group"])
    assert options["levels"] == ["participant", "group"]
    assert options["behaviour.verbosity"] == 2


def test_low_mem_is_one_scan_at_a_time() -> None:
    assert config("--low-mem").resources.nprocs == 1
    assert config("--low-mem", "--nprocs", "1").resources.nprocs == 1
    with pytest.raises(UsageError, match="--low-mem is one scan at a time, which contradicts --nprocs 4"):
        config("--low-mem", "--nprocs", "4")
