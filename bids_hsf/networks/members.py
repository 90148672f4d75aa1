"""The networks of an ensemble: which of them are open at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_hsf.hub.cards import ModelCard
from bids_hsf.machine import release_memory
from bids_hsf.networks.device import Device
from bids_hsf.networks.predictor import OnnxPredictor
from bids_hsf.networks.sessions import MemberFile


def member_files(sources: Sequence[Path | MemberFile], card: ModelCard) -> tuple[MemberFile, ...]:
    """Join the files of an ensemble, in the order of its card, with the checksums that the card states.

    What is a `MemberFile` already stays as it is. A card without members (one that was made in memory) states none.
    """
    stated: list[dict[str, str]] = [member.checksums for member in card.members] or [{} for _ in sources]
    return tuple(
        source if isinstance(source, MemberFile) else MemberFile(source, checksums)
        for source, checksums in zip(sources, stated, strict=True)
    )


class Members:
    """The networks of an ensemble, to be gone through member by member; one is open at a time, or all are kept.

    An open network keeps the memory of its largest pass: five of HSF's would take 4 GB. Going on to the
    next member closes the last one, and opening takes as long as a few passes, so whoever has many crops
    for a member shows them all before the next. A single network stays open for all scans.

    Each opening proves that the bytes which are loaded are those that the card names: what was verified when the run
    began may have been exchanged since.

    Parameters
    ----------
    files : sequence of Path or of MemberFile
        ONNX files in the order of the card; `member_files` of paths gives the others, which keep what the choice of
        the device has opened.
    card : ModelCard
    device : Device
    kept_bytes : int
        Every network that has been opened is kept where they take no more together, by estimate.

    Raises
    ------
    ModelError
        The first file is no such network, not the one of the card, or does not fit it; of the others, while going
        through.
    """

    def __init__(
        self, files: Sequence[Path | MemberFile], card: ModelCard, device: Device, kept_bytes: int = 0
    ) -> None:
        self._files = member_files(files, card)
        self._card = card
        self._device = device
        self._open: dict[MemberFile, OnnxPredictor] = {}
        self.all_open = True
        first = next(iter(self))  # a card that does not fit its networks is found before the first scan
        self.all_open = len(self) == 1 or len(self) * first.open_bytes <= kept_bytes

    @property
    def n_open(self) -> int:
        """Networks that are open now."""
        return len(self._open)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[OnnxPredictor]:
        """Open and yield each network in the order of the card."""
        for file in self._files:
            if file not in self._open:
                self._close()  # before the next is opened
                self._open[file] = OnnxPredictor(file, self._card, self._device)
            yield self._open[file]
        self._close()  # the next round begins with another one

    def close_all(self) -> None:
        """Close what is open, for good."""
        self._open.clear()
        release_memory()

    def _close(self) -> None:
        if self._open and not self.all_open:
            self._open.clear()
            release_memory()
