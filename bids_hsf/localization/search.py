"""Search for a transform without gradients: from many poses, and around a place."""

from itertools import permutations, product

import numpy as np
from scipy.spatial.transform import Rotation

from bids_hsf.geometry import Matrix
from bids_hsf.localization.metric import Matcher

# One standard deviation of head size, as the logarithm of a scale: adult heads lie within +-0.2.
SCALE_SIGMA = 0.15
SCALE_PENALTY = 0.03


def turned(matrices: Matrix, center: Matrix, steps: Matrix) -> Matrix:
    """Move, turn and scale what transforms (B, 4, 4) make of the template.

    Parameters
    ----------
    matrices : array, (B, 4, 4)
    center : array, (3,)
        Template mm; its image stays where it is but for the shift.
    steps : array, (B, 7)
        Shift in mm, rotation vector in degrees, logarithm of the scale.
    """
    turns = Rotation.from_rotvec(steps[:, 3:6], degrees=True).as_matrix() * np.exp(steps[:, 6])[:, None, None]
    moved = np.tile(np.eye(4), (len(steps), 1, 1))
    moved[:, :3, :3] = turns @ matrices[:, :3, :3]
    anchors = matrices[:, :3, :3] @ center + matrices[:, :3, 3] + steps[:, :3]
    moved[:, :3, 3] = anchors - moved[:, :3, :3] @ center
    return moved


def cube_rotations() -> Matrix:
    """All 24 proper rotations (24, 3, 3) that carry axes to axes, the identity first."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        rotation = np.zeros((3, 3))
        rotation[range(3), order] = signs
        if np.linalg.det(rotation) > 0:
            found.append(rotation)
    return np.array(sorted(found, key=lambda rotation: -np.trace(rotation)))


def start_matrices(center: Matrix, targets: Matrix, orientations: Matrix) -> Matrix:
    """Carry `center` onto every target (T, 3) in every orientation (O, 3, 3), turned by 0 or +-24 degrees an axis.

    Returns the transforms, (T * O * 54, 4, 4): heads a tenth larger and smaller than the template.
    """
    angles = np.array(list(product((0.0, -24.0, 24.0), repeat=3)))
    scales = (-0.1, 0.1)
    rows = []
    for target, orientation in product(targets, orientations):
        base = np.eye(4)
        base[:3, :3] = orientation
        base[:3, 3] = target - orientation @ center
        rows.append(base)
    steps = np.array([[0, 0, 0, *turn, scale] for turn, scale in product(angles, scales)])
    bases = np.repeat(np.array(rows), len(steps), axis=0)
    return turned(bases, center, np.tile(steps, (len(rows), 1)))


def search(matcher: Matcher, starts: Matrix, center: Matrix, spread: Matrix, seed: int) -> Matrix:
    """Breed better transforms from given ones.

    Parameters
    ----------
    matcher : Matcher
    starts : array, (B, 4, 4)
    center : array, (3,)
        Template mm around which transforms turn.
    spread : array, (7,)
        Standard deviations of the first generation's steps, as in `turned`; a rigid search has no last one.
    seed : int

    Returns
    -------
    array, (4, 4) float64
        The best.

    Notes
    -----
    An evolution strategy with mutation only: in each generation the parents' children are drawn closer to them,
    and fewer parents survive. It needs no gradient, so that coarse nearest-neighbour sampling is good enough, and
    it follows several valleys until late.
    """
    rng = np.random.default_rng(seed)
    parents, merits = _fittest(starts, _merits(matcher, starts), 24)
    for generation in range(14):
        chosen = parents[np.arange(96) % len(parents)]
        children = turned(chosen, center, rng.standard_normal((96, 7)) * spread * 0.82**generation)
        family = np.concatenate([parents, children])
        merits = np.concatenate([merits, _merits(matcher, children)])
        parents, merits = _fittest(family, merits, max(4, int(24 * 0.88**generation)))
    return np.asarray(parents[0])


def _merits(matcher: Matcher, matrices: Matrix) -> Matrix:
    """Scores, a little lower for heads of unlikely size."""
    log_scale = np.log(np.abs(np.linalg.det(matrices[:, :3, :3]))) / 3
    return np.asarray(matcher.scores(matrices) * (1 - SCALE_PENALTY * (log_scale / SCALE_SIGMA) ** 2))


def _fittest(matrices: Matrix, merits: Matrix, n_kept: int) -> tuple[Matrix, Matrix]:
    """Keep the best of a population, best first."""
    order = np.argsort(-merits, kind="stable")[:n_kept]
    return matrices[order], merits[order]


def climb(matcher: Matcher, matrix: Matrix, center: Matrix) -> Matrix:
    """Fit a part of the template more closely than the transform of the whole does.

    Parameters
    ----------
    matcher : Matcher
        Of the part and its surroundings.
    matrix : array, (4, 4)
        Of the whole.
    center : array, (3,)
        Of the part, template mm.

    Returns
    -------
    array, (4, 4) float64
        Template mm to template mm, to be applied before `matrix`: a shift, a turn and a stretch along each axis.

    Notes
    -----
    Steps of 3 mm, 6 degrees and 10 %, then halves and quarters of them, while they raise the score, and no more than
    9 mm, 18 degrees and 20 %. A tenth of the score is the price of 25 mm, of 20 degrees, of 25 %: edges in the noise
    are no reason to move.
    """
    prices, limits = np.repeat([25.0, 20.0, 0.25], 3), np.repeat([9.0, 18.0, 0.2], 3)
    shifts = np.array(list(product((0.0, -3.0, 3.0), repeat=3)))
    turns_and_stretches = np.repeat([0.0, 6.0, 0.1], 3) * np.eye(9)[3:]
    neighbours = np.concatenate([np.pad(shifts, ((0, 0), (0, 6))), turns_and_stretches, -turns_and_stretches])
    best = np.zeros(9)
    for scale in (1.0, 0.5, 0.25):
        for _ in range(6):
            tried = np.clip(best + scale * neighbours, -limits, limits)
            merits = matcher.scores(matrix @ _local(tried, center)) * (1 - 0.1 * ((tried / prices) ** 2).sum(axis=1))
            winner = tried[int(np.argmax(merits))]
            if np.array_equal(winner, best):
                break
            best = winner
    return np.asarray(_local(best[None], center)[0])


def _local(parameters: Matrix, center: Matrix) -> Matrix:
    """Make transforms (B, 4, 4) about a centre of shifts in mm, rotation vectors in degrees, log stretches (B, 9)."""
    turns = Rotation.from_rotvec(parameters[:, 3:6], degrees=True).as_matrix()
    matrices = np.tile(np.eye(4), (len(parameters), 1, 1))
    matrices[:, :3, :3] = turns * np.exp(parameters[:, 6:])[:, None, :]
    matrices[:, :3, 3] = center + parameters[:, :3] - matrices[:, :3, :3] @ center
    return matrices
