"""The longaxis network: a small residual U-Net, and its export under HSF's tensor contract."""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_CLASSES = 3  # background, anterior, posterior
WIDTHS = (16, 32, 64, 128)


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


class LongAxisNet(nn.Module):
    """Residual U-Net: max-pool down, trilinear up, logits out.

    Input (batch, 1, x, y, z) float32 z-scores, each size a multiple of 8; output (batch, 3, x, y, z).
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        inputs = (1, *widths[:-1])
        self.down = nn.ModuleList(ResidualBlock(i, o) for i, o in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(ResidualBlock(deep + shallow, shallow) for shallow, deep in pairwise(widths))
        self.head = nn.Conv3d(widths[0], N_CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool3d(x, 2))
            features.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
            x = self.up[level](torch.cat([x, features[level]], dim=1))
        return self.head(x)


class WithSoftmax(nn.Module):
    """HSF's contract wants probabilities, so the softmax is part of the exported graph."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.network(x), dim=1)


def export_onnx(network: nn.Module, path: Path) -> None:
    """Write `network` as ONNX opset 17 with HSF's tensor names and dynamic batch and sizes."""
    axes = {0: "batch", 2: "x", 3: "y", 4: "z"}
    torch.onnx.export(
        WithSoftmax(network).eval().cpu(),
        (torch.zeros(1, 1, 32, 40, 32),),
        str(path),
        input_names=["cropped_hippocampus"],
        output_names=["segmented_hippocampus"],
        dynamic_axes={"cropped_hippocampus": axes, "segmented_hippocampus": axes},
        opset_version=17,
        dynamo=False,
    )
