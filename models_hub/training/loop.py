"""One training run: its steps, its running average, and its state on disk."""

import copy
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from training.muon import Muon

Loss = Callable[[Tensor, Tensor], Tensor]


class Run:
    """One training run: network, its running average, optimiser and place in the schedule.

    `loss` compares logits (float32) with labels; `forgetting` is the share of the running average that each step
    replaces.
    """

    def __init__(
        self, network: torch.nn.Module, loss: Loss, n_steps: int, lr: float, seed: int, forgetting: float = 0.01
    ) -> None:
        # Channels last: 3-D convolutions are a fifth faster so on CPUs.
        self.network = network.to(memory_format=torch.channels_last_3d)
        self.average = copy.deepcopy(self.network)
        self.loss = loss
        self.optimizer = Muon(self.network.parameters(), lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, lr, total_steps=n_steps, pct_start=0.15, cycle_momentum=False
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.forgetting = forgetting
        self.epoch = 0

    def step(self, images: Tensor, labels: Tensor) -> float:
        images = images.contiguous(memory_format=torch.channels_last_3d)
        # Without hardware for it, as on AVX2, bfloat16 is thirty times slower.
        fast = images.is_cuda or torch.cpu._is_avx512_bf16_supported()
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=fast):
            logits = self.network(images)
        loss = self.loss(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, self.forgetting)
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


def write_rows(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([header, *rows])
