"""The main job, end to end, on real brains: the example dataset and a turned head that lies elsewhere."""

import csv
import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from example_data import carry_back
from segmented_example import MODEL, Segmented

from bids_hsf.bids.validation import run_validator
from bids_hsf.cli.app import main

FIGURES = ("localization", "segmentation", "thumbnail")
SCANS = ["sub-colin27_T1w", "sub-icbm152_T1w", "sub-icbm152_T2w", "sub-rotated_T1w"]


def outputs_of(scan: str) -> list[str]:
    subject, suffix = scan.split("_")
    stem = f"{subject}_space-{suffix}_seg-longaxisSingleFast"
    return [
        f"logs/{subject}/{stem}_provenance.json",
        *(f"{subject}/anat/{stem}_desc-entropy_probseg{end}" for end in (".json", ".nii.gz")),
        *(f"{subject}/anat/{stem}_dseg{end}" for end in (".json", ".nii.gz", ".tsv")),
        *(f"{subject}/figures/{stem}_desc-{name}_dseg.svg" for name in FIGURES),
    ]


def label_path(segmented: Segmented, scan: str) -> Path:
    subject, suffix = scan.split("_")
    return segmented.output_dir / subject / "anat" / f"{subject}_space-{suffix}_seg-longaxisSingleFast_dseg.nii.gz"


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_all_scans_are_done(segmented: Segmented) -> None:
    assert segmented.exit_code == 0


def test_golden_list_of_output_paths(segmented: Segmented) -> None:
    root = [".bidsignore", "README.md", "dataset_description.json", "descriptions.json", "descriptions.tsv"]
    root += [
        "group_volumes.html",
        *(f"group_volumes{end}" for end in (".json", ".tsv", "_long.json", "_long.tsv")),
        "review.html",
        *(f"{s}.html" for s in ("sub-colin27", "sub-icbm152", "sub-rotated")),
    ]
    expected = sorted([*root, *(path for scan in SCANS for path in outputs_of(scan))])
    written = (path for path in segmented.output_dir.rglob("*") if path.is_file())
    found = sorted(path.relative_to(segmented.output_dir).as_posix() for path in written)
    # One log and one configuration a run, named for its time.
    runs = [path for path in found if path.startswith("logs/") and "_seg-" not in path]
    assert [path for path in found if path not in runs] == expected


def test_output_is_valid_bids_without_warnings(segmented: Segmented, tmp_path: Path) -> None:
    report = run_validator(segmented.output_dir, tmp_path)
    assert report is not None
    assert report["summary"]["totalFiles"] > 20
    assert report["issues"]["issues"] == []
    ignored = (segmented.output_dir / ".bidsignore").read_text().split()
    assert ignored == ["*.html", "figures", "group_*", "seg-*", "*_xfm.txt", "*_coords.*"]


@pytest.mark.parametrize("scan", SCANS)
def test_maps_lie_on_the_scans_own_grid(segmented: Segmented, scan: str) -> None:
    subject = scan.split("_")[0]
    image = nib.load(segmented.bids_dir / subject / "anat" / f"{scan}.nii.gz")
    labels = nib.load(label_path(segmented, scan))
    entropy = nib.load(str(label_path(segmented, scan)).replace("_dseg", "_desc-entropy_probseg"))
    for made in (labels, entropy):
        assert made.shape == image.shape
        np.testing.assert_allclose(made.affine, image.affine, atol=1e-5)
    assert set(np.unique(np.asarray(labels.dataobj))) == {0, 1, 2, 101, 102}
    values = np.asarray(entropy.dataobj)
    assert values.min() >= 0
    assert 0.3 < values.max() <= 1


