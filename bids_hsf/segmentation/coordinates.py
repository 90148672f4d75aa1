"""Unfolded coordinates: where along and across the folded sheet of grey matter a voxel of a hippocampus lies.

They turn a label map into an unfolded one: AP runs from 0 at the front end of the sheet to 1 at the end of the tail, PD
from 0 where subiculum begins to 1 where CA4 ends, IO from 0 at the inner surface to 1 at the outer one (DeKraker et
al., eLife 2022, doi:10.7554/eLife.77945). HippUnfold solves Laplace's equation for them; here a network that a card
names tells them from the probabilities of its labels, so that they go with whatever networks have voted, and on
whatever contrast.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import ModelError, UsageError
from bids_hsf.geometry import Grid, next_multiple, pad_to_shape, resample, unpad
from bids_hsf.hub import OFFLINE_MODEL
from bids_hsf.hub.cards import Coordinates, ModelCard
from bids_hsf.hub.models import member_path
from bids_hsf.labels import COORDINATES, Merge
from bids_hsf.networks.sessions import CPU, MemberFile, Network, SessionSettings

LEAST_GREY = 1e-3  # of a voxel; with less, what lies around it says nothing of its place on the sheet

Field = NDArray[np.float32]


class CoordinatesNetwork:
    """The network of a card that tells coordinates, opened.

    It runs on the CPU, where a pass takes a tenth of a second, so that coordinates do not depend on the device.

    Parameters
    ----------
    card : ModelCard
    n_threads : int

    Raises
    ------
    UsageError
        The card names none.
    ModelError
        Its file is no such network.
    """

    def __init__(self, card: ModelCard, n_threads: int) -> None:
        told = coordinates_of(card)
        member = told.network
        file = MemberFile(member_path(member, card), member.checksums)
        self._network: Network = file.open(SessionSettings(CPU, {}, n_threads))
        self._pad_multiple = card.pad_multiple
        self._grey = list(told.labels)

    def __call__(self, probabilities: Field) -> "SheetPlaces":
        """Tell the coordinates of a crop.

        Parameters
        ----------
        probabilities : array, (1 + labels, X, Y, Z) float32
            Of the networks' own classes, background first, on the grid that they were shown.
        """
        shape = tuple(next_multiple(n, self._pad_multiple) for n in probabilities.shape[1:])
        padded, pads = pad_to_shape(probabilities[1:], shape)
        values = self._network.run(np.ascontiguousarray(padded[None], dtype=np.float32))
        if values.shape != (1, len(COORDINATES), *shape) or not ((values >= 0) & (values <= 1)).all():
            found = f"{values.min():.3g} to {values.max():.3g}" if values.size else "none"
            raise ModelError(
                f"{self._network.path}: expected coordinates from 0 to 1 of shape (1, {len(COORDINATES)}, "
                f"{', '.join(map(str, shape))}), got {found} of shape {values.shape}",
                "Look at `coordinates` in the model card: hsf-hub validate",
            )
        grey = probabilities[self._grey].sum(axis=0)
        return SheetPlaces(unpad(values[0], pads), grey, probabilities[1:].sum(axis=0) - grey)


@dataclass(frozen=True, eq=False)
class SheetPlaces:
    """Coordinates on the grid of a crop.

    Attributes
    ----------
    values : array, (3, X, Y, Z) float32
        `COORDINATES`, 0 to 1, everywhere.
    grey, other : array, (X, Y, Z) float32
        Probability of the labels that have coordinates, and of those that have none.
    """

    values: Field
    grey: Field
    other: Field

    def carried(self, source: Grid, target: Grid, labels: NDArray[np.uint8], known: Mapping[int, bool]) -> Field:
        """Bring the coordinates to the voxels of a label map.

        Each voxel takes those of the grey matter around it: what lies in between, on other sides of the fold, has none.

        Parameters
        ----------
        source, target : Grid
            Of the crop and of `labels`.
        labels : array, (X, Y, Z) uint8
        known : mapping of int to bool
            Labels with coordinates; true for one that joins others that have none.

        Returns
        -------
        array, (3, X, Y, Z) float32
            0 where there are none.
        """
        grey, other, *weighted = resample(
            np.concatenate([self.grey[None], self.other[None], self.values * self.grey]), source, target
        )
        has = np.isin(labels, list(known)) & (grey > LEAST_GREY)
        has &= ~np.isin(labels, [index for index, is_mixed in known.items() if is_mixed]) | (grey > other)
        return np.asarray(np.where(has, weighted / np.maximum(grey, np.float32(LEAST_GREY)), 0), dtype=np.float32)


def coordinates_of(card: ModelCard) -> Coordinates:
    """Give what a card says of coordinates.

    Raises
    ------
    UsageError
        Where it says nothing.
    """
    if card.coordinates is None:
        raise UsageError(
            f"{card.name} has no network that tells unfolded coordinates",
            f"Leave out --write-coords, or choose a model whose card names one, such as {OFFLINE_MODEL}.",
        )
    return card.coordinates


def labels_with_coordinates(card: ModelCard, merge: Merge | None) -> dict[int, bool]:
    """Tell which labels have coordinates, and which of these join others that have none."""
    grey, parts = coordinates_of(card).labels, merge.parts if merge else {}
    mixed = {parts.get(label.index, label.index) for label in card.labels if label.index not in grey}
    return {index: index in mixed for index in sorted(parts.get(index, index) for index in grey)}
