"""Networks of the shape of HSF's that segment: what its own weights, which no development machine can fetch, stand for.

    python tests/benchmarks/hsf_twins.py --dest FOLDER [--members 5] [--steps 400] [--further 60]
                                         [--teacher subfields_single_fast] [--held-out T1w.nii.gz]

Networks with random weights cost what HSF's cost, but hardly decide: in one voxel out of fifteen their two most
probable classes lie within 0.1 of each other, in one out of a thousand of a trained network's. What rounding or
random views do to labels cannot be judged by them. So the same graph (`toy_networks.make_unet`: residual U-Net with
instance norm, 132 kFLOP a voxel, six classes) is taught for some minutes what a packaged family says of ICBM152's
hippocampi, T1w and T2w, in random views under HSF's recipe and with intensities of their own: of `subfields` five
structures as HSF has them (its strata count as CA1), of `longaxis` two. All members go on from one network, each by
views of its own. They are no model of anatomy and are not HSF's weights: their shape, their work and how sure they are
are alike, what they know is one head.

Needs PyTorch, which comes with TorchIO. Writes FOLDER/member*.onnx and FOLDER/card.yaml (the model "bench" on voxels
of 1 mm), and prints how the first one does on the head that is held out: Dice with its teacher, and the share of
voxels whose two most probable classes lie within 0.1.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from measuring import REPOSITORY, make_card, table
from toy_networks import make_unet

from bids_hsf.geometry import next_multiple, pad_to_shape, resample, unpad
from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.hub.models import fetch, find_card
from bids_hsf.images import load_scan
from bids_hsf.labels import HEMISPHERES
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.crops import crop_grid
from bids_hsf.localization.locate import locate
from bids_hsf.networks.predictor import normalize
from bids_hsf.segmentation.augmentation import place
from bids_hsf.segmentation.evaluation import dice
from bids_hsf.segmentation.hippocampi import cut_crops, show, vote_on
from bids_hsf.segmentation.model import Model, Options, open_ensemble
from bids_hsf.segmentation.sampling import looks

BIDS = REPOSITORY / "tests" / "data" / "bids"
SCANS = tuple(BIDS / f"sub-icbm152/anat/sub-icbm152_{contrast}.nii.gz" for contrast in ("T1w", "T2w"))
HELD_OUT = BIDS / "sub-colin27/anat/sub-colin27_T1w.nii.gz"
# Classes of a twin by what its teacher calls them; HSF has no strata.
CLASSES = {
    "subfields": (("DG",), ("CA1", "SRLM"), ("CA2",), ("CA3",), ("Sub",)),
    "longaxis": (("anterior",), ("posterior",)),
}
MARGINS_MM = (4.0, 6.0, 8.0)
MULTIPLE, UNDECIDED = 8, 0.1

Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lesson:
    """A crop (X, Y, Z) with the class probabilities (C, X, Y, Z) that the teacher gives it; voxel sizes in mm."""

    crop: Field
    probabilities: Field
    voxel_sizes: NDArray[np.float64]


class Taught(torch.nn.Module):
    """A graph of `make_unet` in PyTorch, with its weights as parameters."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.model = model
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        # All but the factors by which maps are enlarged.
        learnt = {name: torch.tensor(value) for name, value in values.items() if value.shape != (5,)}
        self.weights = torch.nn.ParameterDict(learnt)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (1, C, X, Y, Z) of an image (1, 1, X, Y, Z)."""
        known = {"crop": image, **self.weights}
        for node in self.model.graph.node[:-1]:  # the last one is the softmax
            first, *others = [known[name] for name in node.input if name in known]
            known[node.output[0]] = self._result(node, first, others)
        return known[self.model.graph.node[-1].input[0]]

    @staticmethod
    def _result(node: onnx.NodeProto, first: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
        if node.op_type == "Conv":
            return functional.conv3d(first, others[0], padding=others[0].shape[-1] // 2)
        if node.op_type == "InstanceNormalization":
            return functional.instance_norm(first, weight=others[0], bias=others[1])
        if node.op_type == "LeakyRelu":
            return functional.leaky_relu(first, 0.01)
        if node.op_type == "MaxPool":
            return functional.max_pool3d(first, 2)
        if node.op_type == "Resize":
            return functional.interpolate(first, scale_factor=2, mode="trilinear", align_corners=False)
        if node.op_type == "Concat":
            return torch.cat([first, *others], dim=1)
        assert node.op_type == "Add"
        return first + others[0]

    def write(self, path: Path) -> None:
        """Write the network with what it has learnt."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in self.weights:
                value = self.weights[tensor.name].detach().numpy()
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
        path.write_bytes(model.SerializeToString())


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    options.dest.mkdir(parents=True, exist_ok=True)
    card = find_card(options.teacher)
    classes = CLASSES[card.family]
    with open_ensemble(fetch(card), n_threads=options.threads) as teacher:
        taught = [lesson for path in options.scans for lesson in lessons(path, teacher, classes, MARGINS_MM)]
        asked = list(lessons(options.held_out, teacher, classes, MARGINS_MM[-1:]))
    network = Taught(make_unet(len(classes) + 1, tuple(options.widths)))
    teach(network, taught, options.steps, 3e-3, 0)
    learnt = {name: value.clone() for name, value in network.state_dict().items()}
    files = [options.dest / f"member{number}.onnx" for number in range(options.members)]
    for number, path in enumerate(files, start=1):
        network.load_state_dict(learnt)
        if options.further:
            teach(network, taught, options.further, 1e-3, number)
        network.write(path)
        print(table(list(judged(network, asked, classes))), flush=True)
    make_card(files, options.dest / "card", len(classes), 0, voxel_size_mm=1.0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dest", type=Path, required=True)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of the network from which all members go on")
    parser.add_argument("--further", type=int, default=40, help="of each member alone")
    parser.add_argument("--teacher", default="subfields_single_fast")
    parser.add_argument("--widths", nargs="+", type=int, default=(16, 32, 64, 128))
    parser.add_argument("--scans", nargs="+", type=Path, default=SCANS)
    parser.add_argument("--held-out", type=Path, default=HELD_OUT)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def lessons(
    path: Path, teacher: Model, classes: Sequence[Sequence[str]], margins_mm: Sequence[float]
) -> Iterator[Lesson]:
    """Cut both hippocampi out of a scan on voxels of 1 mm, and ask the teacher what is in them."""
    loaded = load_scan(path)
    scan = AlignedScan(path.name.split(".")[0], loaded.data, loaded.grid)
    location = locate(loaded.data, loaded.grid)
    for side in HEMISPHERES:
        asked = Options(n_augmentations=0, margin_mm=max(margins_mm))
        (crop,) = cut_crops([scan], location, side, teacher, asked)
        (votes,) = vote_on([crop], teacher, asked)
        said = dict(zip([label.abbreviation for label in teacher.labels], votes.probability_sum[1:], strict=True))
        structures = np.stack([sum(said[name] for name in names) for names in classes])
        for margin in margins_mm:
            grid = crop_grid(location, scan.grid, side, 1.0, margin)
            carried = np.clip(resample(structures, crop.grid, grid), 0, 1)
            yield Lesson(show(scan, grid, side).data, with_background(carried), grid.voxel_sizes)


