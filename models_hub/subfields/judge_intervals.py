"""How far off volumes are, for the card's `true_over_found`; onnxruntime and torch.

    python judge_intervals.py POOL_DIR --networks NET.onnx ... [--draws 4] [--left-out PART ...] [--card CARD.yaml]

POOL_DIR holds maps of pool.py that no network was trained on (another --seed), or, with `--left-out`, those of all
brains: a network for each part of their names, which it was trained without. Of each, images are drawn as in training
with mild augmentation, thick slices, noise and bias field included; their volumes are known exactly. Prints, for each
structure: the true over the found volume, as median and central 95 %, which the card holds; in how many of 100 cases
the truth lies in the interval that the images of all other maps give; in how many in that of a card; and in how many
between the 2.5th and 97.5th percentile of the passes (each network, on the crop and its mirror image), the app's
`volume_mm3_low` and `_high`.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from judge_crops import all_classes
from judge_scans import GROUPS
from samples import VOXEL_MM, draw_synthetic

from bids_hsf.hub.cards import ModelCard, load_cards

STRUCTURES = {**GROUPS, "CA123": (2, 3, 4)}
PROMISED = 0.95
PERCENTILES = (100 * (1 - PROMISED) / 2, 100 * (1 + PROMISED) / 2)
STRENGTH = 0.2


def volumes_of(labels: np.ndarray) -> np.ndarray:
    """In mm3, of each of STRUCTURES."""
    counts = np.bincount(labels.ravel(), minlength=7) * VOXEL_MM**3
    return np.array([counts[list(members)].sum() for members in STRUCTURES.values()])


def passes_of(image: np.ndarray, sessions: list[ort.InferenceSession]) -> np.ndarray:
    """Probabilities (passes, classes, x, y, z) of an image (1, x, y, z), each network on it and its mirror image."""
    found = []
    for session in sessions:
        name = session.get_inputs()[0].name
        found.append(all_classes(session.run(None, {name: image[None]})[0][0]))
        mirrored = np.ascontiguousarray(image[None, :, ::-1])
        found.append(all_classes(session.run(None, {name: mirrored})[0][0])[:, ::-1])
    return np.stack(found)


def measured(
    tissues: torch.Tensor, sessions: list[ort.InferenceSession], generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw an image: true volumes (structures,), those found, and those of each pass (passes, structures)."""
    image, shares = draw_synthetic(tissues, STRENGTH, generator)
    passes = passes_of(image.numpy(), sessions)
    counts = shares.sum((1, 2, 3)).numpy() * VOXEL_MM**3
    truth = np.array([counts[list(members)].sum() for members in STRUCTURES.values()])
    found = volumes_of(passes.mean(0).argmax(0))
    return truth, found, np.array([volumes_of(each.argmax(0)) for each in passes])


def interval(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of ratios (n, structures) that hold a further one as promised: ranks of n + 1, not of n."""
    rank = max(1, int((len(ratios) + 1) * (1 - PROMISED) / 2))
    in_order = np.sort(ratios, axis=0)
    return in_order[rank - 1], in_order[-rank]


def held(ratios: np.ndarray) -> np.ndarray:
    """Share of ratios (maps, draws, structures) within the interval of all other maps', a structure."""
    inside = []
    for k, own in enumerate(ratios):
        others = np.delete(ratios, k, axis=0).reshape(-1, ratios.shape[-1])
        low, high = interval(others)
        inside.append((own >= low) & (own <= high))
    return np.concatenate(inside).mean(0)


def told_by(card: ModelCard) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest ratio (structures,) that a card tells of each of STRUCTURES."""
    labels = [*card.labels, *(label for merge in card.merges for label in merge.labels)]
    known = {label.abbreviation: label.true_over_found for label in labels if label.true_over_found}
    pairs = [known[{"whole": "hippocampus"}.get(name, name)] for name in STRUCTURES]
    low, high = np.array(pairs).T
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--networks", type=Path, nargs="+", required=True)
    parser.add_argument("--draws", type=int, default=4, help="images a map")
    parser.add_argument("--left-out", nargs="*", help="what each network's brain has in the names of its maps")
    parser.add_argument("--card", type=Path, help="whose intervals are held against the images as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [ort.InferenceSession(str(path), options) for path in arguments.networks]
    generator = torch.Generator().manual_seed(1)
    ratios, within = [], []
    for path in sorted(arguments.pool.glob("*.npz")):
        tissues = torch.from_numpy(np.load(path)["labels"])
        asked = sessions
        if arguments.left_out:
            asked = [s for s, part in zip(sessions, arguments.left_out, strict=True) if part in path.stem]
        drawn = [measured(tissues, asked, generator) for _ in range(arguments.draws)]
        ratios.append([truth / np.maximum(found, 1.0) for truth, found, _ in drawn])
        for truth, _, passes in drawn:
            low, high = np.percentile(passes, PERCENTILES, axis=0)
            within.append((truth >= low) & (truth <= high))
    every = np.array(ratios)
    low, high = interval(every.reshape(-1, len(STRUCTURES)))
    rows = {
        "true over found, median": np.median(every, axis=(0, 1)),
        "true over found, low": low,
        "true over found, high": high,
        "held by other maps', %": 100 * held(every),
        "held by the passes', %": 100 * np.mean(within, axis=0),
    }
    if arguments.card:
        least, most = told_by(load_cards(arguments.card)[0])
        rows["held by the card's, %"] = 100 * ((every >= least) & (every <= most)).mean((0, 1))
    print(f"{every.shape[0]} maps, {every.shape[1]} images each")
    print(f"{'':24}", *(name.rjust(7) for name in STRUCTURES))
    for title, values in rows.items():
        form = ".0f" if title.endswith("%") else ".3f"
        print(f"{title:24}", *(f"{value:7{form}}" for value in values))
    for name, *ratio in zip(STRUCTURES, low, high, strict=True):
        print(f"{name}: true_over_found: [{ratio[0]:.2f}, {ratio[1]:.2f}]")


if __name__ == "__main__":
    main()
