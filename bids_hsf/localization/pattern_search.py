"""Fit a part of the template more closely than the transform of the whole does, by a pattern search."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from bids_hsf.geometry import Matrix
from bids_hsf.localization.metric import MutualInformation
from bids_hsf.localization.rotations import rotation_matrices


@dataclass(frozen=True)
class PatternSearchSettings:
    """How far and how finely a part of the template looks for its own place.

    Of the triples, the first is a shift in mm, the second a turn in degrees, the third the logarithm of a stretch;
    each holds for all three axes.

    Attributes
    ----------
    steps : tuple of float, (3,)
        First steps.
    limits : tuple of float, (3,)
        Furthest from the transform of the whole: hippocampi stray no further from an affine's place.
    prices : tuple of float, (3,)
        What costs the share `penalty` of the score: edges in the noise are no reason to move.
    penalty : float
        Share of the score.
    step_shares : tuple of float
        The pattern's sizes one after the other, as shares of `steps`.
    max_moves : int
        Of each size.
    """

    steps: tuple[float, float, float] = (3.0, 6.0, 0.1)
    limits: tuple[float, float, float] = (9.0, 18.0, 0.2)
    prices: tuple[float, float, float] = (25.0, 20.0, 0.25)
    penalty: float = 0.1
    step_shares: tuple[float, ...] = (1.0, 0.5, 0.25)
    max_moves: int = 6

    @property
    def pattern(self) -> Matrix:
        """Largest steps (39, 9): all 27 shifts to neighbours, and one turn or stretch at a time."""
        shift_mm, turn_degrees, log_stretch = self.steps
        shifts = np.array(list(product((0.0, -shift_mm, shift_mm), repeat=3)))
        others = np.repeat([0.0, turn_degrees, log_stretch], 3) * np.eye(9)[3:]
        return np.concatenate([np.pad(shifts, ((0, 0), (0, 6))), others, -others])


HIPPOCAMPUS_PATTERN = PatternSearchSettings()


def pattern_search(
    metric: MutualInformation,
    matrix: Matrix,
    center: Matrix,
    settings: PatternSearchSettings = HIPPOCAMPUS_PATTERN,
) -> Matrix:
    """Step to the best neighbour while one is better, in ever smaller steps.

    Parameters
    ----------
    metric : MutualInformation
        Of the part and its surroundings.
    matrix : array, (4, 4)
        Of the whole.
    center : array, (3,)
        Of the part, template mm.
    settings : PatternSearchSettings

    Returns
    -------
    array, (4, 4) float64
        Template mm to template mm, to be applied before `matrix`: a shift, a turn and a stretch along each axis.

    Notes
    -----
    After Hooke and Jeeves, J. ACM 1961, doi:10.1145/321062.321069, but all neighbours are looked at.
    """
    prices, limits = np.repeat(settings.prices, 3), np.repeat(settings.limits, 3)
    best = np.zeros(9)
    for share in settings.step_shares:
        for _ in range(settings.max_moves):
            tried = np.clip(best + share * settings.pattern, -limits, limits)
            costs = settings.penalty * ((tried / prices) ** 2).sum(axis=1)
            scores = metric.scores(matrix @ _about(center, tried)) * (1 - costs)
            winner = tried[int(np.argmax(scores))]
            if np.array_equal(winner, best):
                break
            best = winner
    return np.asarray(_about(center, best[None])[0])


def _about(center: Matrix, parameters: Matrix) -> Matrix:
    """Make transforms (B, 4, 4) about a centre of shifts in mm, rotation vectors in degrees, log stretches (B, 9)."""
    turns = rotation_matrices(parameters[:, 3:6])
    matrices = np.tile(np.eye(4), (len(parameters), 1, 1))
    matrices[:, :3, :3] = turns * np.exp(parameters[:, 6:])[:, None, :]
    matrices[:, :3, 3] = center + parameters[:, :3] - matrices[:, :3, :3] @ center
    return matrices
