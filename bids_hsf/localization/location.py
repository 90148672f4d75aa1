"""Where the hippocampi lie in a scan."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.affines import apply_affine

from bids_hsf.findings import Finding
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.template import load_template

# Calibrated by tests/benchmarks/localization.py on ICBM152 (T1w, T2w) and Colin27: found rightly 0.53 and more in all
# of 204 disturbed copies; of answers displaced on purpose (--calibrate) all 38 whose hippocampi lie 8 mm or more
# away have 0.35 or less, at 6 to 8 mm up to 0.65, at 4 to 6 mm up to 0.75.
DOUBTFUL_QUALITY = 0.45

# A whole hippocampus, but for what is lost at the border. Less is worth a look: fields of view cut through both
# hippocampi of the example heads, from the front, behind and below, lost 0 to 3 % of the volume at 0.99 and more, 1 to
# 7 % at 0.97, 2 to 7 % at 0.95, 7 to 10 % at 0.91.
WHOLE_HIPPOCAMPUS_SHARE = 0.99

# Extents (3,) in mm that a brain fills along the scan's axes; with less on one of them it is cut.
BRAIN_EXTENT_MM = np.array([105.0, 130.0, 105.0])


@dataclass(frozen=True, eq=False)
class Location:
    """Where the template's hippocampi lie in a scan.

    Attributes
    ----------
    scan_from_template : array, (4, 4) float64
        Template (MNI152 2009c) RAS+ mm to scan RAS+ mm.
    quality : float
        How far edges around the hippocampi run alike: 1 always, 0 no more than by chance, or where the head would
        have an impossible size or shape. Below `DOUBTFUL_QUALITY` the boxes may be wrong.
    coverage : mapping of str to float
        Hemisphere "L", "R" to the share of the hippocampus inside the field of view.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    odd_size_mm3 : float or None
        What was measured instead, where that is no size of a head.
    findings : tuple of Finding
        What a reader of the results should know; empty where all is well.
    hippocampi : mapping of str to array, (N, 3) float64
        Hemisphere to the points of its hippocampus in template mm; the template's own where missing.
    provenance : mapping of str to value
        What else it rests on, for the sidecar: another scan, a label map.
    """

    scan_from_template: Matrix
    quality: float
    coverage: Mapping[str, float]
    etiv_mm3: float | None = None
    etiv_reason: str | None = None
    odd_size_mm3: float | None = None
    findings: tuple[Finding, ...] = ()
    hippocampi: Mapping[str, Matrix] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def doubtful(self) -> bool:
        """Whether the boxes may be wrong."""
        return self.quality < DOUBTFUL_QUALITY

    def moved(self, other_from_scan: Matrix) -> "Location":
        """Carry it by a rigid motion (4, 4) of the head; what is in view there is for `locate` to say."""
        return replace(self, scan_from_template=other_from_scan @ self.scan_from_template)


def is_limited(grid: Grid) -> bool:
    """Whether a field of view is too small for a brain, as that of a slab."""
    return bool((np.array(grid.shape) * grid.voxel_sizes < BRAIN_EXTENT_MM).any())


def hippocampus_points(location: Location, hemisphere: str) -> Matrix:
    """Points (N, 3) that fill the hippocampus, in the scan's mm."""
    points = location.hippocampi.get(hemisphere)
    if points is None:
        points = load_template().hippocampi[hemisphere]
    return np.asarray(apply_affine(location.scan_from_template, points))


def head_axes(location: Location) -> Matrix:
    """Directions (3, 3) of the template's axes in the scan: the rotation in the affine's polar decomposition."""
    return rotation_part(location.scan_from_template)


def rotation_part(matrix: Matrix) -> Matrix:
    """Rotation (3, 3) in the polar decomposition of an affine."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    return np.asarray(u @ vt)
