"""How right unfolded coordinates are: on atlases that a network has not seen, and on the MNI template's own labels.

    python judge_coordinates.py NET.onnx coordinates.npz --left-out NKI
    python judge_coordinates.py NET.onnx coordinates.npz --template HIPPUNFOLD_SUBFIELDS HIPPUNFOLD_WHEEL_RESOURCES
    python judge_coordinates.py NET.onnx coordinates.npz --scans OUT/a_T1w_seg-X OUT/a_T2w_seg-X [--figure T1w PNG]

The first form compares with the coordinates of coordinates.py, from labels as they are and spoilt as networks spoil
them. The second looks up, for each voxel of HippUnfold's labels on the MNI template (1 mm, seen by no training), which
subfield BigBrain has at the coordinates found, and compares that with HippUnfold's own label of the voxel. The third
compares what the app has written (`--write-coords`) of two scans on the same voxels, and draws the first one, left.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime
import torch
from atlas import FROM_HIPPUNFOLD, LABELS, SRLM, interpolated_indicators
from atlas import VOXEL_MM as ATLAS_MM
from coordinates import NAMES, unfolded_vertices
from fitting import grid_points, sample
from judge_scans import dice
from samples import N_CLASSES, PAD_MULTIPLE, VOXEL_MM
from scipy import ndimage
from scipy.spatial import cKDTree
from torch.nn import functional as F
from train_coordinates import spoilt

LENGTHS_MM = (40.0, 20.0, 1.5)  # of a middling sheet along each of NAMES
SIDE = 100  # right labels are above
CA4 = 5  # of HippUnfold's labels, which end with DG, SRLM and a cyst


def told(session: onnxruntime.InferenceSession, probabilities: np.ndarray) -> np.ndarray:
    """Coordinates (3, x, y, z) of probabilities (labels, x, y, z)."""
    pads = [(0, 0), *((0, -n % PAD_MULTIPLE) for n in probabilities.shape[1:])]
    answer = session.run(None, {"probabilities": np.pad(probabilities, pads)[None].astype(np.float32)})[0][0]
    return answer[(slice(None), *(slice(n) for n in probabilities.shape[1:]))]


def off_by(session: onnxruntime.InferenceSession, labels: np.ndarray, known: np.ndarray, seed: int | None) -> list[str]:
    """Mean and 95th percentile of the error of each coordinate in mm, over the grey matter of one side."""
    points = grid_points(labels.shape, ATLAS_MM, VOXEL_MM)
    one_hot = F.one_hot(torch.from_numpy(labels.astype(np.int64)), N_CLASSES).permute(3, 0, 1, 2).float()
    shares = sample(one_hot, ATLAS_MM, points)
    true = sample(torch.from_numpy(known.astype(np.float32)), ATLAS_MM, points, mode="nearest").numpy()
    grey = np.isin(shares.argmax(0).numpy(), range(1, SRLM))
    if seed is not None:
        shares = spoilt(shares, torch.Generator().manual_seed(seed))
    found = told(session, shares[1:].numpy())
    cells = []
    for each, truth, length in zip(found, true, LENGTHS_MM, strict=True):
        off = np.abs(each - truth)[grey & np.isfinite(truth)] * length
        cells.append(f"{off.mean():.2f} ({np.quantile(off, 0.95):.1f})" if off.size else "-")
    return cells


def agreement(
    session: onnxruntime.InferenceSession, hippunfold: Path, resources: Path, side: str
) -> tuple[dict[str, float], float]:
    """Dice of each subfield looked up at the coordinates found with HippUnfold's own; share of voxels alike."""
    image = nib.as_closest_canonical(
        nib.load(hippunfold / f"tpl-MNI152NLin2009cSym_hemi-{side}_desc-subfields_dseg.nii.gz")
    )
    theirs = np.rint(np.asarray(image.dataobj)).astype(int)
    inside = np.argwhere(theirs > 0)
    low, high = inside.min(0) - 8, inside.max(0) + 8
    shape = tuple(((high - low) / VOXEL_MM).astype(int))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * VOXEL_MM + low
    world = nib.affines.apply_affine(image.affine, index.reshape(-1, 3))
    shares = interpolated_indicators(FROM_HIPPUNFOLD[theirs], image.affine, world).reshape(-1, *shape)
    found = told(session, shares[1:] / np.maximum(shares.sum(0), 1e-6))
    grey = np.argwhere((theirs > 0) & (theirs <= CA4))
    at = torch.from_numpy((grey - low) / VOXEL_MM - (np.array(shape) - 1) / 2).float()
    unfolded = sample(torch.from_numpy(found), 1.0, at[None, None])[:2, 0, 0].numpy().T
    vertices = unfolded_vertices(resources)
    names = nib.load(hippunfold / f"hemi-{side}_den-0p5mm_label-hipp_subfields.label.gii").darrays[0].data
    _, nearest = cKDTree(vertices * LENGTHS_MM[:2]).query(unfolded * LENGTHS_MM[:2])
    looked_up, own = FROM_HIPPUNFOLD[names[nearest].astype(int)], FROM_HIPPUNFOLD[theirs[tuple(grey.T)]]
    return {LABELS[k - 1]: dice(looked_up == k, own == k) for k in range(1, SRLM)}, float((looked_up == own).mean())


