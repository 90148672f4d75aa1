"""Carry the atlases' subfields into real images, by shape and by what a first network sees.

    python targets.py atlas.npz OUT_DIR OUT.npz --msd Task04_Hippocampus --citi168 RESOURCES/CITI168 --network BASE.pt

A network that has seen synthetic images alone gives each voxel's likelihoods: it follows the bands within the
hippocampus where the image shows them. An atlas or more a case are fitted to its hippocampus and then to these
likelihoods, so that they bring the order and the shape that a blurred image does not show; the product of both says
the label.
The manual masks of Task04 have another border, 1 / 0.84 of this protocol's volume: they say where the hippocampus is,
half and half with the network. Cases are saved in OUT_DIR one by one, and a stopped run goes on.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from fitting import Map, Refinement, carried, filled, fit, grid_points, load_map, sample, save_map, signed_distance
from pool import ATLAS_MM, POOL_MM, shape_field, target_field
from samples import VOXEL_MM
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from train import make_network

MASK_SHARE = 0.84
N_CIT168_ATLASES = 2
MARGIN_VOXELS = 6  # added around a Task04 crop
CHANNEL_WEIGHTS = (1.0, 12.0, 12.0, 12.0, 12.0, 16.0, 16.0)  # distance of the whole, then each label's share
FINE_KNOTS_MM = (5.0, 3.0)
UPRIGHT_MM, UPRIGHT_SIZE_MM = 0.4, (38, 64, 56)
LEAST_AGREEMENT = 0.3  # mean Dice of atlas and network
FLOOR = 0.02  # likelihood that no voxel is denied


def load_networks(paths: Sequence[Path]) -> list[torch.nn.Module]:
    networks = []
    for path in paths:
        network = make_network()
        network.load_state_dict(torch.load(path, weights_only=True)["average"])
        networks.append(network.eval())
    return networks


@torch.no_grad()
def posterior(networks: Sequence[torch.nn.Module], image: Tensor, image_mm: float, points: Tensor) -> Tensor:
    """Mean probabilities (7, ...) of networks, of the image and its mirror, at points in mm from the middle."""
    grid = grid_points(image.shape, image_mm, VOXEL_MM)
    coarse = sample(image[None], image_mm, grid)[0]
    coarse = (coarse - coarse.mean()) / coarse.std()
    pads = [(-n) % 8 for n in coarse.shape]
    padded = F.pad(coarse, [p for pad in reversed(pads) for p in (pad // 2, pad - pad // 2)])
    views = [padded, padded.flip(0)]
    total = torch.zeros(())
    for network in networks:
        for index, view in enumerate(views):
            found = torch.softmax(network(view[None, None]), 1)[0]
            total = total + (found.flip(1) if index else found)
    total = total / (len(networks) * len(views))
    cut = tuple(slice(p // 2, p // 2 + n) for p, n in zip(pads, coarse.shape, strict=True))
    extent = torch.tensor([(n - 1) / 2 * VOXEL_MM for n in coarse.shape])
    flat = (points / extent).flip(-1)[None]
    return F.grid_sample(total[(slice(None), *cut)][None], flat, padding_mode="border", align_corners=True)[0]


def main_component(mask: np.ndarray) -> np.ndarray:
    numbers, n = ndimage.label(mask)
    return numbers == 1 + np.argmax(np.bincount(numbers.ravel())[1:]) if n else mask


def blurred_shares(labels: np.ndarray) -> Tensor:
    one_hot = F.one_hot(torch.from_numpy(labels.astype(np.int64)), 7).permute(3, 0, 1, 2)[1:].float()
    return torch.stack([torch.from_numpy(ndimage.gaussian_filter(c.numpy(), 0.8)) for c in one_hot])


class Atlases:
    """Fitted to targets."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.labels = {n: stored[n] for n in stored if n != "upenn"}  # whose proportions are not those in vivo
        self.fields = {
            name: torch.cat([shape_field(filled(labels > 0, ATLAS_MM), ATLAS_MM), blurred_shares(labels)])
            for name, labels in self.labels.items()
        }

    def by_shape(self, name: str, whole: Tensor, path: Path) -> Map:
        """Fitted to a distance map at POOL_MM, and kept at `path`."""
        if not path.exists():
            mapping, _ = fit(self.fields[name][:1], ATLAS_MM, whole, POOL_MM)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_map(mapping, path)
        return load_map(path)

    def put(self, name: str, start: Map, shares: Tensor, whole: Tensor, points: Tensor) -> tuple[np.ndarray, float]:
        """Soft labels at `points` of an atlas fitted on, to shares and a distance map at POOL_MM; misfit in mm."""
        mapping, misfit = fit(
            self.fields[name],
            ATLAS_MM,
            torch.cat([whole, shares[1:]]),
            POOL_MM,
            Refinement(start, CHANNEL_WEIGHTS, FINE_KNOTS_MM),
        )
        return carried(self.labels[name], ATLAS_MM, mapping, points), misfit


