"""Ensemble x test-time samples -> running sums -> labels and uncertainty of one hippocampus.

The way of one crop: a `Tally` lets every network look at the plain crop and at its random samples and
adds up what they say (`Votes`, on the crop's grid); `Votes.carried` brings the sums to the scan's own
voxels; `decide` turns them into a label map with its uncertainty; `remove_islands` cleans it.

What a vote is. The probabilities of each pass are carried back from the random view to the crop by
linear interpolation; there each voxel gets one vote, for its most probable class (shared out where
classes tie exactly), as in HSF, or for all classes by shares (`Ballot`). A voxel outside the field of
view of a pass gets none. From the crop to the scan's own voxels votes are carried like probabilities, so
that a voxel between two takes a part of each. Sums alone are kept: memory does not depend on the number
of passes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import ModelError
from bids_hsf.geometry import Grid
from bids_hsf.interpolation import PART_VOXELS
from bids_hsf.segmentation.augmentation import Mask, Still, Warp, place
from bids_hsf.segmentation.ballots import PLURALITY, Ballot, shares_of, winners
from bids_hsf.segmentation.sampling import Look
from bids_hsf.segmentation.transforms import WRITTEN_OUT, Sample, Transforms
from bids_hsf.threads import executor_of

Field = NDArray[np.float32]

# A voxel that less than half a pass saw, weights of the interpolation included, is outside.
LEAST_SEEN = 0.5
# Where a pass gives all structures together less, it is taken to be sure of the background, and four fifths of a crop
# need not be carried back. No label hangs on so little, and entropies are off by a thousandth of a nat at most.
LEAST_PROBABILITY = 1e-4


class Predictor(Protocol):
    """A network as the vote sees it."""

    def __call__(self, crop: Field) -> Field:
        """Turn a crop (X, Y, Z) into class probabilities (C, X, Y, Z), background first."""
        ...


@dataclass(frozen=True, eq=False)
class Votes:
    """Running sums over passes (members x samples) on one grid, background first.

    Attributes
    ----------
    probability_sum : array, (C, X, Y, Z) float32
        Sum of the probabilities of the passes that saw the voxel.
    vote_sum : array, (C, X, Y, Z) float32
        Sum of their votes; fractions come from shares, weights, ties and, off the crop's own grid, interpolation.
    entropy_sum : array, (X, Y, Z) float32
        Sum of the entropies of their probabilities, in nats.
    seen : array, (X, Y, Z) float32
        Number of passes whose field of view held the voxel.
    pass_volumes : array, (n_passes, C) float32
        Volume in mm3 of the voxels in which each class is the most probable one of a pass; the parts of the crop
        that it did not see are filled with the mean vote of the passes before it (the plain ones always come first).
    pass_looks : array, (n_passes,) int
        The look that each pass belongs to; 0 for the plain crop.
    plain_weight : float
        What the vote of a plain crop counts, where that of a random view counts 1.
    still_sum : array, (N, X, Y, Z) float32, or None
        Sum of the probabilities that the networks gave their own classes where they were shown the crop or its mirror
        image; None where this is `probability_sum`. How good a result is, is told from these: neither what random views
        make unsure, nor what joined classes leave sure, says anything of that.
    """

    probability_sum: Field
    vote_sum: Field
    entropy_sum: Field
    seen: Field
    pass_volumes: Field
    pass_looks: NDArray[np.intp]
    plain_weight: float = 1.0
    still_sum: Field | None = None

    @property
    def n_passes(self) -> int:
        """Members x (1 + augmentations), added up over contrasts."""
        return len(self.pass_volumes)

    def carried(self, resample: Callable[[Field], Field]) -> "Votes":
        """Bring the sums to another grid.

        Parameters
        ----------
        resample : callable
            Linear, zero outside; takes and returns (C, X, Y, Z) or (X, Y, Z) float32. Such as
            ``lambda sums: geometry.resample(sums, crop_grid, box_grid)``.
        """
        return replace(
            self,
            probability_sum=resample(self.probability_sum),
            vote_sum=resample(self.vote_sum),
            entropy_sum=resample(self.entropy_sum),
            seen=resample(self.seen),
            still_sum=None if self.still_sum is None else resample(self.still_sum),
        )

    def __add__(self, other: "Votes") -> "Votes":
        """Join the votes of two contrasts, or of two parts of an ensemble, on the same grid."""
        if self.vote_sum.shape != other.vote_sum.shape:
            raise ValueError(f"votes on different grids or classes: {self.vote_sum.shape}, {other.vote_sum.shape}")
        every = self.still_sum is None and other.still_sum is None
        return Votes(
            self.probability_sum + other.probability_sum,
            self.vote_sum + other.vote_sum,
            self.entropy_sum + other.entropy_sum,
            self.seen + other.seen,
            np.concatenate([self.pass_volumes, other.pass_volumes]),
            np.concatenate([self.pass_looks, other.pass_looks]),
            self.plain_weight,
            None if every else self._still() + other._still(),
        )

    def within(self, inside: NDArray[np.bool_], other: "Votes") -> "Votes":
        """Forget what was said outside a field of view, (X, Y, Z).

        The volumes of the passes then count what `other`, on the same grid, says of the rest.
        """
        outside = ~inside
        voxel_volume = self.pass_volumes[0].sum() / outside.size
        theirs, ours = [shares_of(votes.vote_sum[:, outside]).sum(axis=1) * voxel_volume for votes in (other, self)]
        kept = self.carried(lambda sums: sums * inside)
        return replace(kept, pass_volumes=np.maximum(self.pass_volumes + (theirs - ours), 0).astype(np.float32))

    def mean_probabilities(self) -> Field:
        """Mean softmax over the passes that saw a voxel, (C, X, Y, Z) float32; background where none did."""
        return self._mean(self.probability_sum)

    def still_probabilities(self) -> Field:
        """Tell the mean softmax, of the networks' own classes, over the crop and its mirror image, (N, X, Y, Z)."""
        return self._mean(self._still())

    def _still(self) -> Field:
        return self.probability_sum if self.still_sum is None else self.still_sum

    def _mean(self, sums: Field) -> Field:
        outside = self.seen < LEAST_SEEN
        # Interpolation may leave rounding errors in the sum over the classes: divide by that sum.
        total = sums.sum(axis=0)
        mean = sums / np.where(outside | (total <= 0), np.float32(1), total)
        mean[:, outside] = 0
        mean[0, outside] = 1
        return np.asarray(mean, dtype=np.float32)


