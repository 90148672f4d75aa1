"""The heads of the example dataset as the app reads them, disturbed in known ways, and where their hippocampi are."""

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from example_data import BIDS_DIR, Disturbance, disturb
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from bids_hsf.geometry import Grid, to_canonical
from bids_hsf.localization.locate import locate
from bids_hsf.localization.location import Location

# Outermost voxels of the hippocampi along each axis, mm: in the ICBM152 template as an atlas of many brains has
# them, in Colin27 as several raters' labels do. The app's own template had neither.
OUTERMOST = {
    ("icbm152", "L"): [(-36, -24, -14), (-12, -8, -18), (-24, -42, 1), (-19, -5, -25), (-23, -7, -31), (-22, -38, 8)],
    ("icbm152", "R"): [(12, -8, -18), (36, -24, -14), (24, -42, 1), (19, -5, -25), (23, -7, -31), (22, -38, 8)],
    ("colin27", "L"): [(-36, -22, -16), (-15, -8, -20), (-25, -41, 2), (-20, -6, -24), (-23, -8, -28), (-20, -38, 7)],
    ("colin27", "R"): [(15, -36, 2), (38, -16, -21), (27, -40, -1), (21, -4, -24), (31, -10, -28), (19, -36, 8)],
}
UPRIGHT = Disturbance((0, 0, 0), (0, 0, 0), (1, 1, 1), "RAS")


@dataclass(frozen=True, eq=False)
class Head:
    """A scan as the app reads it."""

    data: NDArray[np.float32]
    grid: Grid
    motion: NDArray[np.float64]
    """(4, 4), mm of the example's head to this one's."""
    subject: str

    def outermost(self, side: str) -> NDArray[np.float64]:
        """Voxels of one hippocampus, in mm."""
        return apply_affine(self.motion, np.array(OUTERMOST[self.subject, side], dtype=float))

    def cut(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> "Head":
        """Keep what lies between two points in mm."""
        corners = np.rint(self.grid.to_voxels(np.array([low, high], dtype=float))).astype(int)
        start, stop = np.clip(corners[0], 0, None), np.minimum(corners[1], self.grid.shape)
        part = self.data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        return Head(part, self.grid.subgrid(tuple(start), tuple(stop)), self.motion, self.subject)


@lru_cache
def head(subject: str = "icbm152", contrast: str = "T1w", disturbance: Disturbance = UPRIGHT) -> Head:
    """Read a head of the example, and disturb it."""
    image = nib.load(BIDS_DIR / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}.nii.gz")
    motion = np.eye(4)
    if disturbance != UPRIGHT:
        image, motion = disturb(image, disturbance)
    return Head(*to_canonical(np.asarray(image.dataobj, dtype=np.float32), image.affine), motion, subject)


@lru_cache
def upright(subject: str = "icbm152", contrast: str = "T1w") -> Location:
    """Where the app finds the hippocampi of an undisturbed head; found once a process."""
    scan = head(subject, contrast)
    return locate(scan.data, scan.grid)


def boxes(shift_mm: float = 0.0) -> dict[str, NDArray[np.float64]]:
    """Somebody's hippocampi of Colin27: points in boxes of 10 x 30 x 15 mm."""
    corners = {"L": (-32, -38, -22), "R": (22, -38, -22)}
    return {side: np.argwhere(np.ones((11, 31, 16))) + corner + shift_mm for side, corner in corners.items()}
