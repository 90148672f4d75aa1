"""T1w and T2w votes joined, and head, body and tail: through the real app, with the packaged network."""

import csv
import gzip
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_trees import model_card
from example_data import BIDS_DIR, Disturbance, disturb
from scipy import ndimage
from segmented_example import MODEL

from bids_hsf.bids import output_dataset
from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.selection import Selection
from bids_hsf.bids.validation import run_validator
from bids_hsf.cli.app import main
from bids_hsf.errors import UsageError
from bids_hsf.geometry import Grid, field_of_view
from bids_hsf.runs.config import Config, Method
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.planning import plan_jobs
from bids_hsf.segmentation.long_axis import THIRDS, UNCAL_APEX
from bids_hsf.segmentation.votes import Votes

SHIFT = Disturbance((0.0, 0.0, 0.0), (7.0, 0.0, 0.0), (0.9, 1.2, 1.1), "LIA")
SUBJECTS = ("sub-shifted", "sub-together")
SEGMENTATION = "longaxisSingleFast"
STEM = f"space-T2w_seg-{SEGMENTATION}"


@dataclass(frozen=True)
class Joined:
    bids_dir: Path
    output_dir: Path
    exit_code: int

    def path(self, subject: str, ending: str) -> Path:
        return self.output_dir / subject / "anat" / f"{subject}_{ending}"

    def labels(self, subject: str, segmentation: str = SEGMENTATION) -> np.ndarray:
        ending = f"space-T2w_seg-{segmentation}_desc-multispectral_dseg.nii.gz"
        return np.asarray(nib.load(self.path(subject, ending)).dataobj)


@pytest.fixture(scope="session")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Joined:
    """One head twice: with both contrasts in one space, and with the T1w 7 mm away on other voxels."""
    bids_dir = tmp_path_factory.mktemp("pairs") / "bids"
    source = BIDS_DIR / "sub-icbm152" / "anat"
    for subject in SUBJECTS:
        folder = bids_dir / subject / "anat"
        folder.mkdir(parents=True)
        for suffix in ("T1w", "T2w"):
            content = (source / f"sub-icbm152_{suffix}.nii.gz").read_bytes()
            if (subject, suffix) == ("sub-shifted", "T1w"):
                image, _ = disturb(nib.load(source / "sub-icbm152_T1w.nii.gz"), SHIFT)
                content = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
            (folder / f"{subject}_{suffix}.nii.gz").write_bytes(content)
    (bids_dir / "dataset_description.json").write_text('{"Name": "Pairs", "BIDSVersion": "1.10.0"}')
    output_dir = tmp_path_factory.mktemp("joined") / "bids-hsf"
    flags = ["--multispectral", "--split-long-axis", "--model", MODEL, "--skip-bids-validation"]
    return Joined(bids_dir, output_dir, main([str(bids_dir), str(output_dir), "participant", "group", *flags]))


def test_the_offset_between_contrasts_changes_labels_by_a_voxel_at_most(joined: Joined) -> None:
    assert joined.exit_code == 0
    together, shifted = joined.labels("sub-together"), joined.labels("sub-shifted")
    assert set(np.unique(together)) == {0, 1, 2, 101, 102}
    (box,) = ndimage.find_objects((together + shifted > 0).astype(int))
    together, shifted = [np.pad(labels[box], 2) for labels in (together, shifted)]
    for index in (1, 2, 101, 102):
        one, other = together == index, shifted == index
        assert not (other & ~ndimage.binary_dilation(one, np.ones((3, 3, 3)))).any()
        assert not (one & ~ndimage.binary_dilation(other, np.ones((3, 3, 3)))).any()
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.93


def test_the_sidecar_tells_both_scans_and_how_they_came_together(joined: Joined) -> None:
    sidecar = json.loads(joined.path("sub-shifted", f"{STEM}_desc-multispectral_dseg.json").read_text())
    scans = [f"bids:raw:sub-shifted/anat/sub-shifted_{suffix}.nii.gz" for suffix in ("T2w", "T1w")]
    assert sidecar["Sources"] == scans
    assert sidecar["SpatialReference"] == scans[0]
    assert sidecar["Scan"] == "sub-shifted_T2w+T1w"
    assert sidecar["Request"]["SecondContrast"] == "sub-shifted/anat/sub-shifted_T1w.nii.gz"
    assert sidecar["Passes"] == 2
    found = sidecar["Coregistration"]
    assert found["Scan"] == "sub-shifted_T1w"
    assert found["Quality"] > 0.4
    expected = np.eye(4)
    expected[0, 3] = -7
    points = np.array([[-26, -21, -13, 1], [26, -21, -13, 1]]).T
    np.testing.assert_allclose(np.array(found["ReferenceFromScan"]) @ points, expected @ points, atol=0.7)


