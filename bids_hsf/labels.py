"""Label tables: what an index means, left and right, and the merging of fields.

A label map is bilateral: a left structure has its card's own index k, the right one 100 + k, and an
index keeps its meaning whatever is merged (HSF renumbers; here it does not).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

RIGHT_OFFSET = 100
HEMISPHERES = ("L", "R")

COORDINATES = ("AP", "PD", "IO")  # of the unfolded sheet of grey matter: along, across and through it

SIDE_NAMES = {"L": "left", "R": "right"}


@dataclass(frozen=True)
class Label:
    """One structure that a network tells apart.

    Attributes
    ----------
    index : int
        Channel of the network's output and value in the left hemisphere, 1-99.
    name : str
        Full name, such as "Cornu Ammonis 1".
    abbreviation : str
        Short name, letters and digits, such as "CA1"; column names are made of it.
    color : str
        "#rrggbb".
    true_over_found : tuple of float or None
        True over found volume, central 95 % on images of known truth; None where that was not measured.
    """

    index: int
    name: str
    abbreviation: str
    color: str
    true_over_found: tuple[float, float] | None = None


@dataclass(frozen=True)
class Merge:
    """A coarser set of labels: HSF's ca_mode.

    Attributes
    ----------
    name : str
        As the user writes it: "1/23", "123", "whole".
    suffix : str
        Letters and digits appended to ``seg-<family>`` in file names, such as "CA23".
    labels : tuple of Label
        The labels that remain; `index` of a merged one is the lowest of its parts.
    parts : mapping of int to int
        Index of the network's output to index of the merged label; missing ones keep their own.
    """

    name: str
    suffix: str
    labels: tuple[Label, ...]
    parts: Mapping[int, int]


def merge_channels(probabilities: NDArray[Any], merge: Merge | None, labels: tuple[Label, ...]) -> NDArray[Any]:
    """Add up the channels (C, X, Y, Z) that `merge` joins; background first, then `labels` in order.

    Probabilities and vote counts are both merged by addition, so a merged label wins wherever its
    parts together do.
    """
    if merge is None:
        return probabilities
    channels = [probabilities[0]]
    for label in merge.labels:
        parts = [old.index for old in labels if merge.parts.get(old.index, old.index) == label.index]
        channels.append(probabilities[parts].sum(axis=0))
    return np.stack(channels)


def hemisphere_offset(hemisphere: str) -> int:
    """Tell what is added to a label's index in the bilateral map.

    >>> hemisphere_offset("L"), hemisphere_offset("R")
    (0, 100)
    """
    return RIGHT_OFFSET if hemisphere == "R" else 0


def bilateral(labels: tuple[Label, ...]) -> list[tuple[str, Label]]:
    """Hemisphere and label with its bilateral index, all left ones first."""
    return [
        (side, replace(label, index=label.index + hemisphere_offset(side))) for side in HEMISPHERES for label in labels
    ]
