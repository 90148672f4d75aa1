"""Find the hippocampi of one head in one or two contrasts, with what helps: another scan of the session, label maps.

A slab, and a scan that is doubtful by itself, is located through another scan; two contrasts whose votes are to be
joined are brought into one space.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import ScanError, StorageError
from bids_hsf.findings import Finding, Weight
from bids_hsf.geometry import Grid, Matrix
from bids_hsf.localization.coregistration import MIN_QUALITY, Coregistration, coregister
from bids_hsf.localization.locate import locate
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location, is_limited
from bids_hsf.localization.locator import Locator
from bids_hsf.localization.own_hippocampi import carried_by_image

# Of two intracranial volumes of one head: T2w alone are measured to some percent.
MAX_SIZE_DIFFERENCE = 0.12


@dataclass(frozen=True, eq=False)
class HeadScan:
    """One scan of a head, and what is known of it.

    Attributes
    ----------
    key : str
        Names it in messages and in the provenance.
    data : array, (X, Y, Z) float32
        Canonical (RAS+) intensities.
    grid : Grid
        Of `data`.
    contrast : str
        "T1w" or "T2w".
    orientation_known : bool
        False where the file does not say how the head lies.
    hippocampi : callable or None
        Gives, from somebody's label map, hemisphere "L", "R" to points (N, 3) in the scan's mm that fill its
        hippocampus, or raises a `ScanError`. It is called only if they are needed, before the scan is located.
    provenance : mapping of str to value
        Where `hippocampi` come from, for the sidecar.
    drawn_on : callable or None
        Gives the canonical image that they were drawn on and its grid, or raises a `ScanError`; None where there is
        none: they are then taken to lie in this scan's mm.
    tell : callable
        Takes the `Location` that the scan has by itself, for whoever is to be located through it.
    """

    key: str
    data: NDArray[np.float32]
    grid: Grid
    contrast: Literal["T1w", "T2w"]
    orientation_known: bool = True
    hippocampi: Callable[[], Mapping[str, Matrix]] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    drawn_on: Callable[[], tuple[NDArray[np.float32], Grid]] | None = None
    tell: Callable[[Location], None] = lambda _: None


@dataclass(frozen=True, eq=False)
class Guide:
    """Another scan of the session, through which one is located that cannot be by itself.

    Attributes
    ----------
    key : str
        Of its scan.
    has_hippocampi : bool
        Whether its scan has, from a label map: then it is asked first.
    read : callable
        Gives the `HeadScan`, or raises a `ScanError`. It is called only if the guide is needed.
    found : Location or None
        What `locate_head` found in that scan before, if that is known: it is not located again.
    """

    key: str
    has_hippocampi: bool
    read: Callable[[], HeadScan]
    found: Location | None = None


@dataclass(frozen=True, eq=False)
class AlignedScan:
    """A scan in the space of the first one.

    Attributes
    ----------
    key : str
        Of its scan.
    data : array, (X, Y, Z) float32
        Canonical, on the scan's own voxels.
    grid : Grid
        Of `data`, in the first scan's mm.
    coregistration : Coregistration or None
        How it came there; None for the first scan itself.
    """

    key: str
    data: NDArray[np.float32]
    grid: Grid
    coregistration: Coregistration | None = None


@dataclass(frozen=True, eq=False)
class LocatedScans:
    """What `locate_head` gives.

    Attributes
    ----------
    scans : tuple of AlignedScan
        The first scan and, if there is one, the second.
    location : Location
        In the first scan.
    """

    scans: tuple[AlignedScan, ...]
    location: Location


def locate_head(
    first: HeadScan, second: HeadScan | None = None, guide: Guide | None = None, locator: Locator = locate
) -> LocatedScans:
    """Find the hippocampi in the space of the first scan, and bring a second contrast there.

    Parameters
    ----------
    first : HeadScan
        The scan that is segmented.
    second : HeadScan, optional
        The other contrast of the same head, whose votes are to be joined.
    guide : Guide, optional
        Asked only where there is no second contrast: for a slab, for a scan that is doubtful by itself, and where it
        alone has hippocampi from a label map.
    locator : Locator
        Finds the hippocampi of a single scan.

    Raises
    ------
    LocalizationError
        The hippocampi were not found, or lie outside the field of view.
    ScanError
        The two contrasts cannot be brought together, or a label map cannot be used.
    """
    aligned = AlignedScan(first.key, first.data, first.grid)
    if second is None:
        return LocatedScans((aligned,), _located(first, guide, locator))
    together = coregister(first.data, first.grid, second.data, second.grid).checked(first.key, second.key)
    rigid = together.reference_from_second
    moved = Grid(second.grid.shape, rigid @ second.grid.affine)
    scans = (aligned, AlignedScan(second.key, second.data, moved, together))
    if first.contrast == "T1w":
        return LocatedScans(scans, _located_alone(first, locator))
    # The template is a T1w brain, and a T2w scan often a slab that cannot be located by itself.
    there = _located_alone(second, locator)
    location = locator(first.data, first.grid, reference=there.moved(rigid))
    return LocatedScans(scans, replace(location, provenance={**there.provenance, "Through": second.key}))


def _located(scan: HeadScan, guide: Guide | None, locator: Locator) -> Location:
    """Find the hippocampi of one scan: a slab, and what is doubtful by itself, through the guide."""
    if guide is None:
        return _located_alone(scan, locator)
    borrows = guide.has_hippocampi and scan.hippocampi is None
    if is_limited(scan.grid) or borrows:
        return _through_or_alone(guide, scan, locator, None)
    alone = _located_alone(scan, locator)
    if alone.doubtful:
        return _through_or_alone(guide, scan, locator, alone)
    return _with_size_of(guide, alone, locator)


def _with_size_of(guide: Guide, location: Location, locator: Locator) -> Location:
    """Take the intracranial volume of the guide: in T2w the skull's inside is hardly told from what is around it."""
    try:
        there = guide.found or _located_alone(guide.read(), locator)
    except (ScanError, StorageError) as error:
        return _with(
            location, Finding("guide-unused", Weight.NOTE, f"the eTIV is not that of {guide.key}: {error.message}")
        )
    if there.etiv_mm3 is None:
        text = f"the eTIV is not that of {guide.key}, which has none: {there.etiv_reason}"
        return _with(location, Finding("guide-unused", Weight.NOTE, text))
    etiv_mm3, reason, findings = there.etiv_mm3, there.etiv_reason, location.findings
    if location.etiv_mm3 is not None and abs(location.etiv_mm3 / etiv_mm3 - 1) > MAX_SIZE_DIFFERENCE:
        sizes = f"{location.etiv_mm3 / 1e6:.2f} l in this scan, {etiv_mm3 / 1e6:.2f} l in {guide.key}"
        text = f"the head has {sizes}: are they of one person?"
        ratio = round(location.etiv_mm3 / etiv_mm3, 3)
        findings += (Finding("etiv-differs", Weight.CHECK, text, ratio, 1 + MAX_SIZE_DIFFERENCE),)
    provenance = {**location.provenance, "eTIVOf": guide.key}
    return replace(location, etiv_mm3=etiv_mm3, etiv_reason=reason, findings=findings, provenance=provenance)


