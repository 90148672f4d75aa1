"""int8 twins of models: what calibrates them, and how far they say the same as their float networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import UsageError
from bids_hsf.geometry import next_multiple, pad_to_shape
from bids_hsf.hub.cards import ModelCard
from bids_hsf.networks.predictor import normalize
from bids_hsf.segmentation.evaluation import dice
from bids_hsf.segmentation.hippocampi import Crop, decide_on_scan, vote_on
from bids_hsf.segmentation.model import Model, Options

Field = NDArray[np.float32]
PLAIN = Options(n_augmentations=0)


@dataclass(frozen=True)
class Agreement:
    """How far an int8 twin says the same as its float network.

    Attributes
    ----------
    n_crops : int
        Hippocampi that were compared; calibration did not see them.
    dice : mapping of str to float
        Abbreviation of a label, and "whole", to the mean overlap; NaN where neither found any.
    """

    n_crops: int
    dice: Mapping[str, float]


def check_quantizable(card: ModelCard) -> None:
    """Refuse what needs no twin, and say what is missing where it cannot be made.

    Raises
    ------
    UsageError
        The model is int8 already, or the package onnx is not there.
    """
    if card.precision == "int8":
        raise UsageError(f"{card.name} is int8 already", "Choose a float32 model; see `hsf-hub list`.")
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "hsf-hub quantize needs the package onnx, which is not installed", "pip install bids-hsf[quantize]"
        ) from error


def network_inputs(crops: Sequence[Crop], card: ModelCard) -> list[Field]:
    """Show crops as networks see them, (1, 1, X, Y, Z): each as it is and mirrored, for both sides share a network."""
    tensors = []
    for crop in crops:
        for data in (crop.data, crop.data[::-1]):
            shape = tuple(next_multiple(n, card.pad_multiple) for n in data.shape)
            padded, _ = pad_to_shape(normalize(data), shape)
            tensors.append(np.ascontiguousarray(padded[None, None], dtype=np.float32))
    return tensors


def compare(crops: Sequence[Crop], model: Model, twin: Model) -> Agreement:
    """Segment crops with both, without random views, and compare the labels."""
    overlaps: dict[str, list[float]] = {}
    for crop in crops:
        first, second = (
            decide_on_scan(crop, vote_on([crop], each, PLAIN)[0], each, PLAIN).segmentation.labels
            for each in (model, twin)
        )
        pairs = {label.abbreviation: (first == label.index, second == label.index) for label in model.labels}
        for label, masks in (pairs | {"whole": (first > 0, second > 0)}).items():
            overlaps.setdefault(label, []).append(dice(*masks))
    means = {label: float(np.nanmean(values)) for label, values in overlaps.items() if not np.isnan(values).all()}
    return Agreement(len(crops), means)
