"""Training augmentation in plain torch, for both contrasts and for crops that a registration makes.

At inference a crop comes from an affine registration: its margins, position and rotation are not
those of the Task04 crops, and its contrast may be T2w. Each training sample is therefore drawn with
random geometry, a random box around the hippocampus, and, every second time, a random remapping of
the intensities.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_SHAPE = (48, 64, 48)
ROTATION_SD_DEGREES = 9.0
ZOOM = (0.8, 1.3)  # 1 mm crops seen as 0.77-1.25 mm ones
AXIS_ZOOM_SD = 0.05
SHIFT_VOXELS = 5.0
ELASTIC_SD_VOXELS = 1.2
MARGIN_VOXELS = (2, 14)  # of the box around the label, drawn per face
REMAP_PROBABILITY = 0.5


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def chance(probability: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability


def smooth_field(channels: int, knots: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Smooth random field of unit knot deviation, (1, channels, *SAMPLE_SHAPE)."""
    coarse = torch.randn(1, channels, knots, knots, knots, generator=generator).to(device)
    return F.interpolate(coarse, size=SAMPLE_SHAPE, mode="trilinear", align_corners=True)


def sampling_grid(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random affine and elastic sampling grid into an image of `shape`, for grid_sample (align_corners)."""
    angles = torch.randn(3, generator=generator) * math.radians(ROTATION_SD_DEGREES)
    rotation = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        i, j = [k for k in range(3) if k != axis]
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ turn
    zoom = math.exp(uniform(math.log(ZOOM[0]), math.log(ZOOM[1]), generator))
    zooms = zoom * torch.exp(torch.randn(3, generator=generator) * AXIS_ZOOM_SD)
    if chance(0.5, generator):
        zooms[0] = -zooms[0]  # left-right flip
    matrix = (rotation @ torch.diag(1 / zooms)).to(device)
    shift = (torch.rand(3, generator=generator) * 2 - 1) * SHIFT_VOXELS

    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in SAMPLE_SHAPE]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T + shift.to(device)
    if chance(0.5, generator):
        points = points + ELASTIC_SD_VOXELS * smooth_field(3, 6, generator, device)[0].permute(1, 2, 3, 0)
    half = torch.tensor([(n - 1) / 2 for n in shape], device=device)
    return (points / half).flip(-1)[None]  # grid_sample wants (z, y, x)


def random_box(label: Tensor, generator: torch.Generator) -> tuple[slice, ...]:
    """Box around the label with a random margin per face, as an imperfect locator would give."""
    box = []
    for axis, size in enumerate(SAMPLE_SHAPE):
        others = [k for k in range(3) if k != axis]
        held = torch.nonzero((label > 0).any(dim=others[1]).any(dim=others[0])).flatten()
        low, high = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, size)
        margins = torch.randint(MARGIN_VOXELS[0], MARGIN_VOXELS[1] + 1, (2,), generator=generator)
        box.append(slice(max(0, low - int(margins[0])), min(size, high + int(margins[1]))))
    return tuple(box)


def remap_intensity(image: Tensor, generator: torch.Generator) -> Tensor:
    """Piecewise-linear map between six quantile knots with random values: any contrast, inverted ones too."""
    inner = torch.sort(torch.rand(4, generator=generator) * 0.9 + 0.05).values
    quantiles = torch.cat([torch.tensor([0.005]), inner, torch.tensor([0.995])]).to(image.device)
    knots = torch.quantile(image.flatten()[::5], quantiles)
    knots = knots + 1e-3 * torch.arange(6, device=image.device)  # strictly rising, also where quantiles tie
    values = torch.randn(6, generator=generator).to(image.device)
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
    coarse = [max(8, round(n / f)) for n, f in zip(SAMPLE_SHAPE, factors, strict=True)]
    small = F.interpolate(image[None, None], size=coarse, mode="area")
    return F.interpolate(small, size=SAMPLE_SHAPE, mode="trilinear", align_corners=False)[0, 0]


def change_intensity(image: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast, bias field, slice thickness and noise; `image` in z-scores, (x, y, z)."""
    if chance(REMAP_PROBABILITY, generator):
        image = remap_intensity(image, generator)
    elif chance(0.5, generator):
        low, high = image.amin(), image.amax()
        unit = (image - low) / (high - low + 1e-6)
        image = unit ** math.exp(uniform(-0.5, 0.5, generator))
    image = (image - image.mean()) / (image.std() + 1e-6)
    if chance(0.4, generator):
        field = torch.exp(uniform(0.05, 0.35, generator) * smooth_field(1, 3, generator, image.device)[0, 0])
        image = (image - image.amin()) * field
        image = (image - image.mean()) / (image.std() + 1e-6)
    if chance(0.3, generator):
        image = thicken_slices(image, generator)
    if chance(0.5, generator):
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        image = image + uniform(0.0, 0.25, generator) * noise
    return image


def draw_sample(image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one augmented training sample.

    Parameters
    ----------
    image : Tensor
        (x, y, z) float32, a Task04 crop, on any device.
    label : Tensor
        (x, y, z) integer, 0 background, 1 anterior, 2 posterior.
    generator : torch.Generator
        On the CPU, so that a seed means the same on every device.

    Returns
    -------
    image, label : Tensor
        (1, *SAMPLE_SHAPE) float32, z-scores over a random box and zero outside it, as the app
        normalises and pads; (*SAMPLE_SHAPE) int64.
    """
    grid = sampling_grid(image.shape, generator, image.device)
    moved = F.grid_sample(image[None, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0, 0]
    one_hot = F.one_hot(label.long(), 3).permute(3, 0, 1, 2)[None, 1:].float()
    fields = F.grid_sample(one_hot, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    label = torch.cat([1 - fields.sum(0, keepdim=True), fields]).argmax(0)

    box = random_box(label, generator)
    inside = change_intensity(moved, generator)[box]
    sample = torch.zeros(SAMPLE_SHAPE, device=image.device)
    sample[box] = (inside - inside.mean()) / (inside.std() + 1e-6)
    return sample[None], label
