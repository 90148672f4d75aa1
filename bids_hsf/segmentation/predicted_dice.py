"""The Dice that a label map is thought to have with the truth, from what is measured of it.

A handful of numbers a family of models, in its card, learnt by tests/benchmarks/failures.py from spoilt and sound scans
of known truth: the logit of the Dice is a weighted sum of the figures below.
"""

from collections.abc import Mapping, Sequence
from math import exp, log

from bids_hsf.hub.card_file import DiceWeights
from bids_hsf.labels import Label
from bids_hsf.segmentation.measures import FINE_MM, SideMeasures

MOST_OVERLAP = 0.6  # with the template's hippocampus; more of it is likeness to the template
LEAST_ENTROPY = 0.005  # below it less tells nothing


def predict_dice(weights: DiceWeights | None, measures: Mapping[str, SideMeasures]) -> dict[str, float]:
    """Hemisphere to the predicted Dice of its whole hippocampus, 0-1; empty where the card has no weights."""
    if weights is None:
        return {}
    return {side: round(_predicted(weights, regressors(each)), 3) for side, each in measures.items()}


def predict_structures(
    weights: DiceWeights | None, measures: Mapping[str, SideMeasures], labels: Sequence[Label]
) -> dict[str, float]:
    """Abbreviation of each structure with its side to its predicted Dice; 0 for one without a voxel."""
    if weights is None:
        return {}
    found = {}
    for side, each in measures.items():
        for label in labels:
            entropy = each.structure_entropies.get(label.index)
            dice = 0.0 if entropy is None else _predicted(weights, regressors(each, entropy))
            found[f"{side}_{label.abbreviation}"] = round(dice, 3)
    return found


def regressors(measures: SideMeasures, entropy: float | None = None) -> dict[str, float]:
    """Figures that the logit of the Dice is a weighted sum of, each within its limits; `entropy` is a structure's."""
    whole = log(max(measures.median_entropy, LEAST_ENTROPY))
    own = whole if entropy is None else log(max(entropy, LEAST_ENTROPY))
    is_crop = measures.overlap is None
    return {
        "intercept": 1.0,
        "entropy": own,
        "main_share": measures.main_share,
        "overlap": min(measures.overlap or 0.0, MOST_OVERLAP),
        "unplaced": float(is_crop),
        "turned": float(measures.is_turned),
        "coarse": log(max(measures.voxel_mm, FINE_MM) / FINE_MM),
        "crop_entropy": own if is_crop else 0.0,
        "whole_entropy": 0.0 if entropy is None else whole,
    }


def _predicted(weights: DiceWeights, figures: Mapping[str, float]) -> float:
    """Weighted sum, as a share."""
    return 1 / (1 + exp(-sum(getattr(weights, name) * figure for name, figure in figures.items())))
