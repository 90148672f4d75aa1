"""What a NIfTI header leaves in doubt, though its image can be read."""

from collections.abc import Iterable

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from bids_hsf.findings import Finding, Weight

SIZE_TOLERANCE = 0.05  # between the voxel sizes of pixdim and of the sform


def doubtful_orientation(image: nib.Nifti1Image) -> Finding | None:
    """Say where left and right rest on a guess."""
    header = image.header
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    if sform_code == 0 and qform_code == 0:
        text = "the file does not say how the head lies (no sform, no qform): left and right may be swapped"
        return Finding("orientation-unknown", Weight.CHECK, text)
    if sform_code == 0 or qform_code == 0:
        return None
    try:
        qform = header.get_qform()
    except (ValueError, HeaderDataError):
        qform = np.full((4, 4), np.nan)
    extent = np.append(image.shape[:3], 1)
    distance, limit = float(np.abs((header.get_sform() - qform) * extent).max()), 2 * max(header.get_zooms()[:3])
    if distance <= limit:
        return None
    text = f"sform and qform disagree by up to {distance:.3g} mm; the sform is used"
    figure = round(distance, 2) if np.isfinite(distance) else None
    return Finding("sform-and-qform", Weight.CHECK, text, figure, round(float(limit), 2))


def doubtful_sizes(image: nib.Nifti1Image) -> Finding | None:
    """Say where pixdim contradicts the sform; with a qform, that of both transforms is said already."""
    header = image.header
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) != 0:
        return None
    stated = np.asarray(header.get_zooms()[:3], dtype=float)
    used = np.sqrt((np.asarray(image.affine, dtype=float)[:3, :3] ** 2).sum(axis=0))
    worst = float(np.abs(stated / used - 1).max())
    if worst <= SIZE_TOLERANCE:
        return None
    text = f"pixdim says voxels of {times(stated)} mm, the sform {times(used)} mm, which are used: volumes rest on them"
    return Finding("voxel-sizes", Weight.CHECK, text, round(worst, 3) if np.isfinite(worst) else None, SIZE_TOLERANCE)


def longer(n_behind: int) -> Finding | None:
    """Say where a file holds more than the voxels that its header claims."""
    if not n_behind:
        return None
    text = f"{n_behind:,} byte(s) follow the last voxel of the header's shape: its shape or type may be wrong"
    return Finding("file-longer", Weight.CHECK, text, float(n_behind))


def times(sizes: Iterable[float]) -> str:
    """Sizes along the axes as text, such as "1 x 1 x 1.2"."""
    return " x ".join(f"{n:.3g}" if isinstance(n, float) else f"{n}" for n in sizes)
