"""Weights of a packed network, float or int8, as train.py and quantize.py start from them; torch, onnx and bids-hsf.

    python unpack.py NET.onnx OUT.pt
    python unpack.py ../cobralab/single.onnx OUT.pt --after single.onnx --before OLD/single.onnx --pool POOL_DIR

Writes OUT.pt, OUT.onnx and, with --pool, the OUT_split.json that quantize.py reads. The second form adds what lies
between two networks of `subfields` to all weights but those of the last layer, which is the protocol's own: what one
family has learnt of real images, another that went on from the same network learns without a sample (task arithmetic:
Ilharco et al. 2023, arXiv:2212.04089).
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from publish import FAMILIES
from torch import Tensor
from train import kept_names, make_network, pool_names_of, real_names_of, write_split
from training.network import export_onnx

UNUSED = FAMILIES["cobralab"].unused  # the output that publish.py cuts off
NEVER = -50.0  # its logit

UNTRAINED = {"samples": 0, "lr": None, "seed": None, "member": None, "real_share": 0.5}

State = dict[str, Tensor]


def state_of(path: Path) -> State:
    """Weights of a file by their names in the network of train.py; int8 ones as float32."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    state = {}
    for name, parameter in make_network().state_dict().items():
        state[name] = torch.from_numpy(weight_of(stored, name).copy())
        if state[name].shape != parameter.shape:
            state[name] = with_unused(state[name], 0.0 if name.endswith("weight") else NEVER)
    return state


def weight_of(stored: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One tensor, float32."""
    for known in (f"network.{name}", f"network.{name.replace('.bias', '.conv.bias')}"):
        if known in stored:
            return stored[known]
    layer = name.removesuffix(".weight")  # down.0.conv1, of which the int8 file has a scale for each output
    block, part = layer.rsplit(".", 1)
    rounded = stored[f"/network/{block}/{part}/QuantizeLinear_output_0"].astype(np.float32)
    return rounded * stored[f"network.{layer}.scale"].reshape(-1, 1, 1, 1, 1)


def with_unused(tensor: Tensor, value: float) -> Tensor:
    """Put the output that was cut off back into the last layer."""
    return torch.cat([tensor[:UNUSED], torch.full_like(tensor[:1], value), tensor[UNUSED:]])


def carried_over(state: State, after: State, before: State) -> State:
    return {
        name: tensor if name.startswith("head.") else tensor + after[name] - before[name]
        for name, tensor in state.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--after", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="images to show as well")
    parser.add_argument("--leave-out", default="", help="leave out what has one of these, comma-separated, in its name")
    arguments = parser.parse_args()
    state = state_of(arguments.packed)
    if arguments.after and arguments.before:
        state = carried_over(state, state_of(arguments.after), state_of(arguments.before))
    network = make_network()
    network.load_state_dict(state)
    torch.save({"average": state, "epoch": 0}, arguments.out.with_suffix(".pt"))
    export_onnx(network, arguments.out.with_suffix(".onnx"))
    if arguments.pool:
        names = kept_names(pool_names_of(arguments.pool), arguments.leave_out)
        real = [name for path in arguments.real for name in real_names_of(path)]
        settings = UNTRAINED | vars(arguments) | {"start": arguments.packed.name}
        write_split(arguments.out.with_suffix(""), {"pool": names, "real": real, "arguments": settings})


if __name__ == "__main__":
    main()
