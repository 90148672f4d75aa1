"""Training augmentation in plain torch, for both contrasts and for crops that a registration makes.

At inference a crop comes from an affine registration: its margins, position and rotation are not
those of the Task04 crops, and its contrast may be T2w. Each training sample is therefore drawn with
random geometry, a random box around the hippocampus, and often a random remapping of the intensities:
with falling values, as T2w has, or with any values.

A small network that sees hard samples alone never fits the easy ones, which are most of what it will
meet, and interpolated samples are smoother than what it will meet: a share of the samples is therefore
plain, flipped and cut but not interpolated. `strength` (1 hard, 0 mild) lets the schedule end on milder
samples.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from training.augmentation import between, chance, change_contrast, normalized, random_box, sampling_grid, spoil

SIZES = {"tight": (32, 48, 32), "roomy": (40, 56, 40)}
PLAIN_PROBABILITY = (0.65, 0.3)  # at strength 0 and 1


def draw_plain(
    image: Tensor, label: Tensor, size: tuple[int, ...], strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Flip a crop, cut or pad it to `size` at a random place, and change its contrast: no voxel is interpolated."""
    if chance(0.5, generator):
        image, label = image.flip(0), label.flip(0)
    source, target = [], []
    for have, want in zip(image.shape, size, strict=True):
        spare = abs(have - want)
        at = int(torch.randint(0, spare + 1, (), generator=generator))
        whole, part = slice(0, min(have, want)), slice(at, at + min(have, want))
        source.append(part if have > want else whole)
        target.append(whole if have > want else part)
    cut = change_contrast(image[tuple(source)], strength, generator)
    sample = torch.zeros(size, device=image.device)
    sample[tuple(target)] = cut
    labels = torch.zeros(size, dtype=torch.long, device=image.device)
    labels[tuple(target)] = label[tuple(source)].long()
    return sample[None], labels


def draw_sample(
    image: Tensor, label: Tensor, size: tuple[int, ...], strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one augmented training sample.

    Parameters
    ----------
    image : Tensor
        (x, y, z) float32, a Task04 crop, on any device.
    label : Tensor
        (x, y, z) integer, 0 background, 1 anterior, 2 posterior.
    size : tuple of int
        Voxels of the sample an axis.
    strength : float
        From 0 (mild) to 1 (hard).
    generator : torch.Generator
        On the CPU, so that a seed means the same on every device.

    Returns
    -------
    image, label : Tensor
        (1, *size) float32, z-scores over a random box and zero outside it, as the app normalises and
        pads; (*size) int64.
    """
    if chance(between(PLAIN_PROBABILITY, strength), generator):
        return draw_plain(image, label, size, strength, generator)
    grid = sampling_grid(image, size, strength, generator)
    moved = F.grid_sample(image[None, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0, 0]
    one_hot = F.one_hot(label.long(), 3).permute(3, 0, 1, 2)[None, 1:].float()
    fields = F.grid_sample(one_hot, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    label = torch.cat([1 - fields.sum(0, keepdim=True), fields]).argmax(0)

    box = random_box(label, generator)
    inside = spoil(change_contrast(moved, strength, generator), generator)[box]
    sample = torch.zeros(size, device=image.device)
    sample[box] = normalized(inside)
    return sample[None], label
