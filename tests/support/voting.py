"""Votes of networks that are all shown the same samples, and fields carried back from a view, each in one call."""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from bids_hsf.geometry import Grid
from bids_hsf.hub.cards import AugmentationRecipe
from bids_hsf.segmentation.augmentation import Still, Warp
from bids_hsf.segmentation.ballots import PLURALITY, Ballot
from bids_hsf.segmentation.sampling import Look, looks
from bids_hsf.segmentation.transforms import Sample
from bids_hsf.segmentation.votes import Field, Predictor, Tally, Votes


def draw(recipe: AugmentationRecipe, n_samples: int, rng: np.random.Generator) -> list[Sample]:
    """Draw the samples that a single network is shown beside the plain crop."""
    drawn = islice(looks(recipe, 1, rng), 1, n_samples + 1)
    return [sample for look in drawn for sample in look.samples if sample is not None]


def carried_back(warp: Warp | Still, fields: Field) -> Field:
    """Carry fields (C, X, Y, Z) back to all of a crop that the view saw; 0 in the rest."""
    carried = np.zeros((len(fields), fields[0].size), np.float32)
    seen = np.flatnonzero(warp.seen)
    carried[:, seen] = warp.invert(fields, seen)
    return carried.reshape(fields.shape)


def vote(
    crop: Field,
    predictors: Sequence[Predictor],
    grid: Grid,
    samples: Sequence[Sample] = (),
    n_threads: int = 1,
    ballot: Ballot = PLURALITY,
) -> Votes:
    """Let every network vote on a crop and on samples of it."""
    tally = Tally(crop, grid, ballot=ballot)
    shown = [Look(number, (sample,) * len(predictors)) for number, sample in enumerate([None, *samples])]
    tally.add(predictors, shown, n_threads)
    return tally.votes()
