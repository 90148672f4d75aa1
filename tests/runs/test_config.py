import re
from pathlib import Path

import pytest

from bids_hsf.bids.selection import Selection
from bids_hsf.errors import UsageError
from bids_hsf.runs.config import Config, Method, Resources, config_from

BIDS, OUT = Path("/data/bids"), Path("/data/bids/derivatives/bids-hsf")


def test_output_must_not_be_the_input() -> None:
    with pytest.raises(UsageError, match="is the BIDS folder itself") as caught:
        Config(BIDS, BIDS, ("participant",))
    assert "derivatives/bids-hsf" in (caught.value.hint or "")


@pytest.mark.parametrize("inside", ["sub-01", "sub-01/anat", "sub-01/anat/sub-01_T1w.nii.gz"])
def test_raw_data_of_a_participant_are_no_place_for_results(inside: str) -> None:
    with pytest.raises(UsageError, match="lies among the raw data of sub-01") as caught:
        Config(bids_dir=Path("/bids"), output_dir=Path("/bids", inside), levels=("participant",))
    assert "/bids/derivatives/bids-hsf" in (caught.value.hint or "")


def test_work_folder_must_not_lie_in_the_raw_data() -> None:
    with pytest.raises(UsageError, match="lies inside the BIDS folder"):
        Config(BIDS, OUT, ("participant",), work_dir=BIDS / "work")
    Config(BIDS, OUT, ("participant",), work_dir=OUT / ".work")
    Config(BIDS, OUT, ("participant",), work_dir=Path("/scratch"))


@pytest.mark.parametrize("name", ["nthreads", "nprocs", "omp_nthreads", "mem_mb"])
def test_resources_are_at_least_one(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must be at least 1, got 0"):
        Config(BIDS, OUT, ("participant",), resources=Resources(**{name: 0}))


@pytest.mark.parametrize(
    ("method", "flag"), [(Method(n_augmentations=-1), "--tta"), (Method(box_margin_mm=-1), "--box-margin-mm")]
)
def test_method_numbers_make_sense(method: Method, flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        Config(BIDS, OUT, ("participant",), method=method)


def test_record_holds_plain_values_only() -> None:
    record = Config(BIDS, OUT, ("group",), Selection(filters={"t1w": {"run": [1, None]}})).as_record()
    assert record["bids_dir"] == "/data/bids"
    assert record["selection"]["filters"] == {"t1w": {"run": [1, None]}}
    assert record["method"]["seed"] == 42


def test_records_are_read_back() -> None:
    config = Config(
        BIDS, OUT, ("group",), Selection(participants=("01",)), hub_dirs=(Path("/hub"),), work_dir=Path("/w")
    )
    assert config_from(config.as_record()) == config


@pytest.mark.parametrize(
    ("record", "message", "hint"),
    [
        ({"method": {"sed": 1}}, "Unknown setting: method.sed", r"Did you mean seed\?"),
        ({"colour": 1}, "Unknown setting: colour", "Known: .*bids_dir.*"),
        ({"bids_dir": "/nul\0"}, "null character", None),
        ({"method": {"seed": "x" * 1000}}, r"method.seed: expected a valid integer, got 'x{199}\.\.\.$", None),
        ({"method": {"box_margin_mm": True}}, "method.box_margin_mm: expected a valid number, got True", None),
        ({"output_dir": 1}, "output_dir: expected a path, got 1", None),
    ],
)
def test_wrong_records_are_told(record: dict[str, object], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        config_from({"bids_dir": "/b", "output_dir": "/o", "levels": ["group"], **record})
    assert hint is None or re.fullmatch(hint, caught.value.hint or "")


def test_missing_settings_are_told() -> None:
    with pytest.raises(UsageError, match="Setting output_dir is missing"):
        config_from({"bids_dir": "/b", "levels": []})
