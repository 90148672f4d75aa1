"""Label the CIT168 averages, the only real images of the training: T1w and T2w of 168 adults at 0.3 mm, both sides.

    python cit168.py RESOURCES/CITI168 atlas.npz OUT_DIR --networks bagging_0.pt ...

Three things say what a voxel is: where the hippocampus ends, networks that have seen synthetic images alone, and where
white matter is thick the edge that both contrasts show; in which order subfields follow each other, the atlases, bent
into that outline; where SRLM lies, the dark band of the T2w. OUT_DIR/real.npz receives the images, each as sharp as it
is and as scanners with larger voxels would blur it, with these labels: they come from 0.3 mm, and teach how a border
looks where a voxel holds both sides of it. OUT_DIR/atlas.npz receives the labels as two more atlases for pool.py.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from fitting import carried, filled, fit, grid_points, sample, signed_distance
from pool import ATLAS_MM, POOL_MM, resampled, shape_field
from samples import VOXEL_MM
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from train import make_network

UPRIGHT_MM, UPRIGHT_SIZE_MM = 0.3, (40, 66, 58)
BLURS_MM = (0.25, 0.45, 0.65, 0.9)  # standard deviations: of 0.7 mm voxels to blurred 1 mm ones
BEFORE_SAMPLING_MM = 0.35  # blur that goes with the networks' voxels
TRUST = 0.5  # in the networks' label of a voxel, as a power, against the atlases'
BAND_MM, BAND_WEIGHT = 1.0, 0.6  # width over which a voxel is dark or bright; weight of one standard deviation of it
# HippUnfold's labels end below where a voxel looks mostly white (synthesis.py, whitened).
BORDER_WHITENESS = 0.6  # 0 in grey, 1 in white matter
EDGE_MM = 0.75  # how far the outline may move to an edge
THICK_MM = 0.9  # radius of a ball of white matter; alveus and fimbria are thinner, and have no edge of their own
FLOORS = (0.005, 0.02)  # of the atlases' and the networks' probability, so that neither can deny a label


def load_networks(paths: Sequence[Path]) -> list[torch.nn.Module]:
    networks = []
    for path in paths:
        network = make_network()
        network.load_state_dict(torch.load(path, weights_only=True)["average"])
        networks.append(network.eval())
    return networks


def rigid(transform: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and shift (3,) of a file of ITK's about the origin, for RAS mm."""
    values = next(line for line in transform.read_text().splitlines() if line.startswith("Parameters"))
    numbers = np.array(values.split(":")[1].split(), dtype=float)
    to_ras = np.diag([-1.0, -1.0, 1.0])
    return to_ras @ numbers[:9].reshape(3, 3) @ to_ras, to_ras @ numbers[9:]


