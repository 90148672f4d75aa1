"""Images that are no scans, each with what is to be said of it, and odd ones that are."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from bids_trees import phantom, write_scan

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SCL_SLOPE, QFORM_CODE = 40, 70, 76, 108, 112, 252


def patched(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrite a header field of an uncompressed NIfTI file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def oblique(angle: float) -> np.ndarray:
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


def no_file(folder: Path) -> Path:
    return folder / "gone.nii.gz"


def broken_link(folder: Path) -> Path:
    (folder / "scan.nii.gz").symlink_to("../.git/annex/objects/xx")
    return folder / "scan.nii.gz"


def folder_named_as_image(folder: Path) -> Path:
    (folder / "scan.nii.gz").mkdir()
    return folder / "scan.nii.gz"


def empty(folder: Path) -> Path:
    (folder / "scan.nii.gz").touch()
    return folder / "scan.nii.gz"


def text(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_text("version https://git-lfs.github.com/spec/v1")
    return folder / "scan.nii.gz"


def uncompressed_under_gz(folder: Path) -> Path:
    write_scan(folder / "scan.nii").rename(folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def dicom(folder: Path) -> Path:
    (folder / "scan.nii").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 1000)
    return folder / "scan.nii"


def truncated(folder: Path, share: float = 0.6) -> Path:
    path = write_scan(folder / "scan.nii.gz")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def truncated_header(folder: Path) -> Path:
    path = write_scan(folder / "scan.nii")
    path.write_bytes(path.read_bytes()[:200])
    return path


def truncated_plain(folder: Path) -> Path:
    path = write_scan(folder / "scan.nii")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def flipped_bytes(folder: Path) -> Path:
    path = write_scan(folder / "scan.nii.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = b"\xff" * 50
    path.write_bytes(content)
    return path


def constant(folder: Path) -> Path:
    return write_scan(folder / "scan.nii.gz", np.full((12, 14, 16), 7, dtype=np.int16))


def mostly_nan(folder: Path) -> Path:
    data = phantom().astype(np.float32)
    data.flat[5:] = np.nan
    return write_scan(folder / "scan.nii.gz", data)


def all_nan(folder: Path) -> Path:
    return write_scan(folder / "scan.nii.gz", np.full((12, 14, 16), np.nan, dtype=np.float32))


def two_dimensional(folder: Path) -> Path:
    return write_scan(folder / "scan.nii.gz", phantom()[:, :, 0].astype(np.float32))


def one_slice(folder: Path) -> Path:
    return write_scan(folder / "scan.nii.gz", phantom()[:, :, :1].astype(np.float32))


def several_volumes(folder: Path) -> Path:
    return write_scan(folder / "scan.nii.gz", phantom((12, 14, 16, 3)).astype(np.float32))


def complex_values(folder: Path) -> Path:
    return write_scan(folder / "scan.nii.gz", phantom().astype(np.complex64))


def rgb(folder: Path) -> Path:
    colours = np.zeros((12, 14, 16), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return write_scan(folder / "scan.nii.gz", colours)


def voxels_of(size: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        return write_scan(folder / "scan.nii.gz", affine=np.diag([size, 1, 1, 1]))

    return write


def nan_affine(folder: Path) -> Path:
    affine = np.eye(4)
    path = write_scan(folder / "scan.nii", affine=affine)
    return patched(path, 280, "ffff", np.nan, 0, 0, 0)


def singular_affine(folder: Path) -> Path:
    path = write_scan(folder / "scan.nii")
    return patched(path, 280, "ffffffffffff", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)


def claims(*shape: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        return patched(write_scan(folder / "scan.nii"), DIM, "hhhh", 3, *shape)

    return write


def compressed_claims(*shape: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = claims(*shape)(folder)
        (folder / "scan.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        return folder / "scan.nii.gz"

    return write


def unknown_datatype(folder: Path) -> Path:
    return patched(write_scan(folder / "scan.nii"), DATATYPE, "h", 999)


def wild_offset(folder: Path) -> Path:
    return patched(write_scan(folder / "scan.nii"), VOX_OFFSET, "f", 1e30)


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (no_file, "does not exist"),
    (broken_link, "broken link"),
    (folder_named_as_image, "is a folder"),
    (empty, "is empty"),
    (text, "not a readable NIfTI|Git LFS"),
    (uncompressed_under_gz, "not a readable NIfTI"),
    (dicom, "not a readable NIfTI"),
    (truncated, "damaged or truncated"),
    (truncated_header, "not a readable NIfTI"),
    (truncated_plain, "truncated"),
    (flipped_bytes, "damaged or truncated"),
    (constant, "constant: every voxel is 7"),
    (mostly_nan, "100% NaN"),
    (all_nan, "100% NaN"),
    (two_dimensional, r"shape 12 x 14, expected three axes"),
    (one_slice, "too thin"),
    (several_volumes, r"shape 12 x 14 x 16 x 3, expected three axes and one volume"),
    (complex_values, "complex values"),
    (rgb, "RGB values"),
    (nan_affine, "voxels of"),
    (singular_affine, "coincide"),
    (voxels_of(1e-4), r"voxels of 0.0001 x 1 x 1 mm"),
    (voxels_of(300), r"voxels of 300 x 1 x 1 mm"),
    (claims(2048, 2048, 2048), "at most"),
    (compressed_claims(2048, 2048, 2048), "at most"),
    (compressed_claims(1200, 1200, 1200), "truncated"),
    (claims(-12, 14, 16), "NIfTI|thin|shape"),
    (claims(0, 14, 16), "thin|shape"),
    (unknown_datatype, "not a readable NIfTI"),
    (wild_offset, "not a readable NIfTI|truncated"),
]


def sound_images(data: np.ndarray, affine: np.ndarray) -> dict[str, nib.Nifti1Image]:
    """Scans as they are found in the wild, of small non-negative numbers: each has to be taken."""
    images = {}
    for code in ("i1", "u1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", ">f4", "<f8", ">f8"):
        header = nib.Nifti1Header(endianness=code[0] if code[0] in "<>" else "<")
        name = np.dtype(code).name + ("big" if code[0] == ">" else "")
        images[name] = nib.Nifti1Image(data.astype(code), affine, header, dtype=np.dtype(code))
    real = data.astype(np.float32)
    images["onevolume"] = nib.Nifti1Image(real[..., None], affine)
    images["fiveaxes"] = nib.Nifti1Image(real[..., None, None], affine)
    images["nifti2"] = nib.Nifti2Image(real, affine)
    images["scaled"] = nib.Nifti1Image(real * 0.013 - 7, affine, dtype=np.int16)
    images["somenan"] = nib.Nifti1Image(np.where(data % 50 == 7, np.nan, real), affine)
    images["someinf"] = nib.Nifti1Image(np.where(data % 50 == 7, np.inf, real), affine)
    images["oblique"] = nib.Nifti1Image(real, affine @ oblique(0.3))
    leftward = affine @ np.diag([-1.0, 1, 1, 1])
    leftward[:3, 3] += (len(real) - 1) * affine[:3, 0]
    images["leftward"] = nib.Nifti1Image(real[::-1], leftward)
    for name, sform, qform in (("sformonly", 2, 0), ("qformonly", 0, 1)):
        images[name] = nib.Nifti1Image(real, affine)
        images[name].set_sform(affine, sform)
        images[name].set_qform(affine, qform)
    images["noform"] = nib.Nifti1Image(real, None)
    images["noform"].header.set_zooms(nib.affines.voxel_sizes(affine))
    image = nib.Nifti1Image(real, affine)
    image.set_qform(affine @ np.diag([-1.0, 1, 1, 1]), 1)
    image.set_sform(affine, 2)
    images["contradicting"] = image
    return images
