"""A small residual U-Net at half resolution, and its export under HSF's tensor contract."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_STEM = 16
N_FINE = 8  # channels at full resolution
PROBABILITIES = partial(torch.softmax, dim=1)  # of logits


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with instance norm, added to a 1x1x1 projection of the input."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(n_in, n_out, 3, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm3d(n_out, affine=True)
        self.conv2 = nn.Conv3d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm3d(n_out, affine=True)
        self.skip = nn.Conv3d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        return F.leaky_relu(self.norm2(self.conv2(y)) + self.skip(x), 0.01)


class HalfResolutionNet(nn.Module):
    """Residual U-Net at half resolution, refined by one convolution at full resolution; logits out.

    Nine tenths of the work of a U-Net go into its levels of full and half resolution; without blocks at the
    first, less than half of it is left. A strided convolution carries 2 x 2 x 2 voxels into channels, a
    transposed one back.

    Input (batch, n_inputs, x, y, z) float32, each size a multiple of 8; output (batch, n_classes, x, y, z).
    `widths` are the maps at two, four and eight times the voxel size.
    """

    def __init__(self, n_classes: int, widths: tuple[int, ...], n_inputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv3d(n_inputs, N_STEM, 2, stride=2)
        inputs = (N_STEM, *widths[:-1])
        self.down = nn.ModuleList(ResidualBlock(i, o) for i, o in zip(inputs, widths, strict=True))
        self.narrow = nn.ModuleList(nn.Conv3d(deep, shallow, 1) for shallow, deep in pairwise(widths))
        self.up = nn.ModuleList(ResidualBlock(2 * width, width) for width in widths[:-1])
        self.expand = nn.ConvTranspose3d(widths[0], N_FINE, 2, stride=2)
        self.refine = nn.Conv3d(N_FINE + n_inputs, N_FINE, 3, padding=1)
        self.head = nn.Conv3d(N_FINE, n_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        features = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool3d(x, 2))
            features.append(x)
        for level in reversed(range(len(self.up))):
            # Narrowed before they are enlarged: the same sum of products on an eighth of the voxels.
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="trilinear", align_corners=False)
            x = self.up[level](torch.cat([x, features[level]], dim=1))
        fine = F.leaky_relu(self.expand(x), 0.01)
        return self.head(F.leaky_relu(self.refine(torch.cat([image, fine], dim=1)), 0.01))


class Answering(nn.Module):
    """HSF's contract wants probabilities, so what makes them of logits is part of the exported graph."""

    def __init__(self, network: nn.Module, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.network(x))


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    answer: Callable[[Tensor], Tensor] = PROBABILITIES,
    n_inputs: int = 1,
    names: tuple[str, str] = ("cropped_hippocampus", "segmented_hippocampus"),
) -> None:
    """Write `network` as ONNX opset 17 with dynamic batch and sizes; tensor names are HSF's unless others are given."""
    axes = {0: "batch", 2: "x", 3: "y", 4: "z"}
    torch.onnx.export(
        Answering(network, answer).eval().cpu(),
        (torch.zeros(1, n_inputs, 32, 40, 32),),
        str(path),
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes=dict.fromkeys(names, axes),
        opset_version=17,
        dynamo=False,
    )
