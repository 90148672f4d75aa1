"""Transforms between a scan and the template, as ITK and what builds on it read them."""

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.names import ScanOutputs
from bids_hsf.files import write_text

# RAS+ to ITK's LPS+, which is its own inverse.
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_transforms(outputs: ScanOutputs, scan_from_template: NDArray[np.float64]) -> None:
    """Write the affine between a scan and the template, both ways.

    Resampling asks where a voxel of the new image lies in the old one: the file that carries images from the scan to
    the template maps points of the template into the scan, as those of fMRIPrep and ANTs do.

    Parameters
    ----------
    outputs : ScanOutputs
    scan_from_template : array, (4, 4) float64
        Template RAS+ mm to scan RAS+ mm.
    """
    write_text(outputs.transform_to_template, itk_text(scan_from_template))
    write_text(outputs.transform_from_template, itk_text(np.linalg.inv(scan_from_template)))


def itk_text(matrix: NDArray[np.floating]) -> str:
    """Affine (4, 4) between points in RAS+ mm as ITK's text.

    >>> itk_text(np.diag([2.0, 1.0, 1.0, 1.0])).splitlines()[3]
    'Parameters: 2 0 0 0 1 0 0 0 1 0 0 0'
    """
    there = FLIP @ matrix @ FLIP
    numbers = [*there[:3, :3].ravel(), *there[:3, 3]]
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {' '.join(f'{number + 0.0:.17g}' for number in numbers)}\nFixedParameters: 0 0 0\n"
    )
