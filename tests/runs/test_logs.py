from dataclasses import replace
from pathlib import Path

import pytest
from bids_trees import model_card

from bids_hsf import __version__
from bids_hsf.bids.selection import Selection
from bids_hsf.bids.shards import Shard
from bids_hsf.errors import UsageError
from bids_hsf.runs import logs
from bids_hsf.runs.config import Behaviour, Config, Method, Resources, config_from


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = {logs.new_run_id() for _ in range(50)}
    assert len(ids) > 40
    assert all(len(run_id) == 20 for run_id in ids)


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    config = Config(
        Path("/bids été"),
        tmp_path / 'a "quoted" folder',
        ("participant",),
        Selection(
            ("01",), ("02",), ("1",), (), ("T1w",), True, {"t1w": {"run": [1, None], "acq": None, "session": "*"}}
        ),
        Method(
            "toy_fast",
            "whole",
            n_augmentations=3,
            seed=-1,
            box_margin_mm=2.5,
            keep_islands=True,
            reduced_precision=True,
        ),
        Resources(8, 2, 4, 8000, "cpu"),
        Behaviour(validate=False, uncertainty="full", export_lut=("itksnap",), verbosity=2),
        work_dir=Path("/work"),
        hub_dirs=(Path("/hub"),),
        bids_database_dir=Path("/db"),
        command=("bids-hsf", "x"),
    )
    card = model_card()
    path = tmp_path / "config.toml"
    logs.write_config(path, config, card)
    again = config_from(logs.read_config(path))
    members = {"toy.onnx": "ab" * 32}
    assert again == replace(config, command=(), method=replace(config.method, members=members))


def test_what_concerns_one_run_alone_is_not_replayed(tmp_path: Path) -> None:
    behaviour = Behaviour(force=True, dry_run=True, reports_only=True, boilerplate_only=True)
    path = tmp_path / "config.toml"
    logs.write_config(path, Config(Path("/b"), Path("/o"), ("group",), behaviour=behaviour), model_card())
    assert config_from(logs.read_config(path)).behaviour == Behaviour()


@pytest.mark.parametrize("content", ["bids_dir = ", "\0", "[run"])
def test_unreadable_settings(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"--config-file .* cannot be read"):
        logs.read_config(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("speed = 3", "Unknown setting: speed"),
        ("method = {sed = 1}", r"Unknown setting: method\.sed"),
        ("method = {colour = 1}", r"Unknown setting: method\.colour"),
        ("method = {seed = 'x'}", r"method\.seed: expected a valid integer, got 'x'"),
        ("method = {seed = true}", r"method\.seed: expected a valid integer, got True"),
        ("resources = {nprocs = 1.5}", r"resources\.nprocs: expected a valid integer, got 1\.5"),
        ("levels = 'group'", "levels: expected a list, got 'group'"),
        ("hub_dirs = [1]", r"hub_dirs\.0: expected a path, got 1"),
        ("behaviour = 1", r"expected a section \[behaviour\], got 1"),
        ("behaviour = {uncertainty = 'some'}", "uncertainty: expected 'entropy' or 'full', got 'some'"),
        ("levels = ['groups']", r"levels\.0: expected 'participant', 'group' or 'status', got 'groups'"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "config.toml"
    levels = "" if line.startswith("levels") else "levels = ['group']\n"
    path.write_text(f"bids_dir = '/b'\noutput_dir = '/o'\n{levels}{line}\n")
    with pytest.raises(UsageError, match=message):
        config_from(logs.read_config(path))


def test_settings_of_another_version_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config.toml"
    logs.write_config(path, Config(Path("/b"), Path("/o"), ("group",)), model_card())
    path.write_text(path.read_text().replace(f'version = "{__version__}"', 'version = "0.0.1"'))
    logs.read_config(path)
    assert "is of bids-hsf 0.0.1" in caplog.text


def test_latest_settings_of_each_model(tmp_path: Path) -> None:
    assert logs.latest_configs(tmp_path) == []
    (tmp_path / "logs").mkdir()
    names = {
        "config_20260101T000000_ab12.toml": "[method]\nmodel = 'a'",
        "config_20270101T000000_0012.toml": "[method]\nmodel = 'a'",
        "config_20250101T000000_0012.toml": "[method]\nmodel = 'a'\nca_mode = 'whole'",
        "config_20240101T000000_0012.toml": "[method]\nmodel = 'b'",
        "run_20280101T000000_ffff.log": "",
    }
    for name, text in names.items():
        (tmp_path / "logs" / name).write_text(text)
    assert [path.name[7:11] for path in logs.latest_configs(tmp_path)] == ["2027", "2025", "2024"]


def test_runs_on_some_participants_share_their_settings_and_none_is_taken_for_anothers(tmp_path: Path) -> None:
    def save(name: str, **changes: object) -> Path:
        return logs.save_config(replace(config, **changes), card, name)

    config, card = Config(Path("/b"), tmp_path, ("participant",), Selection(participants=("01",))), model_card()
    first = save("1")
    shard = Selection(shard=Shard(3, 10))
    assert [
        save("2"),
        save("3", selection=Selection(participants=("02",))),
        save("4", selection=shard, work_dir=tmp_path / "4"),
    ] == [first] * 3
    assert config_from(logs.read_config(first)).selection == config.selection
    # Other settings are saved anew, and so are the former when they come again: the last ones are meant by status.
    other = save("5", method=Method(seed=7))
    assert other.name == "config_5.toml"
    assert save("6").name == "config_6.toml"
    # All participants are a choice of its own.
    assert save("7", selection=Selection()).name == "config_7.toml"
    # A shard is none of the settings: whoever replays them has all.
    assert config_from(logs.read_config(save("8", method=Method(seed=8), selection=shard))).selection == Selection()
    (tmp_path / "logs/latest_configs.json").write_text('{"toy_fast None": 3}')
    assert save("9").name == "config_9.toml"


def test_the_log_of_a_run_on_one_subject_lies_beside_what_is_recorded_of_it(tmp_path: Path) -> None:
    assert logs.log_path(tmp_path, "1", ["01"]) == tmp_path / "logs/sub-01/run_1.log"
    assert logs.log_path(tmp_path, "1", ["01", "02"]) == logs.log_path(tmp_path, "1") == tmp_path / "logs/run_1.log"
