"""Networks made sparse and int8, to be fine-tuned under both; torch and onnx.

The weights of small magnitude are set to zero in every quantised layer. Each convolution of the residual
blocks then reads uint8 activations (one scale a tensor, from the 0.01 and 99.99 percentiles of training
samples) and symmetric int8 weights (one scale an output channel), written as QuantizeLinear and
DequantizeLinear pairs, which is the form that ONNX Runtime's providers turn into integer arithmetic. What
reads the image, what narrows and what refines at full resolution stay in float32.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F
from training.network import HalfResolutionNet, ResidualBlock, export_onnx


class QuantizedInput(nn.Module):
    """Rounds a tensor to 256 steps, once calibrated; before, it takes the measure of what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[tuple[float, float]] = []
        self.scale, self.zero_point = 0.0, 0

    def freeze(self) -> None:
        """Settle scale and zero point; zero itself is kept exact, since it pads."""
        low = min(0.0, float(np.mean([limit[0] for limit in self.limits])))
        high = max(0.0, float(np.mean([limit[1] for limit in self.limits])))
        self.scale = (high - low) / 255
        self.zero_point = round(-low / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, 255)
        values = x.detach().flatten()[::7]
        ends = [max(1, round(share * len(values))) for share in (0.0001, 0.9999)]
        self.limits.append((float(values.kthvalue(ends[0]).values), float(values.kthvalue(ends[1]).values)))
        return x


class SparseInt8Conv(nn.Module):
    """A convolution whose weights are rounded to int8 and partly held at zero."""

    def __init__(self, conv: nn.Conv3d, sparsity: float) -> None:
        super().__init__()
        self.conv = conv
        size = conv.weight.detach().abs()
        kept = size > torch.quantile(size.flatten()[: 2**24], sparsity)
        self.register_buffer("kept", kept.to(size.dtype))
        self.register_buffer("scale", None)  # settled for the export, follows the weights before

    def quantized_weight(self) -> Tensor:
        weight = self.conv.weight * self.kept
        scale = self.scale
        if scale is None:
            scale = weight.detach().abs().amax((1, 2, 3, 4)).clamp(min=1e-8) / 127
        zero_points = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero_points, 0, -128, 127)

    def settle(self) -> None:
        """Make scale and weights constants, as the exporter needs them."""
        weight = (self.conv.weight * self.kept).detach()
        self.scale = weight.abs().amax((1, 2, 3, 4)).clamp(min=1e-8) / 127
        self.conv.weight.data = weight
        self.kept = torch.ones((), device=weight.device)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.quantized_weight(), self.conv.bias, padding=self.conv.padding)


class QuantizedBlock(nn.Module):
    """A ResidualBlock with one quantised input for both of its branches."""

    def __init__(self, block: ResidualBlock, sparsity: float) -> None:
        super().__init__()
        self.input, self.middle = QuantizedInput(), QuantizedInput()
        self.conv1, self.conv2 = (SparseInt8Conv(conv, sparsity) for conv in (block.conv1, block.conv2))
        self.skip = SparseInt8Conv(block.skip, sparsity)
        self.norm1, self.norm2 = block.norm1, block.norm2

    def forward(self, x: Tensor) -> Tensor:
        x = self.input(x)
        y = self.middle(F.leaky_relu(self.norm1(self.conv1(x)), 0.01))
        return F.leaky_relu(self.norm2(self.conv2(y)) + self.skip(x), 0.01)


def quantize(network: HalfResolutionNet, sparsity: float) -> None:
    """Replace the residual blocks by sparse int8 ones, in place."""
    network.down = nn.ModuleList(QuantizedBlock(block, sparsity) for block in network.down)
    network.up = nn.ModuleList(QuantizedBlock(block, sparsity) for block in network.up)


def freeze(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, QuantizedInput):
            module.freeze()


def store_int8(path: Path) -> float:
    """Keep quantised weights as int8 in an exported file; returns the share of them that are zero.

    The export holds them in float32 in front of a QuantizeLinear, four times as large.
    """
    model = onnx.load(path)
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    constants = {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant"}
    n_zero = n_all = 0
    for node in [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in initializers]:
        weight = numpy_helper.to_array(initializers[node.input[0]])
        scale = numpy_helper.to_array(initializers.get(node.input[1]) or constants[node.input[1]])
        rounded = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).clip(-128, 127).astype(np.int8)
        n_zero, n_all = n_zero + int((rounded == 0).sum()), n_all + rounded.size
        graph.initializer.append(numpy_helper.from_array(rounded, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return n_zero / n_all


def export_int8(network: HalfResolutionNet, path: Path) -> float:
    """Write a quantised network; returns its sparsity."""
    for module in network.modules():
        if isinstance(module, SparseInt8Conv):
            module.settle()
    export_onnx(network, path)
    return store_int8(path)
