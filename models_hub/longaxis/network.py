"""The longaxis network."""

from training.network import HalfResolutionNet

N_CLASSES = 3  # background, anterior, posterior
WIDTHS = (48, 64, 96)  # at 2, 4 and 8 mm for voxels of 1 mm


class LongAxisNet(HalfResolutionNet):
    """1.25 M parameters."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__(N_CLASSES, widths)
