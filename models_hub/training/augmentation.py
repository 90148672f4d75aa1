"""Random geometry, contrast and faults of training samples, in plain torch.

At inference a crop comes from an affine registration: its margins, position and rotation are not those of a training
set, and its contrast may be another. `strength` (1 hard, 0 mild) lets a schedule end on milder samples.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Each with its value at strength 0 and 1.
ROTATION_SD_DEGREES = (4.0, 9.0)
LOG_ZOOM = (0.12, 0.24)  # 1 mm crops seen as 0.8-1.25 mm ones
REMAP_PROBABILITY = (0.25, 0.4)
FALLING_SHARE = 0.6  # of the remapped samples
AXIS_ZOOM_SD = 0.05
SHIFT_VOXELS = 3.0
ELASTIC_SD_VOXELS = 1.2
MARGIN_VOXELS = (2, 14)  # of the box around the label, drawn per face


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def chance(probability: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability


def between(limits: tuple[float, float], strength: float) -> float:
    return limits[0] + strength * (limits[1] - limits[0])


def smooth_field(like: Tensor, channels: int, knots: int, generator: torch.Generator) -> Tensor:
    """Smooth random field of unit knot deviation, (channels, *like.shape[-3:])."""
    coarse = torch.randn(1, channels, knots, knots, knots, generator=generator).to(like.device)
    return F.interpolate(coarse, size=like.shape[-3:], mode="trilinear", align_corners=True)[0]


def sampling_grid(
    image: Tensor, size: tuple[int, ...], strength: float, generator: torch.Generator, voxel_ratio: float = 1.0
) -> Tensor:
    """Random affine and elastic sampling grid of `size` into `image`, for grid_sample (align_corners).

    `voxel_ratio` is the size of a voxel of the sample over one of the image's.
    """
    angles = torch.randn(3, generator=generator) * math.radians(between(ROTATION_SD_DEGREES, strength))
    rotation = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        i, j = [k for k in range(3) if k != axis]
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ turn
    log_zoom = between(LOG_ZOOM, strength)
    zoom = math.exp(uniform(-log_zoom, log_zoom, generator))
    zooms = zoom * torch.exp(torch.randn(3, generator=generator) * AXIS_ZOOM_SD)
    if chance(0.5, generator):
        zooms[0] = -zooms[0]  # left-right flip
    matrix = (rotation @ torch.diag(1 / zooms)).to(image.device)
    shift = (torch.rand(3, generator=generator) * 2 - 1) * SHIFT_VOXELS

    axes = [torch.arange(n, dtype=torch.float32, device=image.device) - (n - 1) / 2 for n in size]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T + shift.to(image.device)
    if chance(0.5, generator):
        field = smooth_field(points[..., 0], 3, 6, generator)
        points = points + ELASTIC_SD_VOXELS * field.permute(1, 2, 3, 0)
    half = torch.tensor([(n - 1) / 2 / voxel_ratio for n in image.shape], device=image.device)
    return (points / half).flip(-1)[None]  # grid_sample wants (z, y, x)


def random_box(label: Tensor, generator: torch.Generator) -> tuple[slice, ...]:
    """Box around the label with a random margin per face, as an imperfect locator would give."""
    box = []
    for axis, size in enumerate(label.shape):
        others = [k for k in range(3) if k != axis]
        held = torch.nonzero((label > 0).any(dim=others[1]).any(dim=others[0])).flatten()
        low, high = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, size)
        margins = torch.randint(MARGIN_VOXELS[0], MARGIN_VOXELS[1] + 1, (2,), generator=generator)
        box.append(slice(max(0, low - int(margins[0])), min(size, high + int(margins[1]))))
    return tuple(box)


def remap_intensity(image: Tensor, generator: torch.Generator) -> Tensor:
    """Piecewise-linear map between six quantile knots with random values: falling as in T2w, or any."""
    inner = torch.sort(torch.rand(4, generator=generator) * 0.9 + 0.05).values
    quantiles = torch.cat([torch.tensor([0.005]), inner, torch.tensor([0.995])]).to(image.device)
    knots = torch.quantile(image.flatten()[::5], quantiles)
    knots = knots + 1e-3 * torch.arange(6, device=image.device)  # strictly rising, also where quantiles tie
    values = torch.randn(6, generator=generator).to(image.device)
    if chance(FALLING_SHARE, generator):
        values = values.sort(descending=True).values
    segment = torch.clamp(torch.bucketize(image, knots) - 1, 0, 4)
    fraction = ((image - knots[segment]) / (knots[segment + 1] - knots[segment])).clamp(0, 1)
    return values[segment] + fraction * (values[segment + 1] - values[segment])


def thicken_slices(image: Tensor, generator: torch.Generator) -> Tensor:
    """Average along one axis (or all) as thick slices do, then interpolate back."""
    factors = [1.0, 1.0, 1.0]
    if chance(0.5, generator):
        factors[int(torch.randint(0, 3, (), generator=generator))] = uniform(1.5, 3.5, generator)
    else:
        factors = [uniform(1.0, 1.8, generator)] * 3
    coarse = [max(8, round(n / f)) for n, f in zip(image.shape, factors, strict=True)]
    small = F.interpolate(image[None, None], size=coarse, mode="area")
    return F.interpolate(small, size=image.shape, mode="trilinear", align_corners=False)[0, 0]


def normalized(image: Tensor) -> Tensor:
    return (image - image.mean()) / (image.std() + 1e-6)


def change_contrast(image: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Another contrast, or another gamma; z-scores."""
    if chance(between(REMAP_PROBABILITY, strength), generator):
        image = remap_intensity(image, generator)
    elif chance(0.5, generator):
        low, high = image.amin(), image.amax()
        unit = (image - low) / (high - low + 1e-6)
        image = unit ** math.exp(uniform(-0.5, 0.5, generator))
    return normalized(image)


def spoil(image: Tensor, generator: torch.Generator) -> Tensor:
    """Bias field, slice thickness and noise; `image` in z-scores, (x, y, z)."""
    if chance(0.4, generator):
        field = torch.exp(uniform(0.05, 0.35, generator) * smooth_field(image, 1, 3, generator)[0])
        image = normalized((image - image.amin()) * field)
    if chance(0.3, generator):
        image = thicken_slices(image, generator)
    if chance(0.5, generator):
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        image = image + uniform(0.0, 0.25, generator) * noise
    return image
