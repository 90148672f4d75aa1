"""Votes on one hippocampus to labels and their uncertainty, freed of islands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.errors import ModelError
from bids_hsf.labels import Label
from bids_hsf.segmentation.ballots import shares_of
from bids_hsf.segmentation.votes import LEAST_SEEN, Field, Votes, entropy_of

# Votes nearer than this share of all are a tie: far above rounding, far below one vote of a thousand.
TIE_TOLERANCE = 1e-4
ISLAND_SHARE = 0.1
ISLAND_GAP_MM = 3.0


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels and uncertainty of one hemisphere, on the grid of its `Votes`.

    The four maps of uncertainty are shares, 0-1; entropies are divided by ln(number of classes).
    A voxel that no pass saw is background and certain: entropies 0, vote share 1.

    Attributes
    ----------
    labels : array, (X, Y, Z) uint8
        Index of the label that won the vote; 0 for background.
    entropy : array, (X, Y, Z) float32
        Predictive entropy, that of the mean probabilities: total uncertainty.
    expected_entropy : array, (X, Y, Z) float32
        Mean entropy of the single passes: what each pass itself is unsure of.
    mutual_information : array, (X, Y, Z) float32
        Their difference: what the passes disagree on.
    vote_share : array, (X, Y, Z) float32
        Share of the votes that the winner got.
    n_passes : int
        Passes that voted.
    still_entropy : array, (X, Y, Z) float32
        Predictive entropy of the networks' own classes, over the passes that were shown the crop or its mirror image:
        it tells how good the labels are, whatever was joined and whatever views were added.
    """

    labels: NDArray[np.uint8]
    entropy: Field
    expected_entropy: Field
    mutual_information: Field
    vote_share: Field
    n_passes: int
    still_entropy: Field


@dataclass(frozen=True, eq=False)
class VolumeSpread:
    """How far the passes agree on volumes; all arrays (C,) float64 in mm3, background first.

    Attributes
    ----------
    mean, sd : array
        Over the passes; `sd` (n - 1) is NaN for a single pass.
    low, high : array
        2.5th and 97.5th percentile of the passes: an interval that holds 95 % of them.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def decide(votes: Votes, labels: Sequence[Label]) -> Segmentation:
    """Turn votes into labels by plurality, with the uncertainty of the decision.

    Parameters
    ----------
    votes : Votes
        On any grid; fractions are expected.
    labels : sequence of Label
        Those of the channels after background, in order (the merge's, where channels were merged).

    Returns
    -------
    Segmentation
        Where classes tie (within 1e-4 of the votes), the one with the higher mean probability wins.

    Raises
    ------
    ModelError
        Where there is not one channel for background and one for each label.
    """
    n_classes = len(votes.vote_sum)
    if n_classes != len(labels) + 1:
        raise ModelError(
            f"the network has {n_classes} output channels, its card {len(labels)} labels; "
            f"expected {len(labels) + 1} channels, background first",
            hint="Check `labels` in the model card, or the file that it names.",
        )
    inside = votes.seen >= LEAST_SEEN
    seen = np.where(inside, votes.seen, np.float32(1))
    best = votes.vote_sum.max(axis=0)
    contenders = votes.vote_sum >= best - TIE_TOLERANCE * seen
    channels = np.where(contenders, votes.probability_sum, np.float32(-1)).argmax(axis=0)
    channels[~inside] = 0
    indices = np.array([0, *(label.index for label in labels)], dtype=np.uint8)
    vote_share = np.take_along_axis(shares_of(votes.vote_sum), channels[None], axis=0)[0]

    entropy = entropy_of(votes.mean_probabilities())
    # A mean over the same passes: never above the entropy of the mean (Jensen), rounding apart.
    expected = np.minimum(np.where(inside, votes.entropy_sum / seen, 0), entropy)
    most = np.log(n_classes)
    still_entropy = entropy / most
    if votes.still_sum is not None:
        still_entropy = entropy_of(votes.still_probabilities()) / np.log(len(votes.still_sum))
    return Segmentation(
        labels=indices[channels],
        entropy=_share(entropy / most),
        expected_entropy=_share(expected / most),
        mutual_information=_share((entropy - expected) / most),
        vote_share=_share(np.where(inside, vote_share, 1)),
        n_passes=votes.n_passes,
        still_entropy=_share(still_entropy),
    )


def volume_spread(pass_volumes: Field) -> VolumeSpread:
    """Mean, deviation and interval of the volumes of the passes (n_passes, C), in their own unit.

    >>> volume_spread(np.array([[10.0], [12.0]], np.float32)).mean.tolist()
    [11.0]
    """
    volumes = pass_volumes.astype(np.float64)
    low, high = np.percentile(volumes, [2.5, 97.5], axis=0)
    sd = volumes.std(axis=0, ddof=1) if len(volumes) > 1 else np.full(volumes.shape[1], np.nan)
    return VolumeSpread(volumes.mean(axis=0), sd, low, high)


def remove_islands(labels: NDArray[np.uint8], voxel_sizes: NDArray[np.float64]) -> tuple[NDArray[np.uint8], int]:
    """Remove what lies far from the main body of one hippocampus.

    All structures of the hemisphere together are split into components (voxels that touch, corners
    included). The largest is the main body. Of the others those stay that have at least a tenth of
    its voxels, or come within 3 mm of it: a tail that is thin at one place, or a hippocampus that a
    cyst divides, is not an island.

    Parameters
    ----------
    labels : array, (X, Y, Z) uint8
        One hemisphere; 0 is background.
    voxel_sizes : array, (3,)
        In mm.

    Returns
    -------
    labels : array, (X, Y, Z) uint8
        Without islands; a new array only where there are any.
    n_components : int
        Components before any was removed; 0 for an empty map, 1 for a map with nothing to flag.
    """
    components, n_components = ndimage.label(labels, structure=np.ones((3, 3, 3)))
    if n_components < 2:
        return labels, n_components
    numbers = np.arange(1, n_components + 1)
    sizes = np.bincount(components.ravel())[1:]
    main = numbers[sizes.argmax()]
    # Of centres of voxels: those that touch are one voxel size apart.
    distances = ndimage.distance_transform_edt(components != main, sampling=voxel_sizes)
    nearest = np.asarray(ndimage.minimum(distances, components, numbers))
    stay = (sizes >= ISLAND_SHARE * sizes.max()) | (nearest <= ISLAND_GAP_MM)
    if stay.all():
        return labels, n_components
    return np.where(np.concatenate([[True], stay])[components], labels, np.uint8(0)), n_components


def _share(values: NDArray[np.floating]) -> Field:
    """Clip rounding errors off a share."""
    return np.asarray(np.clip(values, 0, 1), dtype=np.float32)
