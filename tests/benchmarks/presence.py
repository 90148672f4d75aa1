"""Ask of sound hippocampi and of lesions whether a hippocampus is there; the thresholds of segmentation/presence.py.

    python tests/benchmarks/presence.py [--brains FOLDER] [--crops FOLDER] [--model longaxis_single_fast]

FOLDER of --brains is a BIDS dataset (the example dataset if none is named). Of each scan the model segments the scan
itself and lesioned copies: one hippocampus, as it was found, and 2 mm around it become fluid (the darkest of the
brain in T1w, the brightest in T2w), air, white matter, or noise. FOLDER of --crops holds `images` and `labels` of one
name: the label map is taken as it is, for the sound crop and for a copy with fluid in its place.

Printed are rank, contrast and spread (see `Look`), the predicted Dice, and what is said. A sound one of which something
is said is a false alarm, a lesion of which nothing is said is a miss; both are counted in the end. Of brains counted,
too, is what the app has to say of the lesioned side in all: a lesion without a flag is silent. The predicted Dice
cannot stand for it: networks are as sure of a hippocampus in fluid (0.90 to 0.93) as of a sound one.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from example_data import BIDS_DIR
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.api import OpenModel, open_model
from bids_hsf.findings import flags
from bids_hsf.segmentation.presence import Look, doubts, look_of

NEAR_MM = 25  # of the brain, whose fluid and white matter are taken
GROWTH = (0, 2)


def voxel_sizes(image: nib.Nifti1Image) -> NDArray[np.float64]:
    """Edge lengths (3,) in mm."""
    return np.asarray(image.header.get_zooms()[:3], dtype=np.float64)


def fillings(near: NDArray, is_t2w: bool) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of what takes a hippocampus's place, from the intensities around it."""
    dark, middle, bright, brightest = np.percentile(near, [4, 50, 85, 96])
    noise = 0.03 * brightest
    return {
        "fluid": (brightest if is_t2w else dark, noise),
        "air": (0.0, noise),
        "white matter": (np.percentile(near, 25) if is_t2w else bright, noise),
        "noise": (middle, 0.6 * brightest),
    }


def lesioned(data: NDArray, mask: NDArray, mean: float, deviation: float) -> NDArray:
    """Fill a mask, with a seam as soft as that of tissue."""
    filling = np.random.default_rng(0).normal(mean, deviation, data.shape)
    share = ndimage.gaussian_filter(mask.astype(np.float32), 0.5)
    return ((1 - share) * data + share * filling).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A hippocampus, or two: whether they are sound, how they look, what is said of that, and what of all else."""

    name: str
    is_sound: bool
    looks: dict[str, Look | None]
    said: tuple[str, ...]
    predicted: dict[str, float] = field(default_factory=dict)
    flagged: tuple[str, ...] | None = None


def brains(folder: Path, model: OpenModel) -> Iterator[Case]:
    """Each scan and its lesioned copies."""
    for path in sorted(folder.glob("sub-*/**/anat/*_T[12]w.nii.gz")):
        image, is_t2w = nib.load(path), path.name.endswith("_T2w.nii.gz")
        contrast = "T2w" if is_t2w else "T1w"
        data, sizes = np.asarray(image.dataobj, dtype=np.float32), voxel_sizes(image)

        def case(name: str, values: NDArray, affine: NDArray = image.affine, contrast: str = contrast) -> Case:
            result = model.segment((values, affine), contrast=contrast)
            looks, said = looks_of(values, np.asarray(result.label_map.dataobj), result.label_map.header.get_zooms())
            of_right = [each.code for each in flags(result.findings) if each.hemisphere != "L"]
            return Case(name, " right " not in name, looks, said, dict(result.predicted_dice), tuple(of_right))

        labels = np.asarray(model.segment((data, image.affine), contrast=contrast).label_map.dataobj)
        yield case(path.name, data)
        away = ndimage.distance_transform_edt(labels == 0, sampling=sizes)
        for name, (mean, deviation) in fillings(data[away < NEAR_MM], is_t2w).items():
            for growth in GROWTH:
                mask = ndimage.distance_transform_edt(labels <= 100, sampling=sizes) <= growth
                yield case(f"{path.name} right {name} +{growth} mm", lesioned(data, mask, mean, deviation))


def looks_of(data: NDArray, labels: NDArray, zooms: Sequence[float]) -> tuple[dict[str, Look | None], tuple[str, ...]]:
    """Look at both sides of a bilateral label map."""
    sizes, masks = np.asarray(zooms, np.float64), {"L": (labels > 0) & (labels <= 100), "R": labels > 100}
    looks = {side: look_of(data, mask, sizes) for side, mask in masks.items()}
    volumes = {side: float(mask.sum() * np.prod(sizes)) for side, mask in masks.items()}
    return looks, tuple(finding.text for finding in doubts(looks, volumes))


def crops(folder: Path) -> Iterator[Case]:
    """Do the same with ready-made crops of one hippocampus."""
    for path in sorted((folder / "images").glob("*.nii*")):
        image = nib.load(path)
        data, sizes = np.asarray(image.dataobj, dtype=np.float32), voxel_sizes(image)
        mask = np.asarray(nib.load(folder / "labels" / path.name).dataobj) > 0
        dark, brightest = np.percentile(data, [3, 95])
        copy = lesioned(data, ndimage.binary_dilation(mask), dark, 0.04 * brightest)
        for name, values in ((path.name, data), (f"{path.name} fluid", copy)):
            looks = {"L": look_of(values, mask, sizes)}
            yield Case(name, values is data, looks, tuple(finding.text for finding in doubts(looks, {})))


def main() -> None:
    """Print a line a case, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brains", type=Path, default=BIDS_DIR)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--model", default="longaxis_single_fast")
    arguments = parser.parse_args()
    cases = list(brains(arguments.brains, open_model(arguments.model, device="cpu", n_threads=1)))
    cases += list(crops(arguments.crops)) if arguments.crops else []
    for case in cases:
        figures = [
            f"{side} {look.rank:.3f} {look.contrast:+.3f} {look.spread:.3f} ({case.predicted.get(side, math.nan):.3f})"
            for side, look in case.looks.items()
            if look
        ]
        print(f"{case.name:60}{'   '.join(figures)}   {'; '.join(case.said)} {case.flagged}")
    sound = [bool(case.said) for case in cases if case.is_sound]
    lesions = [not case.said for case in cases if not case.is_sound]
    judged = [not case.flagged for case in cases if not case.is_sound and case.flagged is not None]
    print(f"{sum(sound)} false alarm(s) of {len(sound)} sound, {sum(lesions)} miss(es) of {len(lesions)} lesioned")
    print(f"{sum(judged)} silent of {len(judged)} lesioned in brains")


if __name__ == "__main__":
    main()