def entropy_of(probabilities: Field) -> Field:
    """Shannon entropy in nats, (X, Y, Z) float32, of probabilities (C, X, Y, Z).

    >>> round(float(entropy_of(np.full((2, 1, 1, 1), 0.5, np.float32)).item()), 3)  # ln 2
    0.693
    """
    logarithms = np.log(np.maximum(probabilities, np.float32(1e-30)))
    logarithms *= probabilities
    return np.asarray(np.maximum(-logarithms.sum(axis=0), 0), dtype=np.float32)


def _checked(probabilities: Field, shape: tuple[int, ...]) -> Field:
    """Probabilities as they came, or a ModelError: one NaN would spoil the sums of all passes."""
    if probabilities.ndim != 4 or len(probabilities) < 2 or probabilities.shape[1:] != shape:
        raise ModelError(
            f"a network returned an array of shape {probabilities.shape} for a crop of shape {shape}; "
            "expected (classes, X, Y, Z) with at least two classes"
        )
    if not np.isfinite([probabilities.min(), probabilities.max()]).all():
        raise ModelError(
            "a network returned NaN or infinite probabilities",
            hint="Try --device cpu; if it stays, the model file or the scan holds such values.",
        )
    return probabilities


class Tally:
    """Running sums of the votes on one crop.

    Parameters
    ----------
    crop : array, (X, Y, Z) float32
        Intensities around one hippocampus, RAS+ axis order.
    grid : Grid
        Of the crop.
    transforms : Transforms
        Who places samples on it.
    merge : callable, optional
        Joins the classes of a pass, (N, X, Y, Z) to (C, X, Y, Z), before it votes: it votes for a merged label wherever
        the parts together are the most probable, and its entropy is that of the merged classes.
    ballot : Ballot
        How a pass votes.
    """

    def __init__(
        self,
        crop: Field,
        grid: Grid,
        transforms: Transforms = WRITTEN_OUT,
        merge: Callable[[Field], Field] | None = None,
        ballot: Ballot = PLURALITY,
    ) -> None:
        self._crop = np.ascontiguousarray(crop, dtype=np.float32)
        self._grid = grid
        self._transforms = transforms
        self._merge = merge
        self._ballot = ballot
        self._sums: Sums | None = None
        self._still: Field | None = None
        self._is_still_apart = merge is not None
        self._volumes: list[NDArray[np.float64]] = []
        self._looks: list[int] = []

    def add(self, predictors: Sequence[Predictor], looks: Sequence[Look], n_threads: int = 1) -> None:
        """Let networks look at the crop as it is told, and add up what they answer.

        Parameters
        ----------
        predictors : sequence of Predictor
            Called one at a time, from the thread of the caller.
        looks : sequence of Look
            Each with a sample a network. The plain one comes before any other.
        n_threads : int
            Share adding up the last pass and making the next sample between so many threads; never while a network
            runs, whose threads would wait for the one that has lost its core.

        Raises
        ------
        ModelError
            Where a network returns anything else than finite probabilities of the crop's shape.

        Notes
        -----
        A sample is made once for all networks that are shown it one after the other. Passes are added up one after
        the other, each voxel of the crop by one thread, so that sums depend on neither timing nor the number of
        threads. Memory does not depend on the number of passes.
        """
        if not predictors:
            raise ValueError("an ensemble without members cannot vote")
        passes = [
            (each.number, predictor, sample)
            for each in looks
            for predictor, sample in zip(predictors, each.samples, strict=True)
        ]
        samples = [sample for _, _, sample in passes]
        with executor_of(n_threads, "vote") as pool:
            view, warp = self._prepare(samples[0])
            for (number, predictor, sample), following in zip(passes, [*samples[1:], samples[-1]], strict=True):
                answer = _checked(predictor(view), self._crop.shape)
                self._keep_still(answer, warp)
                probabilities = answer if self._merge is None else self._merge(answer)
                upcoming = None if following is sample else pool.submit(self._prepare, following)
                self._add_pass(probabilities, warp, self._ballot.plain_weight if number == 0 else 1.0, pool)
                self._looks.append(number)
                if upcoming is not None:
                    view, warp = upcoming.result()

    def votes(self) -> Votes:
        """Tell the sums, with the volumes of all passes."""
        assert self._sums is not None
        volumes, looks = np.array(self._volumes, dtype=np.float32), np.array(self._looks, dtype=np.intp)
        still = self._still if self._is_still_apart else None
        return self._sums.votes(volumes, looks, self._ballot.plain_weight, still)

    def _prepare(self, sample: Sample | None) -> tuple[Field, Warp | Still]:
        """Make the view of the crop that a sample shows, and the way back; None for the plain crop."""
        x, y, z = self._crop.shape
        warp = place(sample, (x, y, z), self._grid.voxel_sizes, self._transforms)
        return warp.apply(self._crop), warp

    def _add_pass(self, probabilities: Field, warp: Warp | Still, weight: float, pool: Executor) -> None:
        """Carry one pass back to the crop, let it vote there, and add it to the sums.

        Parameters
        ----------
        probabilities : array, (C, X, Y, Z) float32
            On the grid that the network was shown.
        warp : Warp or Still
            The way back from there.
        weight : float
            What its vote counts.
        pool : Executor
            Its threads take some voxels of the crop each.
        """
        sums = self._sums_for(probabilities.shape)
        reached = warp.reached(probabilities[0] < np.float32(1 - LEAST_PROBABILITY))
        volume = sums.add_background(warp.seen, reached, weight)
        parts = [reached[first : first + PART_VOXELS] for first in range(0, len(reached), PART_VOXELS)]
        counts = pool.map(lambda part: _add_part(sums, probabilities, warp, self._ballot, weight, part), parts)
        self._volumes.append(np.sum([volume, *counts], axis=0) * self._grid.voxel_volume)

    def _keep_still(self, answer: Field, warp: Warp | Still) -> None:
        """Add what a network says of the crop or its mirror image, (N, X, Y, Z), before classes are joined."""
        if isinstance(warp, Warp):
            self._is_still_apart = True
            return
        still = answer[:, ::-1] if warp.mirrored else answer
        if self._still is None:
            self._still = np.zeros(still.shape, np.float32)
        if self._still.shape == still.shape:  # else the members do not fit together, which the vote tells
            self._still += still

    def _sums_for(self, shape: tuple[int, ...]) -> "Sums":
        """Give the sums that a pass of a shape (C, X, Y, Z) can be added to."""
        if self._sums is None:
            self._sums = Sums.empty(shape)
        n_known = len(self._sums.vote_sum)
        if n_known != shape[0]:
            raise ModelError(
                f"the members of the ensemble have {n_known} and {shape[0]} classes; expected as many",
                hint="Check the member files that the model card names.",
            )
        return self._sums


