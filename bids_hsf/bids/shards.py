"""Shards: slices of a dataset's participants, so that a run on each of them leaves none out and takes none twice."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bids_hsf.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Every `count`-th participant in the order of their labels, from the `index`-th on.

    Attributes
    ----------
    index : int
        From 1 to `count`.
    count : int
    by_itself : bool
        Whether nobody asked for it: the scheduler's array tells it.
    """

    index: int
    count: int
    by_itself: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"--shard {self} is none of the shards 1/{self.count} to {self.count}/{self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "3/10".

        Raises
        ------
        UsageError
            It is not written like this.
        """
        if not (found := re.fullmatch(r"\s*0*(\d{1,9})\s*/\s*0*(\d{1,9})\s*", text, re.ASCII)):
            raise UsageError(f"--shard expects K/N, such as 3/10, or auto, or auto/N; got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def of(self, labels: Iterable[str]) -> list[str]:
        """Labels of this shard: neighbours in order go to different ones, whose sizes differ by one at the most.

        >>> Shard(2, 3).of(["05", "01", "04", "02", "03"])
        ['02', '05']
        """
        return sorted(set(labels))[self.index - 1 :: self.count]
