"""Average the weights of networks that went on from one network; torch alone.

    python soup.py OUT_DIR NAME MEMBER ...

Writes OUT_DIR/NAME.pt, from which train.py and quantize.py start, NAME_split.json (all that its members saw) and
NAME.onnx.
"""

import json
import sys
from pathlib import Path

import torch
from train import make_network, write_split
from training.network import export_onnx


def main() -> None:
    out_dir, name, members = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    states = [torch.load(out_dir / f"{member}.pt", weights_only=True)["average"] for member in members]
    average = {key: sum(state[key] for state in states) / len(states) for key in states[0]}
    torch.save({"average": average, "epoch": 0}, out_dir / f"{name}.pt")
    splits = [json.loads((out_dir / f"{member}_split.json").read_text()) for member in members]
    split = {key: sorted(set().union(*(split[key] for split in splits))) for key in ("pool", "real")}
    split["arguments"] = splits[0]["arguments"] | {"member": None, "start": " + ".join(members)}
    write_split(out_dir / name, split)
    network = make_network()
    network.load_state_dict(average)
    export_onnx(network, out_dir / f"{name}.onnx")


if __name__ == "__main__":
    main()
