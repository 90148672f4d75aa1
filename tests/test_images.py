import errno
import gzip
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_trees import phantom, write_scan
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from odd_images import (
    BAD,
    DATATYPE,
    PIXDIM,
    QFORM_CODE,
    SCL_SLOPE,
    compressed_claims,
    oblique,
    patched,
    several_volumes,
)

from bids_hsf import images
from bids_hsf.errors import StorageError, UnreadableImageError
from bids_hsf.images import MAX_VOXELS, load_scan, open_scan


def test_loads_in_canonical_order_whatever_the_storage_order(tmp_path: Path) -> None:
    data = phantom().astype(np.float32)
    plain = load_scan(write_scan(tmp_path / "ras.nii.gz", data, np.diag([1.0, 2, 3, 1])))
    image = nib.load(tmp_path / "ras.nii.gz")
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(("P", "S", "L"))
        )
    )
    nib.save(turned, tmp_path / "psl.nii.gz")
    other = load_scan(tmp_path / "psl.nii.gz")
    np.testing.assert_array_equal(plain.data, other.data)
    np.testing.assert_allclose(plain.grid.affine, other.grid.affine)
    assert other.image.shape == (14, 16, 12)
    assert other.data.flags.c_contiguous
    assert other.data.dtype == np.float32


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", "<u8", "<f4", ">f4", "<f8", ">f8"]
)
def test_every_real_type_in_either_byte_order(tmp_path: Path, dtype: str) -> None:
    data = np.round(phantom() / 10).astype(dtype)
    path = tmp_path / "scan.nii"
    header = nib.Nifti1Header(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(np.dtype(dtype))
    nib.save(nib.Nifti1Image(data, np.eye(4), header, dtype=np.dtype(dtype)), path)
    np.testing.assert_array_equal(load_scan(path).data, data.astype(np.float32))


def test_loading_holds_the_stored_voxels_and_one_copy(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 900, (160, 160, 160)).astype(np.int16)
    image = nib.Nifti1Image(stored[::-1, ::-1], np.diag([-1.0, -1, 1, 1]))
    nib.save(image, tmp_path / "scan.nii")
    load_scan(tmp_path / "scan.nii")  # so that what is made once does not count
    tracemalloc.start()
    try:
        loaded = load_scan(tmp_path / "scan.nii")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(loaded.data, stored)
    # Two bytes a voxel as stored, four as float32; beside these what samples and masks take.
    assert peak < 2 * loaded.data.nbytes


def test_scaling_is_applied(tmp_path: Path) -> None:
    stored = np.round(phantom()).astype(np.int16)
    path = patched(write_scan(tmp_path / "scan.nii", stored), SCL_SLOPE, "ff", 0.5, -10)
    np.testing.assert_allclose(load_scan(path).data, stored * 0.5 - 10)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_meaningless_scaling_is_passed_over(tmp_path: Path, slope: float) -> None:
    stored = np.round(phantom()).astype(np.int16)
    path = patched(write_scan(tmp_path / "scan.nii", stored), SCL_SLOPE, "ff", slope, 0)
    np.testing.assert_allclose(load_scan(path).data, stored)


def test_nifti2_and_pairs(tmp_path: Path) -> None:
    data = phantom().astype(np.float32)
    nib.save(nib.Nifti2Image(data, np.eye(4)), tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(load_scan(tmp_path / "two.nii.gz").data, data)


def test_one_volume_of_four_dimensions_is_a_scan(tmp_path: Path) -> None:
    data = phantom((12, 14, 16, 1)).astype(np.float32)
    np.testing.assert_array_equal(load_scan(write_scan(tmp_path / "scan.nii.gz", data)).data, data[..., 0])


def test_a_few_bad_voxels_become_the_minimum(tmp_path: Path) -> None:
    data = phantom().astype(np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    scan = load_scan(write_scan(tmp_path / "scan.nii.gz", data))
    loaded = scan.data
    assert np.isfinite(loaded).all()
    assert loaded[0, 0, 0] == loaded[0, 0, 1] == loaded.min() == data[np.isfinite(data)].min()
    (finding,) = scan.findings
    assert (finding.code, finding.weight) == ("voxels-not-finite", "note")
    assert "NaN or infinite" in finding.text


def test_values_beyond_float32_are_bad_voxels_not_a_crash(tmp_path: Path) -> None:
    data = phantom()
    data[3, 3, 3] = 1e300
    assert np.isfinite(load_scan(write_scan(tmp_path / "scan.nii.gz", data)).data).all()


@pytest.mark.parametrize("angle", [0.1, 0.5, np.pi / 4, 1.4])
def test_oblique_scans_are_taken_as_they_are(tmp_path: Path, angle: float) -> None:
    scan = load_scan(write_scan(tmp_path / "scan.nii.gz", affine=oblique(angle)))
    np.testing.assert_allclose(scan.grid.voxel_sizes, 1, rtol=1e-5)
    centre = (np.array(scan.image.shape) - 1) / 2
    canonical_centre = (np.array(scan.grid.shape) - 1) / 2
    np.testing.assert_allclose(
        nib.affines.apply_affine(scan.image.affine, centre), scan.grid.to_mm(canonical_centre[None])[0], atol=1e-4
    )


@pytest.mark.parametrize("size", [0.1, 0.25, 0.5, 0.7, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("axes", [1, 3])
def test_voxel_sizes_of_real_scans(tmp_path: Path, size: float, axes: int) -> None:
    sizes = [size] * axes + [1.0] * (3 - axes)
    scan = load_scan(write_scan(tmp_path / "scan.nii.gz", affine=np.diag([*sizes, 1.0])))
    np.testing.assert_allclose(scan.grid.voxel_sizes, sizes, rtol=1e-5)


def test_negative_voxel_sizes_are_taken_as_positive(tmp_path: Path) -> None:
    path = patched(write_scan(tmp_path / "scan.nii"), PIXDIM + 4, "f", -1.0)
    np.testing.assert_allclose(load_scan(path).grid.voxel_sizes, 1)


def test_bytes_behind_the_compressed_data_do_not_matter(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.nii.gz")
    expected = load_scan(path).data
    for tail in (bytes(512), b"appended by some tool"):
        longer = tmp_path / "longer.nii.gz"
        longer.write_bytes(path.read_bytes() + tail)
        np.testing.assert_array_equal(load_scan(longer).data, expected)


def test_no_orientation_in_the_header_is_read_as_nibabel_does(tmp_path: Path) -> None:
    image = nib.Nifti1Image(phantom().astype(np.float32), None)
    image.header.set_zooms((1, 1, 1))
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = load_scan(tmp_path / "scan.nii.gz")
    assert not scan.orientation_known
    assert [finding.code for finding in scan.findings] == ["orientation-unknown"]
    np.testing.assert_allclose(scan.grid.voxel_sizes, 1)


def test_contradicting_transforms_are_said(tmp_path: Path) -> None:
    image = nib.Nifti1Image(phantom().astype(np.float32), np.eye(4))
    image.set_sform(np.diag([1.0, 1, 1, 1]), 1)
    image.set_qform(np.diag([-1.0, 1, 1, 1]), 1)
    nib.save(image, tmp_path / "scan.nii.gz")
    scan = load_scan(tmp_path / "scan.nii.gz")
    (finding,) = scan.findings
    assert (finding.code, finding.weight, finding.figure) == ("sform-and-qform", "check", 2 * scan.data.shape[0])
    assert "sform and qform disagree" in finding.text
    np.testing.assert_allclose(scan.grid.affine, np.eye(4), atol=1e-6)


@pytest.mark.parametrize(("make", "message"), BAD)
def test_what_is_no_scan_is_said_in_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(UnreadableImageError, match=message) as caught:
        load_scan(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_header_alone_tells_most(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="three axes"):
        open_scan(several_volumes(tmp_path))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    side = round((MAX_VOXELS * 1.5) ** (1 / 3))
    path = compressed_claims(side, side, side)(tmp_path)
    code = (
        "import sys; from pathlib import Path; from bids_hsf.images import load_scan\n"
        "from bids_hsf.errors import UnreadableImageError\n"
        "try: load_scan(Path(sys.argv[1]))\nexcept UnreadableImageError: sys.exit(7)"
    )
    limit = 2 << 30

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run([sys.executable, "-c", code, str(path)], preexec_fn=limit_memory, check=False)
    assert done.returncode == 7


def test_unreadable_permissions(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.nii.gz")
    path.chmod(0)
    code = (
        "import os; from pathlib import Path; from bids_hsf.images import load_scan\n"
        "from bids_hsf.errors import UnreadableImageError\n"
        # Root is hindered by no permission: another user has to try, in a folder that was opened before.
        "if os.getuid() == 0: os.setuid(12345)\n"
        "try: load_scan(Path('scan.nii.gz'))\nexcept UnreadableImageError as error: raise SystemExit(error.message)"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "may not be read" in done.stderr, done.stderr


def test_failing_disk_is_not_the_fault_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_scan(tmp_path / "scan.nii.gz")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(images, "drain", fail)
        with pytest.raises(StorageError, match=r"Cannot read .*scan.nii.gz: Input/output error"):
            load_scan(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(StorageError, match="Cannot read"):
            load_scan(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patches=st.lists(st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=16)), min_size=1, max_size=4),
    compressed=st.booleans(),
    cut=st.floats(0, 1) | st.just(1.0),
)
@example(patches=[(112, b"\x00\x00\x00z")], compressed=False, cut=1.0)  # slopes that bring voxels near float32's end
@example(patches=[(112, b"\x00\x00\x00{")], compressed=False, cut=1.0)
def test_damaged_files_never_end_in_another_error(
    tmp_path: Path, patches: list[tuple[int, bytes]], compressed: bool, cut: float
) -> None:
    source = tmp_path / "source.nii"
    if not source.exists():
        write_scan(source)
    content = bytearray(source.read_bytes())
    for offset, patch in patches:
        content[offset : offset + len(patch)] = patch
    path = tmp_path / ("fuzz.nii.gz" if compressed else "fuzz.nii")
    stored = gzip.compress(bytes(content), 1) if compressed else bytes(content)
    path.write_bytes(stored[: int(len(stored) * cut)])
    try:
        scan = load_scan(path)
    except UnreadableImageError:
        return
    assert np.isfinite(scan.data).all()
    assert np.isfinite(scan.grid.affine).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=600), name=st.sampled_from(["a.nii", "a.nii.gz"]))
def test_noise_is_no_image(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError):
        load_scan(path)


def test_holes_within_tissue_become_what_is_around_them_and_a_background_stays_dark(tmp_path: Path) -> None:
    """A tenth of all voxels NaN, and all of a half: what stands between sound voxels is no black dot to a network."""
    data = np.add.outer(np.arange(24), np.add.outer(np.arange(24), np.arange(24))).astype(np.float32)
    sound = data.copy()
    data[np.random.default_rng(0).random(data.shape) < 0.1] = np.nan
    data[:, :, :12] = np.nan
    loaded = load_scan(write_scan(tmp_path / "scan.nii.gz", data)).data
    least = data[np.isfinite(data)].min()
    assert (loaded[:, :, :12] == least).all()
    holes = np.isnan(data[1:-1, 1:-1, 13:-1])
    inner, before = loaded[1:-1, 1:-1, 13:-1][holes], sound[1:-1, 1:-1, 13:-1][holes]
    assert holes.sum() > 300
    assert np.abs(inner - before).max() < 3
    kept = np.isfinite(data)
    np.testing.assert_array_equal(loaded[kept], data[kept])


def codes(path: Path) -> list[str]:
    return [finding.code for finding in load_scan(path).findings]


def test_intensities_that_were_cut_off_are_said(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(100, 20, (16, 16, 16)).astype(np.float32)
    assert codes(write_scan(tmp_path / "sound.nii.gz", data)) == []
    assert codes(write_scan(tmp_path / "clipped.nii.gz", np.minimum(data, 105))) == ["intensities-clipped"]
    assert codes(write_scan(tmp_path / "mask.nii.gz", (data > 110).astype(np.uint8))) == ["intensities-clipped"]


def test_voxel_sizes_that_contradict_the_sform_are_said(tmp_path: Path) -> None:
    path = patched(write_scan(tmp_path / "scan.nii"), QFORM_CODE, "h", 0)
    assert codes(path) == []
    path = patched(path, PIXDIM + 4, "3f", 2.0, 2.0, 2.0)
    (finding,) = load_scan(path).findings
    assert (finding.code, finding.weight, finding.figure) == ("voxel-sizes", "check", 1.0)
    assert "2 x 2 x 2 mm, the sform 1 x 1 x 1 mm" in finding.text


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_file_that_holds_more_than_its_header_says_is_told(tmp_path: Path, ending: str) -> None:
    """Of a shape or a type that somebody has edited, or of a second volume that the header does not know."""
    data = np.round(phantom()).astype(np.int16)
    plain = write_scan(tmp_path / "plain.nii", data)
    as_bytes = patched(write_scan(tmp_path / "bytes.nii", data), DATATYPE, "h", 2)
    for content, n_behind in ((plain.read_bytes() + b"more", 4), (as_bytes.read_bytes(), data.size)):
        path = tmp_path / f"scan{ending}"
        path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
        (finding,) = load_scan(path).findings
        assert (finding.code, finding.weight, finding.figure) == ("file-longer", "check", n_behind)
