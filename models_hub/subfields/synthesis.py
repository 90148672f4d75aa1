"""Images of any contrast from a label map of pool.py, after Billot et al. 2023; torch.

Each tissue draws a mean of its own: as on T1w scans, as on T2w scans, or any. What separates the subfields in a real
image is drawn with it: the layers within the fold (SRLM) are darker than grey matter on T2w and as bright as myelin
makes them on T1w, or do not show at all. Subiculum, CA2 and CA3 lie a fifth of the way from CA1 to white matter on both
contrasts of the CIT168 averages, SRLM where CA1 lies; the ranges hold these.
"""

import numpy as np
import torch
from pool import ALVEUS_ON, FIRST_TISSUE, N_TISSUES, NUMBER, POOL_MM
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from training.augmentation import chance, smooth_field, uniform

SUB, CA1, CA2, CA3, DG, SRLM = range(1, 7)
T1W_SHARE, T2W_SHARE = 0.45, 0.37
# How far fluid lies beyond grey matter, for one from white to grey: 0.6 to 1.4 on T1w (Task04, CIT168, ICBM152), 1.8 on
# the averages' T2w, and 4.5 on one person's sharp T2w.
FLUID_T1W, FLUID_T2W = (0.5, 1.6), (1.2, 5.0)
WHITENED_VOXELS = (0.0, 0.8)  # depth to which the border to white matter looks white
# Where a temporal horn is near, averages show no thin alveus and then fluid, but more and more fluid over so many
# voxels of 0.7 mm, from this far beyond the border on. Half of the images do. The fimbria upon CA3 is free of it.
MIXED_SHARE, MIXED_VOXELS, MIXED_FROM, FIMBRIA_VOXELS = 0.5, (0.8, 3.6), (-1.2, 0.3), (0.0, 2.2)
IS_DEEP = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])  # of the labels: subiculum and CA1 lie upon white matter
# Mean, and its standard deviation, of tissues; grey matter of the cortex 0.5, white matter 1 on T1w.
T1W = {
    "white": (1.0, 0.04),
    "cortex": (0.52, 0.05),
    "thalamus": (0.76, 0.06),
    "deep": (0.66, 0.07),
    "amygdala": (0.55, 0.05),
    "ventral": (0.86, 0.06),
    "brainstem": (0.9, 0.06),
    "cerebellar white": (0.95, 0.05),
    "cerebellar cortex": (0.52, 0.06),
    "vessel": (0.5, 0.35),
    "transition": (0.54, 0.06),
    "outside": (0.5, 0.4),
    "alveus": (0.78, 0.14),
    "gap": (0.5, 0.25),
}
T2W = {
    "white": (0.33, 0.05),
    "cortex": (0.58, 0.05),
    "thalamus": (0.46, 0.05),
    "deep": (0.42, 0.07),
    "amygdala": (0.57, 0.05),
    "ventral": (0.36, 0.05),
    "brainstem": (0.4, 0.05),
    "cerebellar white": (0.36, 0.05),
    "cerebellar cortex": (0.58, 0.06),
    "vessel": (0.4, 0.35),
    "transition": (0.57, 0.06),
    "outside": (0.4, 0.35),
    "alveus": (0.38, 0.06),
    "gap": (0.6, 0.3),
}


def normal(mean: float, sd: float, generator: torch.Generator) -> float:
    return mean + sd * float(torch.randn((), generator=generator))


def known_means(table: dict[str, tuple[float, float]], t2w: bool, generator: torch.Generator) -> Tensor:
    """Means of one contrast, (N_TISSUES,)."""
    means = torch.zeros(N_TISSUES)
    for name, (mean, sd) in table.items():
        means[NUMBER[name]] = normal(mean, sd, generator)
    grey = float(means[NUMBER["cortex"]]) + normal(0.03, 0.04, generator)
    # Grey and white matter lie closer together in a child, at a low field, or by another sequence.
    gap = float(means[NUMBER["white"]]) - grey
    means[1:7] = grey
    low, high = np.log(FLUID_T2W if t2w else FLUID_T1W)
    beyond = float(np.exp(uniform(low, high, generator)))
    for name in ("fluid", "ventricle"):
        means[NUMBER[name]] = grey - beyond * normal(1.0, 0.08, generator) * gap
    if t2w:
        means[SUB] = grey + uniform(-0.05, 0.35, generator) * gap
        means[CA2] = grey + uniform(0.0, 0.25, generator) * gap
        means[CA3] = grey + normal(0.1, 0.12, generator) * gap
        means[DG] = grey - uniform(-0.1, 0.5, generator) * gap
        means[SRLM] = grey + uniform(-0.1, 0.8, generator) * gap
    else:
        means[SUB] = grey + uniform(0.0, 0.55, generator) * gap
        means[CA2] = grey + normal(0.12, 0.1, generator) * gap
        means[CA3] = grey + normal(0.12, 0.1, generator) * gap
        means[DG] = grey + normal(0.0, 0.08, generator) * gap
        means[SRLM] = grey + uniform(-0.15, 0.6, generator) * gap
    return means


