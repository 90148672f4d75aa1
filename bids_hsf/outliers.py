"""Intensities that no tissue has: single wild voxels, and what fills the space around a brain.

Networks see z-scores, and a registration sees histograms: one voxel of a hundred times the tissue's intensity, or a
background of -1000, would leave the tissue hardly any contrast. Wild voxels become as dark or as bright as tissue is,
such a fill as dark as air. An image with neither comes back as it is, bit by bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_hsf.quantiles import percentiles

# All in units of the range between the 10th and the 90th percentile.
REACH = 6.0  # of tissue, beyond them: vessels with contrast agent reach 3 to 5 in T1w, fluid in T2w 1 to 2
# Of a crop around a hippocampus: in sound ones at the most 0.3 % of the voxels lie beyond this, vessels and all. More
# are an artefact, such as a bright slice, or a block that somebody has painted.
ARTEFACT_REACH = 2.0
ARTEFACT_SHARE = 0.01
FILL_GAP = 1.0  # between a fill and the first percentile of all else; air lies 0.1 to 0.7 below it
BLACK = 0.25  # of a fill, below the 10th percentile: about where air lies
# A value that so many voxels share is no measurement, if a gap parts it from all others.
FILL_SHARE = 0.01
FURTHEST = float(np.finfo(np.float32).max)  # that a voxel can hold
SAMPLES = 100_000  # voxels that are looked at: percentiles need no more
# Of a brain in much air the percentiles above are those of the air. What lies beyond is no outlier if there is more of
# it than that (a newborn's brain is 1 to 3 % of a large field of view), if it hangs together, and if it is motley.
BODY_SHARE = 0.005
BODY_COHERENCE = 0.5  # of its voxels with such a neighbour along one axis; scattered ones have hardly any
BODY_SPREAD = 0.1  # range of its own, against how far it lies from the air; a block that is painted has none
BODY_PLANES = 32  # that are looked at


@dataclass(frozen=True)
class TissueRange:
    """Intensities that tissue may have.

    Attributes
    ----------
    low, high : float
        What lies beyond them is none.
    darkest, brightest : float
        What becomes of that: 1st and 99th percentile.
    fills : tuple of float
        Values around the brain that lie far from all tissue.
    black : float
        What becomes of those.
    """

    low: float
    high: float
    darkest: float
    brightest: float
    fills: tuple[float, ...] = ()
    black: float = 0.0


@np.errstate(over="ignore")  # a limit beyond float32 is infinite to an array of it: nothing lies beyond
def tissue_range(values: NDArray[np.float32], *, is_crop: bool = False) -> TissueRange:
    """Estimate the range of what may be tissue from finite intensities of any shape, in any unit.

    In a crop around a hippocampus there is brain alone, and the range is narrower where many voxels lie beyond.

    >>> tissue = np.linspace(50, 150, 1000, dtype=np.float32)
    >>> round(tissue_range(np.append(tissue, np.float32(1e6))).high)
    621
    >>> tissue_range(np.append(tissue, np.full(500, -1000, np.float32))).fills
    (-1000.0,)
    """
    sample = values.flat[:: max(1, values.size // SAMPLES)]
    fills: list[float] = []
    # Twice, since a fill at the one end hides how far the other lies from tissue.
    for find_end in (np.min, np.max, np.min):
        end = float(find_end(sample))
        rest = sample[sample != end]
        # Zero below all else is how masks leave air: dark, as it should be.
        is_air = end == 0 and find_end is np.min
        if not is_air and rest.size and rest.size <= (1 - FILL_SHARE) * sample.size and _is_apart(end, rest):
            fills.append(end)
            sample = rest
    low, high = percentiles(sample, [10, 90])
    span = high - low
    limit = high + REACH * span
    if not is_crop and _is_body(body := sample[sample > limit], sample, values, limit):
        first, high = percentiles(body, [10, 90])
        span = max(span, high - first)
    if not span:  # nothing tells what tissue is
        low, high = float(sample.min()), float(sample.max())
    reach = ARTEFACT_REACH * span
    if not (is_crop and ((sample < low - reach) | (sample > high + reach)).mean() > ARTEFACT_SHARE):
        reach = REACH * span
    # What is beyond says nothing of how dark and bright tissue is.
    first, last = percentiles(sample[(sample >= low - reach) & (sample <= high + reach)], [1, 99])
    return TissueRange(
        low=max(low - reach, -FURTHEST),
        high=min(high + reach, FURTHEST),
        darkest=first,
        brightest=last,
        fills=tuple(fills),
        black=max(low - BLACK * span, -FURTHEST),
    )


def _is_body(body: NDArray[np.float32], sample: NDArray[np.float32], values: NDArray[np.float32], limit: float) -> bool:
    """Whether what is brighter than a limit in an image (X, Y, Z) is a body in air, not wild voxels here and there."""
    if body.size <= BODY_SHARE * sample.size:
        return False
    first, middle, last = percentiles(body, [10, 50, 90])
    if last - first < BODY_SPREAD * (middle - float(np.median(sample))):
        return False
    bright = values[:: max(1, len(values) // BODY_PLANES)] > limit
    return bool((bright[..., 1:] & bright[..., :-1]).sum() > BODY_COHERENCE * bright.sum())


def _is_apart(value: float, rest: NDArray[np.float32]) -> bool:
    """Whether a value lies far from all others."""
    first, low, high, last = percentiles(rest, [1, 10, 90, 99])
    gap = max(first - value, value - last)
    return bool(gap > FILL_GAP * (high - low) > 0)


def without_outliers(values: NDArray[np.float32], tissue: TissueRange) -> NDArray[np.float32]:
    """Replace what lies beyond a range, and blacken fills; the array itself where there is nothing to do."""
    cut = values.copy(order="K") if tissue.fills else values
    for fill in tissue.fills:
        cut[cut == np.float32(fill)] = np.float32(tissue.black)
    if cut.min() >= tissue.low and cut.max() <= tissue.high:
        return cut
    cut = cut.copy(order="K") if cut is values else cut
    cut[cut < np.float32(tissue.low)] = np.float32(tissue.darkest)
    cut[cut > np.float32(tissue.high)] = np.float32(tissue.brightest)
    return cut


def replace_outliers(values: NDArray[np.float32], tissue: TissueRange) -> int:
    """Do the same in the array (X, Y, Z) itself, whose copy would be the most memory that a scan takes; count them."""
    count = 0
    for part in values:
        clean = without_outliers(part, tissue)
        count += int((clean != part).sum())
        part[...] = clean
    return count
