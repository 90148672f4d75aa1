"""Carry what train.py and quantize.py left in OUT_DIR into this folder, under the names of the card.

    python publish.py OUT_DIR

Copies the networks, joins who was trained on what (splits.json) and the losses (losses.tsv), and prints the members
for longaxis.yaml with their sizes and checksums.
"""

import csv
import json
import shutil
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import yaml

from bids_hsf.files import checksums

HERE = Path(__file__).parent
VERSION = "1.3.0"
NAMES = {"single0": "single", **{f"bootstrap{k}": f"bagging_{k}" for k in range(5)}}


def member(path: Path) -> dict[str, object]:
    return {
        "path": f"{HERE.name}/{path.name}",
        "filename": f"longaxis_{VERSION}_{path.name}",
        "size": path.stat().st_size,
        **checksums(path),
    }


def read_losses(path: Path) -> list[list[str]]:
    with path.open() as stream:
        return list(csv.reader(stream, delimiter="\t"))[1:]


def main() -> None:
    out_dir = Path(sys.argv[1])
    splits = json.loads((HERE / "splits.json").read_text())
    losses = {name: list(rows) for name, rows in groupby(read_losses(HERE / "losses.tsv"), key=itemgetter(0))}
    members = []
    for run, name in NAMES.items():
        if not (out_dir / f"{run}.onnx").exists():
            continue  # what was published before stays
        split = json.loads((out_dir / f"{run}_split.json").read_text())
        kept = ("epochs", "batch_size", "lr", "seed", "index", "start")
        splits[name] = {
            "arguments": {key: split["arguments"][key] for key in kept},
            "train": split["train"],
            "held_out": split["held_out"],
        }
        for suffix in ("", "_sq"):
            source = out_dir / f"{run}{suffix}.onnx"
            if source.exists():
                shutil.copyfile(source, HERE / f"{name}{suffix}.onnx")
                members.append(member(HERE / f"{name}{suffix}.onnx"))
                rows = read_losses(out_dir / f"{run}{suffix}_log.tsv")
                losses[f"{name}{suffix}"] = [[f"{name}{suffix}", *row] for row in rows]
    (HERE / "splits.json").write_text(json.dumps(splits, separators=(",", ":")) + "\n")
    with (HERE / "losses.tsv").open("w", newline="") as stream:
        header = ["network", "epoch", "loss", "anterior", "posterior", "whole", "seconds"]
        rows = [row for name in sorted(losses) for row in losses[name]]
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([header, *rows])
    print(yaml.safe_dump(members, sort_keys=False))


if __name__ == "__main__":
    main()