def seen_shape(found: Tensor, manual: Tensor | None) -> Tensor:
    """Distance map (1, ...) of the hippocampus that networks have `found` (7, ...), averaged with a manual one."""
    seen = found[0].numpy() < 0.5
    if manual is not None:  # what a network takes for hippocampus elsewhere is none
        seen &= manual[0].numpy() > -3
    distance = signed_distance(filled(main_component(seen), POOL_MM), POOL_MM)
    whole = torch.from_numpy(ndimage.gaussian_filter(distance, 0.7))[None]
    return whole if manual is None else (whole + manual) / 2


def label_seen(prior: np.ndarray, found: Tensor, trust: float) -> np.ndarray:
    """Labels by the product of what atlases and, to the power of `trust`, networks say, (7, ...) each."""
    prior = np.stack([ndimage.gaussian_filter(p, 0.8) for p in prior])
    labels = (prior * (found.numpy() + FLOOR) ** trust).argmax(0)
    labels[~main_component(labels > 0)] = 0
    return labels.astype(np.uint8)


def agreement_of(first: np.ndarray, second: np.ndarray) -> float:
    """Mean Dice of the six labels."""
    pairs = [(first == k, second == k) for k in range(1, 7)]
    return float(np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in pairs]))


def msd_cases(folder: Path) -> Iterator[tuple[str, Tensor, float, np.ndarray]]:
    """Name, image, voxel size and mask of each Task04 crop."""
    for path in sorted((folder / "images").glob("*.nii.gz")):
        image = np.asarray(nib.load(path).dataobj, dtype=np.float32)
        mask = np.asarray(nib.load(folder / "labels" / path.name).dataobj) > 0
        image = (image - image.mean()) / image.std()
        image = np.pad(np.clip(image, -30, 30), MARGIN_VOXELS, mode="edge")
        yield path.name.removesuffix(".nii.gz"), torch.from_numpy(image), 1.0, np.pad(mask, MARGIN_VOXELS)


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
    return ndimage.map_coordinates(data, at.transpose(3, 0, 1, 2), order=1, mode="nearest")