def test_output_is_valid_bids_without_warnings(joined: Joined, tmp_path: Path) -> None:
    names = {path.name for path in (joined.output_dir / "sub-together" / "anat").iterdir()}
    endings = ["_desc-multispectralentropy_probseg.json", "_desc-multispectralentropy_probseg.nii.gz"]
    endings += [f"{name}_desc-multispectral_dseg{end}" for name in ("", "HBT") for end in (".json", ".nii.gz", ".tsv")]
    assert names == {f"sub-together_{STEM}{ending}" for ending in endings}
    report = run_validator(joined.output_dir, tmp_path)
    assert report is not None
    assert report["issues"]["issues"] == []
    described = (joined.output_dir / "descriptions.tsv").read_text()
    assert "desc-multispectral\t" in described
    assert "desc-multispectralentropy\t" in described


def test_head_body_and_tail_fill_the_hippocampus(joined: Joined) -> None:
    labels, parts = joined.labels("sub-together"), joined.labels("sub-together", f"{SEGMENTATION}HBT")
    np.testing.assert_array_equal(labels > 0, parts > 0)
    for offset in (0, 100):
        np.testing.assert_array_equal(labels == 1 + offset, parts == 1 + offset)
        assert ((parts == 2 + offset) | (parts == 3 + offset))[labels == 2 + offset].all()
    sidecar = json.loads(joined.path("sub-together", f"{STEM}HBT_desc-multispectral_dseg.json").read_text())
    assert sidecar["LongAxisRule"] == UNCAL_APEX
    assert sidecar["Sources"][-1] == f"bids::sub-together/anat/sub-together_{STEM}_desc-multispectral_dseg.nii.gz"