@pytest.mark.parametrize("scan", SCANS)
def test_volumes_are_those_of_a_human_hippocampus(segmented: Segmented, scan: str) -> None:
    labels = nib.load(label_path(segmented, scan))
    data = np.asarray(labels.dataobj)
    voxel_volume = abs(np.linalg.det(labels.affine[:3, :3]))
    with label_path(segmented, scan).with_suffix("").with_suffix(".tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [int(row["index"]) for row in rows] == [1, 2, 101, 102]
    for row in rows:
        counted = (data == int(row["index"])).sum() * voxel_volume
        assert float(row["volume_mm3"]) == pytest.approx(counted, abs=0.01)
    for hemisphere in ("L", "R"):
        total = sum(float(row["volume_mm3"]) for row in rows if row["hemisphere"] == hemisphere)
        assert 2500 < total < 6000


@pytest.mark.parametrize("scan", SCANS)
def test_sides_and_long_axis_are_anatomical(segmented: Segmented, scan: str) -> None:
    labels = nib.load(label_path(segmented, scan))
    data = np.asarray(labels.dataobj)
    centre = {
        index: nib.affines.apply_affine(labels.affine, np.argwhere(data == index).mean(axis=0))
        for index in (1, 2, 101, 102)
    }
    assert centre[1][0] < centre[101][0] - 30
    assert centre[2][0] < centre[102][0] - 30
    assert centre[1][1] > centre[2][1] + 8
    assert centre[101][1] > centre[102][1] + 8


def test_known_position_in_template_space(segmented: Segmented) -> None:
    labels = nib.load(label_path(segmented, "sub-icbm152_T1w"))
    data = np.asarray(labels.dataobj)
    left = nib.affines.apply_affine(labels.affine, np.argwhere((data > 0) & (data < 100)).mean(axis=0))
    np.testing.assert_allclose(left, [-26, -21, -13], atol=4)


def test_a_turned_head_gives_the_same_hippocampi(segmented: Segmented) -> None:
    turned = nib.load(label_path(segmented, "sub-rotated_T1w"))
    upright = np.asarray(nib.load(label_path(segmented, "sub-colin27_T1w")).dataobj)
    back = carry_back(np.asarray(turned.dataobj), turned.affine, segmented.subject)
    for low in (0, 100):
        assert dice((back > low) & (back < low + 99), (upright > low) & (upright < low + 99)) > 0.85


def test_two_contrasts_of_one_brain_agree(segmented: Segmented) -> None:
    first, second = (np.asarray(nib.load(label_path(segmented, f"sub-icbm152_{s}")).dataobj) for s in ("T1w", "T2w"))
    assert dice(first > 0, second > 0) > 0.8


def test_group_table_has_a_row_a_scan(segmented: Segmented) -> None:
    with (segmented.output_dir / "group_volumes.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["scan"] for row in rows] == SCANS
    assert {row["model"] for row in rows} == {MODEL}
    for row in rows:
        parts = float(row["L_anterior_mm3"]) + float(row["L_posterior_mm3"])
        assert float(row["L_total_mm3"]) == pytest.approx(parts, abs=0.02)


def test_pybids_opens_the_output_as_derivatives(segmented: Segmented) -> None:
    from bids import BIDSLayout

    layout = BIDSLayout(segmented.output_dir, validate=False, is_derivative=True)
    found = layout.get(
        subject="icbm152", suffix="dseg", extension=".nii.gz", space="T2w", segmentation="longaxisSingleFast"
    )
    assert [file.filename for file in found] == ["sub-icbm152_space-T2w_seg-longaxisSingleFast_dseg.nii.gz"]


def test_provenance_names_what_ran(segmented: Segmented) -> None:
    path = (
        segmented.output_dir / "logs" / "sub-colin27" / "sub-colin27_space-T1w_seg-longaxisSingleFast_provenance.json"
    )
    record = json.loads(path.read_text())
    request = record["Request"]
    assert (request["Model"], request["Seed"]) == (MODEL, 42)
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in request["Members"].values())
    image = segmented.bids_dir / "sub-colin27/anat/sub-colin27_T1w.nii.gz"
    (source,) = record["Inputs"]
    assert (source["Path"], source["Bytes"]) == ("sub-colin27/anat/sub-colin27_T1w.nii.gz", image.stat().st_size)
    assert source["SHA256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert record["Packages"]["numpy"] == np.__version__
    assert record["Command"][:3] == ["bids-hsf", str(segmented.bids_dir), str(segmented.output_dir)]
    assert record["Device"]["Provider"].endswith("ExecutionProvider")
    assert set(record["Seconds"]) >= {"load", "locate", "segment", "write"}
    assert record["PeakMemoryMB"] > 100
    sidecar = json.loads(label_path(segmented, "sub-colin27_T1w").with_suffix("").with_suffix(".json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-colin27/anat/sub-colin27_T1w.nii.gz"]
    assert sidecar["Request"] == request


def test_the_same_run_gives_the_same_bytes(segmented: Segmented, tmp_path: Path) -> None:
    # Of one scan alone the threads are shared otherwise, and other sums of floats are not the same run.
    record = json.loads((segmented.output_dir / outputs_of("sub-colin27_T1w")[0]).read_text())
    arguments = [str(segmented.bids_dir), str(tmp_path), "participant", "--model", MODEL]
    arguments += ["--omp-nthreads", str(record["Device"]["Threads"])]
    assert main([*arguments, "--participant-label", "colin27", "--skip-bids-validation"]) == 0
    for path in outputs_of("sub-colin27_T1w")[1:]:
        assert (tmp_path / path).read_bytes() == (segmented.output_dir / path).read_bytes(), path


def test_finished_scans_are_not_done_again(segmented: Segmented) -> None:
    path = label_path(segmented, "sub-colin27_T1w")
    before = path.stat().st_mtime_ns
    arguments = [str(segmented.bids_dir), str(segmented.output_dir), "participant", "--model", MODEL]
    assert main([*arguments, "--skip-bids-validation"]) == 0
    assert path.stat().st_mtime_ns == before


def test_one_bad_scan_leaves_the_others_whole(segmented: Segmented, tmp_path: Path) -> None:
    bids_dir = tmp_path / "bids"
    for subject in ("sub-colin27", "sub-broken"):
        (bids_dir / subject / "anat").mkdir(parents=True)
    source = segmented.bids_dir / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz"
    (bids_dir / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    (bids_dir / "sub-colin27" / "anat" / source.name).write_bytes(source.read_bytes())
    broken = bids_dir / "sub-broken" / "anat" / "sub-broken_T1w.nii.gz"
    broken.write_bytes(source.read_bytes()[:100_000])
    output_dir = tmp_path / "out"
    assert main([str(bids_dir), str(output_dir), "participant", "--model", MODEL]) == 1
    made = {path.name for path in output_dir.rglob("*_dseg.nii.gz")}
    assert made == {"sub-colin27_space-T1w_seg-longaxisSingleFast_dseg.nii.gz"}
    failure = output_dir / "logs" / "sub-broken" / "sub-broken_space-T1w_seg-longaxisSingleFast_failure.json"
    assert str(broken) in json.loads(failure.read_text())["Error"]


def test_a_scan_that_would_not_fit_is_refused_with_the_figure(
    segmented: Segmented, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(segmented.bids_dir), str(tmp_path), "participant", "--model", MODEL, "--skip-bids-validation"]
    assert main([*arguments, "--participant-label", "colin27", "--mem-mb", "300"]) == 65
    said = capsys.readouterr().err
    assert re.search(r"sub-colin27_T1w.nii.gz would take about 3\d\d MB, 300 MB are allowed", said)
    assert "--mem-mb" in said
    assert not list(tmp_path.rglob("*_dseg.nii.gz"))