def _located_alone(scan: HeadScan, locator: Locator) -> Location:
    """Find the hippocampi in one scan, and take those of its label map if there is one."""
    location = _located_by_itself(scan, locator)
    scan.tell(location)
    return location


def _located_by_itself(scan: HeadScan, locator: Locator) -> Location:
    if scan.hippocampi is None:
        return locator(scan.data, scan.grid, orientation_known=scan.orientation_known, own=None)
    own = carried_by_image(scan.hippocampi(), scan.drawn_on, scan.data, scan.grid)
    location = locator(scan.data, scan.grid, orientation_known=scan.orientation_known, own=own.points)
    return replace(
        location,
        provenance={**scan.provenance, **own.provenance, **location.provenance},
        findings=location.findings + own.remarks,
    )


def _with(location: Location, finding: Finding) -> Location:
    return replace(location, findings=(*location.findings, finding))


def _through_or_alone(guide: Guide, scan: HeadScan, locator: Locator, alone: Location | None) -> Location:
    """Find the hippocampi through the guide; where that cannot be trusted, `alone`, with the reason."""
    found = _located_through(guide, scan, locator)
    if isinstance(found, Location):
        return found
    return _with(_located_alone(scan, locator) if alone is None else alone, found)


def _located_through(guide: Guide, scan: HeadScan, locator: Locator) -> Location | Finding:
    """Find the hippocampi in the guide and carry them over, or say why that cannot be trusted."""
    try:
        other = guide.read()
        there = guide.found or _located_alone(other, locator)
    except (ScanError, StorageError) as error:
        return Finding("guide-unused", Weight.CHECK, f"located without {guide.key}: {error.message}")
    together = coregister(scan.data, scan.grid, other.data, other.grid)
    if there.doubtful or not together.is_usable():
        text = (
            f"located without {guide.key}: quality there {there.quality:.2f}, of the coregistration "
            f"{together.quality:.2f} (expected {DOUBTFUL_QUALITY:g} and {MIN_QUALITY:g} or more)"
        )
        return Finding("guide-unused", Weight.CHECK, text, round(together.quality, 4), MIN_QUALITY)
    location = locator(scan.data, scan.grid, reference=there.moved(together.reference_from_second))
    if together.is_mirrored:
        text = f"the scan fits {guide.key} {together.exchange}"
        figure = round(together.mirrored_quality, 4)
        location = _with(location, Finding("mirrored", Weight.FAIL, text, figure, round(together.quality, 4)))
    through = {"Through": guide.key, "CoregistrationQuality": round(together.quality, 4)}
    return replace(location, provenance={**there.provenance, **through})
