"""Read a scan, or say in one line why it cannot be one."""

import gzip
import io
import logging
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from bids_hsf.doubtful_headers import doubtful_orientation, doubtful_sizes, longer, times
from bids_hsf.errors import BidsHsfError, UnreadableImageError
from bids_hsf.findings import Finding, Weight
from bids_hsf.geometry import Grid, empty_for_canonical, to_canonical
from bids_hsf.image_files import MAX_DEFLATE_RATIO, check_beginning, check_offset, drain, failure, file_size, pieces
from bids_hsf.outliers import replace_outliers, tissue_range

logger = logging.getLogger(__name__)


# Whole brains in use end at 0.25 mm (5e8 voxels); 0.1 mm would be 1e10 voxels, 40 GB as float32.
MAX_VOXELS = 2_000_000_000
VOXEL_SIZE_RANGE_MM = (0.05, 20.0)

MIN_AXIS_VOXELS = 8
MAX_BAD_SHARE = 0.98  # of NaN and infinite voxels: a brain fills at least as much of its own box
PLANES_AT_ONCE = 8
AGAIN = "Copy, fetch or convert it again."
LARGE_VOXELS = 1 << 26  # of these, memory is set aside only once all have been seen
SURROUNDED = 0.5  # a bad voxel is a hole in tissue where at least so many of those around it are sound
CLIPPED_SHARE = 0.2  # of the brighter half; where a converter has cut intensities off, white matter is all one value
LONG_AXIS = 96  # voxels: of longer ones every second will do for shares


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """A scan in memory.

    Attributes
    ----------
    image : nibabel.Nifti1Image
        As stored; its header and affine are those of the outputs.
    data : array, (X, Y, Z) float32
        Intensities in canonical (RAS+) axis order, finite.
    grid : Grid
        Of `data`.
    findings : tuple of Finding
        What was odd about header and intensities.
    """

    image: nib.Nifti1Image
    data: NDArray[np.float32]
    grid: Grid
    findings: tuple[Finding, ...] = ()

    @property
    def orientation_known(self) -> bool:
        """Whether the header says how the head lies: a file with neither sform nor qform does not."""
        return bool(self.image.header["sform_code"] or self.image.header["qform_code"])


def open_scan(path: Path) -> nib.Nifti1Image:
    """Open a NIfTI file and check its header; no voxel is read.

    Raises
    ------
    UnreadableImageError
        Missing, not a NIfTI file, not three-dimensional, colour or complex, or with absurd sizes.
    StorageError
        The disk or the mount fails.
    """
    size = file_size(path)
    try:
        check_beginning(path)
        # A mapped file that shrinks under us would end the process with SIGBUS.
        image = nib.load(path, mmap=False)
    except UnreadableImageError:
        raise
    except Exception as error:  # nibabel raises a dozen unrelated classes on damaged files
        _raise_if_lost(path, error)
        raise UnreadableImageError(f"{path} is not a readable NIfTI file: {_one_line(error)}") from error
    if not isinstance(image, (nib.Nifti1Image, nib.Nifti1Pair)):
        raise UnreadableImageError(f"{path} is a {type(image).__name__}, expected a NIfTI image")
    _check_shape(image, path)
    _check_values(image, path)
    _check_affine(image, path)
    _check_size(image, path, size)
    return image


def _raise_if_lost(path: Path, error: Exception) -> None:
    """Tell a disk or mount that fails from an image that is wrong: only the system numbers its errors."""
    if isinstance(error, OSError) and error.errno is not None:
        raise failure(path, error) from error


def _check_shape(image: nib.Nifti1Image, path: Path | str) -> None:
    shape = tuple(int(n) for n in image.shape)
    spatial = shape[:3] if all(n == 1 for n in shape[3:]) else shape
    if len(spatial) != 3:
        raise UnreadableImageError(
            f"{path} has shape {times(shape)}, expected three axes and one volume",
            "Average or pick one volume first; each output belongs to one image.",
        )
    if min(spatial) < MIN_AXIS_VOXELS:
        raise UnreadableImageError(f"{path} has shape {times(spatial)}: too thin to hold a hippocampus")
    if spatial[0] * spatial[1] * spatial[2] > MAX_VOXELS:
        raise UnreadableImageError(f"{path} claims {times(spatial)} voxels; at most {MAX_VOXELS:,} are accepted")