def test_tables_and_reports_tell_the_maps_apart(joined: Joined) -> None:
    with (joined.output_dir / "group_volumes.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    expected = {(f"{subject}_T2w+T1w", name) for subject in SUBJECTS for name in (SEGMENTATION, f"{SEGMENTATION}HBT")}
    assert {(row["scan"], row["segmentation"]) for row in rows} == expected
    for row in rows:
        columns = ("head", "body", "tail") if row["segmentation"].endswith("HBT") else ("anterior", "posterior")
        total = sum(float(row[f"L_{name}_mm3"]) for name in columns)
        assert float(row["L_total_mm3"]) == pytest.approx(total, abs=0.05)
    page = (joined.output_dir / "sub-together.html").read_text()
    assert f"T2w+T1w · {SEGMENTATION}HBT" in page
    assert f"figures/sub-together_{STEM}_desc-multispectralsegmentation_dseg.svg#entropy" in page
    assert "No picture" not in page


def test_thirds_where_no_label_ends_at_the_uncal_apex(tmp_path: Path) -> None:
    bids_dir = tmp_path / "bids"
    folder = bids_dir / "sub-colin27" / "anat"
    folder.mkdir(parents=True)
    source = BIDS_DIR / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
    (folder / source.name).write_bytes(source.read_bytes())
    (bids_dir / "dataset_description.json").write_text('{"Name": "One", "BIDSVersion": "1.10.0"}')
    flags = ["--split-long-axis", "--multispectral", "--ca-mode", "whole", "--model", MODEL, "--skip-bids-validation"]
    assert main([str(bids_dir), str(tmp_path / "out"), "participant", *flags]) == 0
    stem = tmp_path / "out" / "sub-colin27" / "anat" / "sub-colin27_space-T1w_seg-longaxisSingleFastHippocampusHBT_dseg"
    assert json.loads(Path(f"{stem}.json").read_text())["LongAxisRule"] == THIRDS
    parts = np.asarray(nib.load(f"{stem}.nii.gz").dataobj)
    centres = [np.argwhere(parts == index).mean(axis=0)[1] for index in (1, 2, 3)]
    assert centres[0] > centres[1] + 8 > centres[2] + 16


# Which scans make a pair


def scan(name: str) -> Scan:
    *pairs, suffix = name.split("_")
    entities = tuple((pair.split("-")[0], pair.split("-")[1]) for pair in pairs)
    return Scan(Path("/bids") / f"{name}.nii.gz", f"{name}.nii.gz", suffix, entities)


def pairs(config: Config, *names: str) -> list[Job]:
    return plan_jobs([scan(name) for name in names], model_card(contrasts=("T1w", "T2w")), None, config)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(Path("/bids"), tmp_path, ("participant",), method=Method(multispectral=True))


def test_sessions_are_paired_on_the_reference(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    names = ["sub-01_ses-1_T1w", "sub-01_ses-1_T2w", "sub-01_ses-2_T2w", "sub-02_T1w", "sub-02_UNIT1"]
    with caplog.at_level(logging.INFO):
        jobs = pairs(config, *names, "sub-02_acq-tse_T2w")
    assert [job.key for job in jobs] == ["sub-01_ses-1_T2w+T1w", "sub-01_ses-2_T2w", "sub-02_acq-tse_T2w+T1w"]
    assert "sub-01_ses-2_T2w is processed alone: there is no T1w of its session" in caplog.text
    assert "left out: sub-02_UNIT1" in caplog.text
    assert jobs[0].outputs.dseg.name == "sub-01_ses-1_space-T2w_seg-toyFast_desc-multispectral_dseg.nii.gz"
    assert jobs[1].outputs.dseg.name == "sub-01_ses-2_space-T2w_seg-toyFast_dseg.nii.gz"
    turned = replace(config, method=Method(multispectral=True, reference="T1w"))
    assert [job.key for job in pairs(turned, *names[:2])] == ["sub-01_ses-1_T1w+T2w"]


def test_a_pair_that_cannot_be_is_told(config: Config) -> None:
    with pytest.raises(UsageError, match="toy_fast is for T1w alone"):
        plan_jobs([scan("sub-01_T1w")], model_card(), None, config)
    with pytest.raises(UsageError, match="--multispectral joins T1w and T2w, but -m/--modalities is T2w"):
        pairs(replace(config, selection=Selection(modalities=("T2w",))), "sub-01_T2w")
    with pytest.raises(UsageError, match="--reference T1w says nothing without --multispectral"):
        replace(config, method=Method(reference="T1w"))


def test_results_of_a_scan_alone_and_of_the_pair_lie_side_by_side(config: Config) -> None:
    (pair,) = pairs(config, "sub-01_T1w", "sub-01_T2w")
    (alone,) = pairs(config, "sub-01_T2w")
    for path in (*pair.expected_files, *alone.expected_files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    output_dataset.discard(alone.outputs)
    assert all(path.exists() for path in pair.expected_files)
    assert not any(path.exists() for path in alone.expected_files)
    alone.outputs.dseg.touch()
    output_dataset.discard(pair.outputs)
    assert not any(path.exists() for path in pair.expected_files)
    assert alone.outputs.dseg.exists()


# Votes of a contrast whose field of view ends


def test_votes_outside_the_field_of_view_do_not_count() -> None:
    inside = field_of_view(Grid((4, 4, 2), np.eye(4)), Grid((4, 4, 4), np.eye(4)))
    assert inside[:, :, :2].all()
    assert not inside[:, :, 2:].any()

    def votes(share: float) -> Votes:
        shares = np.stack([np.full((4, 4, 4), 1 - share), np.full((4, 4, 4), share)]).astype(np.float32)
        volumes = np.array([[64 * (1 - share), 64 * share]], dtype=np.float32)
        seen = np.ones((4, 4, 4), np.float32)
        return Votes(shares, shares.copy(), seen.copy(), seen, volumes, np.zeros(1, int))

    first = votes(0.25)
    limited = votes(0.75).within(inside, first)
    both = first + limited
    np.testing.assert_array_equal(both.seen, np.where(inside, 2, 1))
    mean = both.mean_probabilities()[1]
    np.testing.assert_allclose(mean, np.where(inside, 0.5, 0.25))
    # Half of the voxels by its own votes, half by those of the first contrast.
    np.testing.assert_allclose(limited.pass_volumes, [[32 * 0.25 + 32 * 0.75, 32 * 0.75 + 32 * 0.25]])
