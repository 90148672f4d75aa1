import json
import logging
import os
from pathlib import Path

import pytest
from sidecars import sidecar

from bids_hsf.bids.derivatives import find_derivatives
from bids_hsf.bids.provenance import Provenance, describe_file
from bids_hsf.bids.tables import write_table
from bids_hsf.files import write_json

ROW = {"index": 1, "name": "Left x", "abbreviation": "L_x", "hemisphere": "L", "volume_mm3": 2171.0}
FOLDER = "sub-01/anat"


def write_result(output_dir: Path, name: str = "sub-01", folder: str = FOLDER) -> Path:
    """Write a table with its sidecar; returns the table."""
    table = output_dir / folder / f"{name}_space-T1w_seg-toy_dseg.tsv"
    write_table(table, [ROW])
    table.with_suffix(".json").write_text(json.dumps(sidecar(scan=f"{name}_T1w").to_json()))
    return table


def test_results_of_all_sessions_are_found_in_order(tmp_path: Path) -> None:
    tables = [
        write_result(tmp_path),
        write_result(tmp_path, "sub-01_ses-2", "sub-01/ses-2/anat"),
        write_result(tmp_path, "sub-02", "sub-02/anat"),
    ]
    found = find_derivatives(tmp_path)
    assert [derivative.table for derivative in found] == tables
    assert [derivative.fault for derivative in found] == [None] * 3
    assert found[0].sidecar is not None
    assert found[0].sidecar.scan == "sub-01_T1w"
    assert found[0].structures[0].volume_mm3 == 2171.0
    assert found[1].stem == "sub-01_ses-2_space-T1w_seg-toy"
    assert [derivative.table for derivative in find_derivatives(tmp_path, "01")] == tables[:2]
    assert find_derivatives(tmp_path, "0*") == []


def test_what_is_not_whole_is_found_with_its_fault(tmp_path: Path) -> None:
    table = write_result(tmp_path)
    whole, content = table.read_text(), table.with_suffix(".json").read_text()

    def fault() -> str:
        (found,) = find_derivatives(tmp_path)
        assert found.fault is not None
        return found.fault

    table.write_text(whole[:-3])
    assert fault() == "its table is not whole (its last line does not end); run the participant level again"
    table.unlink()
    assert fault() == "it has no table; run the participant level again"
    table.write_text(whole)
    table.with_suffix(".json").write_text(json.dumps(sidecar(scan="T1w").to_json()))
    assert fault().startswith("it is not whole (Scan is 'T1w', expected the name of a scan)")
    table.with_suffix(".json").write_text(content[:-3])
    assert fault() == "it cannot be read (no JSON); run the participant level again"
    table.with_suffix(".json").unlink()
    assert fault() == "it has no sidecar; run the participant level again"


def test_what_is_not_as_it_was_written_is_found_with_its_fault(tmp_path: Path) -> None:
    table = write_result(tmp_path)
    label_map = table.with_suffix(".nii.gz")
    label_map.write_text("labels")
    written = [describe_file(path.relative_to(tmp_path).as_posix(), path) for path in (table, label_map)]
    record = tmp_path / "logs" / "sub-01" / f"{table.name.removesuffix('_dseg.tsv')}_provenance.json"
    write_json(record, Provenance(outputs=tuple(written)).to_json())

    def fault() -> str | None:
        (found,) = find_derivatives(tmp_path)
        return found.fault

    assert fault() is None
    # Cut within a number, and mended to look like a table.
    table.write_text(table.read_text().replace("2171.0", "217"))
    assert fault() == f"{table.name} is not as it was written; run the participant level again"
    write_result(tmp_path)
    label_map.write_text("")
    assert fault() == f"{label_map.name} is not as it was written; run the participant level again"
    label_map.unlink()
    assert fault() == "it has no label map; run the participant level again"
    label_map.symlink_to("annex/objects/not-here")  # DataLad, where the content was not fetched
    assert fault() is None


def test_other_software_in_the_same_folder_is_passed_over_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_result(tmp_path)
    anat = tmp_path / FOLDER
    (anat / "sub-01_desc-aseg_dseg.json").write_text('{"Sources": ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]}')
    (anat / "sub-01_dseg.json").write_text('{"GeneratedBy": {"Name": "fMRIPrep"}}')
    (anat / "sub-01_desc-aseg_dseg.tsv").write_text("index\tname\n1\tx\n")
    (anat / "sub-01_label-x_dseg.tsv").write_bytes(b"\xff\xfe")
    os.mkfifo(anat / "sub-01_desc-pipe_dseg.json")
    # What macOS leaves beside each file on a foreign disk.
    (anat / "._sub-01_space-T1w_seg-toy_dseg.json").write_bytes(b"\x00\x05\x16\x07")
    with caplog.at_level(logging.WARNING):
        assert [found.fault for found in find_derivatives(tmp_path)] == [None]
    passed = [record.getMessage().split()[0].rsplit("/", 1)[1] for record in caplog.records]
    assert passed == [
        "sub-01_desc-aseg_dseg.json",
        "sub-01_desc-pipe_dseg.json",
        "sub-01_dseg.json",
        "sub-01_label-x_dseg.json",
    ]
    assert "bids-hsf did not write it" in caplog.text


def test_links_to_elsewhere_are_not_walked(tmp_path: Path) -> None:
    write_result(tmp_path)
    (tmp_path / "sub-root").symlink_to("/")
    (tmp_path / "sub-loop").symlink_to("sub-loop")
    (tmp_path / "sub-02").mkdir()
    (tmp_path / "sub-02/ses-up").symlink_to(tmp_path)
    (tmp_path / FOLDER / "sub-01_space-T1w_seg-loop_dseg.json").symlink_to("sub-01_space-T1w_seg-loop_dseg.json")
    faults = [found.fault for found in find_derivatives(tmp_path)]
    assert faults[1:] == [None]
    assert faults[0] is not None
    assert "Too many levels of symbolic links" in faults[0]
