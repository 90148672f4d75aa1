"""What is odd about a result is found, with its figure; what is not is left alone."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from bids_trees import model_card
from found_hippocampi import GRID, HERE, Change, hippocampi, image
from scipy import ndimage

from bids_hsf.findings import Finding, Weight
from bids_hsf.hub.card_file import DiceWeights
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.coregistration import Coregistration
from bids_hsf.segmentation.quality import Quality, confirmed, judge

WEIGHTS = DiceWeights(intercept=-3.2, entropy=-0.9, main_share=1.5, overlap=1.5, unplaced=0.9, turned=-5)
CARD = replace(model_card(), predicted_dice=WEIGHTS, max_entropy=0.3)
IMAGE = image()


@cache
def sound() -> Quality:
    return judged()


def judged(
    changed: dict[str, Change] | None = None, data: np.ndarray = IMAGE, location=HERE, **figures: float
) -> Quality:
    return judge(hippocampi(changed, **figures), [AlignedScan("sub-01_T1w", data, GRID)], location, CARD)


def found(quality: Quality) -> dict[str, Finding]:
    return {finding.code: finding for finding in quality.findings}


def small(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_erosion(mask, iterations=4)


def broken(mask: np.ndarray) -> np.ndarray:
    """Cut across."""
    ys = np.flatnonzero(mask.any(axis=(0, 2)))
    middle = int(ys.mean())
    mask = mask.copy()
    mask[:, middle - 4 : middle + 4] = False
    return mask


def front_only(mask: np.ndarray) -> np.ndarray:
    return mask & (np.indices(mask.shape)[1] > GRID.shape[1] // 2)


def test_sound_hippocampi_give_no_finding() -> None:
    quality = sound()
    assert quality.findings == ()
    assert set(quality.predicted_dice) == {"L", "R"}
    assert min(quality.predicted_dice.values()) > 0.85


@pytest.mark.parametrize(
    ("change", "code", "weight", "threshold"),
    [
        (small, "volume-small", "fail", 500.0),
        (small, "volume-range", "fail", 1000.0),
        (small, "asymmetry", "check", 15.0),
        (small, "place-empty", "check", 0.5),
        (broken, "broken", "check", 0.95),
        (broken, "pieces", "note", 1),
        (lambda mask: np.roll(mask, 8, axis=1), "off-place", "check", 6.0),
    ],
)
def test_odd_shapes_are_found(change: Change, code: str, weight: str, threshold: float) -> None:
    finding = found(judged({"R": change}))[code]
    assert (finding.weight, finding.threshold, finding.hemisphere) == (weight, threshold, "R")
    assert finding.figure is not None
    assert "right" in finding.text or code == "asymmetry"


def test_structures_that_are_empty_or_tiny_are_named() -> None:
    empty = found(judged({"L": front_only}))["structure-empty"]
    assert (empty.weight, empty.hemisphere, empty.structure, empty.text) == (
        "fail",
        "L",
        "L_back",
        "Left Back is empty",
    )

    def tiny_back(mask: np.ndarray) -> np.ndarray:
        behind = mask & ~front_only(mask)
        few = np.zeros_like(mask)
        few[tuple(np.argwhere(behind)[: behind.sum() // 10].T)] = True
        return front_only(mask) | few

    tiny = found(judged({"L": tiny_back}))["structure-tiny"]
    assert (tiny.weight, tiny.structure) == ("check", "L_back")
    assert tiny.figure == pytest.approx(0.1, abs=0.02)


def test_volumes_are_held_against_the_head() -> None:
    finding = found(judged(location=replace(HERE, etiv_mm3=7e6)))["volume-by-etiv"]
    assert (finding.weight, finding.threshold) == ("check", 0.8)
    assert "‰" in finding.text


def test_what_lies_outside_of_the_view_is_not_called_small() -> None:
    cut = replace(HERE, coverage={"L": 1.0, "R": 0.4})
    codes = found(judged({"R": small}, location=cut))
    assert not {"volume-small", "volume-range", "asymmetry"} & codes.keys()


def test_networks_that_are_unsure_are_heard() -> None:
    codes = found(judged(sureness=0.7, unsure=0.5))
    assert (codes["entropy"].weight, codes["entropy"].threshold) == ("check", 0.3)
    assert codes["predicted-dice"].weight in ("check", "fail")
    assert codes["predicted-dice"].figure is not None
    assert codes["predicted-dice"].figure < 0.78


def test_of_a_head_that_is_turned_it_is_the_side_that_is_doubted() -> None:
    turned = Finding("head-turned", Weight.CHECK, "the head lies 174 degrees from where the header says", 174.0, 60.0)
    finding = found(judged(location=replace(HERE, findings=(turned,))))["predicted-dice"]
    assert finding.weight == "fail"
    assert "hippocampus may be that of the other side" in finding.text
    assert "thought to be segmented poorly" not in finding.text


def test_images_that_show_little_are_told() -> None:
    rng = np.random.default_rng(1)
    noisy = (IMAGE + rng.normal(0, 18, GRID.shape)).astype(np.float32)
    assert found(judged(data=noisy))["noise"].weight == "note"
    hopeless = rng.normal(0, 50, GRID.shape).astype(np.float32)
    assert found(judged({"L": broken, "R": broken}, data=hopeless))["noise"].weight == "check"
    blurred = ndimage.gaussian_filter(IMAGE, 3.0)
    assert "blur" in found(judged(data=blurred))
    striped = IMAGE.copy()
    striped[:, :, 25:27] += 70
    stripe = found(judged(data=striped))["stripe"]
    assert (stripe.weight, stripe.threshold) == ("note", 0.35)
    wild = IMAGE.copy()
    wild.ravel()[::40] = 1e5
    assert found(judged(data=wild))["wild-voxels"].weight == "note"


def test_slices_in_turn_of_two_places_are_told_however_sure_the_networks_are() -> None:
    moved = IMAGE.copy()
    moved[:, :, ::2] = np.roll(moved[:, :, ::2], 5, axis=1)
    told = found(judged(data=moved))["slices-alternate"]
    assert (told.weight, told.threshold) == ("check", 1.1)
    assert "did the head move between two interleaves?" in told.text
    assert "slices-alternate" not in found(judged())


def test_a_bad_image_is_no_flag_on_a_sound_result() -> None:
    striped = IMAGE.copy()
    striped[:, :, 25:27] += 300
    assert found(judged(data=striped))["stripe"].weight == "note"
    doubtful = judged({"R": broken}, data=striped).findings
    weights = {each.hemisphere: each.weight for each in doubtful if each.code == "stripe"}
    assert weights == {"L": "note", "R": "check"}
    unsure = judged(data=striped, sureness=0.7, unsure=0.5).findings
    assert {each.weight for each in unsure if each.code == "stripe"} == {"check"}


def test_where_a_hippocampus_lies_is_not_held_against_a_doubtful_place() -> None:
    def aside(mask: np.ndarray) -> np.ndarray:
        return np.roll(mask, 8, axis=1)

    doubtful = replace(HERE, findings=(Finding("localization-doubtful", Weight.FAIL, "not found?", 0.4, 0.45),))
    assert found(judged({"R": aside}))["off-place"].weight == "check"
    assert found(judged({"R": aside}, location=doubtful))["off-place"].weight == "note"


def test_of_two_that_are_unlike_the_one_that_does_not_fill_its_place_is_meant() -> None:
    data, sides = IMAGE.copy(), hippocampi().sides
    inside = np.zeros(GRID.shape, bool)
    inside[sides[1].slices] = sides[1].segmentation.labels > 0
    data[inside] += 28
    unlike = found(judged({"R": lambda mask: ndimage.binary_erosion(mask)}, data=data))["intensities-unlike"]
    assert (unlike.weight, unlike.hemisphere) == ("check", "R")


@pytest.mark.parametrize(("unsure", "weight"), [(0.005, None), (0.014, "note"), (0.03, "check")])
def test_a_side_of_which_the_networks_are_less_sure_is_told(unsure: float, weight: str | None) -> None:
    both = hippocampi()
    left, right = both.sides
    entropy = right.segmentation.still_entropy.copy()
    entropy[right.segmentation.labels > 0] += unsure
    changed = replace(right, segmentation=replace(right.segmentation, still_entropy=entropy))
    scans = [AlignedScan("sub-01_T1w", IMAGE, GRID)]
    quality = judge(replace(both, sides=(left, changed)), scans, HERE, CARD)
    told = [each for each in quality.findings if each.code == "sides-apart"]
    assert [each.weight for each in told] == ([] if weight is None else [weight])
    for each in told:
        assert (each.hemisphere, each.threshold) == ("R", 0.36)
        assert "less sure of the right hippocampus than of the other one (predicted Dice 0." in each.text
    # A card tells how far the networks of its family differ on sound heads.
    tolerant = judge(replace(both, sides=(left, changed)), scans, HERE, replace(CARD, max_sides_apart=3.0))
    assert "sides-apart" not in {each.code for each in tolerant.findings}
    cut = replace(HERE, coverage={"L": 1.0, "R": 0.9})
    alone = judge(replace(both, sides=(left, changed)), scans, cut, CARD)
    assert "sides-apart" not in {each.code for each in alone.findings}


def test_contrasts_that_hardly_fit_are_told() -> None:
    scans = [AlignedScan("sub-01_T1w", IMAGE, GRID)]
    for quality, is_told in ((0.3, True), (0.5, False)):
        second = AlignedScan("sub-01_T2w", IMAGE, GRID, Coregistration(np.eye(4), quality, 0.1))
        findings = judge(hippocampi(), [*scans, second], HERE, CARD).findings
        assert [finding.code for finding in findings] == (["coregistration"] if is_told else [])


def test_a_missing_intracranial_volume_is_a_note() -> None:
    location = replace(HERE, etiv_mm3=None, etiv_reason="the localization is doubtful")
    (finding,) = judged(location=location).findings
    assert (finding.code, finding.weight) == ("etiv-refused", "note")
    assert finding.text == "no intracranial volume: the localization is doubtful"


def test_a_crop_is_judged_without_a_place() -> None:
    quality = judged(location=None)
    assert quality.findings == ()
    assert quality.measures["L"].overlap is None


def test_a_doubt_about_the_place_is_settled_by_what_was_found_there() -> None:
    doubt = Finding("localization-doubtful", Weight.FAIL, "not found?", 0.4, 0.45)
    cut = Finding("coverage", Weight.CHECK, "cut", 0.9, 0.99, "L")
    assert [each.weight for each in confirmed([doubt, cut], sound())] == ["note", "check"]
    # Of what was found on one side, the doubt is not.
    assert confirmed([doubt], judged({"R": broken})) == (replace(doubt, hemisphere="R"),)
    assert confirmed([doubt], replace(sound(), predicted_dice={"L": 0.7, "R": 0.9})) == (
        replace(doubt, hemisphere="L"),
    )
    assert confirmed([doubt], judged({"L": broken, "R": broken})) == (doubt,)
    assert confirmed([doubt], replace(sound(), predicted_dice={})) == (doubt,)
    assert confirmed([doubt], replace(sound(), predicted_dice={"L": 0.79, "R": 0.79})) == (doubt,)


def test_intensities_that_are_cut_off_are_a_note_where_both_sides_are_sound() -> None:
    clipped = Finding("intensities-clipped", Weight.CHECK, "cut off", 0.3, 0.2)
    assert [each.weight for each in confirmed([clipped], sound())] == ["note"]
    assert confirmed([clipped], judged({"R": broken})) == (clipped,)
    # A map of tissues has one value all through a hippocampus, however sure the networks are.
    tissues = np.where(np.median(IMAGE) < IMAGE, 2.0, 1.0).astype(np.float32)
    assert confirmed([clipped], judged(data=tissues)) == (clipped,)
    # A crop holds one side.
    both = sound()
    crop = replace(both, **{name: {"L": getattr(both, name)["L"]} for name in ("measures", "predicted_dice")})
    assert [each.weight for each in confirmed([clipped], crop)] == ["note"]


def test_no_size_of_a_head_lets_doubt_all_volumes() -> None:
    location = replace(HERE, etiv_mm3=None, etiv_reason="2.86 l is no size of a head", odd_size_mm3=2.86e6)
    (finding,) = judged(location=location).findings
    assert (finding.code, finding.weight, finding.figure) == ("etiv-refused", "check", 2.86)
    assert "are the voxel sizes right" in finding.text
