"""What `hsf-hub quantize` makes of networks: labels held against the float ones', and the processor time of a pass.

    python tests/benchmarks/int8.py [--models NAME|CARD.yaml ...] [--calibrate FILE ...] [--judge FILE ...] [--tsv FILE]

Each model's first network is calibrated on the left hippocampi of some heads, as by the command, and judged on both
hippocampi of others that calibration did not see, by default of another person. Passes of both are timed in turns, in
processor seconds of one thread, which bear a machine that others use too; the median of the ratios is told. "Undecided"
is the share of voxels whose two most probable classes lie within 0.1 of each other: how easily labels flip. Cards of
networks of the shape of HSF's come from `hsf_twins.py`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from measuring import REPOSITORY, machine, table, write_rows

from bids_hsf.cli.quantize import crops_of
from bids_hsf.hub.models import fetch, find_card
from bids_hsf.networks.sessions import SessionSettings, open_session
from bids_hsf.segmentation.evaluation import dice
from bids_hsf.segmentation.model import Model, open_ensemble
from bids_hsf.segmentation.quantization import make_twin, network_inputs

BIDS = REPOSITORY / "tests" / "data" / "bids"
CALIBRATE = tuple(BIDS / f"sub-icbm152/anat/sub-icbm152_{contrast}.nii.gz" for contrast in ("T1w", "T2w"))
JUDGE = (BIDS / "sub-colin27/anat/sub-colin27_T1w.nii.gz",)
MODELS = ("longaxis_single_fast", "subfields_single_fast")
UNDECIDED, ROUNDS = 0.1, 5

Field = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--calibrate", nargs="+", type=Path, default=CALIBRATE)
    parser.add_argument("--judge", nargs="+", type=Path, default=JUDGE)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tsv", type=Path)
    options = parser.parse_args()
    print(machine())
    rows = []
    for name in options.models:
        with open_ensemble(fetch(find_card(name)), options.device, 1) as model:
            rows.append(row(model, options.calibrate, options.judge))
            print(table(rows[-1:]), flush=True)
    print(table(rows))
    if options.tsv:
        write_rows(options.tsv, [{key: shown(value) for key, value in row.items()} for row in rows])


def shown(value: object) -> object:
    return f"{value:.3g}" if isinstance(value, float) else value


def row(model: Model, calibrate: Sequence[Path], judge: Sequence[Path]) -> dict[str, object]:
    """Make the twin of a model's first network, and hold it against that."""
    card, settings = model.card, model.device.session_settings
    source = fetch(card).member_paths[0]
    left, _ = crops_of(calibrate, model)
    asked = network_inputs([crop for side in crops_of(judge, model) for crop in side], card)
    with TemporaryDirectory(prefix="int8-") as folder:
        target = Path(folder) / "int8.onnx"
        twin = make_twin(source, target, network_inputs(left, card), settings)
        return {
            "model": card.name,
            "provider": settings.provider.removesuffix("ExecutionProvider"),
            "float convolutions": f"{len(twin.in_float)} of {twin.n_convolutions}",
            **held_together(source, target, asked, settings),
        }


def held_together(source: Path, target: Path, asked: Sequence[Field], settings: SessionSettings) -> dict[str, object]:
    """Compare the answers of two networks, and the processor time that they take."""
    networks = [open_session(path, settings) for path in (source, target)]
    pairs = [[network.run(tensor)[0] for network in networks] for tensor in asked]
    best = np.concatenate([np.sort(found, axis=0)[-2:].reshape(2, -1) for found, _ in pairs], axis=1)
    labels = [[found.argmax(axis=0) for found in pair] for pair in pairs]
    whole = [dice(first > 0, second > 0) for first, second in labels]
    structures = list(overlaps(labels))
    ratios = []
    for _ in range(ROUNDS):
        spent = []
        for network in networks:
            began = time.process_time()
            network.run(asked[0])
            spent.append(time.process_time() - began)
        ratios.append(spent[0] / spent[1])
    return {
        "undecided %": 100 * float((best[1] - best[0] < UNDECIDED).mean()),
        "Dice whole": f"{np.mean(whole):.3f}",
        "of structures": f"{np.mean(structures):.3f}",
        "lowest": f"{min(structures):.3f}",
        "times less processor": statistics.median(ratios),
    }


def overlaps(labels: Sequence[Sequence[Field]]) -> Iterator[float]:
    """Mean Dice of each structure that the float network finds."""
    for k in np.unique(np.concatenate([first.ravel() for first, _ in labels])):
        if k > 0:
            yield float(np.nanmean([dice(first == k, second == k) for first, second in labels]))


if __name__ == "__main__":
    main()
