"""Make a subfields network sparse and int8, fine-tuned under both; torch, numpy and onnx.

    python quantize.py OUT_DIR NAME [--samples 300] [--as-it-is]

Starts from OUT_DIR/NAME.pt of train.py, sees the same label maps and cases (OUT_DIR/NAME_split.json), and writes
OUT_DIR/NAME_sq.onnx. How: training/quantization.py. With --as-it-is it learns what the float network says of the
samples instead of their labels: for one of unpack.py, which knows more than its label maps tell.
"""

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch
from train import Source, dice_and_cross_entropy, make_network, selected
from training.loop import Run
from training.quantization import export_int8, freeze, quantize

N_CALIBRATION_BATCHES = 8
MILD = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("name")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--as-it-is", action="store_true")
    arguments = parser.parse_args()
    stem = arguments.out_dir / arguments.name
    split = json.loads(stem.with_name(f"{stem.name}_split.json").read_text())
    pool_dir, real_paths = Path(split["arguments"]["pool"]), [Path(path) for path in split["arguments"]["real"]]
    source = Source(
        *selected(pool_dir, real_paths, split["pool"], split["real"]),
        split["arguments"]["real_share"],
    )
    network = make_network()
    network.load_state_dict(torch.load(stem.with_suffix(".pt"), weights_only=True)["average"])
    teacher = copy.deepcopy(network).eval() if arguments.as_it_is else None
    quantize(network, arguments.sparsity)
    generator = torch.Generator().manual_seed(1)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        image, shares = (each[None] for each in source.draw(MILD, generator))
        if teacher:
            with torch.no_grad():
                shares = torch.softmax(teacher(image), 1)
        return image, shares

    with torch.no_grad():
        for _ in range(N_CALIBRATION_BATCHES):
            network(batch()[0])
    freeze(network)
    # The running average is a copy, and so must come after the calibration.
    run = Run(network, dice_and_cross_entropy, arguments.samples, arguments.lr, 1, forgetting=0.02)
    losses = [run.step(*batch()) for _ in range(arguments.samples)]
    path = stem.with_name(f"{stem.name}_sq.onnx")
    print(f"loss {np.mean(losses):.4f}, share of zero weights {export_int8(run.average, path):.3f}")


if __name__ == "__main__":
    main()
