"""Which scans of a dataset are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_hsf.bids.shards import Shard

# Per suffix, BIDS entity (pybids name) to wanted value; None for "absent", "*" for "any".
Filters = Mapping[str, Mapping[str, Any]]
EXTENSIONS = (".nii", ".nii.gz")


def is_image_name(path: Path) -> bool:
    """Whether a path is named as an image is, and is no folder."""
    return path.name.endswith(EXTENSIONS) and not path.is_dir()


@dataclass(frozen=True)
class Selection:
    """Which scans of the dataset to process.

    Attributes
    ----------
    participants, excluded_participants, sessions, runs : tuple of str
        Labels without ``sub-``, ``ses-``, ``run-``; empty for all (for none, in the case of excluded).
    modalities : tuple of str
        BIDS suffixes.
    modalities_asked : bool
        True where the user named them; a model that cannot handle one is then an error.
    filters : Filters
        The content of ``--bids-filter-file``, keys in lower case.
    shard : Shard or None
        Slice of the participants that are left; None for all of them.
    """

    participants: tuple[str, ...] = ()
    excluded_participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("T1w", "T2w")
    modalities_asked: bool = False
    filters: Filters = field(default_factory=dict)
    shard: Shard | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all participants are asked for."""
        return not self.participants and self.shard is None
