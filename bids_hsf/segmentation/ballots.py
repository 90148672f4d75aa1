"""How a pass votes in a voxel: for its most probable class, as in HSF, or for all classes by shares."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Ballot:
    """A way to vote.

    Attributes
    ----------
    power : float or None
        A pass gives each class its probability to this power, over the sum of all; None: all to the most probable one.
    plain_weight : float
        What the vote of the plain crop counts, where that of a random view counts 1.

    Notes
    -----
    A voxel whose two most probable classes are close changes its whole vote from view to view: by shares a part of
    it, so that few views come as near to the limit as twice as many that vote for one class. The plain crop is no
    draw of the recipe's: beside few views it weighs more than it does beside many; whole, it leaves volumes a third
    further off after 8. Powers of 1 and 2 are as good (``tests/benchmarks/sampling.py``).
    """

    power: float | None = None
    plain_weight: float = 1.0

    def cast(self, probabilities: Field) -> Field:
        """Tell the vote of a random view in voxels that it saw, (C, ...), which sums to 1, from its probabilities."""
        if self.power is None:
            return winners(probabilities)
        return shares_of(probabilities ** np.float32(self.power))


PLURALITY = Ballot()
SHARES = Ballot(power=1.5, plain_weight=0.4)
BALLOTS: dict[Literal["plurality", "shares"], Ballot] = {"plurality": PLURALITY, "shares": SHARES}


def shares_of(votes: Field) -> Field:
    """Votes (C, ...) as shares of all of a voxel; 0 where there are none."""
    total = votes.sum(axis=0)
    return np.asarray(votes / np.where(total > 0, total, np.float32(1)))


def winners(probabilities: Field) -> Field:
    """One vote (C, ...) for the most probable class of each voxel, shared out between ties."""
    best = (probabilities == probabilities.max(axis=0)).astype(np.float32)
    return np.asarray(best / best.sum(axis=0))