def with_background(structures: Field) -> Field:
    """Put what the structures leave in front of them."""
    return np.concatenate([np.clip(1 - structures.sum(axis=0, keepdims=True), 0, 1), structures])


def teach(network: Taught, known: Sequence[Lesson], steps: int, rate: float, seed: int) -> None:
    """Let a network learn from random views of the lessons."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    began = time.process_time()
    for step in range(steps):
        image, truth = as_tensors(viewed(known[rng.integers(len(known))], rng))
        optimizer.zero_grad()
        # Half the bits are enough to learn by, and several times as fast.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
        loss = distance(logits.float(), truth)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            seconds = time.process_time() - began
            print(f"step {step}: {loss.item():.3f} ({seconds:.0f} processor seconds)", file=sys.stderr, flush=True)


def viewed(lesson: Lesson, rng: np.random.Generator) -> Lesson:
    """Show a lesson in a random view under HSF's recipe, its intensities bent, blotched and noisy."""
    _, look = islice(looks(AugmentationRecipe(), 1, rng), 2)
    x, y, z = lesson.crop.shape
    warp = place(look.samples[0], (x, y, z), lesson.voxel_sizes)
    structures = np.stack([warp.apply(field) for field in lesson.probabilities[1:]])
    crop = warp.apply(lesson.crop)
    low, high = np.percentile(crop, [1, 99])
    values = np.clip((crop - low) / max(high - low, 1e-6), 0, None) ** rng.uniform(0.7, 1.4)
    slopes = rng.uniform(-0.2, 0.2, size=3)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in crop.shape], indexing="ij", sparse=True)
    values = values * (1 + sum(slope * axis for slope, axis in zip(slopes, axes, strict=True)))
    values = values + rng.normal(0, rng.uniform(0, 0.08), size=crop.shape)
    return Lesson(values.astype(np.float32), with_background(structures), lesson.voxel_sizes)


def as_tensors(lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
    """Give an image (1, 1, X, Y, Z) as networks see it, and its class probabilities (1, C, X, Y, Z)."""
    shape = tuple(next_multiple(n, MULTIPLE) for n in lesson.crop.shape)
    image, _ = pad_to_shape(normalize(lesson.crop), shape)
    structures = np.stack([pad_to_shape(field, shape)[0] for field in lesson.probabilities[1:]])
    return torch.tensor(image[None, None]), torch.tensor(with_background(structures)[None])


def distance(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and what is missing of the structures' overlap."""
    found = logits.softmax(dim=1)
    both, either = (found * truth).sum(dim=(2, 3, 4)), (found + truth).sum(dim=(2, 3, 4))
    return functional.cross_entropy(logits, truth) + 1 - ((2 * both + 1) / (either + 1))[:, 1:].mean()


def judged(network: Taught, asked: Sequence[Lesson], classes: Sequence[Sequence[str]]) -> Iterator[dict[str, object]]:
    """Tell how a network does on crops that it was not taught."""
    for number, lesson in enumerate(asked):
        image, _ = as_tensors(lesson)
        shape = tuple(next_multiple(n, MULTIPLE) for n in lesson.crop.shape)
        _, pads = pad_to_shape(lesson.crop, shape)
        with torch.no_grad():
            found = np.asarray(unpad(network(image)[0].softmax(dim=0).numpy(), pads))
        first, true = found.argmax(axis=0), lesson.probabilities.argmax(axis=0)
        second_best, best = np.sort(found, axis=0)[-2:]
        row = {"/".join(names): dice(first == k, true == k) for k, names in enumerate(classes, start=1)}
        undecided = float((best - second_best < UNDECIDED).mean())
        inside = float((best - second_best < UNDECIDED)[first > 0].mean())
        yield {
            "crop": number,
            "whole": dice(first > 0, true > 0),
            **row,
            "undecided %": 100 * undecided,
            "of hippocampus": 100 * inside,
        }


if __name__ == "__main__":
    main()
