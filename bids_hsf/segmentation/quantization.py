"""int8 twins of models: what calibrates them, and how far they say the same as their float networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import UsageError
from bids_hsf.geometry import next_multiple, pad_to_shape
from bids_hsf.hub.cards import ModelCard
from bids_hsf.networks.predictor import normalize
from bids_hsf.networks.quantizing import Quantized
from bids_hsf.networks.sessions import SessionSettings, open_session
from bids_hsf.segmentation.evaluation import dice
from bids_hsf.segmentation.hippocampi import Crop, decide_on_scan, vote_on
from bids_hsf.segmentation.model import Model, Options

Field = NDArray[np.float32]
PLAIN = Options(n_augmentations=0)
# Mean overlap of structures with the float network below which convolutions are left in float32, and of how many. It
# is 0.002 less on heads that calibration did not see: 0.99 is wanted there.
ENOUGH_DICE, MOST_IN_FLOAT = 0.992, 0.25


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


@dataclass(frozen=True)
class Twin:
    """How an int8 twin was made.

    Attributes
    ----------
    n_convolutions : int
        Those that could be in eight bits.
    in_float : tuple of str
        Those among them that are not, the one that bears rounding least first.
    """

    n_convolutions: int
    in_float: tuple[str, ...]


def make_twin(source: Path, target: Path, inputs: Sequence[Field], settings: SessionSettings) -> Twin:
    """Write the int8 twin of a network.

    Where labels differ from the float network's, the convolutions that bear rounding least are left in float32: 1, 2,
    4 of them and so on, until labels agree, or a quarter of them are.

    Parameters
    ----------
    source, target : Path
        ONNX files; `target` is whole or not there.
    inputs : sequence of array, (1, 1, X, Y, Z) float32
        As `network_inputs` gives them, each followed by its mirror image.
    settings : SessionSettings
        Where the twin is to run.

    Raises
    ------
    ModelError
        ONNX Runtime cannot quantise it.
    """
    quantized = Quantized(source, inputs, float_answers=settings.provider == "OpenVINOExecutionProvider")
    names = quantized.convolutions
    with TemporaryDirectory(prefix="twin-") as folder:
        trial = Path(folder) / "trial.onnx"

        def answers(path: Path, shown: Sequence[Field]) -> list[Field]:
            network = open_session(path, settings)
            return [network.run(tensor)[0] for tensor in shown]

        def answers_with(in_float: Sequence[str], shown: Sequence[Field]) -> list[Field]:
            quantized.write(trial, in_float)
            return answers(trial, shown)

        plain = inputs[::2]
        expected = answers(source, plain)
        chosen: tuple[str, ...] = ()
        if _overlap(answers_with((), plain), expected) < ENOUGH_DICE:
            errors = {}
            for name in names:
                (found,) = answers_with([other for other in names if other != name], plain[:1])
                errors[name] = float(np.mean((found - expected[0]) ** 2))
            worst, count = sorted(names, key=lambda name: -errors[name]), 1
            while count <= MOST_IN_FLOAT * len(names):
                chosen = tuple(worst[:count])
                if _overlap(answers_with(chosen, plain), expected) >= ENOUGH_DICE:
                    break
                count *= 2
    quantized.write(target, chosen)
    return Twin(len(names), chosen)


def _overlap(found: Sequence[Field], expected: Sequence[Field]) -> float:
    """Mean Dice of the structures (C, X, Y, Z) that the float network finds; 1 where it finds none."""
    pairs = [(one.argmax(axis=0), other.argmax(axis=0)) for one, other in zip(found, expected, strict=True)]
    overlaps = [dice(one == k, other == k) for one, other in pairs for k in np.unique(other) if k > 0]
    return float(np.mean(overlaps)) if overlaps else 1.0


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
