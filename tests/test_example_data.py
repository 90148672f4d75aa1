"""The example dataset, and the disturbed subject that tests and demo add to it."""

import json
import subprocess
import sys
from pathlib import Path

import example_data
import nibabel as nib
import numpy as np
import pytest


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    return example_data.write_disturbed_subject(out_dir=tmp_path_factory.mktemp("bids"))


def test_dataset_is_small_enough_for_a_repository():
    files = [path for path in example_data.BIDS_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16e6


def test_dataset_with_the_disturbed_subject_is_valid(disturbed, tmp_path):
    program = Path(sys.executable).with_name("bids-validator-deno")
    command = [program, "--format", "json", disturbed.bids_dir]
    environment = {"DENO_DIR": str(tmp_path), "NO_COLOR": "1"}
    report = json.loads(subprocess.run(command, capture_output=True, env=environment, check=False).stdout)
    found = report["issues"]["issues"]
    assert not [issue for issue in found if issue["severity"] == "error"]
    # Averages of many scans have no scanner, and no slice timing.
    assert {issue["code"] for issue in found} <= {"SIDECAR_KEY_RECOMMENDED"}
    assert sorted(report["summary"]["subjects"]) == ["colin27", "icbm152", "rotated"]


def test_disturbed_head_is_stored_otherwise_and_turned(disturbed):
    image = nib.load(disturbed.image_path)
    assert nib.aff2axcodes(image.affine) == tuple(example_data.Disturbance().orientation)
    assert sorted(np.round(image.header.get_zooms(), 3)) == pytest.approx([0.9, 1.0, 1.1])
    rotation = disturbed.disturbed_from_source[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.degrees(np.arccos((np.trace(rotation) - 1) / 2)) > 20


def test_known_motion_carries_the_head_back_onto_its_source(disturbed):
    image = nib.load(disturbed.image_path)
    source = nib.load(disturbed.source_path).get_fdata()
    back = example_data.carry_back(image.get_fdata(), image.affine, disturbed)
    # As if the motion were none: the head stays where it was turned and shifted to.
    unmoved_affine = disturbed.disturbed_from_source @ image.affine
    still = example_data.carry_back(image.get_fdata(), unmoved_affine, disturbed)
    assert np.corrcoef(source.ravel(), back.ravel())[0, 1] > 0.98
    assert np.corrcoef(source.ravel(), still.ravel())[0, 1] < 0.8


def test_same_call_gives_the_same_bytes(disturbed, tmp_path):
    again = example_data.write_disturbed_subject(out_dir=tmp_path)
    assert again.image_path.read_bytes() == disturbed.image_path.read_bytes()
    assert (tmp_path / "participants.tsv").read_text() == (disturbed.bids_dir / "participants.tsv").read_text()
