"""Whether a result can be believed: what is measured of a segmentation, and what is odd about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bids_hsf.findings import Finding, Weight
from bids_hsf.labels import SIDE_NAMES
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.location import WHOLE_HIPPOCAMPUS_SHARE, Location
from bids_hsf.segmentation.hippocampi import Hippocampi
from bids_hsf.segmentation.presence import doubts, look_of
from bids_hsf.segmentation.volumes import Volumes, asymmetry_index


@dataclass(frozen=True)
class QualitySettings:
    """What results there are.

    Attributes
    ----------
    max_asymmetry : float
        Between the two hippocampi, per cent of their mean: healthy ones differ by a few.
    """

    max_asymmetry: float = 15.0


QUALITY = QualitySettings()


@dataclass(frozen=True)
class Quality:
    """What is thought of a result.

    Attributes
    ----------
    findings : tuple of Finding
        What a reader of the result should know; empty where all is well.
    predicted_dice : mapping of str to float
        Hemisphere to the Dice that its label map is thought to have with the truth; empty where nothing was learnt.
    """

    findings: tuple[Finding, ...]
    predicted_dice: Mapping[str, float] = field(default_factory=dict)


def judge(
    found: Hippocampi, scan: AlignedScan, location: Location, volumes: Volumes, settings: QualitySettings = QUALITY
) -> Quality:
    """Ask whether what was found looks like two hippocampi.

    Parameters
    ----------
    found : Hippocampi
    scan : AlignedScan
        The scan that was segmented.
    location : Location
        Where they lie in it.
    volumes : Volumes
        Of `found`.
    settings : QualitySettings
    """
    findings = [
        *_presence(found, scan, location),
        *_empty(volumes),
        *_pieces(found),
        *_asymmetry(volumes, settings),
        *_size_of_head(location),
    ]
    return Quality(tuple(findings))


def _presence(found: Hippocampi, scan: AlignedScan, location: Location) -> tuple[Finding, ...]:
    """Ask whether there is a hippocampus where one was found."""
    looks, volumes_mm3 = {}, {}
    for side in found.sides:
        inside = np.zeros(found.grid.shape, dtype=bool)
        inside[side.slices] = side.segmentation.labels > 0
        looks[side.hemisphere] = look_of(scan.data, inside, found.grid.voxel_sizes)
        if location.coverage.get(side.hemisphere, 0.0) >= WHOLE_HIPPOCAMPUS_SHARE:
            volumes_mm3[side.hemisphere] = float(inside.sum()) * found.grid.voxel_volume
    return doubts(looks, volumes_mm3)


def _empty(volumes: Volumes) -> Iterator[Finding]:
    """Find structures without a voxel."""
    for structure in volumes:
        if structure.voxels == 0:
            text = f"{structure.name} is empty"
            side, name = structure.hemisphere, structure.abbreviation
            yield Finding("structure-empty", Weight.FAIL, text, 0.0, None, side, name)


def _pieces(found: Hippocampi) -> Iterator[Finding]:
    """Find hippocampi that came out in several pieces, islands and all."""
    for side in found.sides:
        if side.n_components > 1:
            text = f"the {SIDE_NAMES[side.hemisphere]} hippocampus came out in {side.n_components} pieces"
            yield Finding("pieces", Weight.NOTE, text, side.n_components, 1, side.hemisphere)


def _asymmetry(volumes: Volumes, settings: QualitySettings) -> Iterator[Finding]:
    """Compare the two sides."""
    left, right = (sum(v.volume_mm3 for v in volumes if v.hemisphere == side) for side in SIDE_NAMES)
    difference = asymmetry_index(left, right)
    if difference is not None and abs(difference) >= settings.max_asymmetry:
        text = f"the {'left' if difference > 0 else 'right'} hippocampus is larger by {abs(difference):.0f} %"
        yield Finding("asymmetry", Weight.NOTE, text, round(difference, 1), settings.max_asymmetry)


def _size_of_head(location: Location) -> Iterator[Finding]:
    """Say why there is no intracranial volume."""
    if location.etiv_mm3 is None and location.etiv_reason is not None:
        yield Finding("etiv-refused", Weight.NOTE, f"no intracranial volume: {location.etiv_reason}")
