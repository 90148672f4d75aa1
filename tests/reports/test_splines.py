"""One spline for many cuts gives what each cut would by itself."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bids_hsf.geometry import Grid, resample
from bids_hsf.reports import splines
from bids_hsf.reports.splines import SplinedPart

GRID = Grid((60, 70, 50), np.diag([1.0, 1.0, 1.2, 1.0]))


def plane(x_mm: float, pixel_mm: float, degrees: float = 12.0) -> Grid:
    affine = np.diag([pixel_mm, pixel_mm, 1.0, 1.0])
    affine[:3, :3] = Rotation.from_euler("xyz", [degrees, 5, 90], degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = [x_mm, 20, 25]
    return Grid((40, 50, 1), affine)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, GRID.shape).astype(np.float32)


@pytest.mark.parametrize("pixel_mm", [0.5, 3.0])
def test_cuts_are_those_of_the_scan(image: np.ndarray, pixel_mm: float) -> None:
    """Coarse ones too, for which the scan is smoothed, and those that leave it."""
    cuts = [plane(x, pixel_mm) for x in (15.0, 45.0, 58.0)]
    part = SplinedPart.around(image, GRID, cuts)
    for cut in cuts:
        expected = resample(image, GRID, cut, order=3, fill=-7.0)
        np.testing.assert_allclose(part.cut(cut, -7.0), expected, atol=1e-3)
        assert (expected == -7.0).any() == (cut is cuts[0] or pixel_mm > 1)


def test_what_is_too_large_is_cut_one_by_one(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = plane(45.0, 0.5)
    whole = SplinedPart.around(image, GRID, [cut])
    assert whole.coefficients is not None
    monkeypatch.setattr(splines, "MAX_VOXELS", 1000)
    small = SplinedPart.around(image, GRID, [cut])
    assert small.coefficients is None
    np.testing.assert_allclose(small.cut(cut, 0.0), whole.cut(cut, 0.0), atol=1e-3)
    nowhere = SplinedPart.around(image, GRID, [plane(500.0, 0.5)])
    assert (nowhere.cut(plane(500.0, 0.5), 3.0) == 3.0).all()
