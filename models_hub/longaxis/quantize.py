"""Make a longaxis network sparse and int8, fine-tuned under both; torch, numpy and onnx.

    python quantize.py cases.npz OUT_DIR --split single
    python quantize.py cases.npz OUT_DIR --split bootstrap --index 0

Starts from OUT_DIR/NAME.pt of train.py, sees the same training cases, and writes OUT_DIR/NAME_sq.onnx,
NAME_sq_log.tsv and NAME_sq_cases.tsv.

How: training/quantization.py.
"""

import time
from itertools import islice

import numpy as np
import torch
from network import LongAxisNet
from train import Journal, dice_and_cross_entropy, draw_batches, load_cases, make_parser, split_cases
from training.loop import Run
from training.quantization import export_int8, freeze, quantize

N_CALIBRATION_BATCHES = 24
MILD = 0.9  # the place in the schedule of train.py whose samples are drawn


def main() -> None:
    parser = make_parser(__doc__, epochs=1, lr=1e-3)
    parser.add_argument("--sparsity", type=float, default=0.5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    cases = load_cases(arguments.cases, device)
    train_names, held_names = split_cases(sorted(cases), arguments.split, arguments.index)
    stem = arguments.out_dir / f"{arguments.split}{arguments.index}"

    network = LongAxisNet().to(device)
    network.load_state_dict(torch.load(stem.with_suffix(".pt"), weights_only=True, map_location=device)["average"])
    quantize(network, arguments.sparsity)
    n_steps = arguments.epochs * (len(train_names) // arguments.batch_size)
    generator = torch.Generator().manual_seed(arguments.seed)
    batches = draw_batches(cases, train_names, arguments.batch_size, MILD, generator)
    with torch.no_grad():
        for images, _ in islice(batches, N_CALIBRATION_BATCHES):
            network(images)
    freeze(network)

    run = Run(network, dice_and_cross_entropy, n_steps, arguments.lr, arguments.seed + arguments.index, forgetting=0.02)
    stem = stem.with_name(f"{stem.name}_sq")
    journal = Journal(stem, cases, held_names)
    while run.epoch < arguments.epochs:
        started = time.time()
        batches = draw_batches(cases, train_names, arguments.batch_size, MILD, run.generator)
        loss = float(np.mean([run.step(*batch) for batch in batches]))
        run.epoch += 1
        journal.add_epoch(run, loss, time.time() - started)
    journal.close(run)
    print("share of zero weights:", round(export_int8(run.average, stem.with_suffix(".onnx")), 3))


if __name__ == "__main__":
    main()
