"""Files that are no images, or traps: told by name, without waiting and without memory."""

import errno
import gzip
import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_trees import phantom, write_scan
from odd_images import VOX_OFFSET, patched
from peak_memory import PEAK_MB

from bids_hsf.errors import StorageError, UnreadableImageError
from bids_hsf.images import load_scan, open_scan, take_scan

EXTENSIONS = 348  # byte of the header from which on they are


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def device(folder: Path) -> Path:
    (folder / "scan.nii.gz").symlink_to("/dev/zero")
    return folder / "scan.nii.gz"


def listening(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path is short
        try:
            end.bind("scan.nii.gz")
        finally:
            os.chdir(here)
    return folder / "scan.nii.gz"


def looping(folder: Path) -> Path:
    (folder / "scan.nii.gz").symlink_to("scan.nii.gz")
    return folder / "scan.nii.gz"


def below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "scan.nii.gz"


def with_offset(offset: float, packed: bool = False) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = patched(write_scan(folder / "scan.nii"), VOX_OFFSET, "f", offset)
        if packed:
            (folder / "scan.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        return folder / ("scan.nii.gz" if packed else "scan.nii")

    return write


def with_extension(length: int) -> Callable[[Path], Path]:
    """An extension that says to be so long, in a header of 32 bytes more."""

    def write(folder: Path) -> Path:
        content = bytearray(write_scan(folder / "scan.nii").read_bytes())
        struct.pack_into("<f", content, VOX_OFFSET, 384.0)
        content[EXTENSIONS:352] = struct.pack("<4B", 1, 0, 0, 0) + struct.pack("<2i24x", length, 6)
        (folder / "scan.nii").write_bytes(content)
        return folder / "scan.nii"

    return write


TRAPS: list[tuple[Callable[[Path], Path], str]] = [
    (pipe, "is a named pipe"),
    (device, "is a device"),
    (listening, "is a socket"),
    (looping, "is a link that leads to itself"),
    (below_a_file, "a part of its path is a file"),
    (with_offset(0), "voxels begin at byte 0"),
    (with_offset(0, packed=True), "voxels begin at byte 0"),
    (with_offset(348), "voxels begin at byte 348"),
    (with_offset(-1e9), "within its own header"),
    (with_offset(float("nan")), "voxels begin at byte nan"),
    (with_offset(3e9, packed=True), "its header would be 3,000,000,000 bytes long"),
    (with_extension(0), "header extension of 0 bytes where 32 are left"),
    (with_extension(-16), "header extension of -16 bytes"),
    (with_extension(2_000_000_000), "header extension of 2,000,000,000 bytes where 32 are left"),
]


@pytest.mark.parametrize(("make", "message"), TRAPS)
def test_a_trap_is_told_by_name_from_its_beginning(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    for look in (open_scan, load_scan):
        with pytest.raises(UnreadableImageError, match=message) as caught:
            look(path)
        assert str(path) in caught.value.message


def test_sound_extensions_are_passed_over(tmp_path: Path) -> None:
    path = with_extension(32)(tmp_path)
    np.testing.assert_array_equal(load_scan(path).image.header.extensions[0].get_content(), b"\0" * 24)
    image = nib.Nifti2Image(phantom().astype(np.float32), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"of another program"))
    nib.save(image, tmp_path / "two.nii.gz")
    assert load_scan(tmp_path / "two.nii.gz").data.shape == (12, 14, 16)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_failing_mount_is_not_the_fault_of_the_image(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scan(tmp_path / "scan.nii.gz")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    for name in ("stat", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, fail)
            with pytest.raises(StorageError, match=f"Cannot read .*{os.strerror(code)}"):
                open_scan(path)


def refused_within(path: Path, megabytes: int) -> str:
    """Load a scan in a process of little memory; returns why it was refused."""
    code = (
        "import sys; from pathlib import Path; from bids_hsf.images import load_scan\n"
        "from bids_hsf.errors import UnreadableImageError\n"
        "try: load_scan(Path(sys.argv[1]))\n"
        "except UnreadableImageError as error: print(error.message)\n"
        f"print({PEAK_MB})"
    )
    limit = (megabytes + 500) << 20  # of addresses: libraries take some hundreds that they never touch

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], preexec_fn=limit_memory, check=True, capture_output=True, text=True
    )
    message, peak = done.stdout.splitlines()
    assert int(peak) < megabytes
    return message


def sparse(folder: Path, side: int, first: bytes = b"") -> Path:
    """A file of zeros that takes no place on the disk, int16."""
    path = folder / "scan.nii"
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((side, side, side))
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with path.open("wb") as stream:
        stream.write(header.binaryblock + bytes(4) + first)
        stream.truncate(352 + 2 * side**3)
    return path


def test_what_is_large_and_constant_takes_no_memory(tmp_path: Path) -> None:
    assert "is constant: every voxel is 0" in refused_within(sparse(tmp_path, 800), 300)


def test_what_is_large_and_truncated_takes_no_memory(tmp_path: Path) -> None:
    """In gzip, whose length does not tell."""
    path = sparse(tmp_path, 640, first=b"\1")
    with path.open("rb") as stream:
        content = stream.read(400 << 20)
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(content, 1))
    del content
    assert "is truncated: 209,715,024 of 262,144,000 voxels" in refused_within(tmp_path / "scan.nii.gz", 300)


def test_an_image_in_memory_of_such_a_file_is_refused_too(tmp_path: Path) -> None:
    image = nib.load(with_offset(0)(tmp_path), mmap=False)
    with pytest.raises(UnreadableImageError, match="voxels begin at byte 0"):
        take_scan(image)