def upright_middle(image: nib.Nifti1Image, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Middle of a crop in mm of its head."""
    return rotation @ nib.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2) + shift


def upright(image: nib.Nifti1Image, transform: Path) -> np.ndarray:
    """Bring a coronal-oblique crop to the axes of its head, RAS, at UPRIGHT_MM."""
    rotation, shift = rigid(transform)
    image = nib.as_closest_canonical(image)
    middle = upright_middle(image, rotation, shift)
    points = grid_points([round(mm / UPRIGHT_MM) for mm in UPRIGHT_SIZE_MM], UPRIGHT_MM, UPRIGHT_MM)
    crop_world = (points.numpy() + middle - shift) @ rotation  # the inverse of a rotation is its transpose
    at = nib.affines.apply_affine(np.linalg.inv(image.affine), crop_world)
    data = np.asarray(image.dataobj, dtype=np.float32)
    return ndimage.map_coordinates(data, at.transpose(3, 0, 1, 2), order=3, mode="nearest")


def citi168_cases(folder: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Name and both images of each side, upright, as a left one."""
    for side in "LR":
        images = {}
        for contrast in ("T1w", "T2w"):
            image = nib.load(folder / f"{contrast}_300umCoronalOblique_hemi-{side}.nii.gz")
            turned = upright(image, folder / "CoronalOblique_rigid.txt")
            images[contrast] = torch.from_numpy(turned[::-1].copy() if side == "R" else turned)
        yield f"CIT168-{side}", images


def main_component(mask: np.ndarray) -> np.ndarray:
    numbers, n = ndimage.label(mask)
    return numbers == 1 + np.argmax(np.bincount(numbers.ravel())[1:]) if n else mask


@torch.no_grad()
def view(networks: Sequence[torch.nn.Module], coarse: Tensor) -> Tensor:
    """Mean probabilities (7, ...) of networks on an image and its mirror, of the image's shape."""
    coarse = (coarse - coarse.mean()) / coarse.std()
    pads = [(-n) % 8 for n in coarse.shape]
    padded = F.pad(coarse[None, None], [p for pad in reversed(pads) for p in (pad // 2, pad - pad // 2)], "replicate")
    total = sum(
        torch.softmax(network(padded), 1)[0] + torch.softmax(network(padded.flip(2)), 1)[0].flip(1)
        for network in networks
    )
    cut = tuple(slice(p // 2, p // 2 + n) for p, n in zip(pads, coarse.shape, strict=True))
    return (total / (2 * len(networks)))[(slice(None), *cut)]


def seen(networks: Sequence[torch.nn.Module], image: Tensor) -> np.ndarray:
    """Mean probabilities (7, ...) at UPRIGHT_MM, over views half a voxel of the networks apart."""
    fine = grid_points(image.shape, UPRIGHT_MM, UPRIGHT_MM)
    coarse = grid_points(image.shape, UPRIGHT_MM, VOXEL_MM)
    blurred = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), BEFORE_SAMPLING_MM / UPRIGHT_MM))[None]
    total = torch.zeros(())
    for moved in product((0.0, VOXEL_MM / 2), repeat=3):
        shift = torch.tensor(moved)
        found = view(networks, sample(blurred, UPRIGHT_MM, coarse + shift)[0])
        total = total + sample(found, VOXEL_MM, fine - shift)
    return (total / 8).numpy()


def expected(atlases: dict[str, np.ndarray], whole: np.ndarray) -> np.ndarray:
    """Mean shares (7, ...) of the atlases bent into an outline."""
    distance = signed_distance(filled(whole, UPRIGHT_MM), UPRIGHT_MM)
    outline = torch.from_numpy(ndimage.gaussian_filter(distance, 0.7))[None]
    points = grid_points(whole.shape, UPRIGHT_MM, UPRIGHT_MM)
    bent = []
    for labels in atlases.values():
        mapping, misfit = fit(shape_field(filled(labels > 0, ATLAS_MM), ATLAS_MM), ATLAS_MM, outline, UPRIGHT_MM)
        bent.append(carried(labels, ATLAS_MM, mapping, points))
        print(f"    misfit {misfit:.3f} mm", flush=True)
    return np.mean(bent, axis=0)


def brightness(t2w: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """How bright a voxel is among those around it, in standard deviations; `inner` are weights, 0 to 1."""
    smooth, sigma = ndimage.gaussian_filter(t2w, 1.0), BAND_MM / UPRIGHT_MM
    around = ndimage.gaussian_filter(smooth * inner, sigma) / np.maximum(ndimage.gaussian_filter(inner, sigma), 1e-4)
    difference = np.where(inner > 0.2, smooth - around, 0)
    return difference / np.sqrt((difference**2 * inner).sum() / inner.sum())


def to_the_edges(whole: np.ndarray, images: dict[str, Tensor]) -> np.ndarray:
    """Move an outline to where grey turns into thick white matter on T1w and T2w alike."""
    distance = ndimage.distance_transform_edt(~whole) * UPRIGHT_MM
    near, core = (distance > 0) & (distance < 4), ndimage.binary_erosion(whole, iterations=2)
    t1w = images["T1w"].numpy()
    white = near & (t1w > np.percentile(t1w[near], 80))
    whiteness = []  # 0 in grey, 1 in white matter
    for image in images.values():
        smooth = ndimage.gaussian_filter(image.numpy(), 0.7)
        grey = np.median(smooth[core])
        whiteness.append((smooth - grey) / (np.median(smooth[white]) - grey))
    mean, least = np.mean(whiteness, axis=0), np.min(whiteness, axis=0)
    is_white = (mean > BORDER_WHITENESS) & (least > 0.3)
    depth = ndimage.distance_transform_edt(is_white) * UPRIGHT_MM
    thick = is_white & (ndimage.distance_transform_edt(depth <= THICK_MM) * UPRIGHT_MM <= THICK_MM)
    is_grey = (mean > -0.5) & (mean < BORDER_WHITENESS) & (least > -0.4)
    by_white = ndimage.distance_transform_edt(~thick) * UPRIGHT_MM <= EDGE_MM
    added = (distance > 0) & (distance <= EDGE_MM) & is_grey & by_white
    at_border = ndimage.distance_transform_edt(whole) * UPRIGHT_MM <= EDGE_MM / 2
    moved = (whole | added) & ~(at_border & thick)
    return main_component(ndimage.gaussian_filter(moved.astype(np.float32), 0.8) > 0.5)


def without_islands(labels: np.ndarray) -> np.ndarray:
    """Give the smaller pieces of each label to what lies next to them."""
    lost = np.zeros(labels.shape, bool)
    for label in range(1, 7):
        lost |= (labels == label) & ~main_component(labels == label)
    nearest = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]


def label(found: np.ndarray, atlases: dict[str, np.ndarray], images: dict[str, Tensor]) -> np.ndarray:
    """Labels (x, y, z) uint8 from the networks' probabilities (7, ...), the atlases and both images."""
    whole = to_the_edges(main_component(found[0] < 0.5), images)
    shares = np.stack([ndimage.gaussian_filter(share, 0.8) for share in expected(atlases, whole)])
    chances = (shares + FLOORS[0]) * (found + FLOORS[1]) ** TRUST
    # Neither the border nor the subiculum, which is as dark, tells what the band is darker than.
    inner = found[2:].sum(0) * (found[0] < 0.3)
    chances[6] *= np.exp(np.clip(-BAND_WEIGHT * brightness(images["T2w"].numpy(), inner), -2, 2) * inner.clip(0, 1))
    chances = chances[1:] / chances[1:].sum(0)
    best = np.stack([ndimage.gaussian_filter(chance, 0.8) for chance in chances]).argmax(0)
    return without_islands(np.where(whole, 1 + best, 0).astype(np.uint8))


def blurred_cases(name: str, images: dict[str, Tensor], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of real.npz."""
    arrays = {}
    for (contrast, image), blur in product(images.items(), BLURS_MM):
        data = ndimage.gaussian_filter(image.numpy(), blur / UPRIGHT_MM)
        case = f"{name}-{contrast}-{round(100 * blur)}"
        arrays[f"image/{case}"] = np.clip((data - data.mean()) / data.std(), -8, 8).astype(np.float16)
        arrays[f"labels/{case}"] = labels
        arrays[f"voxels/{case}"] = np.array([UPRIGHT_MM, POOL_MM])
    return arrays


def framed(labels: np.ndarray) -> np.ndarray:
    """Cut to the labels and 8 mm around, as the other atlases are."""
    margin = round(8 / ATLAS_MM)
    padded = np.pad(labels, margin)
    box = ndimage.find_objects((padded > 0).astype(int))[0]
    return padded[tuple(slice(s.start - margin, s.stop + margin) for s in box)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("citi168", type=Path)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    networks = load_networks(arguments.networks)
    with np.load(arguments.atlas) as stored:
        atlases = {name: stored[name] for name in stored if name != "upenn"}  # its proportions are not those in vivo
    cases, made = {}, {}
    for name, images in citi168_cases(arguments.citi168):
        found = sum(seen(networks, image) for image in images.values()) / len(images)
        labels = label(found, atlases, images)
        volumes = np.bincount(labels.ravel(), minlength=7)[1:] * UPRIGHT_MM**3
        print(name, *volumes.round().astype(int), (volumes / volumes.sum()).round(3), flush=True)
        in_pool, in_atlas = (
            resampled(labels, UPRIGHT_MM, grid_points(labels.shape, UPRIGHT_MM, mm)) for mm in (POOL_MM, ATLAS_MM)
        )
        cases |= blurred_cases(name, images, in_pool)
        made[name] = framed(in_atlas)
    np.savez(arguments.out_dir / "real.npz", **cases)
    np.savez_compressed(arguments.out_dir / "atlas.npz", **made)


if __name__ == "__main__":
    main()
