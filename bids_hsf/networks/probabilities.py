"""Whether a network's scores are probabilities, and how logits become some."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

SUM_TOLERANCE = 1e-2  # int8 networks miss a sum of 1 by some 1e-3


def are_probabilities(scores: FloatArray) -> bool:
    """Tell whether scores (C, X, Y, Z) are positive and sum to 1, within what int8 networks miss it by; NaN are not.

    >>> are_probabilities(np.full((2, 1, 1, 1), 0.5)), are_probabilities(np.full((2, 1, 1, 1), 0.6))
    (True, False)
    """
    total = scores.sum(axis=0)
    sums_fit = total.min() >= 1 - SUM_TOLERANCE and total.max() <= 1 + SUM_TOLERANCE
    return bool(sums_fit and scores.min() >= -SUM_TOLERANCE)


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities (C, X, Y, Z) from logits of the same shape."""
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0), dtype=np.float32)
