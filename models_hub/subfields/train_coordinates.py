"""Train the network that tells unfolded coordinates of a segmentation; torch and numpy. PYTHONPATH holds models_hub.

    python train_coordinates.py coordinates.npz OUT.pt [--samples 4000] [--leave-out NKI] [--seed 1]

It sees labels alone, as probabilities, and so is one for all networks and contrasts. Labels of coordinates.py are
turned, scaled and bent, and then spoilt as what networks find is: blurred, borders moved, more or less sure. Writes
OUT.pt and OUT.onnx.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from atlas import VOXEL_MM as ATLAS_MM
from coordinates import NAMES
from samples import N_CLASSES, PAD_MULTIPLE, SIZE, VOXEL_MM, soft_labels, wrinkled
from torch import Tensor
from torch.nn import functional as F
from training.augmentation import random_box, sampling_grid, smooth_field, uniform
from training.loop import Run
from training.network import HalfResolutionNet, export_onnx

WIDTHS = (16, 32, 48)
BENDS = ((4, 2.5), (6, 1.2))  # knots an axis, and the displacement's deviation in voxels
MOST_BLURS, BORDER_KNOTS, BORDER_NATS, SURENESS = 2, 10, 1.0, (0.6, 1.8)
WEIGHTS = (2.0, 1.0, 0.3)  # of AP, PD and IO: the whole length is 40 mm, the width 20, the depth 1 or 2
CHUNK = 100


def make_network() -> HalfResolutionNet:
    """From the probabilities of N_CLASSES - 1 labels to logits of NAMES."""
    return HalfResolutionNet(len(NAMES), WIDTHS, N_CLASSES - 1)


def spoilt(shares: Tensor, generator: torch.Generator) -> Tensor:
    """Make of the shares (N_CLASSES, x, y, z) of voxels what a network may say of them."""
    for _ in range(int(uniform(0, MOST_BLURS + 1, generator))):
        shares = torch.lerp(shares, F.avg_pool3d(shares, 3, 1, 1), uniform(0.0, 1.0, generator))
    logits = torch.log(shares.clamp(min=1e-4))
    moved = uniform(0.0, BORDER_NATS, generator) * smooth_field(logits, N_CLASSES, BORDER_KNOTS, generator)
    return torch.softmax(uniform(*SURENESS, generator) * (logits + moved), dim=0)


def draw(labels: Tensor, coordinates: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a sample: probabilities (N_CLASSES - 1, x, y, z) and coordinates (3, x, y, z), NaN where none is known."""
    grid = wrinkled(sampling_grid(labels, SIZE, 1.0, generator, VOXEL_MM / ATLAS_MM), generator)
    unit = grid.diff(dim=3).abs().mean()
    for knots, sd_voxels in BENDS:
        field = smooth_field(grid[0, ..., 0], 3, knots, generator)
        grid = grid + uniform(0.0, sd_voxels, generator) * unit * field.permute(1, 2, 3, 0)
    shares = soft_labels(labels, grid)
    known = F.grid_sample(coordinates[None], grid, mode="nearest", padding_mode="border", align_corners=True)[0]
    box = (slice(None), *random_box((shares[0] < 0.5).long(), generator))
    shares = spoilt(shares[box], generator)[1:]
    pads = [p for n in reversed(shares.shape[1:]) for p in (0, -n % PAD_MULTIPLE)]
    return F.pad(shares, pads), F.pad(known[box], pads, value=float("nan"))


def distance(logits: Tensor, coordinates: Tensor) -> Tensor:
    """Mean absolute error where coordinates are known, weighted."""
    found, known = torch.sigmoid(logits), torch.isfinite(coordinates)
    off = torch.where(known, (found - coordinates.nan_to_num()).abs(), torch.zeros_like(found))
    means = off.sum((0, 2, 3, 4)) / known.sum((0, 2, 3, 4)).clamp(min=1)
    return 10 * (means * torch.tensor(WEIGHTS)).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlases", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--leave-out", default="none", help="leave out what has this in its name")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    with np.load(arguments.atlases) as stored:
        names = [key.removeprefix("labels/") for key in stored if key.startswith("labels/")]
        names = [name for name in names if arguments.leave_out not in name]
        cases = [
            (torch.from_numpy(stored[f"labels/{n}"]), torch.from_numpy(stored[f"coordinates/{n}"].astype(np.float32)))
            for n in names
        ]
    run = Run(make_network(), distance, arguments.samples, arguments.lr, arguments.seed)
    if arguments.out.exists():
        run.resume(arguments.out)
    while run.epoch * CHUNK < arguments.samples:
        started, losses = time.time(), []
        for _ in range(CHUNK):
            case = cases[int(torch.randint(len(cases), (), generator=run.generator))]
            losses.append(run.step(*(each[None] for each in draw(*case, run.generator))))
        run.epoch += 1
        run.save(arguments.out)
        print(run.epoch * CHUNK, f"{np.mean(losses):.3f}", f"{time.time() - started:.0f} s", flush=True)
    names = ("probabilities", "coordinates")
    export_onnx(
        run.average, arguments.out.with_suffix(".onnx"), answer=torch.sigmoid, n_inputs=N_CLASSES - 1, names=names
    )


if __name__ == "__main__":
    main()
