"""The networks of an ensemble: which of them are open at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_hsf.hub.cards import ModelCard
from bids_hsf.machine import release_memory
from bids_hsf.networks.device import Device
from bids_hsf.networks.predictor import OnnxPredictor


class Members:
    """The networks of an ensemble, to be gone through member by member; one is open at a time, or all are kept.

    An open network keeps the memory of its largest pass: five of HSF's would take 4 GB. Going on to the
    next member closes the last one, and opening takes as long as a few passes, so whoever has many crops
    for a member shows them all before the next. A single network stays open for all scans.

    Parameters
    ----------
    paths : sequence of Path
        ONNX files.
    card : ModelCard
    device : Device
    kept_bytes : int
        Every network that has been opened is kept where they take no more together, by estimate.

    Raises
    ------
    ModelError
        The first file is no such network, or does not fit the card; of the others, while going through.
    """

    def __init__(self, paths: Sequence[Path], card: ModelCard, device: Device, kept_bytes: int = 0) -> None:
        self._paths = tuple(paths)
        self._card = card
        self._device = device
        self._open: dict[Path, OnnxPredictor] = {}
        self.all_open = True
        first = next(iter(self))  # a card that does not fit its networks is found before the first scan
        self.all_open = len(paths) == 1 or len(paths) * first.open_bytes <= kept_bytes

    @property
    def n_open(self) -> int:
        """Networks that are open now."""
        return len(self._open)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[OnnxPredictor]:
        """Open and yield each network in the order of the card."""
        for path in self._paths:
            if path not in self._open:
                self._close()  # before the next is opened
                self._open[path] = OnnxPredictor(path, self._card, self._device)
            yield self._open[path]
        self._close()  # the next round begins with another one

    def close_all(self) -> None:
        """Close what is open, for good."""
        self._open.clear()
        release_memory()

    def _close(self) -> None:
        if self._open and not self.all_open:
            self._open.clear()
            release_memory()
