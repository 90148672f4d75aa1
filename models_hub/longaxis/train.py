"""Train one longaxis network from the .npz that pack.py makes; torch and numpy alone.

    python train.py cases.npz OUT_DIR --split single            98 % of the cases
    python train.py cases.npz OUT_DIR --split bootstrap --index 0   one bagging member
    python train.py cases.npz OUT_DIR --split fold --index 0        one of five folds

OUT_DIR receives NAME.onnx, NAME.pt, NAME_split.json (who trained, who was held out), NAME_log.tsv
(loss and held-out Dice by epoch) and NAME_cases.tsv (held-out Dice by case, raw crops, no TTA).
The run's state is saved after each epoch, and a repeated command goes on from there.
"""

import argparse
import copy
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from augment import draw_sample
from network import N_CLASSES, LongAxisNet, export_onnx
from torch import Tensor
from torch.nn import functional as F

Cases = dict[str, tuple[Tensor, Tensor]]


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


class Run:
    """One training run: network, its running average, optimiser and place in the schedule."""

    def __init__(self, n_steps: int, lr: float, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.network = LongAxisNet().to(device)
        self.average = copy.deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=lr, weight_decay=1e-2)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, lr, total_steps=n_steps, pct_start=0.15)
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def step(self, images: Tensor, labels: Tensor) -> float:
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits = self.network(images)
        loss = dice_and_cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 0.004)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location="cpu")
        for name in ("network", "average", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.epoch = state["epoch"]


def train_epoch(run: Run, cases: Cases, names: list[str], batch_size: int) -> float:
    order = torch.randperm(len(names), generator=run.generator).tolist()
    losses = []
    for start in range(0, len(order) - batch_size + 1, batch_size):
        drawn = [draw_sample(*cases[names[i]], run.generator) for i in order[start : start + batch_size]]
        losses.append(run.step(torch.stack([d[0] for d in drawn]), torch.stack([d[1] for d in drawn])))
    return float(np.mean(losses))


def write_rows(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([header, *rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--split", choices=["single", "bootstrap", "fold"], required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    cases = load_cases(arguments.cases, device)
    train_names, held_names = split_cases(sorted(cases), arguments.split, arguments.index)
    stem = arguments.out_dir / f"{arguments.split}{arguments.index}"
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    split = {"train": sorted(train_names), "held_out": sorted(held_names), "arguments": vars(arguments)}
    stem.with_name(f"{stem.name}_split.json").write_text(json.dumps(split, default=str, indent=1) + "\n")

    n_steps = arguments.epochs * (len(train_names) // arguments.batch_size)
    run = Run(n_steps, arguments.lr, arguments.seed + arguments.index, device)
    state_path, log_path = stem.with_suffix(".pt"), stem.with_name(f"{stem.name}_log.tsv")
    if state_path.exists():
        run.resume(state_path)
    while run.epoch < arguments.epochs:
        started = time.time()
        loss = train_epoch(run, cases, train_names, arguments.batch_size)
        run.epoch += 1
        run.save(state_path)
        dice = np.mean(dice_by_case(run.average, cases, held_names[:20]), axis=0)
        row = [run.epoch, f"{loss:.4f}", *(f"{d:.4f}" for d in dice), f"{time.time() - started:.0f}"]
        with log_path.open("a") as stream:
            if run.epoch == 1:
                print("epoch", "loss", "anterior", "posterior", "whole", "seconds", sep="\t", file=stream)
            print(*row, sep="\t", file=stream)
        print(*row, flush=True)

    rows = dice_by_case(run.average, cases, held_names)
    table = [[n, *(f"{d:.4f}" for d in r)] for n, r in zip(held_names, rows, strict=True)]
    write_rows(stem.with_name(f"{stem.name}_cases.tsv"), ["case", "anterior", "posterior", "whole"], table)
    export_onnx(run.average, stem.with_suffix(".onnx"))
    print("held out:", np.mean(rows, axis=0).round(4), "of", len(rows), "cases")


if __name__ == "__main__":
    main()
