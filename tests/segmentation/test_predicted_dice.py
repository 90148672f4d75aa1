from dataclasses import replace
from math import exp, log

import pytest

from bids_hsf.hub.card_file import DiceWeights
from bids_hsf.hub.models import list_cards
from bids_hsf.labels import Label
from bids_hsf.segmentation.measures import SideMeasures
from bids_hsf.segmentation.predicted_dice import predict_dice, predict_structures, regressors

SOUND = SideMeasures(3500, 1.0, 0.16, 0.02, 30, 0.23, 0.1, 0.0, None, 0.9, 0.85, 1.5)
POOR = replace(SOUND, main_share=0.8, entropy=0.3, median_entropy=0.2, overlap=0.3)
WEIGHTS = DiceWeights(intercept=-1, entropy=-0.5, main_share=1, overlap=2, unplaced=1.5, turned=-5)


def test_it_is_the_weighted_sum_of_a_few_figures() -> None:
    # More overlap than 0.6 is likeness to the template.
    total = -1 - 0.5 * log(0.02) + 1 + 2 * 0.6
    assert predict_dice(WEIGHTS, {"L": SOUND}) == {"L": round(1 / (1 + exp(-total)), 3)}


def test_without_weights_nothing_is_predicted() -> None:
    assert predict_dice(None, {"L": SOUND}) == {}


def test_a_crop_in_which_nothing_was_located_has_a_figure_of_its_own() -> None:
    crop = regressors(replace(SOUND, overlap=None))
    assert (crop["overlap"], crop["unplaced"]) == (0, 1)
    assert regressors(SOUND)["unplaced"] == 0


def test_a_head_that_lies_as_none_does_lets_expect_less() -> None:
    told = predict_dice(WEIGHTS, {"L": SOUND, "R": replace(SOUND, is_turned=True)})
    assert told["R"] < 0.5 < told["L"]


def test_a_structure_is_predicted_by_its_own_entropy() -> None:
    labels = (Label(1, "Front", "front", "#ff0000"), Label(2, "Back", "back", "#00ff00"), Label(3, "c", "c", "#0000ff"))
    side = replace(SOUND, structure_entropies={1: 0.02, 2: 0.5})
    told = predict_structures(WEIGHTS, {"L": side}, labels)
    assert told["L_front"] == predict_dice(WEIGHTS, {"L": SOUND})["L"]
    assert told["L_back"] == predict_dice(WEIGHTS, {"L": replace(SOUND, median_entropy=0.5)})["L"] < told["L_front"]
    assert told["L_c"] == 0
    assert predict_structures(None, {"L": side}, labels) == {}


def test_a_structure_is_expected_to_be_as_good_as_its_hippocampus_too() -> None:
    labels = (Label(1, "Front", "front", "#ff0000"),)
    weights = replace(WEIGHTS, intercept=-9, whole_entropy=-2)
    side = replace(SOUND, structure_entropies={1: 0.02})
    unsure = replace(side, median_entropy=0.4)
    sound, poor = (predict_structures(weights, {"L": each}, labels)["L_front"] for each in (side, unsure))
    assert sound > 0.9 > 0.6 > poor
    # Of a whole one its own entropy tells already.
    assert predict_dice(weights, {"L": SOUND}) == predict_dice(replace(weights, whole_entropy=0), {"L": SOUND})


def test_of_coarse_voxels_less_certainty_is_expected() -> None:
    assert regressors(replace(SOUND, voxel_mm=0.5))["coarse"] == regressors(SOUND)["coarse"] == 0
    assert regressors(replace(SOUND, voxel_mm=3.0))["coarse"] == pytest.approx(log(3))
    weights = replace(WEIGHTS, coarse=1.5)
    unsure = replace(SOUND, median_entropy=0.2)
    fine, coarse = (predict_dice(weights, {"L": replace(unsure, voxel_mm=size)})["L"] for size in (1.0, 3.0))
    assert fine < coarse


def test_certainty_in_a_ready_made_crop_has_a_weight_of_its_own() -> None:
    crop = regressors(replace(SOUND, overlap=None))
    assert crop["crop_entropy"] == crop["entropy"] == pytest.approx(log(0.02))
    assert regressors(SOUND)["crop_entropy"] == 0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_figures_stay_within_limits(share: float) -> None:
    empty = replace(SOUND, main_share=share, median_entropy=0.0, overlap=0.0)
    assert 0 < predict_dice(WEIGHTS, {"L": empty})["L"] < 1


def test_packaged_families_tell_poor_results_from_sound_ones() -> None:
    subfields = replace(SOUND, median_entropy=0.37, overlap=0.84)
    typical = {"longaxis": SOUND, "subfields": subfields, "cobralab": subfields}
    bad = {"longaxis": POOR} | dict.fromkeys(("subfields", "cobralab"), replace(POOR, median_entropy=0.6))
    cards = [card for card in list_cards([]) if card.family in typical]
    assert {card.family for card in cards} == set(typical)
    for card in cards:
        assert predict_dice(card.predicted_dice, {"L": typical[card.family]})["L"] > 0.85
        assert predict_dice(card.predicted_dice, {"L": bad[card.family]})["L"] < 0.65
        assert card.max_entropy is not None
