"""Train a subfields network; torch and numpy alone. PYTHONPATH holds models_hub.

    python train.py OUT_DIR NAME --pool POOL_DIR --samples 8000
    python train.py OUT_DIR NAME --pool POOL_DIR --real pnc.npz cit168.npz --real-share 0.15 --start BASE.pt --member 0

Synthetic images of the label maps in POOL_DIR (pool.py), and real ones (pnc.py, cit168.py), each file as often as
another. OUT_DIR receives NAME.pt (its state, after every 100 samples, from which a repeated command goes on),
NAME.onnx, NAME_log.tsv and NAME_split.json. `--member K` draws a bootstrap sample of the heads, atlases and cases,
by K.

The schedule: one-cycle learning rate; hard samples for the first half, then ever milder ones.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from samples import N_CLASSES, draw_real, draw_synthetic
from torch import Tensor
from training.loop import Run
from training.network import HalfResolutionNet, export_onnx

WIDTHS = (32, 64, 80)
HARD_SHARE = 0.5
CROSS_ENTROPY_WEIGHT, DICE_WEIGHT = 10.0, 0.5
CHUNK = 100  # samples between two states on disk

Volumes = tuple[Tensor, float, Tensor, float]


def make_network() -> HalfResolutionNet:
    return HalfResolutionNet(N_CLASSES, WIDTHS)


def dice_and_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy, and a little of one minus the mean batch Dice of the labels, both with shares of voxels.

    Where much is uncertain, Dice alone wants every voxel labelled that is one with a chance of a third: hippocampi a
    quarter too large. Cross-entropy wants chances as they are. Weighted so that it has four fifths of the sum.
    """
    logs = torch.log_softmax(logits, dim=1)
    probabilities = logs.exp()[:, 1:]
    overlap = (probabilities * shares[:, 1:]).sum((0, 2, 3, 4))
    # Squares keep a voxel of two halves from being worth less than a whole one of either.
    total = (probabilities.square() + shares[:, 1:].square()).sum((0, 2, 3, 4))
    dice = (2 * overlap + 1) / (total + 1)
    return CROSS_ENTROPY_WEIGHT * -(logs * shares).sum(1).mean() + DICE_WEIGHT * (1 - dice).mean()


def pool_names_of(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.npz"))


def real_names_of(path: Path) -> list[str]:
    with np.load(path) as stored:
        return sorted(key.removeprefix("image/") for key in stored if key.startswith("image/"))


def load_real(path: Path, names: set[str]) -> dict[str, Volumes]:
    """Cases of pnc.py or cit168.py."""
    cases = {}
    with np.load(path) as stored:
        for name in sorted(name for name in names if f"image/{name}" in stored):
            image = torch.from_numpy(stored[f"image/{name}"].astype(np.float32))
            image_mm, label_mm = (float(v) for v in stored[f"voxels/{name}"])
            cases[name] = (image, image_mm, torch.from_numpy(stored[f"labels/{name}"]), label_mm)
    return cases


def selected(
    pool_dir: Path, real_paths: Sequence[Path], pool_names: list[str], real_names: list[str]
) -> tuple[dict[str, Tensor], dict[str, Volumes], dict[str, float]]:
    """Label maps, real cases, and how often each of these is drawn, for names that may repeat."""
    pool = {n: torch.from_numpy(np.load(pool_dir / f"{n}.npz")["labels"]) for n in sorted(set(pool_names))}
    real, weights = {}, {}
    for path in real_paths:
        cases = load_real(path, set(real_names))
        counts = {name: real_names.count(name) for name in cases}
        real |= cases
        weights |= {name: n / sum(counts.values()) for name, n in counts.items()}
    return pool, real, weights


def kept_names(names: list[str], leave_out: str) -> list[str]:
    """Names that hold none of the parts, comma-separated."""
    banned = [part for part in leave_out.split(",") if part]
    return [name for name in names if not any(part in name for part in banned)]


def write_split(stem: Path, split: dict[str, Any]) -> None:
    """Tell beside STEM.pt which label maps and cases a network has seen, and with what settings."""
    stem.with_name(f"{stem.name}_split.json").write_text(json.dumps(split, default=str, indent=1) + "\n")


def drawn_names(names: list[str], member: int | None, key: int) -> list[str]:
    """All names, or the bootstrap sample of a member."""
    if member is None:
        return names
    return [str(name) for name in np.random.default_rng([2024, member, key]).choice(names, len(names))]


class Source:
    """Draws samples, synthetic and real."""

    def __init__(self, pool: dict[str, Tensor], real: dict[str, Volumes], weights: dict[str, float], real_share: float):
        self.pool, self.real, self.real_share = pool, real, real_share
        self.pool_names, self.real_names = sorted(pool), sorted(real)
        self.weights = torch.tensor([weights.get(name, 1.0) for name in self.real_names])

    def draw(self, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.real and float(torch.rand((), generator=generator)) < self.real_share:
            chosen = int(torch.multinomial(self.weights, 1, generator=generator))
            return draw_real(self.real[self.real_names[chosen]], strength, generator)
        tissues = self.pool[self.pool_names[int(torch.randint(len(self.pool_names), (), generator=generator))]]
        return draw_synthetic(tissues, strength, generator)


def train(run: Run, source: Source, n_samples: int, hardest: float, stem: Path) -> None:
    started, losses = time.time(), []
    while run.epoch * CHUNK < n_samples:
        done = run.epoch * CHUNK / n_samples
        strength = hardest * min(1.0, (1 - done) / (1 - HARD_SHARE))
        for _ in range(CHUNK):  # samples differ in size: one a step
            image, shares = source.draw(strength, run.generator)
            losses.append(run.step(image[None], shares[None]))
        run.epoch += 1
        run.save(stem.with_suffix(".pt"))
        row = (run.epoch * CHUNK, f"{np.mean(losses):.4f}", f"{time.time() - started:.0f}")
        with stem.with_name(f"{stem.name}_log.tsv").open("a") as stream:
            print(*row, sep="\t", file=stream)
        started, losses = time.time(), []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("name")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--real-share", type=float, default=0.15)
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hardest", type=float, default=1.0, help="strength of the augmentation at the start")
    parser.add_argument("--member", type=int)
    parser.add_argument("--start", type=Path, help="go on from this .pt, by a schedule of its own")
    parser.add_argument("--leave-out", default="", help="leave out what has one of these, comma-separated, in its name")
    arguments = parser.parse_args()
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    stem = arguments.out_dir / arguments.name
    pool_names, *real_sources = (
        drawn_names(kept_names(names, arguments.leave_out), arguments.member, key)
        for key, names in enumerate([pool_names_of(arguments.pool), *map(real_names_of, arguments.real)])
    )
    real_names = [name for names in real_sources for name in names]
    pool, real, weights = selected(arguments.pool, arguments.real, pool_names, real_names)
    split = {"pool": sorted(pool_names), "real": sorted(real_names), "arguments": vars(arguments)}
    write_split(stem, split)

    seed = arguments.seed + (0 if arguments.member is None else 1 + arguments.member)
    torch.manual_seed(seed)
    network = make_network()
    if arguments.start:
        network.load_state_dict(torch.load(arguments.start, weights_only=True)["average"])
    run = Run(network, dice_and_cross_entropy, arguments.samples, arguments.lr, seed)
    if stem.with_suffix(".pt").exists():
        run.resume(stem.with_suffix(".pt"))
    source = Source(pool, real, weights, arguments.real_share)
    train(run, source, arguments.samples, arguments.hardest, stem)
    export_onnx(run.average, stem.with_suffix(".onnx"))


if __name__ == "__main__":
    main()
