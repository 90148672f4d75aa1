"""Train one longaxis network from the .npz that pack.py makes; torch and numpy alone.

    python train.py cases.npz OUT_DIR --split single            98 % of the cases
    python train.py cases.npz OUT_DIR --split bootstrap --index 0   one bagging member
    python train.py cases.npz OUT_DIR --split fold --index 0        one of five folds

OUT_DIR receives NAME.onnx, NAME.pt, NAME_split.json (who trained, who was held out), NAME_log.tsv
(loss and held-out Dice by epoch) and NAME_cases.tsv (held-out Dice by case, raw crops, no TTA).
The run's state is saved after each epoch, and a repeated command goes on from there.

The schedule: one-cycle learning rate; tight crops for the first 60 % of the epochs, which are cheaper,
then roomy ones; hard samples for the first half, then ever milder ones.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from augment import SIZES, draw_sample
from network import N_CLASSES, LongAxisNet
from torch import Tensor
from torch.nn import functional as F
from training.loop import Run, write_rows
from training.network import export_onnx

Cases = dict[str, tuple[Tensor, Tensor]]

TIGHT_SHARE = 0.6  # of the epochs
HARD_SHARE = 0.5


def load_cases(path: Path, device: torch.device) -> Cases:
    arrays = np.load(path)
    names = sorted(key.removeprefix("image/") for key in arrays if key.startswith("image/"))
    return {
        name: (
            torch.from_numpy(arrays[f"image/{name}"].astype(np.float32)).to(device),
            torch.from_numpy(arrays[f"label/{name}"]).to(device),
        )
        for name in names
    }


def split_cases(names: list[str], split: str, index: int) -> tuple[list[str], list[str]]:
    """Training names (repeats allowed) and held-out names of a split; a function of its arguments alone."""
    shuffled = list(np.random.default_rng(20240).permutation(names))
    if split == "single":
        n_held = max(1, round(0.02 * len(names)))
        return shuffled[n_held:], shuffled[:n_held]
    if split == "fold":
        held = shuffled[index::5]
    else:
        drawn = list(np.random.default_rng([20240, index]).choice(names, len(names)))
        return drawn, [name for name in names if name not in set(drawn)]
    return [name for name in shuffled if name not in set(held)], held


def dice_and_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy plus one minus the batch Dice of the foreground classes."""
    probabilities = torch.softmax(logits, dim=1)[:, 1:]
    target = F.one_hot(label, N_CLASSES).permute(0, 4, 1, 2, 3)[:, 1:].to(probabilities.dtype)
    overlap = (probabilities * target).sum((0, 2, 3, 4))
    total = (probabilities + target).sum((0, 2, 3, 4))
    return F.cross_entropy(logits, label) + (1 - (2 * overlap + 1) / (total + 1)).mean()


def predict_crop(network: torch.nn.Module, image: Tensor) -> Tensor:
    """Labels of one raw crop, normalised and padded as the app does it."""
    image = (image - image.mean()) / image.std()
    pads = [(-n) % 8 for n in image.shape]
    padded = F.pad(image, [p for pad in reversed(pads) for p in (pad // 2, pad - pad // 2)])
    label = network(padded[None, None]).float().argmax(1)[0]
    return label[tuple(slice(p // 2, p // 2 + n) for p, n in zip(pads, image.shape, strict=True))]


def dice_by_case(network: torch.nn.Module, cases: Cases, names: list[str]) -> list[list[float]]:
    """Dice of anterior, posterior and whole for each named case."""
    network.eval()
    rows = []
    with torch.no_grad():
        for name in names:
            predicted, label = predict_crop(network, cases[name][0]), cases[name][1]
            pairs = [(predicted == k, label == k) for k in (1, 2)] + [(predicted > 0, label > 0)]
            rows.append([2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum())) for a, b in pairs])
    network.train()
    return rows


def draw_batches(
    cases: Cases, names: list[str], batch_size: int, done: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each case once, augmented as befits the share of the schedule that is `done`."""
    size = SIZES["tight" if done < TIGHT_SHARE else "roomy"]
    strength = min(1.0, (1 - done) / (1 - HARD_SHARE))
    order = torch.randperm(len(names), generator=generator).tolist()
    for start in range(0, len(order) - batch_size + 1, batch_size):
        picked = [cases[names[i]] for i in order[start : start + batch_size]]
        drawn = [draw_sample(*case, size, strength, generator) for case in picked]
        yield torch.stack([d[0] for d in drawn]), torch.stack([d[1] for d in drawn])


class Journal:
    """What a run leaves beside its network: a line an epoch, and Dice by held-out case."""

    def __init__(self, stem: Path, cases: Cases, held_names: list[str]) -> None:
        self.stem, self.cases, self.held_names = stem, cases, held_names

    def add_epoch(self, run: Run, loss: float, seconds: float) -> None:
        dice = np.mean(dice_by_case(run.average, self.cases, self.held_names[:20]), axis=0)
        row = [run.epoch, f"{loss:.4f}", *(f"{d:.4f}" for d in dice), f"{seconds:.0f}"]
        with self.stem.with_name(f"{self.stem.name}_log.tsv").open("a") as stream:
            if run.epoch == 1:
                print("epoch", "loss", "anterior", "posterior", "whole", "seconds", sep="\t", file=stream)
            print(*row, sep="\t", file=stream)
        print(*row, flush=True)

    def close(self, run: Run) -> None:
        rows = dice_by_case(run.average, self.cases, self.held_names)
        table = [[n, *(f"{d:.4f}" for d in r)] for n, r in zip(self.held_names, rows, strict=True)]
        path = self.stem.with_name(f"{self.stem.name}_cases.tsv")
        write_rows(path, ["case", "anterior", "posterior", "whole"], table)
        print("held out:", np.mean(rows, axis=0).round(4), "of", len(rows), "cases")


def make_parser(description: str, epochs: int, lr: float) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--split", choices=["single", "bootstrap", "fold"], required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main() -> None:
    parser = make_parser(__doc__, epochs=36, lr=6e-3)
    parser.add_argument("--start", type=Path, help="go on from this .pt, by a schedule of its own")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    cases = load_cases(arguments.cases, device)
    train_names, held_names = split_cases(sorted(cases), arguments.split, arguments.index)
    stem = arguments.out_dir / f"{arguments.split}{arguments.index}"
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    split = {"train": sorted(train_names), "held_out": sorted(held_names), "arguments": vars(arguments)}
    stem.with_name(f"{stem.name}_split.json").write_text(json.dumps(split, default=str, indent=1) + "\n")

    seed = arguments.seed + arguments.index
    torch.manual_seed(seed)
    n_steps = arguments.epochs * (len(train_names) // arguments.batch_size)
    network = LongAxisNet().to(device)
    if arguments.start:
        network.load_state_dict(torch.load(arguments.start, weights_only=True, map_location=device)["average"])
    run = Run(network, dice_and_cross_entropy, n_steps, arguments.lr, seed)
    journal = Journal(stem, cases, held_names)
    state_path = stem.with_suffix(".pt")
    if state_path.exists():
        run.resume(state_path)
    while run.epoch < arguments.epochs:
        started = time.time()
        batches = draw_batches(cases, train_names, arguments.batch_size, run.epoch / arguments.epochs, run.generator)
        loss = float(np.mean([run.step(*batch) for batch in batches]))
        run.epoch += 1
        run.save(state_path)
        journal.add_epoch(run, loss, time.time() - started)
    journal.close(run)
    export_onnx(run.average, stem.with_suffix(".onnx"))


if __name__ == "__main__":
    main()
