import logging
from dataclasses import replace
from pathlib import Path

import pytest

from bids_hsf.bids.selection import Selection
from bids_hsf.bids.shards import Shard
from bids_hsf.errors import UsageError
from bids_hsf.runs.arrays import in_array, shard_of
from bids_hsf.runs.config import Config

CONFIG = Config(Path("/bids"), Path("/out"), ("participant",))


def slurm(number: int, first: int, last: int, step: int = 1, count: int | None = None) -> dict[str, str]:
    names = ("ID", "MIN", "MAX", "STEP", "COUNT")
    values = (number, first, last, step, (last - first) // step + 1 if count is None else count)
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in zip(names, values, strict=True)}


SGE = {"SGE_TASK_ID": "4", "SGE_TASK_FIRST": "2", "SGE_TASK_LAST": "10", "SGE_TASK_STEPSIZE": "2"}
LSF = {"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "10", "LSB_JOBINDEX_STEP": "1"}


@pytest.mark.parametrize(
    ("environ", "shard"),
    [
        (slurm(3, 1, 10), Shard(3, 10)),
        (slurm(0, 0, 9), Shard(1, 10)),
        (slurm(20, 10, 30, 5), Shard(3, 5)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "10"}, Shard(3, 10)),
        (SGE, Shard(2, 5)),
        (LSF, Shard(3, 10)),
    ],
)
def test_an_array_that_tells_its_numbers_gives_the_shard(environ: dict[str, str], shard: Shard) -> None:
    assert shard_of("auto", environ) == shard
    assert in_array(CONFIG, environ).selection.shard == replace(shard, by_itself=True)


@pytest.mark.parametrize(
    ("environ", "text", "shard"),
    [
        ({"PBS_ARRAY_INDEX": "7"}, "auto/10", Shard(7, 10)),
        ({"PBS_ARRAYID": "7"}, "auto/10", Shard(7, 10)),
        (slurm(9, 3, 17, count=3), "3/10", Shard(3, 10)),
        ({}, "3/10", Shard(3, 10)),
    ],
)
def test_a_count_that_is_given_takes_the_place_of_one_that_is_not_told(
    environ: dict[str, str], text: str, shard: Shard
) -> None:
    assert shard_of(text, environ) == shard


@pytest.mark.parametrize(
    ("environ", "text", "message"),
    [
        ({}, "auto", "no task of an array"),
        ({"LSB_JOBINDEX": "0"}, "auto", "no task of an array"),
        ({"SGE_TASK_ID": "undefined"}, "auto", "no task of an array"),
        ({"PBS_ARRAY_INDEX": "7"}, "auto", "PBS does not tell the place of task 7"),
        (slurm(9, 3, 17, count=3), "auto", "Slurm does not tell the place of task 9"),  # --array=3,9,17
        ({"PBS_ARRAY_INDEX": "11"}, "auto/10", "none of the shards"),
        ({"PBS_ARRAY_INDEX": "0"}, "auto/10", "none of the shards"),
    ],
)
def test_what_no_scheduler_tells_is_asked_for(environ: dict[str, str], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shard_of(text, environ)


@pytest.mark.parametrize("environ", [slurm(3, 1, 10), SGE, LSF, {"PBS_ARRAY_INDEX": "7"}])
def test_who_names_participants_or_a_shard_gets_these(environ: dict[str, str]) -> None:
    for selection in (Selection(participants=("01",)), Selection(shard=Shard(1, 1))):
        asked = replace(CONFIG, selection=selection)
        assert in_array(asked, environ) is asked


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_ARRAY_TASK_STEP": "0"},
        {"SLURM_ARRAY_TASK_COUNT": ""},
        {"SGE_TASK_ID": "undefined", "LSB_JOBINDEX": "0", "PBS_ARRAY_INDEX": "", "PBS_ARRAYID": "3[]"},
        {"SGE_TASK_ID": "9" * 5000, "LSB_JOBINDEX": "-1", "PBS_ARRAY_INDEX": "1.5", "PBS_ARRAYID": "²"},
    ],
)
def test_odd_values_of_schedulers_do_no_harm(changes: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert shard_of("auto", slurm(3, 1, 10) | changes) == Shard(3, 10)
    assert not caplog.records


def test_of_several_schedulers_it_is_said_whose_array_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    assert shard_of("auto", {**SGE, "PBS_ARRAY_INDEX": "7", **slurm(3, 1, 10)}) == Shard(3, 10)
    assert "task 3 of Slurm, task 4 of SGE, task 7 of PBS" in caplog.text


def test_where_the_count_is_not_told_all_are_taken_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert in_array(CONFIG, {"PBS_ARRAY_INDEX": "7"}) is CONFIG
    assert "task 7 of an array of PBS" in caplog.text
    caplog.clear()
    assert in_array(CONFIG, {}) is CONFIG
    assert in_array(CONFIG, slurm(4, 4, 4)) is CONFIG  # an array of one task is none
    assert not caplog.records
