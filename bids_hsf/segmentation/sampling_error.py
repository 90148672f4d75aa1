"""How exact volumes are that come of a limited number of random views."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bids_hsf.segmentation.votes import Field, Votes

# Views that follow each other complete one another (one is mirrored, the other not): they are judged together, as
# those of several networks in one look are anyway.
PAIR = 2
LEAST_GROUPS = 4
# A structure smaller than this share of its hippocampus is held against that share: 1 % of CA2 is a voxel.
LEAST_SHARE = 0.1


def sampling_error(pass_volumes: Field, pass_looks: NDArray[np.intp], plain_weight: float = 1.0) -> NDArray[np.float64]:
    """Estimate the standard error of the mean volume of each class that comes of the number of random views.

    What more views would change, not what the networks do not know. Groups of looks are taken for independent, as they
    are where views are drawn one by one; those of a sequence balance each other, and come out too large if anything.

    Parameters
    ----------
    pass_volumes : array, (n_passes, C) float32
        In mm3.
    pass_looks : array, (n_passes,) int
        The look that each pass belongs to; 0 for the plain crop.
    plain_weight : float
        What the vote of the plain crop counts, where that of a random view counts 1.

    Returns
    -------
    array, (C,) float64
        In mm3; NaN below four looks of several networks, or eight of one.

    >>> volumes = np.array([[10], [9], [11], [10], [10], [12], [8], [10], [11]], np.float32)
    >>> sampling_error(volumes, np.arange(9)).round(3).tolist()
    [0.111]
    """
    means = _means_of_groups(pass_volumes, pass_looks)
    if len(means) < LEAST_GROUPS:
        return np.full(pass_volumes.shape[1], np.nan)
    n_looks = int(pass_looks.max())
    of_views = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    # The plain crop votes as well, and is no matter of chance.
    return np.asarray(of_views * n_looks / (plain_weight + n_looks))


def _means_of_groups(pass_volumes: Field, pass_looks: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean volumes (n_groups, C) of looks that are judged together."""
    group_size = PAIR if np.count_nonzero(pass_looks == 1) == 1 else 1
    n_groups = int(pass_looks.max(initial=0)) // group_size
    group_of = (pass_looks - 1) // group_size
    groups = [pass_volumes[group_of == group].mean(axis=0, dtype=np.float64) for group in range(n_groups)]
    return np.array(groups).reshape(n_groups, pass_volumes.shape[1])


def is_steady(votes: Votes, tolerance: float) -> bool:
    """Whether more random views would leave every volume within a tolerance, a share, in 19 of 20 cases."""
    error = sampling_error(votes.pass_volumes, votes.pass_looks, votes.plain_weight)[1:]
    # Student's t: four groups may look steady by chance.
    n_groups = len(_means_of_groups(votes.pass_volumes, votes.pass_looks))
    reach = stdtrit(max(1, n_groups - 1), 0.975) * error
    volumes = votes.pass_volumes[:, 1:].mean(axis=0, dtype=np.float64)
    held_against = np.maximum(volumes, LEAST_SHARE * volumes.sum())
    return bool(np.all(reach <= tolerance * held_against))
