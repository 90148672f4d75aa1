"""How runs end."""

import logging
import pickle

import pytest

from bids_hsf.errors import BidsHsfError, DiskError, ImageStorageError, ScanError, StorageError
from bids_hsf.runs.endings import MAX_UNWRITTEN, while_disk_lasts
from bids_hsf.runs.tasks import Outcome

FULL = DiskError("Cannot write /x: No space left on device", "Check free space.")


def outcomes(*errors: BidsHsfError | None) -> list[Outcome]:
    return [Outcome(f"sub-{number}", 1.0, error) for number, error in enumerate(errors)]


def test_a_disk_that_takes_nothing_ends_a_run(caplog: pytest.LogCaptureFixture) -> None:
    told = iter(outcomes(None, *[FULL] * (MAX_UNWRITTEN + 3)))
    with caplog.at_level(logging.ERROR):
        assert len(list(while_disk_lasts(told))) == 1 + MAX_UNWRITTEN
    assert len(list(told)) == 3
    assert f"has not taken {MAX_UNWRITTEN} scans in a row" in caplog.text


@pytest.mark.parametrize(
    "between", [None, ScanError("It is cut short"), StorageError("No permission"), ImageStorageError("Bad sector")]
)
def test_a_disk_that_takes_some_or_errors_of_single_scans_end_none(between: BidsHsfError | None) -> None:
    told = outcomes(*[FULL] * (MAX_UNWRITTEN - 1), between, *[FULL] * (MAX_UNWRITTEN - 1), *[between] * 9)
    assert list(while_disk_lasts(told)) == told


def test_what_is_wrong_with_a_disk_comes_back_from_other_processes_as_that() -> None:
    again = pickle.loads(pickle.dumps(FULL))
    assert (type(again), again.message, again.exit_code) == (DiskError, FULL.message, 74)
