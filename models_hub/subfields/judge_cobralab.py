r"""Leave one CoBrALab brain out, on synthetic images of its manual labels; onnxruntime and torch.

    python judge_cobralab.py COBRALAB_SUBFIELDS SYNTHSEG_CONTEXT HIPPUNFOLD_SUBFIELDS MNI_HIPPOCAMPUS_LABELS \
        --networks NET.onnx ... [--before NET.onnx ...] [--folds FOLD.onnx ...] [--every 2] [--figures DIR]

No network of the family has seen a label of CoBrALab's. Theirs is another protocol, so what can be reached is how well
the two agree on one brain, MNI 2009c, printed as a line of its own; merges are compared where the two share a border.
T1w-like images are blurred as scans at 1 mm are, T2w-like ones less.

`--folds`, one a brain, in their order, are networks that went on from the family's with the labels of the other three:
what this training makes of a protocol that it is taught. `--write-atlas FILE.npz` writes the labels for pool.py, and
train.py leaves a brain out by `--leave-out brain1`.

Beside the networks stands the plain way: labels of the MNI template carried over by an affine. Here that is the best
affine there is, fitted to the manual outline itself (an app has to find it from the image), with HippUnfold's labels
as the networks', and with CoBrALab's own.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import torch
from fitting import carried_upon, grid_points
from judge_crops import Confidence, Networks
from judge_scans import dice, hippunfold_labels, mosaic, renumbered
from pool import ATLAS_MM, MARGIN_MM, POOL_MM, cut_around, put
from scipy import ndimage
from synthesis import T1W, T2W, known_means, rendered
from torch.nn import functional as F

KINDS = {"T1w": (T1W, 0.8), "T2w": (T2W, 0.5)}  # means, blur in mm
MERGES = {
    "Sub": (1,),
    "CA1": (2,),
    "CA23": (3, 4),
    "DG": (5,),
    "SRLM": (6,),
    "Sub+CA1": (1, 2),
    "CA123": (2, 3, 4),
    "DG+SRLM": (5, 6),
    "whole": range(1, 7),
}
FROM_COBRALAB = {1: 2, 2: 1, 4: 5, 5: 4, 6: 6}  # their numbers to this family's; CA2 and CA3 are one there
FROM_MNI = {"L": {7: 2, 8: 1, 9: 5, 10: 4, 11: 6}, "R": {88: 2, 89: 1, 90: 5, 91: 4, 92: 6}}
COBRALAB_MM = 0.3


def image_of(labels: np.ndarray, kind: str, seed: int) -> torch.Tensor:
    """Synthetic image of a label map of pool.py, T1w- or T2w-like."""
    table, blur_mm = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)
    return rendered(torch.from_numpy(labels), known_means(table, kind == "T2w", generator), blur_mm, generator)


def at_atlas_mm(numbers: np.ndarray, voxel_mm: float, side: str) -> np.ndarray:
    """One side as a left one, at ATLAS_MM, with a margin."""
    box = ndimage.find_objects((numbers > 0).astype(int))[0]
    cut = torch.from_numpy(np.pad(numbers[box], round(8 / voxel_mm)).astype(np.int64))
    fields = F.one_hot(cut, 7).permute(3, 0, 1, 2)[None].float()
    zoom = voxel_mm / ATLAS_MM
    fine = F.interpolate(fields, scale_factor=zoom, mode="trilinear", align_corners=False)[0].argmax(0).numpy()
    return (fine[::-1] if side == "R" else fine).astype(np.uint8).copy()


def manual_labels(path: Path) -> np.ndarray:
    """Labels of a brain, RAS, cut to what is labelled; as stored, since the floats of a whole one are gigabytes."""
    with h5py.File(path) as stored:
        data = stored["minc-2.0/image/0/image"][()]
    held = tuple(np.flatnonzero(data.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    cut = data[tuple(slice(h[0], h[-1] + 1) for h in held)]
    return np.asarray(nib.as_closest_canonical(nib.Nifti1Image(cut, nib.load(path).affine)).dataobj)


def brains(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and label map of each side of the manual brains."""
    paths = sorted(folder.glob("*.mnc"))
    if not paths:
        sys.exit(f"{folder}: no label maps (*.mnc)")
    for path in paths:
        data = manual_labels(path)
        for side, offset in (("R", 0), ("L", 100)):
            table = {theirs + offset: ours for theirs, ours in FROM_COBRALAB.items()}
            yield f"{path.stem.split('_')[0]}-{side}", at_atlas_mm(renumbered(data, table), COBRALAB_MM, side)


