"""Whether there is a hippocampus where one was found: networks draw one into fluid, too.

Asked is how the voxels inside a label map compare with the tissue around it, and with the other side's. That needs no
unit, and no contrast: a hippocampus is somewhat darker than what surrounds it in T1w, somewhat brighter in T2w, and
neither of one piece nor as motley as its surroundings. Fluid, air, white matter, a fill and noise are different.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.findings import Finding, Weight, flags
from bids_hsf.labels import HEMISPHERES, SIDE_NAMES
from bids_hsf.quantiles import percentiles


@dataclass(frozen=True)
class PresenceSettings:
    """What a hippocampus looks like; measured by tests/benchmarks/presence.py.

    Attributes
    ----------
    shell_mm : tuple of float, (2,)
        Around the label map, where the tissue lies that it is compared with.
    rank_range : tuple of float, (2,)
        Share of the surroundings that is darker than half of the voxels inside: sound ones have 0.20 to 0.52 in T1w
        and 0.70 in T2w, of fluid 0.14 and less or 0.92 and more.
    min_contrast : tuple of float, (2,)
        What lies out of that range has to be so much darker and brighter, against the surroundings' range: fluid and
        air are 0.67 and more, a T2w of an odd contrast 0.53.
    min_spread : float
        Of the intensities inside, the middle half against that of the surroundings: sound ones have 0.19 to 0.44, in
        images whose grey levels lie close together 0.08, label maps 0.
    max_spread : tuple of float, (2,)
        What is worth a note, and what is not to be used: right ones with dark slices or spikes have up to 1.17, noise
        1.6 and more.
    max_asymmetry : float
        Between the ranks of both sides: sound ones have 0.02.
    min_volume_mm3 : float
        Of a whole one: the most shrunken have 1,000.
    min_voxels : int
        With fewer nothing is said of intensities.
    voxel_mm : float
        Voxels that are smaller are not all looked at.
    """

    shell_mm: tuple[float, float] = (1.0, 5.0)
    rank_range: tuple[float, float] = (0.17, 0.88)
    min_contrast: tuple[float, float] = (0.4, 0.6)
    min_spread: float = 0.05
    max_spread: tuple[float, float] = (1.0, 1.25)
    max_asymmetry: float = 0.25
    min_volume_mm3: float = 500.0
    min_voxels: int = 100
    voxel_mm: float = 0.8


PRESENCE = PresenceSettings()


@dataclass(frozen=True)
class Look:
    """How the voxels inside a label map compare with those around it.

    Attributes
    ----------
    rank : float
        Share of the surroundings that is darker than half of the voxels inside.
    contrast : float
        Difference of the medians, inside minus around, against the range of the surroundings (10th to 90th
        percentile).
    spread : float
        Middle half of the intensities inside against that of the surroundings.
    """

    rank: float
    contrast: float
    spread: float


def look_of(
    data: NDArray[np.float32],
    inside: NDArray[np.bool_],
    voxel_sizes: NDArray[np.float64],
    settings: PresenceSettings = PRESENCE,
) -> Look | None:
    """Compare the voxels of a mask (X, Y, Z) with those around it; None where there are too few of either."""
    steps = np.maximum(settings.voxel_mm // voxel_sizes, 1).astype(int)
    if inside.sum() < settings.min_voxels:
        return None
    spare = np.ceil(settings.shell_mm[1] / voxel_sizes).astype(int) + 1
    corners = np.argwhere(inside)
    start, stop = np.maximum(corners.min(axis=0) - spare, 0), corners.max(axis=0) + spare + 1
    near = tuple(slice(a, b, step) for a, b, step in zip(start, stop, steps, strict=True))
    data, inside = data[near], inside[near]
    away_mm = ndimage.distance_transform_edt(~inside, sampling=voxel_sizes * steps)
    low, high = settings.shell_mm
    own, around = data[inside], data[(away_mm > low) & (away_mm <= high)]
    if min(own.size, around.size) < settings.min_voxels:
        return None
    dark, first, middle, third, bright = percentiles(around, [10, 25, 50, 75, 90])
    own_first, own_middle, own_third = percentiles(own, [25, 50, 75])
    if not (dark < bright and first < third):
        return None  # surroundings of one value are none
    return Look(
        rank=float((around < own_middle).mean()),
        contrast=(own_middle - middle) / (bright - dark),
        spread=(own_third - own_first) / (third - first),
    )


def doubts(
    looks: Mapping[str, Look | None], volumes_mm3: Mapping[str, float], settings: PresenceSettings = PRESENCE
) -> tuple[Finding, ...]:
    """Say what speaks against a hippocampus.

    Parameters
    ----------
    looks : mapping of str to Look
        Hemisphere to how its label map looks; None where that cannot be told.
    volumes_mm3 : mapping of str to float
        Hemisphere to the volume of its label map, if all of it lies in the field of view.
    settings : PresenceSettings
    """
    found = []
    for side, look in looks.items():
        name, volume = SIDE_NAMES[side], volumes_mm3.get(side)
        if volume is not None and volume < settings.min_volume_mm3:
            text = f"only {volume:.0f} mm3 of the {name} hippocampus were found: is it there?"
            found.append(Finding("volume-small", Weight.FAIL, text, round(volume, 1), settings.min_volume_mm3, side))
        if look is not None and (oddity := _oddity(look, settings)) is not None:
            text = f"what is labelled as the {name} hippocampus {oddity.words}: is it there?"
            found.append(Finding("intensities-odd", oddity.weight, text, oddity.figure, oddity.threshold, side))
    left, right = (looks.get(side) for side in HEMISPHERES)
    if left is not None and right is not None and not flags(found):
        apart = abs(left.rank - right.rank)
        if apart > settings.max_asymmetry:
            text = (
                f"the two hippocampi do not look alike: {left.rank:.0%} of what surrounds the left one is darker than "
                f"it, {right.rank:.0%} of the right one's: are both there?"
            )
            found.append(Finding("intensities-unlike", Weight.CHECK, text, round(apart, 3), settings.max_asymmetry))
    return tuple(found)


@dataclass(frozen=True)
class Oddity:
    """In what voxels inside a label map differ from all hippocampi.

    Attributes
    ----------
    words : str
    figure, threshold : float
    weight : Weight
    """

    words: str
    figure: float
    threshold: float
    weight: Weight = Weight.FAIL


def _oddity(look: Look, settings: PresenceSettings) -> Oddity | None:
    """Tell in what voxels inside a label map differ from all hippocampi."""
    dark, bright = settings.rank_range
    note, fail = settings.max_spread
    rank, spread = round(look.rank, 3), round(look.spread, 3)
    if look.rank < dark and look.contrast < -settings.min_contrast[0]:
        return Oddity(f"is as dark as the darkest {look.rank:.0%} of what surrounds it", rank, dark)
    if look.rank > bright and look.contrast > settings.min_contrast[1]:
        return Oddity(f"is as bright as the brightest {1 - look.rank:.0%} of what surrounds it", rank, bright)
    if look.spread < settings.min_spread:
        return Oddity("is all of one intensity, which no tissue is", spread, settings.min_spread)
    if look.spread > note:
        weight = Weight.FAIL if look.spread > fail else Weight.NOTE
        return Oddity("is as motley as all that surrounds it", spread, note, weight)
    return None
