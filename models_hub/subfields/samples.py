"""What a training sample of the subfields network goes through; torch."""

import torch
from pool import POOL_MM
from synthesis import SRLM, synthesize
from torch import Tensor
from torch.nn import functional as F
from training.augmentation import (
    chance,
    change_contrast,
    normalized,
    random_box,
    sampling_grid,
    smooth_field,
    spoil,
    uniform,
)

VOXEL_MM = 0.7
N_CLASSES = 7
WRINKLE_KNOTS, WRINKLE_VOXELS = 12, 0.8  # an axis; deviation of the displacement
LOOSE_KNOTS, LOOSENESS = 9, 0.8  # an axis; deviation of the share of SRLM in a voxel of its border
SIZE = (56, 80, 72)  # voxels of what is drawn, at VOXEL_MM, of which a box is kept
PAD_MULTIPLE = 8  # as in the family's card
MORE_ZEROS = 0.35  # of the axes have eight voxels of zeros more


def field_grid(grid: Tensor, image_shape: torch.Size, image_mm: float, shape: torch.Size, voxel_mm: float) -> Tensor:
    """Turn a sampling grid of one volume into that of another with the same middle."""
    ratios = [(n - 1) * image_mm / ((m - 1) * voxel_mm) for n, m in zip(image_shape, shape, strict=True)]
    return grid * torch.tensor(ratios[::-1])


def soft_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Labels (x, y, z) at a grid, as shares of a voxel, (N_CLASSES, ...); tissues beyond count as background."""
    inside = torch.where(labels < N_CLASSES, labels, torch.zeros_like(labels)).long()
    one_hot = F.one_hot(inside, N_CLASSES).permute(3, 0, 1, 2)[None, 1:].float()
    shares = F.grid_sample(one_hot, grid, padding_mode="zeros", align_corners=True)[0]
    return torch.cat([1 - shares.sum(0, keepdim=True), shares])


def wrinkled(grid: Tensor, generator: torch.Generator) -> Tensor:
    """Deform a sampling grid finely, so that what lies within a hippocampus does not follow from its outline."""
    field = smooth_field(grid[0, ..., 0], 3, WRINKLE_KNOTS, generator).permute(1, 2, 3, 0)
    # Neighbours lie a voxel apart: their distance turns voxels into the grid's own unit, along each of its axes.
    steps = torch.stack([grid.diff(dim=axis).abs().mean((0, 1, 2, 3)) for axis in (1, 2, 3)]).amax(0)
    return grid + uniform(0.0, WRINKLE_VOXELS, generator) * field * steps


def with_loose_layers(shares: Tensor, generator: torch.Generator) -> Tensor:
    """Make SRLM thicker here and thinner there, at the expense of the grey matter that shares its voxels.

    Six atlases have six SRLMs: a network that has seen them often enough draws them from memory, wherever the dark band
    is. `shares` are (N_CLASSES, x, y, z), as those that are returned.
    """
    inside, layer = 1 - shares[0], shares[SRLM]
    smooth = F.avg_pool3d(layer[None, None], 3, 1, 1)[0, 0]
    amount = uniform(0.0, LOOSENESS, generator) * smooth_field(layer, 1, LOOSE_KNOTS, generator)[0]
    moved = layer + (amount + uniform(-0.3, 0.3, generator)) * 4 * smooth * (1 - smooth)
    rest = inside - layer
    is_shared = rest > 1e-3
    moved = torch.where(is_shared, moved.clamp(min=0).minimum(inside), layer)
    factor = torch.where(is_shared, (inside - moved) / rest.clamp(min=1e-3), torch.ones_like(rest))
    return torch.cat([shares[:1], shares[1:SRLM] * factor, moved[None]])


def padded(image: Tensor, shares: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pad with zeros and background to multiples of PAD_MULTIPLE, as the app does, or one multiple farther.

    Instance norms see how much of a sample is zero, and in samples of one size that went with the size of the
    hippocampus (correlation 0.6 to 0.7, 0.35 so): networks drew 7 to 14 % less in one crop of sub-073 where
    eight voxels more of zeros lay around it. So the zeros are drawn, and where they lie.
    """
    missing = [(-n) % PAD_MULTIPLE + PAD_MULTIPLE * chance(MORE_ZEROS, generator) for n in image.shape]
    before = [int(uniform(0, m + 1, generator)) for m in missing]
    pads = [p for m, b in zip(reversed(missing), reversed(before), strict=True) for p in (min(b, m), m - min(b, m))]
    background = F.pad(shares[:1], pads, value=1.0)
    return F.pad(image, pads)[None], torch.cat([background, F.pad(shares[1:], pads)])


def boxed(image: Tensor, shares: Tensor, recolor: float | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut to a random box around the label, change its contrast, spoil it, pad it."""
    box = random_box((shares[0] < 0.5).long(), generator)
    inside = image[box].contiguous()
    inside = normalized(inside) if recolor is None else change_contrast(inside, recolor, generator)
    if chance(0.9, generator):
        inside = spoil(inside, generator)
    return padded(normalized(inside), shares[(slice(None), *box)], generator)


def draw_real(
    volumes: tuple[Tensor, float, Tensor, float], strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one augmented sample of a real image.

    Parameters
    ----------
    volumes : tuple
        Image (x, y, z), its voxel size in mm, labels (x', y', z') and theirs; both with the same middle.
    strength : float
        From 0 (mild) to 1 (hard).
    generator : torch.Generator

    Returns
    -------
    image, labels : Tensor
        (1, ...) z-scores of a random box, padded as by the app; (N_CLASSES, ...) shares that sum to 1.
    """
    image, image_mm, labels, label_mm = volumes
    grid = wrinkled(sampling_grid(image, SIZE, strength, generator, VOXEL_MM / image_mm), generator)
    moved = F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=True)[0, 0]
    shares = soft_labels(labels, field_grid(grid, image.shape, image_mm, labels.shape, label_mm))
    return boxed(moved, shares, strength, generator)


def draw_synthetic(tissues: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one sample of a label map of pool.py: first its geometry, then an image; shapes as draw_real's."""
    grid = wrinkled(sampling_grid(tissues, SIZE, strength, generator, VOXEL_MM / POOL_MM), generator)
    shares = with_loose_layers(soft_labels(tissues, grid), generator)
    nearest = F.grid_sample(
        tissues[None, None].float(), grid, mode="nearest", padding_mode="border", align_corners=True
    )
    return boxed(synthesize(shares, nearest[0, 0].long(), generator), shares, None, generator)