def maps_of(stem: str) -> dict[str, np.ndarray]:
    """Label map and coordinates that the app has written, by name, RAS."""
    names = {"dseg": "dseg", **{name: f"desc-{name}_coords" for name in NAMES}}
    images = {name: nib.as_closest_canonical(nib.load(f"{stem}_{end}.nii.gz")) for name, end in names.items()}
    return {name: np.asarray(image.dataobj) for name, image in images.items()}


def differences(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Mean and 95th percentile of what two scans differ by in mm, where both have coordinates."""
    both = (first["AP"] > 0) & (second["AP"] > 0)
    off = [np.abs(first[n] - second[n])[both] * length for n, length in zip(NAMES, LENGTHS_MM, strict=True)]
    return [f"{each.mean():.2f} ({np.quantile(each, 0.95):.1f})" for each in off]


def draw(path: Path, image: np.ndarray, maps: dict[str, np.ndarray], n: int = 8) -> None:
    """Coronal slices of the left side from front to back: the image, the coordinates upon it; below, the flat map."""
    import matplotlib as mpl  # for the figure alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    left = (maps["dseg"] > 0) & (maps["dseg"] < SIDE)
    (held,) = ndimage.find_objects(left.astype(int))
    box = tuple(slice(s.start - 4, s.stop + 4) for s in held)
    seen, inside = image[box], left[box]
    figure, axes = plt.subplots(5, n, figsize=(1.7 * n, 8.5), layout="constrained")
    for column, y in enumerate(np.linspace(seen.shape[1] - 8, 6, n).astype(int)):
        for row, name in enumerate((None, *NAMES)):
            axes[row, column].imshow(seen[:, y].T, cmap="gray", origin="lower", vmin=0, vmax=np.percentile(seen, 99.5))
            axes[row, column].axis("off")
            if name:
                shown = np.ma.masked_where(~inside[:, y] | (maps[name][box][:, y] == 0), maps[name][box][:, y]).T
                axes[row, column].imshow(shown, cmap="turbo", origin="lower", vmin=0, vmax=1, interpolation="nearest")
                axes[row, 0].set_title(name, loc="left", fontsize=9)
    grid = axes[4, 0].get_gridspec()
    for axis in axes[4]:
        axis.remove()
    flat = figure.add_subplot(grid[4, :])
    has = left & (maps["AP"] > 0)
    colors = ListedColormap(["#9467bd", "#2ca02c", "#1f77b4", "#ffbf00", "#d62728"])
    places = {"c": maps["dseg"][has], "cmap": colors, "vmin": 0.5, "vmax": 5.5, "s": 9}
    flat.scatter(maps["AP"][has] * LENGTHS_MM[0], maps["PD"][has] * LENGTHS_MM[1], **places)
    flat.set(aspect="equal", xlabel="AP, front to tail", ylabel="PD, Sub to CA4", xticks=[], yticks=[])
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("atlases", type=Path)
    parser.add_argument("--left-out", help="part of the names of the atlases to judge by")
    parser.add_argument("--template", type=Path, nargs=2, metavar=("HIPPUNFOLD_SUBFIELDS", "RESOURCES"))
    parser.add_argument("--scans", nargs=2, metavar="STEM", help="of files of the app, without _dseg.nii.gz")
    parser.add_argument("--figure", type=Path, nargs=2, metavar=("IMAGE", "FILE.png"))
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(arguments.network, providers=["CPUExecutionProvider"])
    if arguments.left_out:
        print(f"{'error in mm, mean (95 %)':28}", *(name.rjust(13) for name in NAMES))
        with np.load(arguments.atlases) as stored:
            for key in sorted(key for key in stored if key.startswith("labels/") and arguments.left_out in key):
                name = key.removeprefix("labels/")
                for title, seed in (("as it is", None), ("spoilt", 1)):
                    cells = off_by(session, stored[key], stored[f"coordinates/{name}"], seed)
                    print(f"{name + ', ' + title:28}", *(cell.rjust(13) for cell in cells))
    if arguments.template:
        for side in "LR":
            by_label, alike = agreement(session, *arguments.template, side)
            print(f"MNI, {side}:", *(f"{name} {value:.2f}" for name, value in by_label.items()), f"alike {alike:.3f}")
    if arguments.scans:
        first, second = (maps_of(stem) for stem in arguments.scans)
        print(f"{'first and second scan':28}", *(cell.rjust(13) for cell in differences(first, second)))
        if arguments.figure:
            image = np.asarray(nib.as_closest_canonical(nib.load(arguments.figure[0])).dataobj, dtype=np.float32)
            draw(arguments.figure[1], image, first)


if __name__ == "__main__":
    main()
