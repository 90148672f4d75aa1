"""Other software's label maps, where its folders have them, and a slab located through its session's T1w."""

import csv
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from example_data import BIDS_DIR
from segmented_example import MODEL

from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.label_maps import LabelMap, check_folders, find_label_map, read_drawn_on, read_hippocampi
from bids_hsf.cli.app import main
from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.errors import NoInputError, UnreadableImageError, UsageError
from bids_hsf.geometry import Grid, resample
from bids_hsf.images import load_scan

# Colin27's and the template's hippocampi lie in such boxes, mm.
BOXES = {17: ((-33, -40, -24), (-17, -6, -4)), 53: ((17, -40, -24), (33, -6, -4))}


def scan(name: str, folder: str = "anat") -> Scan:
    *pairs, suffix = name.split("_")
    entities = tuple((pair.split("-")[0], pair.split("-")[1]) for pair in pairs)
    return Scan(Path("/bids") / folder / f"{name}.nii.gz", f"{folder}/{name}.nii.gz", suffix, entities)


def write_aseg(path: Path, *labels: int) -> None:
    """Write a label map like FreeSurfer's: 1 mm, stored as LIA."""
    affine = np.array([[-1.0, 0, 0, 100], [0, 0, 1, -130], [0, -1, 0, 100], [0, 0, 0, 1]])
    values = np.zeros((200, 200, 230), dtype=np.uint8)
    for label in labels or BOXES:
        corners = nib.affines.apply_affine(np.linalg.inv(affine), BOXES[label]).round().astype(int)
        values[tuple(slice(a, b) for a, b in zip(corners.min(axis=0), corners.max(axis=0), strict=True))] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.MGHImage if path.suffix == ".mgz" else nib.Nifti1Image
    nib.save(kind(values, affine), path)


@pytest.mark.parametrize(
    ("name", "relative_path"),
    [
        ("sub-01_T1w", "sub-01/mri/aseg.mgz"),
        ("sub-01_ses-2_T1w", "sub-01_ses-2/mri/aseg.mgz"),
        ("sub-01_ses-2_T1w", "sub-01/ses-2/mri/aseg.auto_noCCseg.mgz"),
        ("sub-01_ses-2_T1w", "sub-01/mri/aparc.DKTatlas+aseg.deep.mgz"),
        ("sub-01_run-1_T1w", "sub-01/anat/sub-01_run-1_desc-aseg_dseg.nii.gz"),
        ("sub-01_ses-2_T2w", "sub-01/ses-2/anat/sub-01_ses-2_T2w_synthseg.nii.gz"),
        ("sub-01_T2w", "sub-01_T2w_synthseg.mgz"),
    ],
)
def test_maps_are_found_where_other_software_puts_them(tmp_path: Path, name: str, relative_path: str) -> None:
    (tmp_path / "other").mkdir()
    folders = {"other": str(tmp_path / "other"), "made": str(tmp_path)}
    assert find_label_map(folders, scan(name)) is None
    path = tmp_path / relative_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert find_label_map(folders, scan(name)) == LabelMap("made", path, relative_path)


