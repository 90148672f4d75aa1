"""Carry what train.py and quantize.py left in OUT_DIR into the folder of a family, under the names of its card.

    python publish.py OUT_DIR [--family cobralab]

Copies the networks, joins who was trained on what (splits.json) and the losses (losses.tsv), and writes sizes and
checksums of the members into the card.
"""

import argparse
import csv
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from bids_hsf.files import checksums

HUB = Path(__file__).parent.parent
KEPT = ("samples", "lr", "seed", "member", "real_share", "start", "leave_out")


@dataclass(frozen=True)
class Family:
    """What is packed of a family.

    Attributes
    ----------
    members : tuple of str
        Names in OUT_DIR of the networks of `bagging_0_sq.onnx` and so on.
    unused : int or None
        An output that no training label has, which is cut off.
    """

    members: tuple[str, ...]
    unused: int | None


FAMILIES = {
    "subfields": Family(tuple(f"bagging_{k}" for k in range(5)), None),
    # CoBrALab has CA2 and CA3 as one label, which takes the place of CA3.
    "cobralab": Family(tuple(f"fold_{k}" for k in range(1, 5)), 3),
}


def without_output(path: Path, unused: int) -> onnx.ModelProto:
    """Read a network and cut an output off its last convolution."""
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    head = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    for name in head.input[1:]:
        kept = [k for k in range(stored[name].dims[0]) if k != unused]
        stored[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored[name])[kept], name))
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value -= 1
    onnx.checker.check_model(model, full_check=True)
    return model


def split_of(path: Path) -> dict[str, Any]:
    """Read settings and training cases of a network, without the paths of the machine."""
    split = json.loads(path.read_text())
    settings = {key: split["arguments"][key] for key in KEPT}
    settings["start"] = settings["start"] and Path(settings["start"]).name
    return {"arguments": settings, "pool": split["pool"], "real": split["real"]}


def described(card: str, family: str, path: Path) -> str:
    """Fill in the size and the checksums of one member, wherever its path stands in the card."""
    facts = {"size": path.stat().st_size, **checksums(path)}
    for key, value in facts.items():
        pattern = rf"(path: {family}/{re.escape(path.name)}\n(?:\s+(?:filename|size|sha256): .*\n)*?\s+{key}: )\S+"
        card, n = re.subn(pattern, rf"\g<1>{value}", card)
        if not n:
            sys.exit(f"{family}.yaml has no {key} of {path.name}")
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--family", choices=list(FAMILIES), default="subfields")
    arguments = parser.parse_args()
    family, folder = FAMILIES[arguments.family], HUB / arguments.family
    card_path = HUB / f"{arguments.family}.yaml"
    card, splits, losses = card_path.read_text(), {}, []
    for source, name in {"single": "single", **{m: f"bagging_{k}" for k, m in enumerate(family.members)}}.items():
        splits[name] = split_of(arguments.out_dir / f"{source}_split.json")
        log = arguments.out_dir / f"{source}_log.tsv"
        if log.exists():  # the mean of others has none
            with log.open() as stream:
                losses += [[name, *row] for row in csv.reader(stream, delimiter="\t")]
        # Of the members the int8 twins alone are packed: as good in a quarter of the size.
        for suffix in ("", "_sq") if name == "single" else ("_sq",):
            built, target = arguments.out_dir / f"{source}{suffix}.onnx", folder / f"{name}{suffix}.onnx"
            if family.unused is None:
                shutil.copyfile(built, target)
            else:
                onnx.save(without_output(built, family.unused), target)
            card = described(card, arguments.family, target)
    (folder / "splits.json").write_text(json.dumps(splits, separators=(",", ":")) + "\n")
    with (folder / "losses.tsv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerows([["network", "samples", "loss", "seconds"], *losses])
    card_path.write_text(card)


if __name__ == "__main__":
    main()
