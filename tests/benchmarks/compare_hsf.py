"""Compare with HSF 1.2.3: same networks, same scan, same passes.

    python3.11 -m venv /tmp/hsf && /tmp/hsf/bin/pip install hsf==1.2.3 torch==2.13.0 onnxruntime
    python tests/benchmarks/compare_hsf.py --hsf-python /tmp/hsf/bin/python [--scan T1w.nii.gz] NETWORK.onnx ...

--random 5 makes networks of 52 GFLOP on 64x96x64 voxels with random weights instead of naming some.

Both run as a user runs them, in processes of their own, in turns: HSF with a copy of the scan and a folder of the
networks, this app with a dataset of the same scan and a card of the same networks (native voxels, 8 mm margin; HSF's
is 8 voxels). HSF's greeting and its download are left out, as both need the internet. Without test-time augmentation
(--tta 0) the two label maps have to agree but for the box; with it, the random samples differ. `--hsf-tta 20 --tta 7`
compares at equal error of an ensemble (`sampling.py`), not at equal passes.

Prints Dice by structure and side, wall time, processor seconds (which bear a machine that others use too) and peak
memory; --json FILE writes them too, --tsv FILE the table of costs.
"""

import argparse
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from measuring import REPOSITORY, Measured, app_command, machine, make_card, make_dataset, measure, table, write_rows

SCAN = REPOSITORY / "tests" / "data" / "bids" / "sub-icbm152" / "anat" / "sub-icbm152_T1w.nii.gz"
RUN_HSF = """
import sys
from hsf import factory
factory.fetch_models = lambda *_: None
factory.main()
"""