def any_means(generator: torch.Generator) -> Tensor:
    """Means of no known contrast; half of the time what is grey matter is alike."""
    means = torch.rand(N_TISSUES, generator=generator)
    if chance(0.6, generator):
        grey = float(means[NUMBER["cortex"]])
        for tissue in (SUB, CA1, CA2, CA3, DG, NUMBER["amygdala"], NUMBER["transition"]):
            means[tissue] = grey + normal(0.0, 0.08, generator)
    return means


def blurred(image: Tensor, sigma_voxels: float) -> Tensor:
    """Gaussian blur of (x, y, z), axis by axis."""
    radius = max(1, round(3 * sigma_voxels))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_voxels) ** 2)
    kernel = kernel / kernel.sum()
    volume = image[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        volume = F.conv3d(F.pad(volume, pad, mode="replicate"), kernel.view(shape))
    return volume[0, 0]


def random_means(generator: torch.Generator) -> Tensor:
    kind = float(torch.rand((), generator=generator))
    if kind < T1W_SHARE:
        return known_means(T1W, False, generator)
    if kind < T1W_SHARE + T2W_SHARE:
        return known_means(T2W, True, generator)
    return any_means(generator)


def rendered(tissues: Tensor, means: Tensor, blur_mm: float, generator: torch.Generator) -> Tensor:
    """Plain image of a label map of pool.py at its own voxels, to judge by: blurred, with a little noise."""
    image = means[tissues.long()]
    image = image + 0.03 * smooth_field(image, 1, 12, generator)[0]
    image = blurred(image, blur_mm / POOL_MM)
    return image + 0.02 * torch.randn(image.shape, generator=generator)


def outer_layer(tissues: Tensor, means: Tensor, generator: torch.Generator) -> Tensor:
    """Intensity of the layer upon the hippocampus, (x, y, z): white matter, or alveus where fluid is near.

    Beside the temporal horn the alveus is thinner than a voxel, and mixed with fluid it looks like grey matter. Below,
    the subiculum and CA1 lie upon plain white matter: a grey layer there would teach a border that lies too far in.
    """
    fluid = is_fluid(tissues)
    near = (4 * F.avg_pool3d(fluid[None, None].float(), 5, 1, 2)[0, 0]).clamp(max=1)
    wet = uniform(0.0, 0.9, generator) if chance(0.7, generator) else 0.0
    wetted = (1 - wet) * means[NUMBER["alveus"]] + wet * means[NUMBER["ventricle"]]
    white = means[NUMBER["white"]]
    plain = white + uniform(0.0, 0.12, generator) * (means[NUMBER["cortex"]] - white)
    return near * wetted + (1 - near) * plain


def is_fluid(tissues: Tensor) -> Tensor:
    return (tissues == NUMBER["ventricle"]) | (tissues == NUMBER["fluid"])


def distance_beyond(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels beyond the hippocampus's border, negative within it, and the nearest label upon it, (x, y, z) each."""
    outside = shares[0].numpy()
    beyond, nearest = ndimage.distance_transform_edt(outside >= 0.5, return_indices=True)
    within = ndimage.distance_transform_edt(outside < 0.5)
    signed = np.where(outside >= 0.5, beyond - 0.5, 0.5 - within)
    # A voxel that the border runs through says itself where.
    signed = np.where((outside > 0.02) & (outside < 0.98) & (np.abs(signed) < 1), outside - 0.5, signed)
    labels = 1 + shares[1:].argmax(0).numpy()[tuple(nearest)]
    return torch.from_numpy(signed.astype(np.float32)), torch.from_numpy(labels)


def mixed_fluid(shares: Tensor, tissues: Tensor, generator: torch.Generator) -> Tensor:
    """Share of fluid in what looks like alveus, fluid or the border of the hippocampus beside them, (x, y, z).

    It rises from the border on, where fluid is near and CA1 to CA3 are nearest. NaN where nothing is mixed.
    """
    distance, nearest = distance_beyond(shares)
    on = torch.from_numpy(ALVEUS_ON).float()[nearest]
    near = F.avg_pool3d(is_fluid(tissues)[None, None].float(), 5, 1, 2)[0, 0] > 0.15
    begins = uniform(*MIXED_FROM, generator) * on + uniform(*FIMBRIA_VOXELS, generator) * (nearest == CA3)
    reach = uniform(*MIXED_VOXELS, generator) * on
    mixed = ((distance - begins) / reach.clamp(min=0.1)).clamp(0, 1)
    lies_so = is_fluid(tissues) | (tissues == NUMBER["alveus"]) | (tissues < FIRST_TISSUE)
    return torch.where(near & lies_so & (on > 0.3), mixed, torch.nan)


def whitened(shares: Tensor, tissues: Tensor, generator: torch.Generator) -> Tensor:
    """How much of the grey matter of a voxel looks like white matter, (x, y, z): the lowest of subiculum and CA1.

    HippUnfold's manual labels go on below the hippocampus into what looks half white, where fibres enter: on its
    example sub-073, whose SRLM lies where it is darkest, 0.35 mm (T2w) to 0.65 (T1w) beyond half-way from grey to white
    matter.
    """
    white = (tissues == NUMBER["white"]) | (tissues == NUMBER["alveus"])
    fluid = is_fluid(tissues)
    n_white, n_fluid = F.avg_pool3d(torch.stack([white.float(), fluid.float()])[None], 5, 1, 2)[0]
    by_white = (6 * (n_white - 2 * n_fluid)).clamp(0, 1)
    # From one side of the border to the other, the mean over three voxels falls by a third a voxel.
    depth = 3 * (F.avg_pool3d(1 - shares[:1][None], 3, 1, 1)[0, 0] - 0.5)
    return by_white * (uniform(*WHITENED_VOXELS, generator) - depth + 0.5).clamp(0, 1)


def synthesize(shares: Tensor, tissues: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an image (x, y, z).

    Parameters
    ----------
    shares : Tensor
        (7, x, y, z), of background and each subfield in a voxel.
    tissues : Tensor
        (x, y, z) labels of pool.py.
    generator : torch.Generator
    """
    means = random_means(generator)
    layer = outer_layer(tissues, means, generator)
    beyond = torch.where(tissues == NUMBER["alveus"], layer, means[tissues])
    mixed = mixed_fluid(shares, tissues, generator) if chance(MIXED_SHARE, generator) else None
    if mixed is not None:
        white = means[NUMBER["white"]]
        alveus = white + uniform(0.0, 0.3, generator) * (means[NUMBER["cortex"]] - white)
        beyond = torch.where(mixed.isnan(), beyond, (1 - mixed) * alveus + mixed * means[NUMBER["ventricle"]])
    # What a voxel of the hippocampus has of the outside is what lies outside of it.
    outer = (tissues >= FIRST_TISSUE).float()
    around, n = F.avg_pool3d(torch.stack([beyond * outer, outer])[None], 3, 1, 1)[0]
    beyond = torch.where(outer > 0, beyond, torch.where(n > 0, around / n.clamp(min=1e-6), layer))
    grey = shares[1:] * (1 - whitened(shares, tissues, generator) * IS_DEEP[:, None, None, None])
    fibres = shares[1:].sum(0) - grey.sum(0)
    image = shares[0] * beyond + torch.einsum("cxyz,c->xyz", grey, means[1:FIRST_TISSUE]) + fibres * layer
    if mixed is not None:
        within = torch.where(mixed.isnan() | (tissues >= FIRST_TISSUE), 0.0, mixed)
        image = (1 - within) * image + within * means[NUMBER["ventricle"]]
    # Tissue is not uniform: cloudy everywhere, and outside of the brain anything.
    image = image + uniform(0.0, 0.08, generator) * smooth_field(image, 1, 14, generator)[0]
    image = image + uniform(0.0, 0.06, generator) * smooth_field(image, 1, 5, generator)[0]
    outside = tissues >= NUMBER["outside"]
    image = torch.where(outside, image + 0.3 * smooth_field(image, 1, 9, generator)[0], image)
    image = image + uniform(0.0, 0.08, generator) * torch.randn(image.shape, generator=generator)
    return blurred(image, uniform(0.4, 1.1, generator))
