"""Where a process has found heads: the T1w of a session is located once, for itself and for the T2w beside it."""

from collections import OrderedDict

from bids_hsf.localization.location import Location

# A process does the scans of a session one after the other; few sessions have more.
MAX_HEADS = 8


class KnownHeads:
    """The last locations in a process, by the checksum of the image's file.

    Nothing else goes into a location, so one that is recalled is equal in each bit to one that is found anew.
    """

    def __init__(self, size: int = MAX_HEADS) -> None:
        self._size = size
        self._found: OrderedDict[str, Location] = OrderedDict()

    def recall(self, sha256: str) -> Location | None:
        """Give what was found in a file; None where it is not known."""
        return self._found.get(sha256)

    def remember(self, sha256: str, location: Location) -> None:
        """Keep what was found, in the place of the oldest."""
        self._found[sha256] = location
        if len(self._found) > self._size:
            self._found.popitem(last=False)

    def forget(self) -> None:
        """Know nothing: a file has changed while it was read, and may have been another than its checksum says."""
        self._found.clear()