def _check_values(image: nib.Nifti1Image, path: Path | str) -> None:
    kind = image.get_data_dtype()
    if kind.names or kind.kind not in "iuf":
        name = "RGB" if kind.names else "complex" if kind.kind == "c" else str(kind)
        raise UnreadableImageError(f"{path} holds {name} values, expected real numbers")


def _check_affine(image: nib.Nifti1Image, path: Path | str) -> None:
    affine = np.asarray(image.affine, dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    low, high = VOXEL_SIZE_RANGE_MM
    if not np.isfinite(affine).all() or not ((sizes >= low) & (sizes <= high)).all():
        message = f"{path} has voxels of {times(sizes)} mm, expected {low:g} to {high:g} mm"
        raise UnreadableImageError(message, "Repair the affine in its header.")
    if abs(np.linalg.det(affine[:3, :3])) < 0.05 * float(np.prod(sizes)):
        raise UnreadableImageError(f"{path} has an affine whose axes (nearly) coincide", "Repair its header.")


def _check_size(image: nib.Nifti1Image, path: Path, size: int) -> None:
    """Refuse a file that cannot hold what its header claims, before memory is set aside for it."""
    claimed = _voxel_bytes(image)
    # A wild offset is infinite or beyond any file; the same inequality refuses it.
    claimed_end = claimed + float(image.dataobj.offset)
    held = size * MAX_DEFLATE_RATIO if path.suffix == ".gz" else size
    if isinstance(image, nib.Nifti1Image) and not claimed_end <= held:
        raise UnreadableImageError(
            f"{path} is truncated: {size:,} bytes cannot hold the {times(image.shape)} voxels of its header",
            AGAIN,
        )


def load_scan(path: Path) -> LoadedScan:
    """Read a scan into canonical order.

    Returns
    -------
    LoadedScan

    Raises
    ------
    UnreadableImageError
        As `open_scan`, and where the voxels are truncated, damaged, all equal, or mostly not finite.
    """
    image = open_scan(path)
    _check_large(image, path)
    voxels, n_behind = _read_voxels(image, path)
    return _in_canonical_order(image, voxels, path, n_behind, is_ours=True)


def take_scan(image: nib.Nifti1Image, name: str = "the image") -> LoadedScan:
    """Take an image that is in memory already, by the same rules as `load_scan`.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Or another of nibabel's images in space, whose affine maps to RAS+ mm.
    name : str
        What errors call it.

    Raises
    ------
    UnreadableImageError
        As `load_scan`.
    """
    if not isinstance(image, nib.Nifti1Pair):
        image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
    _check_shape(image, name)
    _check_values(image, name)
    _check_affine(image, name)
    if isinstance(image, nib.Nifti1Image) and nib.is_proxy(image.dataobj):
        check_offset(float(image.dataobj.offset), image.header.sizeof_hdr, name)
    data = np.asarray(image.dataobj, dtype=np.float32)
    return _in_canonical_order(image, data.reshape(data.shape[:3]), name)


def _in_canonical_order(
    image: nib.Nifti1Image, voxels: NDArray[np.float32], name: Path | str, n_behind: int = 0, *, is_ours: bool = False
) -> LoadedScan:
    """Check voxels (X, Y, Z) in storage order, behind which bytes were left, and turn them to RAS+; ours may change."""
    data, not_finite = _finite(voxels, name)
    if float(data.max()) == float(data.min()):
        raise UnreadableImageError(f"{name} is constant: every voxel is {float(data.flat[0]):g}")
    data, wild = _of_tissue(data, is_ours=is_ours or data is not voxels)
    told = (
        not_finite,
        wild or _clipped(data),
        doubtful_orientation(image),
        doubtful_sizes(image),
        longer(n_behind),
    )
    findings = tuple(found for found in told if found is not None)
    for finding in findings:
        logger.debug("%s: %s", name, finding.text)
    canonical, grid = to_canonical(data, np.asarray(image.affine, dtype=float))
    return LoadedScan(image, np.ascontiguousarray(canonical), grid, findings)


def _check_large(image: nib.Nifti1Image, path: Path) -> None:
    """Refuse a large image that is truncated, damaged, constant or hardly finite, before memory is set aside."""
    n_voxels = int(np.prod(image.shape, dtype=np.int64))
    if n_voxels <= LARGE_VOXELS or not isinstance(image, nib.Nifti1Image):
        return
    dtype, n_seen, n_finite = image.dataobj.dtype, 0, 0
    ends: set[float] = set()
    try:
        for piece in pieces(path, int(image.dataobj.offset), n_voxels * dtype.itemsize):
            values = np.frombuffer(piece, dtype, len(piece) // dtype.itemsize)
            values = values[np.isfinite(values)]
            n_seen, n_finite = n_seen + len(piece) // dtype.itemsize, n_finite + values.size
            if values.size and len(ends) < 2:
                ends |= {float(values.min()), float(values.max())}
    except Exception as error:
        raise _damaged(path, error) from error
    if n_seen < n_voxels:
        raise UnreadableImageError(f"{path} is truncated: {n_seen:,} of {n_voxels:,} voxels", AGAIN)
    _check_finite(n_finite / n_voxels, path)
    if len(ends) == 1:
        raise UnreadableImageError(f"{path} is constant: every voxel is {ends.pop():g}")


def _read_voxels(image: nib.Nifti1Image, path: Path) -> tuple[NDArray[np.float32], int]:
    """Voxels (X, Y, Z) in storage order, scaled, and how many bytes follow; read to the checksum if there is one."""
    n_behind = 0
    try:
        # Beyond float32 is infinite, and dealt with as such.
        with np.errstate(over="ignore", invalid="ignore"):
            if path.suffix == ".gz" and isinstance(image, nib.Nifti1Image):
                with gzip.open(path) as stream:
                    data = _for_canonical_order(type(image).from_stream(stream))
                    # nibabel stops at the last voxel, before the checksum that tells damaged ones.
                    n_behind = drain(stream)
            else:
                data = _for_canonical_order(image)
                if isinstance(image, nib.Nifti1Image):
                    n_behind = path.stat().st_size - int(image.dataobj.offset) - _voxel_bytes(image)
    except MemoryError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise a dozen unrelated classes on damaged files
        raise _damaged(path, error) from error
    return data, max(0, n_behind)


def _for_canonical_order(image: nib.Nifti1Image) -> NDArray[np.float32]:
    """Voxels (X, Y, Z) in storage order that lie in memory as RAS+ has them: turned to it they are copied no more."""
    proxy = image.dataobj
    data = empty_for_canonical(image.shape[:3], np.asarray(image.affine, dtype=float))
    # From plane to plane of what is read into: turned as stored, in few bytes, voxels take half the time.
    order = np.argsort(np.abs(data.strides))[::-1]
    stored = proxy.get_unscaled().reshape(image.shape[:3], order="F").transpose(order)
    turned = data.transpose(order)
    # Scaled a few planes at a time, by nibabel as ever: all at once takes as much memory again, or twice.
    for first in range(0, len(stored), PLANES_AT_ONCE):
        part = stored[first : first + PLANES_AT_ONCE]
        spec = (part.shape, part.dtype, 0, proxy.slope, proxy.inter)
        again = ArrayProxy(io.BytesIO(part.tobytes()), spec, order="C")
        turned[first : first + PLANES_AT_ONCE] = np.asarray(again, dtype=np.float32)
    return data


def _voxel_bytes(image: nib.Nifti1Image) -> int:
    """Bytes of all voxels that a header claims."""
    return int(np.prod(image.shape, dtype=np.int64)) * int(image.get_data_dtype().itemsize)


def _damaged(path: Path, error: Exception) -> BidsHsfError:
    """Say that voxels cannot be read: since the disk fails, or the file is damaged."""
    if isinstance(error, OSError) and error.errno is not None:
        return failure(path, error)
    return UnreadableImageError(f"{path} is damaged or truncated: {_one_line(error)}", AGAIN)


def _finite(data: NDArray[np.float32], name: Path | str) -> tuple[NDArray[np.float32], Finding | None]:
    """Replace NaN and infinite voxels, holes in tissue by what is around them, others by the minimum; refuse many."""
    finite = np.isfinite(data)
    if finite.all():
        return data, None
    share = 1 - float(finite.mean())
    _check_finite(1 - share, name)
    filled, holes = _filled(data, finite)
    text = f"{100 * share:.2g} % NaN or infinite voxels are taken as its minimum"
    if holes:
        text += f", {holes:,} of them, within tissue, as the mean of those around them"
    return filled, Finding("voxels-not-finite", Weight.NOTE, text, round(share, 6))


def _filled(data: NDArray[np.float32], finite: NDArray[np.bool_]) -> tuple[NDArray[np.float32], int]:
    """Replace what is not finite in an image (X, Y, Z); returns how many voxels were holes in tissue, too."""
    from scipy.ndimage import uniform_filter

    filled = np.where(finite, data, data[finite].min())
    holes = 0
    for place in range(len(data)):  # plane by plane: a large image has no room for three of its kind
        bad = ~finite[place]
        if not bad.any():
            continue
        around = slice(max(0, place - 1), place + 2)
        is_sound = finite[around]
        # Thirds of the planes' sums, so that both are means over 27; beyond the edge of the image there is nothing.
        # In float64, since three large values can be more than float32 holds.
        planes = (is_sound.sum(0, dtype=np.float64), np.where(is_sound, data[around], 0).sum(0, dtype=np.float64))
        share, total = (uniform_filter(plane / 3, 3, mode="constant") for plane in planes)
        hole = bad & (share >= SURROUNDED)
        filled[place][hole] = total[hole] / share[hole]
        holes += int(hole.sum())
    return filled, holes


def _check_finite(share: float, path: Path | str) -> None:
    """Refuse an image of which too small a share is finite."""
    if 1 - share > MAX_BAD_SHARE:
        raise UnreadableImageError(f"{path} has {1 - share:.0%} NaN or infinite voxels")


def _of_tissue(data: NDArray[np.float32], *, is_ours: bool) -> tuple[NDArray[np.float32], Finding | None]:
    """Replace intensities that no tissue has, in the array itself if it is ours, and say so."""
    tissue = tissue_range(data)
    if not tissue.fills and data.min() >= tissue.low and data.max() <= tissue.high:
        return data, None
    cut = data if is_ours else data.copy(order="K")
    count = replace_outliers(cut, tissue)
    fills = ", ".join(f"{fill:g}" for fill in tissue.fills)
    text = (
        f"{count:,} voxel(s) with intensities that no tissue has, outside {tissue.low:.4g} to {tissue.high:.4g}"
        f"{f' (background {fills})' if fills else ''}, are replaced"
    )
    return cut, Finding("intensities-replaced", Weight.NOTE, text, count)


def _clipped(data: NDArray[np.float32]) -> Finding | None:
    """Say where the bright end of an image is one single value: what told grey from white matter may be cut off."""
    seen = data[tuple(slice(None, None, 2 if n > LONG_AXIS else 1) for n in data.shape)]  # of a head an eighth
    bright = seen > seen.mean(dtype=np.float64)
    share = int(np.count_nonzero(seen == data.max())) / max(1, int(np.count_nonzero(bright)))
    if share < CLIPPED_SHARE:
        return None
    text = f"{share:.0%} of the brighter voxels have one and the same value: intensities are cut off, or this is a mask"
    return Finding("intensities-clipped", Weight.CHECK, text, round(share, 3), CLIPPED_SHARE)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
