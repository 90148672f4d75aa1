"""Judge a model on ready-made crops with manual labels, by the core that segments the hippocampi of scans."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.errors import NoInputError, UnreadableImageError
from bids_hsf.geometry import Grid, to_canonical
from bids_hsf.hub.cards import ModelCard
from bids_hsf.images import load_scan, open_scan
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.segmentation.decision import Segmentation
from bids_hsf.segmentation.hippocampi import segment_crop
from bids_hsf.segmentation.model import DEFAULTS, Model, Options

logger = logging.getLogger(__name__)


Mask = NDArray[np.bool_]

WHOLE = "whole"
MEASURES = ("dice", "hd95_mm", "volume_similarity")

IMAGE_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """A crop and its labels.

    Attributes
    ----------
    name : str
        File name without its ending.
    image_path, label_path : Path
    """

    name: str
    image_path: Path
    label_path: Path


@dataclass(frozen=True)
class Score:
    """How well one label of one case was found; NaN where a measure does not exist.

    Attributes
    ----------
    case : str
    label : str
        Abbreviation, or "whole" for all labels together.
    dice : float
        0-1; NaN where both are empty, 0 where one is.
    hd95_mm : float
        NaN where either is empty.
    volume_similarity : float
        1 - |a - b| / (a + b); NaN where both are empty.
    """

    case: str
    label: str
    dice: float
    hd95_mm: float
    volume_similarity: float


@dataclass(frozen=True)
class Mean:
    """One measure of one label over all cases that have it.

    Attributes
    ----------
    label, measure : str
    n : int
        Cases with a value.
    mean, sd, standard_error : float
        `sd` divides by n - 1; NaN where there are too few cases.
    """

    label: str
    measure: str
    n: int
    mean: float
    sd: float
    standard_error: float


def find_cases(images_dir: Path, labels_dir: Path) -> list[Case]:
    """Pair the images with the labels of the same file name, nnU-Net's ending ``_0000`` of images aside.

    Raises
    ------
    NoInputError
        If a folder is missing, or holds no pair.
    """
    images, labels = _images_by_name(images_dir), _images_by_name(labels_dir)
    cases = []
    for name, path in images.items():
        match = next((key for key in (name, name.removesuffix("_0000")) if key in labels), None)
        if match is None:
            logger.warning("%s has no labels of its name in %s; left out", path, labels_dir)
        else:
            cases.append(Case(match, path, labels[match]))
    if not cases:
        raise NoInputError(
            f"no image of {images_dir} has labels of the same name in {labels_dir}",
            "Image and labels are NIfTI files of one name in two folders.",
        )
    return cases


def evaluate(case: Case, model: Model, options: Options = DEFAULTS) -> list[Score]:
    """Segment one crop and compare it with its labels: one score a label, and one for the whole.

    Raises
    ------
    UnreadableImageError
        If a file cannot be read, the labels do not lie on the image's voxels, or hold values that the card lacks.
    """
    scan = load_scan(case.image_path)
    for finding in scan.findings:
        logger.warning("%s: %s", case.image_path, finding.text)
    truth = load_labels(case.label_path, scan.grid, model.card)
    found = segment_case(case.name, scan.data, scan.grid, model, options)
    return list(scores_of(case.name, truth, found.labels, model.card, scan.grid.voxel_sizes))


def segment_case(
    name: str, data: NDArray[np.float32], grid: Grid, model: Model, options: Options = DEFAULTS
) -> Segmentation:
    """Segment a crop (X, Y, Z) around one hippocampus on its own voxels; its name seeds the random views."""
    voxel_size_mm = model.card.voxel_size_mm
    target = grid if voxel_size_mm is None else isotropic_grid(grid, voxel_size_mm)
    return segment_crop(AlignedScan(name, data, grid), target, model, options).segmentation


def isotropic_grid(grid: Grid, voxel_size_mm: float) -> Grid:
    """Grid of isotropic voxels with the axes and the middle of `grid`, which covers it.

    >>> isotropic_grid(Grid((10, 10, 5), np.diag([1.0, 1.0, 2.0, 1.0])), 1.0).shape
    (10, 10, 10)
    """
    if np.allclose(grid.voxel_sizes, voxel_size_mm, rtol=1e-3):
        return grid
    x, y, z = (int(n) for n in np.ceil(np.array(grid.shape) * grid.voxel_sizes / voxel_size_mm - 1e-6))
    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:3, :3] / grid.voxel_sizes * voxel_size_mm
    middle = grid.to_mm((np.array([grid.shape]) - 1) / 2)[0]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
    return Grid((x, y, z), affine)


def summarize(scores: Sequence[Score]) -> list[Mean]:
    """Mean of each measure for each label, in the order of appearance."""
    means = []
    for label in dict.fromkeys(score.label for score in scores):
        for measure in MEASURES:
            values = np.array([getattr(score, measure) for score in scores if score.label == label])
            values = values[~np.isnan(values)]
            sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            mean = float(values.mean()) if len(values) else float("nan")
            means.append(Mean(label, measure, len(values), mean, sd, sd / max(len(values), 1) ** 0.5))
    return means


def dice(first: Mask, second: Mask) -> float:
    """Overlap of two masks, 2 |a and b| / (|a| + |b|); NaN where both are empty.

    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def volume_similarity(first: Mask, second: Mask) -> float:
    """How near the volumes of two masks are, 1 - |a - b| / (a + b); NaN where both are empty.

    Taha and Hanbury, BMC Medical Imaging 2015, doi:10.1186/s12880-015-0068-x.

    >>> volume_similarity(np.array([True, True, True]), np.array([True, False, False]))
    0.5
    """
    a, b = int(first.sum()), int(second.sum())
    return 1 - abs(a - b) / (a + b) if a + b else float("nan")