def citi168_cases(folder: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Name and both images of each side, upright, as a left one."""
    for side in "LR":
        images = {}
        for contrast in ("T1w", "T2w"):
            image = nib.load(folder / f"{contrast}_300umCoronalOblique_hemi-{side}.nii.gz")
            turned = upright(image, folder / "CoronalOblique_rigid.txt")
            images[contrast] = torch.from_numpy(turned[::-1].copy() if side == "R" else turned)
        yield f"CIT168-{side}", images


def save_case(path: Path, image: Tensor, image_mm: float, labels: np.ndarray) -> None:
    image = (image - image.mean()) / image.std()
    np.savez_compressed(
        path, image=image.numpy().astype(np.float16), labels=labels, voxels=np.array([image_mm, POOL_MM])
    )


class Labeller:
    """Labels cases one by one, each kept in a folder.

    `trust` is that in the networks; at 0 they only tell which fits by shape are right.
    """

    def __init__(
        self, atlases: Atlases, networks: Sequence[torch.nn.Module], out_dir: Path, trust: float, refine: bool
    ) -> None:
        self.atlases, self.networks, self.out_dir = atlases, networks, out_dir
        self.trust, self.refine = trust, refine
        self.names = sorted(atlases.labels)
        out_dir.mkdir(parents=True, exist_ok=True)

    def map_path(self, case: str, atlas: str) -> Path:
        return self.out_dir / "maps" / f"{case}_{atlas}.pt"

    def label(
        self, case: str, chosen: Sequence[str], found: Tensor, manual: Tensor | None, points: Tensor
    ) -> np.ndarray | None:
        """Labels at `points`; None where atlases and networks do not agree, as when a crop is of a right side."""
        whole = seen_shape(found, manual)
        shares = torch.stack([torch.from_numpy(ndimage.gaussian_filter(c.numpy(), 0.6)) for c in found])
        fitted = []
        for atlas in chosen:
            start = self.atlases.by_shape(atlas, whole if manual is None else manual, self.map_path(case, atlas))
            if self.refine:
                fitted.append(self.atlases.put(atlas, start, shares, whole, points))
            else:
                fitted.append((carried(self.atlases.labels[atlas], ATLAS_MM, start, points), float("nan")))
        prior, misfit = np.mean([f[0] for f in fitted], axis=0), np.mean([f[1] for f in fitted])
        labels = label_seen(prior, found, self.trust)
        agreement = agreement_of(prior.argmax(0), found.argmax(0).numpy())
        volumes = np.bincount(labels.ravel(), minlength=7)[1:] * POOL_MM**3
        print(case, f"{misfit:.2f} {agreement:.2f}", *volumes.round().astype(int), flush=True)
        return labels if agreement > LEAST_AGREEMENT else None

    def label_citi168(self, folder: Path) -> None:
        for case, images in citi168_cases(folder):
            if (self.out_dir / f"{case}-T2w.npz").exists():
                continue
            points = grid_points(images["T1w"].shape, UPRIGHT_MM, POOL_MM)
            views = [posterior(self.networks, image, UPRIGHT_MM, points) for image in images.values()]
            labels = self.label(case, self.names[:N_CIT168_ATLASES], sum(views) / len(views), None, points)
            if labels is not None:
                for contrast, image in images.items():
                    save_case(self.out_dir / f"{case}-{contrast}.npz", image, UPRIGHT_MM, labels)

    def label_msd(self, case: str, image: Tensor, voxel_mm: float, mask: np.ndarray) -> None:
        """Label one Task04 crop; without networks, only fit an atlas to its mask."""
        atlas = self.names[int(np.random.default_rng([*case.encode()]).choice(len(self.names), 1, replace=False)[0])]
        manual = target_field(mask, voxel_mm, MASK_SHARE)
        if not self.networks:
            self.atlases.by_shape(atlas, manual, self.map_path(case, atlas))
            return
        points = grid_points(image.shape, voxel_mm, POOL_MM)
        found = posterior(self.networks, image, voxel_mm, points)
        labels = self.label(case, [atlas], found, manual, points)
        if labels is not None:
            save_case(self.out_dir / f"{case}.npz", image, voxel_mm, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--msd", type=Path, required=True)
    parser.add_argument("--citi168", type=Path, required=True)
    parser.add_argument("--network", type=Path, nargs="*", default=[], help="none: only the fits by shape")
    parser.add_argument("--every", type=int, default=1, help="take every nth case of Task04")
    parser.add_argument("--trust", type=float, default=1.0, help="in the networks, against the atlases")
    parser.add_argument("--no-refinement", action="store_true", help="of fits by shape to what the networks see")
    parser.add_argument("--limit", type=int, help="and so many of these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    labeller = Labeller(
        Atlases(arguments.atlas),
        load_networks(arguments.network),
        arguments.out_dir,
        arguments.trust,
        not arguments.no_refinement,
    )
    if labeller.networks and labeller.refine:
        labeller.label_citi168(arguments.citi168)
    for case in list(msd_cases(arguments.msd))[:: arguments.every][: arguments.limit]:
        if not (arguments.out_dir / f"{case[0]}.npz").exists():
            labeller.label_msd(*case)
    arrays = {}
    for path in sorted(arguments.out_dir.glob("*.npz")):
        with np.load(path) as stored:
            arrays |= {f"{key}/{path.stem}": stored[key] for key in ("image", "labels", "voxels")}
    np.savez_compressed(arguments.out, **arrays)


if __name__ == "__main__":
    main()
