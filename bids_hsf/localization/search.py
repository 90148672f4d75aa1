"""Search for a transform without gradients: an evolution strategy, and the poses it starts from."""

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from bids_hsf.geometry import Matrix
from bids_hsf.localization.metric import MutualInformation
from bids_hsf.localization.rotations import rotation_matrices


@dataclass(frozen=True)
class StartSettings:
    """Which poses a search of a whole head starts from.

    Attributes
    ----------
    turn_degrees : float
        About each axis, to either side and not at all: a search finds what is no more than half of this away.
    log_scale : float
        Heads so much larger and smaller than the template, as the logarithm of a scale.
    """

    turn_degrees: float = 24.0
    log_scale: float = 0.1


@dataclass(frozen=True)
class SearchSettings:
    """How an evolution strategy breeds; the defaults find a head in a scan.

    Attributes
    ----------
    shift_mm, turn_degrees, log_scale : float
        Standard deviations of the first generation's steps, an axis: how far a search strays from its starts. A
        scale of 0 makes it rigid.
    n_parents : int
        Of the first generation: more follow more valleys.
    n_children : int
        Of each generation.
    n_generations : int
        After so many the steps are a sixteenth of the first ones.
    step_decay : float
        Share of a generation's steps that the next one takes.
    parent_decay : float
        Share of the parents that are left in the next generation.
    min_parents : int
        As many are left however late it is.
    scale_sigma : float
        One standard deviation of head size, as the logarithm of a scale: adult heads lie within +-0.2.
    scale_penalty : float
        Share of the score that a head one standard deviation from the template's size loses.
    """

    shift_mm: float = 14.0
    turn_degrees: float = 10.0
    log_scale: float = 0.08
    n_parents: int = 24
    n_children: int = 96
    n_generations: int = 14
    step_decay: float = 0.82
    parent_decay: float = 0.88
    min_parents: int = 4
    scale_sigma: float = 0.15
    scale_penalty: float = 0.03

    @property
    def spread(self) -> Matrix:
        """Standard deviations (7,) of the first steps, in the order of `turned`."""
        return np.array([*[self.shift_mm] * 3, *[self.turn_degrees] * 3, self.log_scale])

    def parents_after(self, generation: int) -> int:
        """How many parents are left after a generation, the first being 0."""
        return max(self.min_parents, int(self.n_parents * self.parent_decay**generation))


HEAD_STARTS = StartSettings()
HEAD_SEARCH = SearchSettings()


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
    turns = rotation_matrices(steps[:, 3:6]) * np.exp(steps[:, 6])[:, None, None]
    moved = np.tile(np.eye(4), (len(steps), 1, 1))
    moved[:, :3, :3] = turns @ matrices[:, :3, :3]
    anchors = matrices[:, :3, :3] @ center + matrices[:, :3, 3] + steps[:, :3]
    moved[:, :3, 3] = anchors - moved[:, :3, :3] @ center
    return moved


def scaled(matrix: Matrix, center: Matrix, scale: float) -> Matrix:
    """Let what a transform (4, 4) makes of the template grow around the image of `center` (3,)."""
    step = np.array([[0, 0, 0, 0, 0, 0, np.log(scale)]])
    return np.asarray(turned(matrix[None], center, step)[0])


def cube_rotations() -> Matrix:
    """All 24 proper rotations (24, 3, 3) that carry axes to axes, the identity first."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        rotation = np.zeros((3, 3))
        rotation[range(3), order] = signs
        if np.linalg.det(rotation) > 0:
            found.append(rotation)
    return np.array(sorted(found, key=lambda rotation: -np.trace(rotation)))


def start_matrices(
    center: Matrix, targets: Matrix, orientations: Matrix, settings: StartSettings = HEAD_STARTS
) -> Matrix:
    """Carry `center` onto every target (T, 3) in every orientation (O, 3, 3), turned a little about each axis.

    Returns the transforms, (T * O * 54, 4, 4): heads a little larger and smaller than the template.
    """
    angles = np.array(list(product((0.0, -settings.turn_degrees, settings.turn_degrees), repeat=3)))
    scales = (-settings.log_scale, settings.log_scale)
    rows = []
    for target, orientation in product(targets, orientations):
        base = np.eye(4)
        base[:3, :3] = orientation
        base[:3, 3] = target - orientation @ center
        rows.append(base)
    steps = np.array([[0, 0, 0, *turn, scale] for turn, scale in product(angles, scales)])
    bases = np.repeat(np.array(rows), len(steps), axis=0)
    return turned(bases, center, np.tile(steps, (len(rows), 1)))


def search(
    metric: MutualInformation, starts: Matrix, center: Matrix, seed: int, settings: SearchSettings = HEAD_SEARCH
) -> Matrix:
    """Breed better transforms from given ones.

    Parameters
    ----------
    metric : MutualInformation
    starts : array, (B, 4, 4)
    center : array, (3,)
        Template mm around which transforms turn.
    seed : int
    settings : SearchSettings

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
    parents, fitness = _fittest(starts, _fitness(metric, starts, settings), settings.n_parents)
    for generation in range(settings.n_generations):
        chosen = parents[np.arange(settings.n_children) % len(parents)]
        steps = rng.standard_normal((settings.n_children, 7)) * settings.spread * settings.step_decay**generation
        children = turned(chosen, center, steps)
        family = np.concatenate([parents, children])
        fitness = np.concatenate([fitness, _fitness(metric, children, settings)])
        parents, fitness = _fittest(family, fitness, settings.parents_after(generation))
    return np.asarray(parents[0])


def _fitness(metric: MutualInformation, matrices: Matrix, settings: SearchSettings) -> Matrix:
    """Scores, a little lower for heads of unlikely size."""
    log_scale = np.log(np.abs(np.linalg.det(matrices[:, :3, :3]))) / 3
    penalty = settings.scale_penalty * (log_scale / settings.scale_sigma) ** 2
    return np.asarray(metric.scores(matrices) * (1 - penalty))


def _fittest(matrices: Matrix, fitness: Matrix, n_kept: int) -> tuple[Matrix, Matrix]:
    """Keep the best of a population, best first."""
    order = np.argsort(-fitness, kind="stable")[:n_kept]
    return matrices[order], fitness[order]