def hausdorff95(first: Mask, second: Mask, voxel_sizes: NDArray[np.float64]) -> float:
    """95th percentile of the distances between the surfaces of two masks (X, Y, Z), in mm; NaN where one is empty.

    The greater one of the percentiles of both directions, between centres of surface voxels: those of a mask with a
    neighbour across a face that is outside. Both masks may touch the border of the array.

    >>> a = np.zeros((5, 5, 9), bool); a[1:4, 1:4, 1:4] = True
    >>> hausdorff95(a, np.roll(a, 2, axis=2), np.array([1.0, 1.0, 1.5]))
    3.0
    """
    if not first.any() or not second.any():
        return float("nan")
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    there, back = (
        ndimage.distance_transform_edt(~target, sampling=voxel_sizes)[source]
        for source, target in (surfaces, surfaces[::-1])
    )
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def scores_of(
    name: str, truth: NDArray[np.integer], found: NDArray[np.uint8], card: ModelCard, voxel_sizes: NDArray[np.float64]
) -> Iterator[Score]:
    """Compare label by label, and everything that is labelled at the end."""
    masks = [(label.abbreviation, truth == label.index, found == label.index) for label in card.labels]
    if len(card.labels) > 1:
        masks.append((WHOLE, truth > 0, found > 0))
    for label, true, own in masks:
        yield Score(name, label, dice(true, own), hausdorff95(true, own, voxel_sizes), volume_similarity(true, own))


def load_labels(path: Path, grid: Grid, card: ModelCard) -> NDArray[np.integer]:
    """Read labels in canonical order; they must lie on the image's voxels and be the card's."""
    image = open_scan(path)
    labels = np.asarray(image.dataobj)
    labels = np.round(labels).astype(np.int32).reshape(labels.shape[:3])
    canonical, own = to_canonical(labels, np.asarray(image.affine, dtype=float))
    if own.shape != grid.shape or not np.allclose(own.affine, grid.affine, atol=1e-2):
        raise UnreadableImageError(
            f"{path} does not lie on the voxels of its image: {own.shape} against {grid.shape}, or another affine",
            "Resample the labels to the image (nearest neighbour).",
        )
    unknown = sorted(set(np.unique(canonical).tolist()) - {0, *(label.index for label in card.labels)})
    if unknown:
        known = ", ".join(f"{label.index} {label.abbreviation}" for label in card.labels)
        raise UnreadableImageError(
            f"{path} holds the values {unknown}, which model {card.name} does not have: {known}",
            "Renumber the labels as the card has them, one hippocampus a file.",
        )
    return canonical


def _images_by_name(folder: Path) -> dict[str, Path]:
    """NIfTI files of a folder by their name without ending; hidden files aside."""
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder", "Give folders of NIfTI files.")
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return {
        path.name.removesuffix(ending): path for path in paths for ending in IMAGE_ENDINGS if path.name.endswith(ending)
    }
