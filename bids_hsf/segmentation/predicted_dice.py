"""The Dice that a label map is thought to have with the truth, from what is measured of it.

A handful of numbers a family of models, in its card, learnt by tests/benchmarks/failures.py from spoilt and sound scans
of known truth: the logit of the Dice is a weighted sum of the figures below.
"""

from collections.abc import Mapping
from math import exp, log

from bids_hsf.hub.card_file import DiceWeights
from bids_hsf.segmentation.measures import SideMeasures

LEAST, MOST = 0.01, 0.99  # of shares, before their logit is taken
LEAST_ENTROPY = 0.005  # below it less tells nothing


def predict_dice(weights: DiceWeights | None, measures: Mapping[str, SideMeasures]) -> dict[str, float]:
    """Hemisphere to the predicted Dice of its whole hippocampus, 0-1; empty where the card has no weights."""
    if weights is None:
        return {}
    return {side: round(_predicted(weights, regressors(each)), 3) for side, each in measures.items()}


def regressors(measures: SideMeasures) -> dict[str, float]:
    """Figures that the logit of the Dice is a weighted sum of, each within its limits."""
    certainty = min(max(measures.certainty, LEAST), MOST)
    return {
        "intercept": 1.0,
        "certainty": log(certainty / (1 - certainty)),
        "entropy": log(max(measures.median_entropy, LEAST_ENTROPY)),
        "main_share": measures.main_share,
        "overlap": measures.overlap or 0.0,
        "unplaced": float(measures.overlap is None),
    }


def _predicted(weights: DiceWeights, figures: Mapping[str, float]) -> float:
    """Weighted sum, as a share."""
    return 1 / (1 + exp(-sum(getattr(weights, name) * figure for name, figure in figures.items())))
