"""Do the intervals of volume that an ensemble reports hold what they promise; onnxruntime and torch.

    python judge_intervals.py POOL_DIR --networks NET.onnx ... [--every 1]

The app's `volume_mm3_low` and `_high` are the 2.5th and 97.5th percentile of the volume over the passes: each network,
on the crop and its mirror image. On synthetic images, whose labels are exact, the truth should lie between them in 95
of 100 cases. POOL_DIR holds maps of pool.py that no network was trained on (another --seed). Prints, for each label:
the share of cases within, the mean width of the interval and the bias and spread of the error in percent of the
truth, and by how much each half of the interval has to be stretched for 95 of 100.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from judge_crops import Networks
from judge_scans import GROUPS
from pool import POOL_MM
from samples import VOXEL_MM
from scipy import ndimage
from synthesis import T1W, T2W, known_means, rendered

PROMISED = 0.95
PERCENTILES = (2.5, 97.5)  # as bids_hsf.segmentation.decision.volume_spread
MARGIN_VOXELS = 14  # of the crop around the hippocampus
KINDS = {"T1w": (T1W, 0.8), "T2w": (T2W, 0.5)}


def volumes_of(labels: np.ndarray, voxel_mm: float) -> np.ndarray:
    """In mm3, of each of GROUPS."""
    counts = np.bincount(labels.ravel(), minlength=7) * voxel_mm**3
    return np.array([counts[list(members)].sum() for members in GROUPS.values()])


def image_of(labels: np.ndarray, kind: str, seed: int) -> torch.Tensor:
    """Synthetic image of a label map of pool.py, T1w- or T2w-like."""
    table, blur_mm = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)
    return rendered(torch.from_numpy(labels), known_means(table, kind == "T2w", generator), blur_mm, generator)


def measured(labels: np.ndarray, kind: str, seed: int, networks: Networks) -> tuple[np.ndarray, np.ndarray]:
    """Measure one synthetic image: true volumes (groups,) and those of each pass (passes, groups)."""
    held = ndimage.find_objects(((labels > 0) & (labels < 7)).astype(int))[0]
    box = tuple(slice(max(0, s.start - MARGIN_VOXELS), s.stop + MARGIN_VOXELS) for s in held)
    found = networks.passes(image_of(labels[box], kind, seed), POOL_MM)
    passes = [volumes_of(probabilities.argmax(0), VOXEL_MM) for probabilities in found]
    return volumes_of(np.where(labels < 7, labels, 0), POOL_MM), np.array(passes)


def show(kind: str, truth: np.ndarray, passes: np.ndarray) -> None:
    """Print rows for cases' truth (n, groups) and passes (n, passes, groups)."""
    low, high = np.percentile(passes, PERCENTILES, axis=1)
    middle = passes.mean(1)
    error = (middle - truth) / truth
    half = np.where(truth > middle, high - middle, middle - low)
    rows = {
        "within, %": 100 * ((truth >= low) & (truth <= high)).mean(0),
        "width, %": 100 * ((high - low) / truth).mean(0),
        "bias, %": 100 * error.mean(0),
        "error sd, %": 100 * error.std(0, ddof=1),
        "stretch for 95": np.quantile(np.abs(truth - middle) / np.maximum(half, 1e-6), PROMISED, axis=0),
    }
    for title, values in rows.items():
        print(f"{kind} {title:16}", *(f"{v:7.1f}" for v in values), f"   n {len(truth)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    networks = Networks(arguments.networks)
    print(f"{'':20}", *(name.rjust(7) for name in GROUPS))
    maps = [np.load(path)["labels"] for path in sorted(arguments.pool.glob("*.npz"))[:: arguments.every]]
    for kind in KINDS:
        cases = [measured(labels, kind, seed, networks) for seed, labels in enumerate(maps)]
        show(kind, *(np.stack(values) for values in zip(*cases, strict=True)))


if __name__ == "__main__":
    main()
