"""What an image file must be before anything opens it: a file at all, with a beginning that is no trap.

Whoever reads a header believes what it says: where the voxels begin, how long the extensions are. A few bytes can
claim gigabytes there, and a pipe lets its reader wait for ever. Here nothing is believed, and little is read.
"""

import errno
import gzip
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from bids_hsf.errors import BidsHsfError, ImageStorageError, UnreadableImageError

MAX_DEFLATE_RATIO = 1032  # of any gzip file, from the format itself
MAX_HEADER_BYTES = 64 << 20  # with all extensions; those in use have some megabytes at the most
EXTENSION_FLAG_BYTES = 4
MIN_EXTENSION_BYTES = 16
CHUNK_BYTES = 16 << 20
SINGLE_FILES = (".nii", ".nii.gz")

MGH_TYPE_BYTES = {0: 1, 1: 4, 3: 4, 4: 2}

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# What is wrong with a path, not with the disk behind it.
PATH_ERRORS = {
    errno.ELOOP: "is a link that leads to itself",
    errno.ENOTDIR: "does not exist: a part of its path is a file",
    errno.ENAMETOOLONG: "has too long a name",
    errno.ENXIO: "is no file that can be read",
}


Stream = BinaryIO | gzip.GzipFile


def file_size(path: Path) -> int:
    """Bytes of an image that must be there, and a file: nothing waits for a pipe or reads a device.

    Raises
    ------
    UnreadableImageError
        It is not there, may not be read, is empty or no file.
    ImageStorageError
        The disk or the mount fails.
    """
    try:
        found = path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError  # before a closed folder is told to be none
        for is_kind, name in KINDS:
            if is_kind(found.st_mode):
                raise UnreadableImageError(f"{path} is {name}, expected a NIfTI image")
        with path.open("rb") as stream:
            stream.read(1)  # nibabel would take a failing disk for an unknown format
    except OSError as error:
        raise failure(path, error) from error
    if found.st_size == 0:
        raise UnreadableImageError(f"{path} is empty (0 bytes)", "Copy or fetch it again.")
    return found.st_size


def failure(path: Path, error: OSError) -> BidsHsfError:
    """Tell a disk or mount that fails from a path that leads to no image."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            message = f"{path} is a broken link to {path.readlink()}"
            return UnreadableImageError(message, "In a DataLad dataset, fetch it with `datalad get`.")
        return UnreadableImageError(f"{path} does not exist")
    if isinstance(error, PermissionError):
        return UnreadableImageError(f"{path} may not be read", "Check its permissions and the container's user.")
    if error.errno in PATH_ERRORS:
        return UnreadableImageError(f"{path} {PATH_ERRORS[error.errno]}", "Replace it by the image, or remove it.")
    return ImageStorageError(f"Cannot read {path}: {error.strerror}", "Check disks and mounts.")


def opened(path: Path) -> Stream:
    """Open a file, decompressed where its name says so."""
    return gzip.GzipFile(path) if path.name.endswith((".gz", ".mgz")) else path.open("rb")


def check_beginning(path: Path) -> None:
    """Refuse a NIfTI file whose voxels would begin within its header, or whose extensions are none.

    What is no NIfTI file at all is left for whoever opens it to say.

    Raises
    ------
    UnreadableImageError
    """
    if not path.name.endswith(SINGLE_FILES):
        return
    with opened(path) as stream:
        block = stream.read(nib.Nifti2Header.sizeof_hdr)
        kinds = [kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(block)]
        if not kinds or len(block) < kinds[0].sizeof_hdr:
            return
        size = kinds[0].sizeof_hdr
        header = kinds[0](block[:size], check=False)
        begin = float(header["vox_offset"])
        check_offset(begin, size, path)
        stream.seek(size)
        if stream.read(1) in (b"", b"\0"):
            return
        _check_extensions(
            stream, size + EXTENSION_FLAG_BYTES, int(begin), ">" if header.endianness == ">" else "<", path
        )


def check_offset(begin: float, header_bytes: int, path: Path | str) -> None:
    """Refuse a single file whose voxels begin within its header, or far beyond any.

    Raises
    ------
    UnreadableImageError
    """
    hint = "Write it again with another program; as it is, nobody knows where its voxels are."
    least = header_bytes + EXTENSION_FLAG_BYTES
    # NaN is neither, and refused with the rest.
    if not least <= begin:
        raise UnreadableImageError(
            f"{path} has its voxels begin at byte {begin:g} (vox_offset), within its own header of {least} bytes", hint
        )
    if begin > MAX_HEADER_BYTES:
        raise UnreadableImageError(
            f"{path} is truncated or no image: its header would be {begin:,.0f} bytes long (vox_offset), expected at "
            f"most {MAX_HEADER_BYTES:,}",
            hint,
        )


def _check_extensions(stream: Stream, begin: int, end: int, byte_order: str, path: Path) -> None:
    """Walk over the extensions of a header: each says how long it is, and none may reach into the voxels."""
    while end - begin >= MIN_EXTENSION_BYTES:
        stream.seek(begin)
        told = stream.read(4)
        if len(told) < 4:
            return  # truncated, as will be said of the voxels
        length = int(np.frombuffer(told, byte_order + "i4")[0])
        if not MIN_EXTENSION_BYTES <= length <= end - begin:
            raise UnreadableImageError(
                f"{path} has a header extension of {length:,} bytes where {end - begin:,} are left",
                "Write it again with another program, or without its extensions.",
            )
        begin += length


def mgh_voxel_bytes(path: Path) -> int:
    """Bytes that the voxels of an MGH file (.mgz, .mgh) take, by its header; 0 where that cannot be told."""
    with opened(path) as stream:
        block = stream.read(24)
    if len(block) < 24:
        return 0
    _, x, y, z, frames, kind = (int(n) for n in np.frombuffer(block, ">i4"))
    return max(x, 0) * max(y, 0) * max(z, 0) * max(frames, 0) * MGH_TYPE_BYTES.get(kind, 4)


def pieces(path: Path, offset: int, n_bytes: int) -> Iterator[bytes]:
    """Read some bytes of a file from an offset on, and then on to its end, which checks a checksum; in pieces.

    Of the end nothing is given.
    """
    with opened(path) as stream:
        stream.seek(offset)
        left = n_bytes
        while left and (piece := stream.read(min(CHUNK_BYTES, left))):
            left -= len(piece)
            yield piece
        drain(stream)


def drain(stream: Stream) -> int:
    """Read to the end, which checks the checksum; what follows the compressed data is no concern of ours.

    Returns how many bytes were left.
    """
    count = 0
    try:
        while piece := stream.read(1 << 20):
            count += len(piece)
    except gzip.BadGzipFile as error:
        if not str(error).startswith("Not a gzipped file"):
            raise
    return count
