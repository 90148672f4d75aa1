from dataclasses import replace
from math import exp, log

import pytest

from bids_hsf.hub.card_file import DiceWeights
from bids_hsf.hub.models import list_cards
from bids_hsf.segmentation.measures import SideMeasures
from bids_hsf.segmentation.predicted_dice import predict_dice, regressors

SOUND = SideMeasures(3500, 1.0, 0.16, 0.02, 0.94, 30, 0.23, 0.1, 0.0, None, 0.9, 0.85, 1.5)
POOR = replace(SOUND, main_share=0.8, entropy=0.3, median_entropy=0.2, certainty=0.8, overlap=0.3)
WEIGHTS = DiceWeights(intercept=-1, certainty=1, entropy=-0.5, main_share=1, overlap=2, unplaced=1.5)


def test_it_is_the_weighted_sum_of_a_few_figures() -> None:
    total = -1 + log(0.94 / 0.06) - 0.5 * log(0.02) + 1 + 2 * 0.85
    assert predict_dice(WEIGHTS, {"L": SOUND}) == {"L": round(1 / (1 + exp(-total)), 3)}


def test_without_weights_nothing_is_predicted() -> None:
    assert predict_dice(None, {"L": SOUND}) == {}


def test_a_crop_in_which_nothing_was_located_has_a_figure_of_its_own() -> None:
    crop = regressors(replace(SOUND, overlap=None))
    assert (crop["overlap"], crop["unplaced"]) == (0, 1)
    assert regressors(SOUND)["unplaced"] == 0


@pytest.mark.parametrize("certainty", [0.0, 1.0])
def test_figures_stay_within_limits(certainty: float) -> None:
    empty = replace(SOUND, certainty=certainty, median_entropy=0.0, overlap=0.0)
    assert 0 < predict_dice(WEIGHTS, {"L": empty})["L"] < 1


def test_packaged_families_tell_poor_results_from_sound_ones() -> None:
    typical = {"longaxis": SOUND, "subfields": replace(SOUND, certainty=0.88, median_entropy=0.37, overlap=0.84)}
    bad = {"longaxis": POOR, "subfields": replace(POOR, certainty=0.7, median_entropy=0.6)}
    cards = [card for card in list_cards([]) if card.family in typical]
    assert {card.family for card in cards} == set(typical)
    for card in cards:
        assert predict_dice(card.predicted_dice, {"L": typical[card.family]})["L"] > 0.85
        assert predict_dice(card.predicted_dice, {"L": bad[card.family]})["L"] < 0.65
        assert card.max_entropy is not None
