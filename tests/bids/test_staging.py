import errno
import json
import logging
import os
from pathlib import Path

import pytest

from bids_hsf.bids.names import ScanOutputs, scan_outputs
from bids_hsf.bids.output_dataset import STAGING, prepare_output_dir
from bids_hsf.bids.provenance import Provenance, is_other, read_provenance
from bids_hsf.bids.staging import Stage, together
from bids_hsf.errors import StorageError


@pytest.fixture
def outputs(tmp_path: Path) -> ScanOutputs:
    prepare_output_dir(tmp_path / "out", tmp_path, "MIT")
    return scan_outputs(tmp_path / "out", [("sub", "01")], "T1w", "toy")


def write(path: Path, text: str = "new") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_all(stage: Stage, text: str = "new") -> None:
    """Write a label map, its table and sidecar, and the record of these."""
    (aside,) = stage.outputs
    for path in (aside.dseg, aside.table, aside.sidecar):
        write(path, text)
    write(aside.provenance, json.dumps(Provenance(outputs=stage.describe()).to_json()))


def finished(outputs: ScanOutputs, text: str = "old") -> ScanOutputs:
    with together(outputs) as stage:
        write_all(stage, text)
    return outputs


def contents(outputs: ScanOutputs) -> list[str]:
    return [path.read_text() for path in (outputs.dseg, outputs.table, outputs.sidecar)]


def hidden(outputs: ScanOutputs) -> list[Path]:
    return [path for path in outputs.output_dir.rglob(".*") if path.name != ".bidsignore"]


def test_old_results_stand_until_the_new_ones_are_whole(outputs: ScanOutputs) -> None:
    finished(outputs)
    with together(outputs) as stage:
        write_all(stage)
        assert contents(outputs) == ["old"] * 3
    assert contents(outputs) == ["new"] * 3
    assert hidden(outputs) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_results(outputs: ScanOutputs, error: BaseException) -> None:
    finished(outputs)
    before = outputs.provenance.read_text()
    with pytest.raises(type(error)), together(outputs) as stage:
        write(stage.outputs[0].dseg)
        raise error
    assert contents(outputs) == ["old"] * 3
    assert outputs.provenance.read_text() == before
    assert hidden(outputs) == []


def test_what_is_not_written_again_goes_and_what_is_the_users_stays(outputs: ScanOutputs) -> None:
    finished(outputs)
    recorded = json.loads(outputs.provenance.read_text())
    assert [known["Path"].rpartition("_")[2] for known in recorded["Outputs"]] == [
        "dseg.nii.gz",
        "dseg.tsv",
        "dseg.json",
    ]
    with together(outputs) as stage:
        write(stage.outputs[0].map("voteshare"))
        write_all(stage)
    manual = write(outputs.dseg.with_name("sub-01_space-T1w_seg-toy_desc-manual_dseg.nii.gz"))
    # Of a name that this app writes, but it has not.
    drawn = write(outputs.map(None))
    finished(outputs)
    assert not outputs.map("voteshare").exists()
    assert manual.exists()
    assert drawn.exists()


def test_results_of_older_versions_are_known_by_name(outputs: ScanOutputs) -> None:
    old = [write(outputs.map("voteshare")), write(outputs.sidecar), write(outputs.figure("entropy"))]
    finished(outputs)
    assert [path.exists() for path in old] == [False, True, False]


def test_a_label_map_that_was_mended_by_hand_is_kept(outputs: ScanOutputs, caplog: pytest.LogCaptureFixture) -> None:
    write(finished(outputs).dseg, "mended")
    with caplog.at_level(logging.WARNING):
        finished(outputs, "new")
    assert contents(outputs) == ["new"] * 3
    (kept,) = outputs.output_dir.glob("logs/replaced/*/*")
    assert kept.read_text() == "mended"
    assert f"kept as {kept}" in caplog.text


def test_a_record_that_names_files_elsewhere_harms_nothing(outputs: ScanOutputs, tmp_path: Path) -> None:
    mine = write(tmp_path / "mine")
    record = {"Outputs": [{"Path": "../mine", "Bytes": 7, "ModifiedNs": 1, "SHA256": "x"}]}
    write(outputs.provenance, json.dumps(record))
    finished(outputs)
    assert mine.read_text() == "new"


def test_what_killed_runs_left_aside_goes_and_nothing_of_others(outputs: ScanOutputs) -> None:
    folder = outputs.output_dir / STAGING
    dead = write(folder / ".sub-01_space-T1w_seg-toy.bids-hsf-0123abcd/sub-01/x").parents[1]
    other = write(folder / ".sub-01_space-T1w_seg-toyHBT.bids-hsf-0123abcd/sub-01/x").parents[1]
    # Without locks another run may be at work there.
    with together(outputs, alone=False) as stage:
        write_all(stage)
    assert dead.exists()
    finished(outputs)
    assert not dead.exists()
    assert other.exists()
    os.utime(other, (0, 0))
    prepare_output_dir(outputs.output_dir, outputs.output_dir.parent, "MIT")
    assert not other.exists()


def test_two_runs_without_locks_do_not_harm_each_other(outputs: ScanOutputs) -> None:
    with together(outputs, alone=False) as first:
        write_all(first, "first")
        with together(outputs, alone=False) as second:
            write_all(second, "second")
        assert contents(outputs) == ["second"] * 3
    assert contents(outputs) == ["first"] * 3


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    outputs = scan_outputs(tmp_path, [("sub", "01")], "T1w", "toy")
    with pytest.raises(StorageError, match="is gone"), together(outputs):
        pass


def test_a_folder_that_goes_meanwhile_is_told_and_nothing_is_put_in_its_place(outputs: ScanOutputs) -> None:
    with pytest.raises(StorageError, match="is gone"), together(outputs) as stage:
        write_all(stage)
        (outputs.output_dir / "dataset_description.json").unlink()
    assert not outputs.dseg.exists()


def test_folders_of_the_output_may_lie_on_other_disks(outputs: ScanOutputs, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.replace

    def within_a_disk(path: Path, place: Path) -> Path:
        if path.parent != place.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path), None, str(place))
        return rename(path, place)

    monkeypatch.setattr(Path, "replace", within_a_disk)
    finished(outputs)
    (known,) = [each for each in read_provenance(outputs.provenance).outputs if each.path.endswith("_dseg.tsv")]
    assert not is_other(outputs.table, known)
    assert outputs.table.stat().st_mtime_ns == known.modified_ns  # or a later run would read all of it
    outputs.table.write_text("mended")
    finished(outputs, "new")
    assert contents(outputs) == ["new"] * 3
    (kept,) = (outputs.output_dir / "logs" / "replaced").rglob("*_dseg.tsv")
    assert kept.read_text() == "mended"
    assert hidden(outputs) == []


def test_what_cannot_be_replaced_is_told(outputs: ScanOutputs) -> None:
    write(outputs.dseg / "file")
    with pytest.raises(StorageError, match=r"Cannot put .*_dseg\.nii\.gz in its place"):
        finished(outputs)
    assert not outputs.sidecar.exists()
