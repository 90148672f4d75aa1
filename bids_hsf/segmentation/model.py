"""A model that is open, and what may be asked of it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import UsageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import Ensemble
from bids_hsf.labels import Label, Merge, merge_channels
from bids_hsf.libraries import release_libraries
from bids_hsf.machine import allowed_cores, return_large_arrays
from bids_hsf.networks.device import Device, choose_device, settings_to_try
from bids_hsf.networks.members import Members, member_files
from bids_hsf.networks.rehearsal import rehearse
from bids_hsf.networks.sessions import MemberFile
from bids_hsf.segmentation.coordinates import CoordinatesNetwork
from bids_hsf.segmentation.sampling import import_libraries
from bids_hsf.segmentation.votes import Predictor
from bids_hsf.text_table import near

logger = logging.getLogger(__name__)

# Where it is asked when there are enough random views: first after so many, then after so many more, at last never.
FIRST_LOOKS, FURTHER_LOOKS, MOST_LOOKS = 8, 4, 64
SMALL_ENSEMBLE_BYTES = 512 << 20  # stays open as a whole, and shares each random view


@dataclass(frozen=True)
class Options:
    """What may be chosen for a segmentation beside the model.

    Attributes
    ----------
    n_augmentations : int or None
        Random views of each crop beside the plain one; None for the card's number.
    tolerance : float or None
        Where given, as many views are taken instead as it takes until volumes are this exact, as a share.
    seed : int
        Of the random views.
    margin_mm : float or None
        Around the hippocampus; None for the card's, or the app's default.
    keep_islands : bool
        Leave what lies far from the main body of a hippocampus.
    full_uncertainty : bool
        Give mutual information, expected entropy and vote share beside the entropy.
    probabilities : bool
        Give the mean probability of each structure.
    coordinates : bool
        Give unfolded coordinates.
    """

    n_augmentations: int | None = None
    tolerance: float | None = None
    seed: int = 42
    margin_mm: float | None = None
    keep_islands: bool = False
    full_uncertainty: bool = False
    probabilities: bool = False
    coordinates: bool = False

    def augmentations_of(self, card: ModelCard) -> int:
        """Random views beside the plain pass, at most; of a recipe whose views are all equal, one."""
        number = card.n_augmentations if self.n_augmentations is None else self.n_augmentations
        if self.tolerance is not None:
            number = MOST_LOOKS
        return min(number, 1) if card.recipe.mirrors_alone else number

    def sampling_of(self, card: ModelCard) -> "Sampling":
        """Tell how many random views are taken of each crop, and when that is enough."""
        most = self.augmentations_of(card)
        return Sampling(most, None if card.recipe.mirrors_alone else self.tolerance)


@dataclass(frozen=True)
class Sampling:
    """How many random views are taken of each crop.

    Attributes
    ----------
    most : int
        Beside the plain one.
    tolerance : float or None
        Fewer are enough once volumes are this exact, as a share; None to take them all.
    """

    most: int
    tolerance: float | None = None

    def steps(self) -> Iterator[int]:
        """Yield how many looks to take before asking whether that is enough; the first is the plain one.

        >>> list(Sampling(20).steps())
        [21]
        >>> list(Sampling(16, tolerance=0.01).steps())
        [9, 4, 4]
        """
        first = self.most if self.tolerance is None else min(FIRST_LOOKS, self.most)
        yield 1 + first
        for done in range(first, self.most, FURTHER_LOOKS):
            yield min(FURTHER_LOOKS, self.most - done)


DEFAULTS = Options()


class Model:
    """Networks that are open on a device, shared by all scans of a process.

    In a ``with`` statement they are closed at its end.

    Parameters
    ----------
    card : ModelCard
    files : sequence of MemberFile or Path
        Of its members, in the card's order.
    device : Device
        Where they run, with how many threads, in how much memory.
    merge : Merge, optional
        Labels to be joined before the vote.
    augmented : bool, optional
        Whether crops will be seen in random views too, so that networks are opened for many passes; by default as
        the card says.

    Raises
    ------
    ModelError
        A file is no network of the contract, or does not fit its card.

    Attributes
    ----------
    card : ModelCard
    device : Device
    merge : Merge or None
    """

    def __init__(
        self,
        card: ModelCard,
        files: Sequence[MemberFile | Path],
        device: Device,
        merge: Merge | None = None,
        *,
        augmented: bool | None = None,
    ) -> None:
        self.card = card
        self.device = device
        self.merge = merge
        if augmented is None:
            augmented = self.card.n_augmentations > 0
        if augmented and not self.card.recipe.mirrors_alone and device.n_threads > 1:
            # Until the first view is made, loading and locating the scan leave a core idle.
            Thread(target=import_libraries, args=(self.card.recipe,), name="import libraries").start()
        return_large_arrays()
        half = device.memory_bytes // 2
        # With two passes a scan, opening would take as long as they do.
        kept_bytes = min(half, SMALL_ENSEMBLE_BYTES) if augmented else half
        self.members = Members(files, card, device, kept_bytes)
        self._coordinates: CoordinatesNetwork | None = None
        release_libraries()

    def __enter__(self) -> "Model":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the networks; the model is of no use afterwards."""
        self._coordinates = None
        self.members.close_all()

    def coordinates_network(self) -> CoordinatesNetwork:
        """Give the network that tells coordinates, opened by the first who asks; threads ask after that.

        Raises
        ------
        UsageError
            The card names none.
        ModelError
            Its file is no such network.
        """
        if self._coordinates is None:
            self._coordinates = CoordinatesNetwork(self.card, self.device.n_threads)
        return self._coordinates

    @property
    def labels(self) -> tuple[Label, ...]:
        """Structures of one hemisphere."""
        return self.merge.labels if self.merge else self.card.labels

    def groups(self) -> Iterator[tuple[slice, list[Predictor]]]:
        """Yield the networks that are open at a time, all or one, and which of the members they are."""
        if self.members.all_open:
            yield slice(0, len(self.members)), list(self.members)
            return
        networks = iter(self.members)
        for index in range(len(self.members)):  # enumerate would hold on to a network while the next is opened
            network = next(networks)
            yield slice(index, index + 1), [network]
            del network  # so that it is closed before the next is opened

    def joined(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Join the classes of a pass, (N, X, Y, Z), that the merge joins."""
        return np.asarray(merge_channels(probabilities, self.merge, self.card.labels), dtype=np.float32)


def open_ensemble(
    ensemble: Ensemble,
    device: str = "auto",
    n_threads: int | None = None,
    merge: Merge | None = None,
    *,
    reduced_precision: bool = False,
) -> Model:
    """Choose a device for an ensemble and open it there.

    Parameters
    ----------
    ensemble : Ensemble
    device : str
        "auto", or the name of a provider.
    n_threads : int, optional
        By default all cores that this process may use.
    merge : Merge, optional
        Labels to be joined before the vote.
    reduced_precision : bool
        Let providers compute in fewer bits than float32 where the hardware has them.

    Raises
    ------
    DeviceError
        The device is unknown, not there, or wrong.
    ModelError
        A file is no network of the contract, or does not fit its card.
    """
    files = member_files(ensemble.member_paths, ensemble.card)
    threads = min(n_threads or allowed_cores(), allowed_cores())
    rehearse(files, settings_to_try(device, threads, reduced_precision=reduced_precision))
    chosen = choose_device(device, files[0], threads, reduced_precision=reduced_precision)
    logger.info("%s on %s, %d thread(s) (%s)", ensemble.card.name, chosen.provider, chosen.n_threads, chosen.reason)
    return Model(ensemble.card, files, chosen, merge)


def find_merge(card: ModelCard, name: str | None) -> Merge | None:
    """Find the card's label set of a name; None stands for the labels as the network has them."""
    if name is None:
        return None
    for merge in card.merges:
        if merge.name == name:
            return merge if merge.parts else None
    offered = ", ".join(merge.name for merge in card.merges) or "none"
    meant = near(name, [merge.name for merge in card.merges])
    raise UsageError(f"--ca-mode {name} is not offered by {card.name}", f"{meant}It offers: {offered}")