def templates(hippunfold: Path, mni: Path) -> dict[str, np.ndarray]:
    """Both protocols' labels of the left side of MNI 2009c, at ATLAS_MM."""
    image = nib.as_closest_canonical(nib.load(mni / "mni_icbm152_t1_tal_nlin_sym_09c_labels.nii.gz"))
    cobralab = renumbered(np.asarray(image.dataobj).round().astype(int), FROM_MNI["L"])
    voxel_mm = float(np.linalg.norm(image.affine[:3, 0]))
    return {
        "HippUnfold": at_atlas_mm(hippunfold_labels(hippunfold)["L"], 1.0, "L"),
        "CoBrALab": at_atlas_mm(cobralab, voxel_mm, "L"),
    }


def by_affine(template: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Labels of a template on a brain's grid, by the best affine of their outlines."""
    return carried_upon(template, brain, ATLAS_MM, spacings_mm=()).argmax(0)


def row(found: np.ndarray, truth: np.ndarray) -> list[float]:
    return [dice(np.isin(found, members), np.isin(truth, members)) for members in MERGES.values()]


class Rows:
    """Dice by what was compared."""

    def __init__(self) -> None:
        self.rows: dict[str, list[list[float]]] = {}

    def add(self, title: str, values: list[float]) -> None:
        self.rows.setdefault(title, []).append(values)

    def show(self) -> None:
        print(f"{'':34}", *(name.rjust(8) for name in MERGES))
        for title, rows in self.rows.items():
            print(f"{title:34}", *(f"{v:8.2f}" for v in np.mean(rows, axis=0)), f"   n {len(rows)}")


def agreement(hippunfold: Path, mni: Path) -> list[float]:
    """How well the protocols agree on the voxels of MNI 2009c, left side."""
    image = nib.as_closest_canonical(nib.load(mni / "mni_icbm152_t1_tal_nlin_sym_09c_labels.nii.gz"))
    cobralab = renumbered(np.asarray(image.dataobj).round().astype(int), FROM_MNI["L"])
    stem = "tpl-MNI152NLin2009cSym_hemi-L_desc-subfields_dseg.nii.gz"
    theirs = hippunfold_labels(hippunfold)["L"]
    step = np.linalg.inv(nib.load(hippunfold / stem).affine) @ image.affine
    ours = ndimage.affine_transform(theirs, step[:3, :3], step[:3, 3], cobralab.shape, order=0)
    return row(ours, cobralab)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cobralab", "context", "hippunfold", "mni"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="of an earlier version, to compare")
    parser.add_argument("--folds", type=Path, nargs="*", default=[], help="one a brain, taught those of the others")
    parser.add_argument("--write-atlas", type=Path, help="write the labels of all sides for pool.py, and stop")
    parser.add_argument("--every", type=int, default=1, help="2: one side of each brain")
    parser.add_argument("--figures", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    if arguments.write_atlas:
        sides: dict[str, Any] = dict(brains(arguments.cobralab))
        np.savez_compressed(arguments.write_atlas, **sides)
        return
    ensembles = {"networks": Networks(arguments.networks)}
    if arguments.before:
        ensembles["networks before"] = Networks(arguments.before)
    folds = [Networks([path]) for path in arguments.folds]
    rows, confidence = Rows(), defaultdict[str, Confidence](Confidence)
    contexts = sorted(arguments.context.glob("*.nii.gz"))
    mni = templates(arguments.hippunfold, arguments.mni)
    rows.add("the protocols, on MNI 2009c", agreement(arguments.hippunfold, arguments.mni))
    for index, (name, labels) in list(enumerate(brains(arguments.cobralab)))[:: arguments.every]:
        for protocol, template in mni.items():
            rows.add(f"best affine, {protocol}'s MNI labels", row(by_affine(template, labels), labels))
        head = np.asarray(nib.as_closest_canonical(nib.load(contexts[index])).dataobj).astype(int)
        context = cut_around(np.where(head == 53, 3, head), 17, MARGIN_MM)
        tissues, _ = put(labels, context, np.random.default_rng(index))
        points = grid_points(tissues.shape, POOL_MM, POOL_MM)
        truth = np.where(tissues < 7, tissues, 0)[tuple(slice(n) for n in points.shape[:3])]
        if folds:
            ensembles["taught the other three"] = folds[index // len("LR")]
        for kind in KINDS:
            image = image_of(tissues, kind, index)
            for title, networks in ensembles.items():
                probabilities = networks.probabilities(image, POOL_MM, points)
                found = probabilities.argmax(0).numpy()
                rows.add(f"{title}, {kind}-like", row(found, truth))
                confidence[title].add(probabilities, truth, {3: 4})
                if arguments.figures and title == "networks":
                    arguments.figures.mkdir(parents=True, exist_ok=True)
                    mosaic(arguments.figures / f"{name}_{kind}.png", image.numpy(), found, truth)
    rows.show()
    for title, counted in confidence.items():
        print(f"{title}: {counted}")


if __name__ == "__main__":
    main()
