"""Label maps and soft maps, on a scan's own grid."""

import io
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from bids_hsf.bids.gzip_stream import gzipped
from bids_hsf.bids.names import ScanOutputs
from bids_hsf.bids.sidecars import origin
from bids_hsf.files import replacing, write_json

ENTROPY_DESCRIPTION = (
    "Normalised predictive entropy of the mean class probabilities p over all passes, "
    "-sum(p ln p) / ln K for K classes with background: 0 certain, 1 all classes equally likely"
)


def write_image(
    path: Path,
    data: NDArray[Any],
    like: nib.Nifti1Image,
    slope: float | None = None,
    decimals: int | None = None,
) -> None:
    """Write a map on a scan's own grid: its shape, affine and both header transforms.

    Parameters
    ----------
    path : Path
        ``.nii.gz``; equal data give equal bytes (no time and no name in the gzip header).
    data : array, (X, Y, Z) or (X, Y, Z, C)
        In the scan's storage order; uint8 or float32.
    like : nibabel.Nifti1Image
        The scan.
    slope : float, optional
        Stored values times this are the real ones.
    decimals : int, optional
        To which values are rounded.
    """
    header = nib.Nifti1Header()
    source = like.header
    header.set_data_dtype(data.dtype)
    if isinstance(source, nib.Nifti1Header):
        header.set_qform(*_usable_qform(like))
        header.set_sform(source.get_sform(), int(source["sform_code"]))
    image = nib.Nifti1Image(data, like.affine, header)
    # Volumes of structures follow no time, but validators want a unit for the fourth axis.
    image.header.set_xyzt_units("mm", "sec" if data.ndim == 4 else None)
    beginning = io.BytesIO()
    image.header["magic"] = b"n+1"
    image.header.set_data_offset(image.header.single_vox_offset)
    image.header.set_slope_inter(1 if slope is None else slope, 0)  # the values are scaled already
    image.header.write_to(beginning)
    # Slice by slice, the first axis fastest: a whole copy would be the most memory that a scan takes.
    slices = data.reshape(*data.shape[:2], -1, order="F").T
    parts = _stored(slices, decimals)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.writelines(gzipped(chain([beginning.getvalue()], parts)))


def _stored(slices: NDArray[Any], decimals: int | None) -> Iterator[bytes]:
    """Bytes of slices (Z, Y, X), rounded; most rows are empty, and these are not collected from all over the map."""
    is_filled = np.asarray(slices.any(axis=2))
    rows = np.flatnonzero(is_filled.any(axis=0))
    first, last = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
    n_bytes = slices[0, 0].nbytes
    for part, is_slice_filled in zip(slices, np.asarray(is_filled.any(axis=1)), strict=True):
        if not is_slice_filled:
            yield bytes(len(part) * n_bytes)
            continue
        yield bytes(first * n_bytes)
        filled = part[first:last]
        yield (filled if decimals is None else np.round(filled, decimals)).tobytes()
        yield bytes((len(part) - last) * n_bytes)


def _usable_qform(like: nib.Nifti1Image) -> tuple[NDArray[np.float64], int]:
    """Quaternion transform (4, 4) of a scan and its code; the affine that is used, without code, if it is no rotation.

    Some converters leave nonsense there beside a good sform.
    """
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            qform, code = like.header.get_qform(), int(like.header["qform_code"])
            nib.Nifti1Header().set_qform(qform, code)
    except (ValueError, HeaderDataError):  # of which numpy's errors of linear algebra are one
        return np.asarray(like.affine, dtype=np.float64), 0
    return qform, code


def write_map(
    outputs: ScanOutputs,
    name: str,
    data: NDArray[Any],
    like: nib.Nifti1Image,
    *sources: str,
    network: str | None = None,
) -> None:
    """Write a map of uncertainty or of a coordinate, (X, Y, Z) float32 in storage order, with its sidecar.

    `network` is the file that told the coordinate.
    """
    # Four decimals are more than the passes carry, and let the file shrink to a quarter.
    write_image(outputs.map(name), data, like, decimals=4)
    by_network = {"Network": network} if network else {}
    write_json(outputs.map_sidecar(name), {"Description": DESCRIPTIONS[name], **origin(sources), **by_network})


def write_probabilities(
    outputs: ScanOutputs, data: NDArray[Any], names: Sequence[str], like: nib.Nifti1Image, *sources: str
) -> None:
    """Write class probabilities (X, Y, Z, N) in storage order, one volume a structure, without background."""
    stored = np.zeros(data.shape, dtype=np.uint8, order="F")
    for place in range(data.shape[-1]):  # of all at once, whole copies would be the most memory that a scan takes
        stored[..., place] = np.round(data[..., place] * 255)
    write_image(outputs.map(None), stored, like, slope=1 / 255)
    description = "Mean probability over the passes, one volume a structure; background is what is left to 1"
    sidecar = {"Description": description, **origin(sources), "LabelMap": list(names)}
    write_json(outputs.map_sidecar(None), sidecar)


DESCRIPTIONS: dict[str, str] = {
    "entropy": ENTROPY_DESCRIPTION,
    "mutualinformation": "Predictive entropy minus the mean entropy of the single passes, over ln K",
    "expectedentropy": "Mean entropy of the single passes, over ln K",
    "voteshare": "Share of the votes that went to the label that won",
    "AP": "Unfolded coordinate along the sheet of grey matter: 0 at its front end, 1 at the end of the tail; also 0 "
    "where there is none",
    "PD": "Unfolded coordinate across the sheet of grey matter: 0 where subiculum begins, 1 where CA4 ends; the "
    "dentate gyrus has that of the nearest CA4; also 0 where there is none",
    "IO": "Unfolded coordinate through the sheet of grey matter: 0 at its inner surface, towards SRLM, 1 at its outer "
    "one; also 0 where there is none",
}