def test_a_t1w_map_is_not_taken_for_that_of_a_t2w(tmp_path: Path) -> None:
    for name in ("sub-01/mri/aseg.mgz", "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz", "sub-01_T1w_synthseg.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_label_map({"made": str(tmp_path)}, scan("sub-01_T2w")) is None


def test_both_hippocampi_are_read_in_millimetres(tmp_path: Path) -> None:
    write_aseg(tmp_path / "aseg.mgz")
    points = read_hippocampi(LabelMap("fs", tmp_path / "aseg.mgz", "aseg.mgz"))
    for side, label in (("L", 17), ("R", 53)):
        np.testing.assert_allclose(points[side].mean(axis=0), np.mean(BOXES[label], axis=0), atol=1)
        assert len(points[side]) == 16 * 34 * 20


def test_what_is_no_label_map_is_told_by_name(tmp_path: Path) -> None:
    write_aseg(tmp_path / "left.nii.gz", 17)
    (tmp_path / "broken.mgz").write_bytes(b"nothing")
    with pytest.raises(UnreadableImageError, match=r"left\.nii\.gz has 0 voxels of the right hippocampus, label 53"):
        read_hippocampi(LabelMap("fs", tmp_path / "left.nii.gz", "left.nii.gz"))
    with pytest.raises(UnreadableImageError, match=r"broken\.mgz is not a readable label map"):
        read_hippocampi(LabelMap("fs", tmp_path / "broken.mgz", "broken.mgz"))
    with pytest.raises(NoInputError, match="--derivatives fs: there is no folder /nowhere"):
        check_folders({"fs": "/nowhere"})


def test_the_image_that_a_map_was_drawn_on_is_found_beside_it(tmp_path: Path) -> None:
    """FreeSurfer's one folder for all sessions, and fMRIPrep's one head for all."""
    for name, image in (
        ("sub-01/mri/aseg.mgz", "sub-01/mri/orig.mgz"),
        ("sub-02/anat/sub-02_desc-aseg_dseg.nii.gz", "sub-02/anat/sub-02_desc-preproc_T1w.nii.gz"),
    ):
        for path in (tmp_path / name, tmp_path / image):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = find_label_map({"made": str(tmp_path)}, scan(f"{name[:6]}_ses-2_T1w"))
        assert found == LabelMap("made", tmp_path / name, name, tmp_path / image)
        (tmp_path / image).unlink()
        found = find_label_map({"made": str(tmp_path)}, scan(f"{name[:6]}_ses-2_T1w"))
        assert found == LabelMap("made", tmp_path / name, name)


def test_the_folder_of_a_session_wins(tmp_path: Path) -> None:
    for name in ("sub-01/mri/aseg.mgz", "sub-01_ses-2/mri/aseg.auto_noCCseg.mgz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    paths = [find_label_map({"fs": str(tmp_path)}, scan(f"sub-01_ses-{session}_T1w")) for session in "12"]
    assert [path and path.relative_path for path in paths] == [
        "sub-01/mri/aseg.mgz",
        "sub-01_ses-2/mri/aseg.auto_noCCseg.mgz",
    ]


def test_an_image_beside_a_map_is_read_in_freesurfers_format(tmp_path: Path) -> None:
    whole = load_scan(BIDS_DIR / "sub-icbm152/anat/sub-icbm152_T1w.nii.gz")
    nib.save(nib.MGHImage(whole.data[::4, ::4, ::4], np.diag([-4.0, 4, 4, 1])), tmp_path / "orig.mgz")
    image = read_drawn_on(tmp_path / "orig.mgz")
    np.testing.assert_array_equal(image.data, whole.data[::4, ::4, ::4][::-1])
    (tmp_path / "orig.mgz").write_bytes(b"nothing")
    with pytest.raises(UnreadableImageError, match=r"orig\.mgz is not a readable image"):
        read_drawn_on(tmp_path / "orig.mgz")


@pytest.mark.parametrize("name", ["aseg.mgz", "aseg.nii.gz"])
def test_a_map_that_inflates_to_gigabytes_is_refused_by_its_header(tmp_path: Path, name: str) -> None:
    shape = (1900, 1900, 1900)
    if name.endswith(".mgz"):
        header = np.array([1, *shape, 1, 0, 0], dtype=">i4").tobytes() + bytes(256)
    else:
        image = nib.Nifti1Header()
        image.set_data_shape(shape)
        image.set_data_dtype(np.uint8)
        image.set_sform(np.eye(4), 1)
        image["vox_offset"], image["magic"] = 352, b"n+1"
        header = image.binaryblock + bytes(4)
    (tmp_path / name).write_bytes(gzip.compress(header + bytes(7_000_000)))
    with pytest.raises(UnreadableImageError, match=r"claims 6,859,000,000 bytes of voxels, expected at most"):
        read_hippocampi(LabelMap("fs", tmp_path / name, name))


def test_half_a_head_is_no_hippocampus(tmp_path: Path) -> None:
    values = np.full((60, 60, 60), 17, dtype=np.uint8)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "aseg.nii.gz")
    with pytest.raises(UnreadableImageError, match=r"has 216,000 mm3 of the left hippocampus, label 17, expected 20,0"):
        read_hippocampi(LabelMap("fs", tmp_path / "aseg.nii.gz", "aseg.nii.gz"))


def test_scaled_labels_are_read_as_they_are_meant(tmp_path: Path) -> None:
    write_aseg(tmp_path / "aseg.nii.gz")
    image = nib.load(tmp_path / "aseg.nii.gz")
    stored = nib.Nifti1Image(np.asarray(image.dataobj) // 1, image.affine)
    stored.header.set_slope_inter(0.5, -3)
    stored = nib.Nifti1Image(((np.asarray(image.dataobj) + 3) * 2).astype(np.uint8), image.affine, stored.header)
    stored.header.set_slope_inter(0.5, -3)
    content = bytearray(stored.to_bytes())
    content[112:120] = np.array([0.5, -3], dtype="<f4").tobytes()
    (tmp_path / "scaled.nii").write_bytes(content)
    expected = read_hippocampi(LabelMap("fs", tmp_path / "aseg.nii.gz", ""))
    for side, points in read_hippocampi(LabelMap("fs", tmp_path / "scaled.nii", "")).items():
        np.testing.assert_array_equal(points, expected[side])


def test_folders_are_named_on_the_command_line(tmp_path: Path) -> None:
    flags = ["--derivatives", "fs=/a", "syn=/b=c", "-d", "fs=/d"]
    config = config_of(parse(["/bids", "/out", "participant", *flags]), [])
    assert config.method.derivatives == {"fs": "/d", "syn": "/b=c"}
    with pytest.raises(UsageError, match="expected NAME=PATH"):
        parse(["/bids", "/out", "participant", "--derivatives", "/a"])


@pytest.fixture(scope="module")
def located(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output for a T2w slab of 40 mm, and FreeSurfer's label map of its T1w, which is not asked for."""
    root = tmp_path_factory.mktemp("guided")
    source, folder = BIDS_DIR / "sub-icbm152" / "anat", root / "bids" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (folder / "sub-01_T1w.nii.gz").write_bytes((source / "sub-icbm152_T1w.nii.gz").read_bytes())
    whole = load_scan(source / "sub-icbm152_T2w.nii.gz")
    affine = np.diag([0.8, 2.0, 0.8, 1.0])
    # 4 mm from where the T1w has the head, and behind the front of the hippocampi.
    affine[:3, 3] = (-72, -57, -66)
    slab = Grid((180, 20, 180), affine)
    shifted = affine.copy()
    shifted[2, 3] += 4
    values = resample(whole.data, whole.grid, Grid(slab.shape, shifted))
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), folder / "sub-01_T2w.nii.gz")
    (root / "bids" / "dataset_description.json").write_text('{"Name": "Slab", "BIDSVersion": "1.10.0"}')
    write_aseg(root / "fs" / "sub-01" / "mri" / "aseg.mgz")
    flags = ["-m", "T2w", "--derivatives", f"freesurfer={root / 'fs'}", "--model", MODEL, "--skip-bids-validation"]
    assert main([str(root / "bids"), str(root / "out"), "participant", "group", *flags]) == 0
    return root / "out"


def test_a_slab_is_located_through_the_t1w_and_its_label_map(located: Path) -> None:
    sidecar = json.loads((located / "sub-01/anat/sub-01_space-T2w_seg-longaxisSingleFast_dseg.json").read_text())
    found = sidecar["Localization"]
    assert found["Through"] == "sub-01_T1w"
    assert found["LabelMap"] == "freesurfer:sub-01/mri/aseg.mgz"
    assert found["CoregistrationQuality"] > 0.3
    assert found["Quality"] > found["DoubtfulBelow"]
    assert sidecar["Request"]["Derivatives"] == ["freesurfer"]
    matrix = np.array(found["ScanFromTemplate"])
    np.testing.assert_allclose(matrix[:3, :3], np.eye(3), atol=0.03)
    np.testing.assert_allclose(nib.affines.apply_affine(matrix, [0, -20, -15]), [0, -20, -19], atol=1.5)
    # The boxes of the label map end at -6 mm, the slab at -18 mm.
    for side in ("L", "R"):
        assert found["Coverage"][side] == pytest.approx(22 / 34, abs=0.06)
    assert [finding["Code"] for finding in sidecar["Findings"]].count("coverage") == 2


def test_the_group_table_tells_quality_coverage_and_relative_volumes(located: Path) -> None:
    with (located / "group_volumes.tsv").open() as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert float(row["localization_quality"]) > 0.45
    assert 0.5 < float(row["L_coverage"]) < 0.75
    ratio = 1000 * float(row["L_anterior_mm3"]) / float(row["eTIV_mm3"])
    assert float(row["L_anterior_per_mille_eTIV"]) == pytest.approx(ratio, abs=1e-4)
