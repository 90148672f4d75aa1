"""What a locator is: the seam at which another way to find the hippocampi can be put in."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.location import Location


class Locator(Protocol):
    """A function that finds the hippocampi of a scan, as `locate.locate` does; see there for its parameters."""

    def __call__(
        self,
        data: NDArray[Any],
        grid: Grid,
        /,
        *,
        orientation_known: bool = True,
        reference: Location | None = None,
        own: Mapping[str, Matrix] | None = None,
        n_threads: int = 1,
    ) -> Location:
        """Find them, or raise a `LocalizationError`."""
