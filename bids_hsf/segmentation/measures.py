"""What is measured of one segmented hippocampus and of the image around it, to tell whether it can be believed.

None of it needs a truth, a unit, or a contrast: how sure the networks are, what shape came out and where, how noisy
and how sharp the image is, and whether what is inside looks like anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import Grid
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.location import Location, hippocampus_points
from bids_hsf.localization.template import load_template
from bids_hsf.outliers import tissue_range
from bids_hsf.quantiles import percentiles
from bids_hsf.segmentation.hippocampi import Hippocampus
from bids_hsf.segmentation.presence import Look, look_of

NORMAL_MAD = 0.6745  # median of the distances from zero, of a normal distribution with deviation 1
FINE_MM = 1.0  # voxels up to this size do not blur what the networks say; of larger ones fewer lie off the border
MAX_SNR = 1000.0  # interpolated and synthetic images have next to no noise
MIN_VOXELS = 4  # an axis
MIN_SLICES = 12  # of fewer, what differs between them is chance


@dataclass(frozen=True)
class MeasureSettings:
    """How the image is measured.

    Attributes
    ----------
    reach_mm : float
        Of the image that is looked at, beyond the crop.
    voxel_mm : float
        Voxels that are smaller are not all looked at.
    smoothing_mm : float
        Deviation of the Gaussian before edges are measured, against noise.
    """

    reach_mm: float = 8.0
    voxel_mm: float = 0.8
    smoothing_mm: float = 0.7


MEASURES = MeasureSettings()


@dataclass(frozen=True)
class SideMeasures:
    """Figures of one hippocampus.

    Attributes
    ----------
    volume_mm3 : float
    main_share : float
        Of its voxels in the largest piece; 0 for an empty one.
    entropy : float
        Mean normalised entropy over its voxels by the passes over the crop and its mirror image, of coarse ones over
        the surest share, 0-1; 1 for an empty one.
    median_entropy : float
        Their median: that of the inside, since borders are always unsure; 1 for an empty one.
    snr : float or None
        Range of the tissue's intensities around it over the deviation of the noise; None where the image is flat.
    sharpness : float or None
        Slope of the steepest twentieth of the edges around it, in that range per mm.
    step : float or None
        Largest difference between the medians of neighbouring slices around it, in that range: tissue changes
        gradually, a stripe does not.
    wild_share : float
        Of the voxels around it, those that no tissue has, and that the networks were not shown.
    look : Look or None
        How its voxels compare with those around it.
    head_share : float or None
        Volume over that of the template's hippocampus in a head of this size; None without a location.
    overlap : float or None
        Share of the template's hippocampus, where it was located, that is labelled.
    distance_mm : float or None
        Between its middle and that of the located one; None where it is empty.
    is_turned : bool
        Whether the head lies as heads hardly do: axes that are not what the header says exchange the sides, too.
    structure_entropies : mapping of int to float
        Label to the median of the normalised entropy over those voxels; labels without a voxel are absent.
    voxel_mm : float
        Mean of the voxel sizes of the scan.
    alternation : float or None
        Mean difference between neighbouring slices around it over that between slices two apart, along the axis where
        it is largest; less than 1 in tissue, 1 in noise: more is two heads in turn, slice by slice. None where the
        image is flat or has few slices.
    """

    volume_mm3: float
    main_share: float
    entropy: float
    median_entropy: float
    snr: float | None
    sharpness: float | None
    step: float | None
    wild_share: float
    look: Look | None
    head_share: float | None = None
    overlap: float | None = None
    distance_mm: float | None = None
    is_turned: bool = False
    structure_entropies: Mapping[int, float] = field(default_factory=dict)
    voxel_mm: float = 1.0
    alternation: float | None = None


def measure_side(
    side: Hippocampus, scan: AlignedScan, location: Location | None = None, settings: MeasureSettings = MEASURES
) -> SideMeasures:
    """Measure one hippocampus.

    Parameters
    ----------
    side : Hippocampus
    scan : AlignedScan
        On whose voxels it lies.
    location : Location, optional
        Where the hippocampi of the template lie in it; none in a ready-made crop.
    settings : MeasureSettings
    """
    inside, entropy = side.segmentation.labels > 0, side.segmentation.still_entropy
    grid = scan.grid
    spare = np.ceil(settings.reach_mm / grid.voxel_sizes).astype(int)
    near = tuple(
        slice(max(0, part.start - n), part.stop + n) for part, n in zip(side.slices, spare.tolist(), strict=True)
    )
    image = scan.data[near]
    mask = np.zeros(image.shape, dtype=bool)
    mask[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(side.slices, near, strict=True))] = inside
    snr, sharpness = noise_and_blur(image, grid.voxel_sizes, settings)
    tissue = tissue_range(image, is_crop=True)
    volume = float(inside.sum()) * grid.voxel_volume
    voxel_mm = round(float(grid.voxel_sizes.mean()), 2)
    off_border = min(1.0, FINE_MM / voxel_mm)
    surest = _surest(entropy[inside], off_border)
    figures = SideMeasures(
        volume_mm3=volume,
        main_share=_main_share(inside),
        entropy=float(surest.mean()) if surest.size else 1.0,
        median_entropy=float(np.median(surest)) if surest.size else 1.0,
        snr=snr,
        sharpness=sharpness,
        step=largest_step(image),
        wild_share=float(((image < tissue.low) | (image > tissue.high)).mean()),
        look=look_of(image, mask, grid.voxel_sizes),
        structure_entropies=_structure_entropies(side.segmentation.labels, entropy, off_border),
        voxel_mm=voxel_mm,
        alternation=alternation(image),
    )
    return figures if location is None else _placed(figures, side, inside, grid, location)


def _surest(entropies: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Keep the share of voxels (N,) whose label is surest: of coarse voxels the others lie on the border."""
    return entropies if share == 1 else np.sort(entropies)[: int(np.ceil(share * entropies.size))]