def main() -> None:
    options = parse()
    rounds = []
    precisions: list[list[str]] = [[], ["--reduced-precision"]] if options.reduced_precision else [[]]
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        if options.random:
            # In a process of its own: this one has to stay small.
            command = [sys.executable, __file__, "--write", str(options.random), str(folder)]
            subprocess.run(command, check=True)
            options.networks = sorted(folder.glob("random*.onnx"))
        n_labels = labels_of(options.networks[0])
        for number in range(options.rounds):
            costs = {"HSF 1.2.3": run_hsf(options, folder / f"hsf{number}")}
            for device, flags in itertools.product(options.device, precisions):
                tool = " ".join([device, *flags])
                costs[tool] = run_app(options, ["--device", device, *flags], folder / f"{tool}{number}", n_labels)
            rounds.append(costs)
        dice = agreement(folder / "hsf0", folder / f"{options.device[0]}0", n_labels, options.contrast)
    rows = [compared(tool, rounds, options) for tool in rounds[0]]
    print(table(rows))
    print(table([{"structure": key, f"Dice on {options.device[0]}": value} for key, value in dice.items()]))
    report = {
        "machine": machine(),
        "networks": [str(path) for path in options.networks],
        "scan": str(options.scan),
        "passes": len(options.networks) * (options.tta + 1),
        "passes of HSF": len(options.networks) * (options.hsf_tta + 1),
        "medians": rows,
        "rounds": [{tool: asdict(cost) for tool, cost in costs.items()} for costs in rounds],
        "dice": dice,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    if options.tsv:
        # Of a machine that others use too, the clock on the wall tells nothing.
        kept = [{key: value for key, value in row.items() if key not in ("seconds", "times as fast")} for row in rows]
        write_rows(options.tsv, [{key: rounded(value) for key, value in row.items()} for row in kept])


def rounded(value: object) -> object:
    """Give a number three digits."""
    return f"{value:.3g}" if isinstance(value, float) else value


def compared(tool: str, rounds: Sequence[Mapping[str, Measured]], options: argparse.Namespace) -> dict[str, object]:
    """Medians of one tool, and of its ratios to HSF in the same round."""
    pairs = [(costs["HSF 1.2.3"], costs[tool]) for costs in rounds]
    return {
        "tool": tool if tool.startswith("HSF") else f"bids-hsf on {tool}",
        "passes": len(options.networks) * ((options.hsf_tta if tool.startswith("HSF") else options.tta) + 1),
        "seconds": statistics.median(own.seconds for _, own in pairs),
        "cpu seconds": statistics.median(own.cpu_seconds for _, own in pairs),
        "peak MB": int(statistics.median(own.peak_mb for _, own in pairs)),
        "times less processor": statistics.median(hsf.cpu_seconds / own.cpu_seconds for hsf, own in pairs),
        "times as fast": statistics.median(hsf.seconds / own.seconds for hsf, own in pairs),
        "share of memory": statistics.median(own.peak_mb / hsf.peak_mb for hsf, own in pairs),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="*", help="ONNX files; all of them vote")
    parser.add_argument("--random", type=int, default=0, help="so many networks with random weights instead")
    # Absolute, for commands run in folders of their own; not resolved: a link tells which environment it belongs to.
    parser.add_argument(
        "--hsf-python",
        type=lambda text: Path(text).absolute(),
        required=True,
        help="interpreter of the environment with HSF",
    )
    parser.add_argument("--scan", type=Path, default=SCAN)
    parser.add_argument("--contrast", default="T1w", choices=("T1w", "T2w"))
    parser.add_argument("--tta", type=int, default=0, help="random samples beside the plain pass")
    parser.add_argument("--hsf-tta", type=int, help="as many for HSF instead: at equal error, not at equal passes")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each, in turns; medians are told")
    parser.add_argument("--device", nargs="+", default=["auto"], help="of this app; HSF has the CPU provider")
    parser.add_argument(
        "--validate", action="store_true", help="let this app validate the dataset, as it does by default"
    )
    parser.add_argument("--reduced-precision", action="store_true", help="run this app with that option as well")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tsv", type=Path)
    options = parser.parse_args()
    if options.hsf_tta is None:
        options.hsf_tta = options.tta
    return options


def run_hsf(options: argparse.Namespace, folder: Path) -> Measured:
    """Run HSF on a copy of the scan; its results lie beside the copy."""
    (folder / "models").mkdir(parents=True)
    scan = folder / f"scan{''.join(options.scan.suffixes)}"
    shutil.copy(options.scan, scan)
    for number, network in enumerate(options.networks):
        shutil.copy(network, folder / "models" / f"member{number}.onnx")
    script = folder / "run_hsf.py"
    script.write_text(RUN_HSF)
    command = [
        *(str(options.hsf_python), str(script)),
        *(f"files.path={folder}", f"files.pattern={scan.name}"),
        *("roiloc=default_t2iso", f"roiloc.contrast={options.contrast[:2].lower()}"),
        f"segmentation.models_path={folder / 'models'}",  # whatever *.onnx lies there votes
        f"segmentation.segmentation.test_time_augmentation={options.hsf_tta > 0}",
        f"segmentation.segmentation.test_time_num_aug={max(1, options.hsf_tta)}",
        "hardware.engine_settings.execution_providers=[CPUExecutionProvider]",
        f"hydra.run.dir={folder / 'hydra'}",
    ]
    return measure(command, folder / "log.txt")


def run_app(options: argparse.Namespace, wishes: Sequence[str], folder: Path, n_labels: int) -> Measured:
    """Run this app on a dataset of the scan."""
    bids_dir = make_dataset([options.scan], folder / "bids", options.contrast)
    card = make_card(options.networks, folder / "card", n_labels, options.tta)
    flags = [] if options.validate else ["--skip-bids-validation"]
    command = app_command(bids_dir, folder / "out", str(card), *wishes, "--keep-islands", *flags)
    return measure(command, folder / "log.txt", PYTHONPATH=str(REPOSITORY))


def write_random(count: int, folder: Path) -> None:
    """Write networks with random weights."""
    from toy_networks import make_unet

    for seed in range(count):
        (folder / f"random{seed}.onnx").write_bytes(make_unet(seed=seed).SerializeToString())


def labels_of(network: Path) -> int:
    """Structures that a network tells apart; asked of another process, as this one has to stay small."""
    code = "import onnx, sys; print(onnx.load(sys.argv[1]).graph.output[0].type.tensor_type.shape.dim[1].dim_value)"
    done = subprocess.run([sys.executable, "-c", code, str(network)], check=True, capture_output=True, text=True)
    return int(done.stdout) - 1


def agreement(hsf_dir: Path, app_dir: Path, n_labels: int, contrast: str) -> dict[str, float]:
    """Dice of the two label maps by structure and side, and of the whole hippocampus."""
    import nibabel as nib
    import numpy as np

    path = next(app_dir.glob(f"out/sub-01/anat/*{contrast}*_dseg.nii.gz"))
    ours = np.asarray(nib.load(path).dataobj)
    dice = {}
    for offset, side in ((0, "left"), (100, "right")):
        theirs = np.asarray(nib.load(next(hsf_dir.glob(f"*_{side}_hippocampus_seg.nii.gz"))).dataobj).round()
        mine = np.where((ours > offset) & (ours <= offset + n_labels), ours - offset, 0)
        pairs = {"whole": (theirs > 0, mine > 0)}
        pairs |= {f"S{k}": (theirs == k, mine == k) for k in range(1, n_labels + 1)}
        for name, (a, b) in pairs.items():
            dice[f"{side} {name}"] = 2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))
    return dice


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write_random(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