@dataclass(eq=False)
class Sums:
    """Running sums as `Votes` has them, but for the background: what the structures leave, it is worked out at the end.

    Attributes
    ----------
    probability_sum, vote_sum : array, (C, X, Y, Z) float32
    entropy_sum, seen : array, (X, Y, Z) float32
    told : array, (X, Y, Z) bool
        Where a pass has said anything of the structures.
    spared : float
        What votes of plain crops, which are seen everywhere, count less than one.
    """

    probability_sum: Field
    vote_sum: Field
    entropy_sum: Field
    seen: Field
    told: Mask
    spared: float = 0.0

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Sums":
        """Start for passes of a shape (C, X, Y, Z)."""
        probability, votes, entropy, seen = (np.zeros(n, np.float32) for n in (shape, shape, shape[1:], shape[1:]))
        return cls(probability, votes, entropy, seen, told=np.zeros(shape[1:], np.bool_))

    def add_background(self, seen: Mask, reached: NDArray[np.intp], weight: float) -> NDArray[np.float64]:
        """Add a pass, sure of the background in all that it saw but did not reach; tells how many voxels classes get.

        Voxels that the pass did not see count as in the mean vote of those before it: of all but those of which
        another one had said anything that is the background. Returns (C,).
        """
        missed = np.flatnonzero(self.told & ~seen)
        structures = self.vote_sum[1:].reshape(len(self.vote_sum) - 1, -1)[:, missed]
        shares = structures / (self.seen.ravel()[missed] - np.float32(self.spared))
        n_voxels: NDArray[np.float64] = np.zeros(len(self.vote_sum))
        n_voxels[1:] = shares.sum(axis=1, dtype=np.float64)
        n_voxels[0] = seen.size - len(reached) - n_voxels.sum()
        self.seen += seen
        self.spared += 1 - weight
        self.told.ravel()[reached] = True
        return n_voxels

    def votes(
        self, pass_volumes: Field, pass_looks: NDArray[np.intp], plain_weight: float, still_sum: Field | None
    ) -> Votes:
        """Tell the sums of all classes: views of these, until the next pass is added."""
        given = self.seen - np.float32(self.spared)
        for total, (background, *structures) in ((self.seen, self.probability_sum), (given, self.vote_sum)):
            background[:] = np.maximum(total - sum(structures), 0)
        every = (self.probability_sum, self.vote_sum, self.entropy_sum, self.seen)
        return Votes(*every, pass_volumes, pass_looks, plain_weight, still_sum)


def _add_part(
    sums: Sums, probabilities: Field, warp: Warp | Still, ballot: Ballot, weight: float, voxels: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Add what a pass says of voxels of the crop that it saw; returns how many of them each class gets, (C,)."""
    # Background is what the structures leave, so it need not be carried.
    structures = warp.invert(probabilities[1:], voxels)
    carried = np.concatenate([np.maximum(1 - structures.sum(axis=0), 0)[None], structures])
    votes = ballot.cast(carried)
    won = votes if ballot.power is None else winners(carried)
    np.add.at(sums.entropy_sum.ravel(), voxels, entropy_of(carried))
    for total, values in ((sums.probability_sum, structures), (sums.vote_sum, votes[1:] * np.float32(weight))):
        for channel, added in zip(total[1:], values, strict=True):
            np.add.at(channel.ravel(), voxels, added)  # faster than +=, which picks and puts back
    return np.asarray(won.sum(axis=1, dtype=np.float64))