def _structure_entropies(
    labels: NDArray[np.uint8], entropy: NDArray[np.float32], off_border: float
) -> dict[int, float]:
    """Median of the entropy over the voxels of each label, a share of which lies off the border."""
    return {
        index: float(np.median(_surest(entropy[labels == index], off_border)))
        for index in np.unique(labels[labels > 0]).tolist()
    }


def _main_share(inside: NDArray[np.bool_]) -> float:
    """Share of a mask that is in one piece, corners touching; 0 where it is empty."""
    pieces, n_pieces = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    return float(np.bincount(pieces[inside]).max() / inside.sum()) if n_pieces else 0.0


def _placed(
    figures: SideMeasures, side: Hippocampus, inside: NDArray[np.bool_], grid: Grid, location: Location
) -> SideMeasures:
    """Compare a hippocampus with where, and how large, the template's would be."""
    points = hippocampus_points(location, side.hemisphere)
    start = np.array([part.start for part in side.slices])
    voxels = np.round(grid.to_voxels(points)).astype(int) - start
    in_box = ((voxels >= 0) & (voxels < inside.shape)).all(axis=1)
    labelled = np.zeros(len(points), dtype=bool)
    labelled[in_box] = inside[tuple(voxels[in_box].T)]
    distance = None
    if inside.any():
        middle = grid.to_mm(np.array([ndimage.center_of_mass(inside)]) + start)[0]
        distance = float(np.linalg.norm(middle - points.mean(axis=0)))
    own = load_template().hippocampi[side.hemisphere]  # points of 1 mm3 each
    head = float(abs(np.linalg.det(location.scan_from_template[:3, :3])))
    return replace(
        figures,
        head_share=figures.volume_mm3 / (len(own) * head),
        overlap=float(labelled.mean()),
        distance_mm=distance,
        is_turned=any(finding.code == "head-turned" for finding in location.findings),
    )


def noise_and_blur(
    image: NDArray[np.float32], voxel_sizes: NDArray[np.float64], settings: MeasureSettings = MEASURES
) -> tuple[float | None, float | None]:
    """Signal to noise and sharpness (see `SideMeasures`) of an image (X, Y, Z); None where it is flat.

    Noise is told from what differs between neighbouring voxels along all three axes at once (Donoho and Johnstone,
    Biometrika 1994, doi:10.1093/biomet/81.3.425): edges hardly ever do.
    """
    steps = np.maximum(settings.voxel_mm // voxel_sizes, 1).astype(int)
    image = image[tuple(slice(None, None, step) for step in steps)]
    sizes = voxel_sizes * steps
    low, high = percentiles(image, [5, 95])
    if min(image.shape) < MIN_VOXELS or not high > low:
        return None, None
    details = image
    for axis in range(3):
        pairs = np.moveaxis(details, axis, 0)[: details.shape[axis] // 2 * 2]
        details = np.moveaxis(pairs[::2] - pairs[1::2], 0, axis)
    noise = percentiles(np.abs(details), [50])[0] / (NORMAL_MAD * 2**1.5)
    smooth = ndimage.gaussian_filter(image, settings.smoothing_mm / sizes)
    slopes = sum(np.square(np.gradient(smooth, size, axis=axis)) for axis, size in enumerate(sizes))
    sharpness = float(np.sqrt(percentiles(slopes, [95])[0])) / (high - low)
    return min((high - low) / noise, MAX_SNR) if noise > 0 else MAX_SNR, sharpness


def largest_step(image: NDArray[np.float32]) -> float | None:
    """Largest difference between neighbouring slices of an image (X, Y, Z), see `SideMeasures`; None if it is flat."""
    low, high = percentiles(image, [5, 95])
    if not high > low or max(image.shape) < 2:
        return None
    steps = []
    for axis in range(3):
        slices = np.moveaxis(image, axis, 0)[:, ::2, ::2]  # medians need no more
        steps.append(float(np.abs(np.diff(np.median(slices, axis=(1, 2)))).max(initial=0.0)))
    return max(steps) / float(high - low)


def alternation(image: NDArray[np.float32]) -> float | None:
    """How much more neighbouring slices of an image (X, Y, Z) differ than those two apart, see `SideMeasures`."""
    low, high = percentiles(image, [5, 95])
    shares = []
    for axis in range(3):
        slices = np.moveaxis(image, axis, 0).clip(low, high)
        if len(slices) >= MIN_SLICES and high > low:
            across = float(np.abs(slices[2:] - slices[:-2]).mean())
            shares.append(float(np.abs(np.diff(slices, axis=0)).mean()) / max(across, 1e-6 * (high - low)))
    return max(shares, default=None)
