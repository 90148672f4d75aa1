"""How large the brain is in a scan: from the border of the skull's inside, seen from several starts.

An affine that finds a head need not end where the brain does: in T2w the bright scalp draws it outwards, and around the
hippocampi a head of any size fits. Here only the brain and a few millimetres around it count; the fit begins smaller
and larger than the answer that it is to check, the best one by mutual information wins, and it has to be found again
from both sides. Where the first two fits find one size, and near the answer, the others would only say so again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from bids_hsf.geometry import Matrix
from bids_hsf.localization.features import load_features
from bids_hsf.localization.intensities import smooth
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.refinement import RefinementSettings, darkened, fit_affine
from bids_hsf.localization.search import scaled
from bids_hsf.localization.template import BRAIN_CENTER
from bids_hsf.threads import spread

EDGE_REFINEMENT = RefinementSettings(
    first_step_mm=2.0, last_step_mm=0.05, max_iterations=60, sampled_share=0.02, gradient_images=False
)


@dataclass(frozen=True)
class SizeSettings:
    """How the size of a brain is looked for.

    Attributes
    ----------
    starts : tuple of float
        Scales, against the answer that is checked, of the first fits.
    further_starts : tuple of float
        Where these do not agree: a scalp lies at 1.2 of a brain, its neighbour's valley at 1.15.
    returns : tuple of float
        Scales, against the best answer, from which it has to be found again.
    agreement : float
        Largest difference of the first fits, as a share of the volume, that is none.
    nearness : float
        Largest difference to the answer that is checked, as a share of it, where the first fits are enough.
    refinement : RefinementSettings
    """

    starts: tuple[float, ...] = (1.0, 0.9)
    further_starts: tuple[float, ...] = (0.8,)
    returns: tuple[float, ...] = (0.95, 1.05)
    agreement: float = 0.03
    nearness: float = 0.1
    refinement: RefinementSettings = EDGE_REFINEMENT


BRAIN_SIZE = SizeSettings()


@dataclass(frozen=True)
class BrainSize:
    """Size of the brain in a scan, against the template's: volumes, not lengths.

    Attributes
    ----------
    scale : float
        The best answer.
    low, high : float
        The smallest and the largest of what is found when the fit begins beside it, itself included.
    """

    scale: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How far the answers lie apart, as a share of the best."""
        return (self.high - self.low) / self.scale


def brain_size(
    scan: ReducedScan, scan_from_template: Matrix, settings: SizeSettings = BRAIN_SIZE, n_threads: int = 1
) -> BrainSize:
    """Measure the brain in a scan, near a transform (4, 4) that leads there from template mm.

    Each fit keeps to one thread, so that the answer does not depend on their number.
    """
    features = load_features()
    view = darkened(smooth(scan.fine, features.settings.fine_sigma), settings.refinement)

    def fitted(scale: float, start: Matrix) -> tuple[float, Matrix]:
        matrix, information = fit_affine(
            features.brain,
            features.brain_edge_mask,
            view,
            scaled(start, BRAIN_CENTER, scale),
            BRAIN_CENTER,
            settings.refinement,
        )
        return information, matrix

    with spread(n_threads) as share:
        fits = list(share(fitted, settings.starts, repeat(scan_from_template)))
    first = _size([matrix for _, matrix in sorted(fits, key=lambda fit: -fit[0])])
    checked = float(np.linalg.det(scan_from_template[:3, :3]))
    if first.spread <= settings.agreement and abs(first.scale / checked - 1) <= settings.nearness:
        return first
    with spread(n_threads) as share:
        fits += share(fitted, settings.further_starts, repeat(scan_from_template))
        _, best = max(fits, key=lambda fit: fit[0])
        returned = [matrix for _, matrix in share(fitted, settings.returns, repeat(best))]
    return _size([best, *returned])


def _size(matrices: Sequence[Matrix]) -> BrainSize:
    """Compare answers, the best one first."""
    scales = [float(np.linalg.det(matrix[:3, :3])) for matrix in matrices]
    return BrainSize(scales[0], min(scales), max(scales))
