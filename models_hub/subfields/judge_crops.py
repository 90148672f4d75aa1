"""Judge subfields networks on crops, without the app; onnxruntime.

    python judge_crops.py citi168 RESOURCES/CITI168 --networks NET.onnx ... [--figures DIR]
    python judge_crops.py margins cit168/real.npz --networks NET.onnx ...
    python judge_crops.py slabs cit168/real.npz|pnc.npz --networks NET.onnx ...
    python judge_crops.py msd Task04_Hippocampus --networks NET.onnx ... [--every 4] [--longaxis NET.onnx ...]
    python judge_crops.py pool POOL_DIR --only OASIS30ANTs --networks NET.onnx ...

Several networks vote by their mean, each on the crop and its mirror image.

citi168: mean T2w intensity of every label, SRLM against CA1 slice by slice of the body, and T1w against T2w.
margins: Dice, and volume over the label's, by how far a crop reaches beyond the hippocampi of CIT168.
slabs: Dice, and change of volume, by the tilt of slices of 2 mm.
msd: Dice of the whole hippocampus with the manual masks as they are and at this protocol's volume, and with the union
of longaxis's labels; `--skip NAME_split.json` leaves out the cases that a network was trained on.
pool: synthetic T1w- and T2w-like images of label maps, best of an atlas that the networks never saw; Dice a label, and
the area under the ROC curve of the entropy for wrong against right voxels around the hippocampus.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime as ort
import torch
from cit168 import UPRIGHT_MM, citi168_cases, main_component
from fitting import grid_points, sample
from judge_scans import GROUPS, LABELS, darkness, dice, dice_by_group, mosaic
from pool import POOL_MM, target_field
from samples import N_CLASSES, VOXEL_MM
from scipy import ndimage
from scipy.spatial.transform import Rotation
from synthesis import T1W, T2W, known_means, rendered
from torch import Tensor
from torch.nn import functional as F
from train import load_real, real_names_of
from unpack import with_unused

N_BINS = 2000
NEAR_MM, CROP_MM = 3, 6  # what the networks may be wrong about; what the app cuts, whose crops reach 4 to 8 mm beyond
MARGINS_MM = (2, 4, 6, 8, 10, 12)
MARGIN_VOXELS = 6  # added around a Task04 crop
TILTS_DEGREES, SLAB_MARGIN_MM = (-30, -15, 0, 15, 30), 4
SLICE_MM, PROFILE_SD_MM = 2.0, 0.8  # distance of slices, deviation of what each averages
THIN_MM, SPARE_MM = 0.4, 8  # voxels that slices are made of, and how far these go beyond a crop


def all_classes(scores: np.ndarray) -> np.ndarray:
    """Give a packaged network of cobralab (classes, ...) the output back, empty, that publish.py has cut off."""
    return with_unused(torch.from_numpy(scores), 0.0).numpy() if len(scores) == N_CLASSES - 1 else scores


class Networks:
    """An ensemble, of subfields or of another family."""

    def __init__(self, paths: Sequence[Path], voxel_mm: float = VOXEL_MM) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = [ort.InferenceSession(str(path), options) for path in paths]
        self.voxel_mm = voxel_mm

    def passes(self, image: Tensor, image_mm: float) -> list[np.ndarray]:
        """(classes, ...) of each network and view, on a grid of `voxel_mm` with the middle of an image."""
        coarse = sample(image[None], image_mm, grid_points(image.shape, image_mm, self.voxel_mm))[0]
        coarse = (coarse - coarse.mean()) / coarse.std()
        pads = [(-n) % 8 for n in coarse.shape]
        padded = F.pad(coarse, [p for pad in reversed(pads) for p in (pad // 2, pad - pad // 2)])[None, None].numpy()
        mirrored = np.ascontiguousarray(padded[:, :, ::-1])
        cut = (slice(None), *(slice(p // 2, p // 2 + n) for p, n in zip(pads, coarse.shape, strict=True)))
        found = []
        for session in self.sessions:
            name = session.get_inputs()[0].name
            found.append(all_classes(session.run(None, {name: padded})[0][0])[cut])
            found.append(all_classes(session.run(None, {name: mirrored})[0][0])[:, ::-1][cut])
        return found

    def probabilities(self, image: Tensor, image_mm: float, points: Tensor) -> Tensor:
        """(classes, ...) at points in mm from the middle of an image."""
        passes = self.passes(image, image_mm)
        mean = torch.from_numpy(sum(passes) / len(passes))
        extent = torch.tensor([(n - 1) / 2 * self.voxel_mm for n in mean.shape[1:]])
        return F.grid_sample(mean[None], (points / extent).flip(-1)[None], padding_mode="border", align_corners=True)[0]


def judge_citi168(arguments: argparse.Namespace, networks: Networks) -> None:
    for name, images in citi168_cases(arguments.folder):
        points = grid_points(images["T1w"].shape, UPRIGHT_MM, UPRIGHT_MM)
        labels = {c: networks.probabilities(image, UPRIGHT_MM, points).argmax(0).numpy() for c, image in images.items()}
        for found in labels.values():
            found[~main_component(found > 0)] = 0  # as the app removes islands
        t2w = images["T2w"].numpy()[tuple(slice(n) for n in labels["T1w"].shape)]
        for contrast, found in labels.items():
            means = [t2w[found == k].mean() for k in range(1, 7)]
            volumes = [(found == k).sum() * UPRIGHT_MM**3 for k in range(1, 7)]
            darker, n, ratio = darkness(found, t2w)
            print(name, contrast, "T2w", *(f"{label} {m:.0f}" for label, m in zip(LABELS, means, strict=True)))
            print(f"    SRLM darker than CA1 in {darker} of {n} slices, ratio {ratio:.3f}; mm3", *np.round(volumes))
            if arguments.figures:
                arguments.figures.mkdir(parents=True, exist_ok=True)
                mosaic(arguments.figures / f"{name}_{contrast}.png", t2w, found)
        print("    T1w against T2w, Dice", {k: round(v, 2) for k, v in dice_by_group(*labels.values()).items()})


def points_around(labels: Tensor, label_mm: float, margin_mm: float) -> Tensor:
    """Points (x, y, z, 3) of a crop, mm from the middle of labels, `margin_mm` beyond them."""
    middle = torch.tensor([(n - 1) / 2 for n in labels.shape])
    held = (torch.nonzero(labels > 0) - middle) * label_mm
    ends = zip(held.amin(0) - margin_mm, held.amax(0) + margin_mm, strict=True)
    axes = [torch.arange(float(low), float(high), VOXEL_MM) for low, high in ends]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def judge_margins(arguments: argparse.Namespace, networks: Networks) -> None:
    cases = load_real(arguments.folder, {n for n in real_names_of(arguments.folder) if n.endswith("-45")})
    print("Dice / volume over the label's:", *GROUPS)
    for margin_mm in MARGINS_MM:
        rows = []
        for image, image_mm, labels, label_mm in cases.values():
            points = points_around(labels, label_mm, margin_mm)
            crop = sample(image[None], image_mm, points)[0]
            truth = sample(labels[None].float(), label_mm, points, mode="nearest")[0].numpy()
            found = np.mean(networks.passes(crop, VOXEL_MM), axis=0).argmax(0)
            volumes = [np.isin(found, g).sum() / np.isin(truth, g).sum() for g in GROUPS.values()]
            rows.append([*dice_by_group(found, truth).values(), *volumes])
        dices, ratios = np.mean(rows, axis=0).reshape(2, -1)
        print(f"{margin_mm:3} mm", *(f"{d:.2f} / {r:.2f} " for d, r in zip(dices, ratios, strict=True)), flush=True)


def in_slices(image: Tensor, image_mm: float, points: Tensor, tilt_degrees: float) -> Tensor:
    """Image at points (x, y, z, 3), as slices of SLICE_MM show it whose normal falls to the front by a tilt."""
    turn = torch.from_numpy(Rotation.from_euler("x", -tilt_degrees, degrees=True).as_matrix()).float()
    low, high = points.amin((0, 1, 2)) - SPARE_MM, points.amax((0, 1, 2)) + SPARE_MM
    axes = [torch.arange(float(a), float(b), THIN_MM) for a, b in zip(low, high, strict=True)]
    thin = sample(image[None], image_mm, torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ turn.T)[0]
    step = round(SLICE_MM / THIN_MM)
    thick = ndimage.gaussian_filter1d(thin.numpy(), PROFILE_SD_MM / THIN_MM, axis=1)[:, ::step]
    at = ((points @ turn - low) / THIN_MM).numpy() / [1, step, 1]
    return torch.from_numpy(ndimage.map_coordinates(thick, at.transpose(3, 0, 1, 2), order=1, mode="nearest"))


def judge_slabs(arguments: argparse.Namespace, networks: Networks) -> None:
    rows: dict[tuple[str, int], list[np.ndarray]] = {}
    names = {n for n in real_names_of(arguments.folder) if n.endswith(("T1w", "T1w-45", "T2w-25"))}
    for name, (image, image_mm, labels, label_mm) in load_real(arguments.folder, names).items():
        points = points_around(labels, label_mm, SLAB_MARGIN_MM)
        truth = sample(labels[None].float(), label_mm, points, mode="nearest")[0].numpy()
        crops = {None: sample(image[None], image_mm, points)[0]}
        crops |= {tilt: in_slices(image, image_mm, points, tilt) for tilt in TILTS_DEGREES}
        found = {tilt: np.mean(networks.passes(crop, VOXEL_MM), axis=0).argmax(0) for tilt, crop in crops.items()}
        volumes = {tilt: np.array([np.isin(f, g).sum() for g in GROUPS.values()]) for tilt, f in found.items()}
        for tilt in TILTS_DEGREES:
            change = 100 * (volumes[tilt] / volumes[None] - 1)
            row = np.stack([list(dice_by_group(found[tilt], truth).values()), change])
            rows.setdefault((name.split("-", 2)[2], tilt), []).append(row)
    print(f"{'Dice, change of volume in %':30}", *(g.rjust(10) for g in GROUPS))
    for (contrast, tilt), both in rows.items():
        cells = (f"{d:.2f} {c:+.1f}".rjust(10) for d, c in np.mean(both, axis=0).T)
        print(f"{contrast + f', falling by {tilt} degrees':30}", *cells)


def msd_cases(folder: Path) -> Iterator[tuple[str, Tensor, float, np.ndarray]]:
    """Name, image, voxel size and mask of each Task04 crop."""
    for path in sorted((folder / "images").glob("*.nii.gz")):
        image = np.asarray(nib.load(path).dataobj, dtype=np.float32)
        mask = np.asarray(nib.load(folder / "labels" / path.name).dataobj) > 0
        image = (image - image.mean()) / image.std()
        image = np.pad(np.clip(image, -30, 30), MARGIN_VOXELS, mode="edge")
        yield path.name.removesuffix(".nii.gz"), torch.from_numpy(image), 1.0, np.pad(mask, MARGIN_VOXELS)


def judge_msd(arguments: argparse.Namespace, networks: Networks) -> None:
    skip = set(json.loads(arguments.skip.read_text())["real"]) if arguments.skip else set()
    longaxis = Networks(arguments.longaxis, 1.0) if arguments.longaxis else None
    rows = []
    for name, image, voxel_mm, mask in list(msd_cases(arguments.folder))[:: arguments.every]:
        if name in skip:
            continue
        points = grid_points(image.shape, voxel_mm, POOL_MM)
        whole = networks.probabilities(image, voxel_mm, points)[0].numpy() < 0.5
        full, cut = (target_field(mask, voxel_mm, share)[0].numpy() > 0 for share in (1.0, 0.84))
        row = [dice(whole, full), dice(whole, cut), whole.sum() / full.sum()]
        if longaxis:
            row.append(dice(whole, longaxis.probabilities(image, voxel_mm, points)[0].numpy() < 0.5))
        rows.append(row)
    titles = ("manual mask", "mask at 0.84 of its volume", "volume over the mask's", "union of longaxis's labels")
    for title, values in zip(titles, np.array(rows).T, strict=False):
        figures = f"mean {values.mean():.3f} sd {values.std(ddof=1):.3f} lowest {values.min():.3f}"
        print(f"{title:28} {figures} n {len(values)}")


class Confidence:
    """Counts wrong and right voxels by their entropy: those near a hippocampus, and all of a crop around it."""

    def __init__(self) -> None:
        self.counts = {"near": np.zeros((2, N_BINS)), "crop": np.zeros((2, N_BINS))}

    def add(self, probabilities: Tensor, truth: np.ndarray, same: dict[int, int]) -> None:
        """Count the voxels of one hippocampus; `same` says which labels count as one."""
        entropy = -(probabilities * (probabilities + 1e-9).log()).sum(0).numpy() / np.log(len(probabilities))
        found = probabilities.argmax(0).numpy()
        for a, b in same.items():
            found, truth = np.where(found == a, b, found), np.where(truth == a, b, truth)
        bins = np.clip(entropy * N_BINS, 0, N_BINS - 1).astype(int)
        for where, chosen in (("near", beyond(truth, NEAR_MM)), ("crop", box_around(truth, CROP_MM))):
            for row, alike in enumerate((found == truth, found != truth)):
                self.counts[where][row] += np.bincount(bins[chosen & alike], minlength=N_BINS)

    def __str__(self) -> str:
        near, crop = (area_under(*self.counts[where]) for where in ("near", "crop"))
        return (
            "entropy, wrong against right voxels, area under the curve: "
            f"{near:.3f} within {NEAR_MM} mm, {crop:.3f} in a box {CROP_MM} mm larger than the hippocampus"
        )


def area_under(right: np.ndarray, wrong: np.ndarray) -> float:
    """Chance that a wrong voxel has more of it than a right one, by counts in bins."""
    below = np.cumsum(right) - right
    return float((wrong * (below + right / 2)).sum() / (right.sum() * wrong.sum()))


def beyond(truth: np.ndarray, reach_mm: float) -> np.ndarray:
    """Mask of a hippocampus and what lies within so much of it."""
    return ndimage.binary_dilation(truth > 0, iterations=round(reach_mm / POOL_MM))


def box_around(truth: np.ndarray, margin_mm: float) -> np.ndarray:
    """Mask of the box that holds a hippocampus with a margin."""
    mask, margin = np.zeros(truth.shape, bool), round(margin_mm / POOL_MM)
    held = ndimage.find_objects((truth > 0).astype(int))[0]
    mask[tuple(slice(max(0, s.start - margin), s.stop + margin) for s in held)] = True
    return mask


def judge_synthetic(maps: Iterator[tuple[str, np.ndarray]], networks: Networks, groups: Sequence[str]) -> None:
    """T1w- and T2w-like images of label maps, at 1 mm and at 0.5 mm."""
    scores: dict[str, list[list[float]]] = {"T1w-like": [], "T2w-like": []}
    confidence = Confidence()
    for index, (_, labels) in enumerate(maps):
        tissues = torch.from_numpy(labels)
        for kind, table in (("T1w-like", T1W), ("T2w-like", T2W)):
            generator = torch.Generator().manual_seed(index)
            means = known_means(table, kind == "T2w-like", generator)
            image = rendered(tissues, means, 0.8 if kind == "T1w-like" else 0.5, generator)
            points = grid_points(labels.shape, POOL_MM, POOL_MM)
            found = networks.probabilities(image, POOL_MM, points)
            truth = np.where(labels < 7, labels, 0)[tuple(slice(n) for n in found.shape[1:])]
            both = dice_by_group(found.argmax(0).numpy(), truth)
            scores[kind].append([both[g] for g in groups])
            confidence.add(found, truth, {})
    print(f"{'':10}", *(g.rjust(6) for g in groups))
    for kind, rows in scores.items():
        print(f"{kind:10}", *(f"{v:6.2f}" for v in np.mean(rows, axis=0)), f"   n {len(rows)}")
    print(confidence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["citi168", "margins", "slabs", "msd", "pool"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    parser.add_argument("--longaxis", type=Path, nargs="*")
    parser.add_argument("--skip", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the names of label maps")
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    networks = Networks(arguments.networks)
    if arguments.kind == "citi168":
        judge_citi168(arguments, networks)
    elif arguments.kind == "margins":
        judge_margins(arguments, networks)
    elif arguments.kind == "slabs":
        judge_slabs(arguments, networks)
    elif arguments.kind == "msd":
        judge_msd(arguments, networks)
    else:
        paths = [p for p in sorted(arguments.folder.glob("*.npz")) if arguments.only in p.stem][:: arguments.every]
        maps = ((p.stem, np.load(p)["labels"]) for p in paths)
        judge_synthetic(maps, networks, list(GROUPS))


if __name__ == "__main__":
    main()
