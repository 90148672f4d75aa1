"""Carry what train.py and quantize.py left in OUT_DIR into this folder, under the names of the card.

    python publish.py OUT_DIR

Copies the networks, joins who was trained on what (splits.json) and the losses (losses.tsv), and writes sizes and
checksums of the members into ../subfields.yaml.
"""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

from bids_hsf.files import checksums

HERE = Path(__file__).parent
CARD = HERE.parent / "subfields.yaml"
NAMES = ["single", *(f"bagging_{k}" for k in range(5))]
KEPT = ("samples", "lr", "seed", "member", "real_share", "start", "leave_out")


def described(card: str, name: str, path: Path) -> str:
    """Fill in the size and the checksums of one member, wherever its path stands in the card."""
    facts = {"size": path.stat().st_size, **checksums(path)}
    for key, value in facts.items():
        pattern = rf"(path: subfields/{re.escape(name)}\n(?:\s+(?:filename|size|sha256): .*\n)*?\s+{key}: )\S+"
        card, n = re.subn(pattern, rf"\g<1>{value}", card)
        if not n:
            sys.exit(f"{CARD.name} has no {key} of {name}")
    return card


def main() -> None:
    out_dir = Path(sys.argv[1])
    card, splits, losses = CARD.read_text(), {}, []
    for name in NAMES:
        split = json.loads((out_dir / f"{name}_split.json").read_text())
        arguments = {key: split["arguments"][key] for key in KEPT}
        arguments["start"] = arguments["start"] and Path(arguments["start"]).name
        splits[name] = {"arguments": arguments, "pool": split["pool"], "real": split["real"]}
        log = out_dir / f"{name}_log.tsv"
        if log.exists():  # the mean of others has none
            with log.open() as stream:
                losses += [[name, *row] for row in csv.reader(stream, delimiter="\t")]
        # Of the members the int8 twins alone are packed: as good in a quarter of the size.
        for suffix in ("", "_sq") if name == "single" else ("_sq",):
            target = HERE / f"{name}{suffix}.onnx"
            shutil.copyfile(out_dir / target.name, target)
            card = described(card, target.name, target)
    (HERE / "splits.json").write_text(json.dumps(splits, separators=(",", ":")) + "\n")
    with (HERE / "losses.tsv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerows([["network", "samples", "loss", "seconds"], *losses])
    CARD.write_text(card)


if __name__ == "__main__":
    main()
