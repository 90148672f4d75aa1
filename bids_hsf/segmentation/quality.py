"""Whether a result can be believed: findings on a segmentation, and the overlap with the truth that is to be expected.

What is held against each threshold is measured in `measures`; tests/benchmarks/failures.py measures the thresholds, on
spoilt scans of known truth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log

from bids_hsf.findings import Finding, Weight, flags
from bids_hsf.hub.cards import ModelCard
from bids_hsf.labels import HEMISPHERES, SIDE_NAMES
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.coregistration import GOOD_QUALITY
from bids_hsf.localization.location import WHOLE_HIPPOCAMPUS_SHARE, Location
from bids_hsf.segmentation.hippocampi import Hippocampi
from bids_hsf.segmentation.measures import SideMeasures, measure_side
from bids_hsf.segmentation.predicted_dice import predict_dice, predict_structures
from bids_hsf.segmentation.presence import doubts
from bids_hsf.segmentation.volumes import Volumes, asymmetry_index

DOUBTFUL = "localization-doubtful"
CLIPPED = "intensities-clipped"


@dataclass(frozen=True)
class QualitySettings:
    """What results there are; a pair holds what is to be looked at, and what is not to be used before.

    Attributes
    ----------
    predicted_dice : tuple of float, (2,)
        Below it.
    volume_range_mm3, per_mille_range : tuple of float, (2,)
        Of one whole hippocampus: the most shrunken have 1,000 mm3; by the intracranial volume.
    asymmetry : tuple of float, (2,)
        Between the two hippocampi, per cent of their mean: what is worth a note, healthy ones differ by a few, and
        what is to be looked at.
    min_main_share : float
        Of a hippocampus in its largest piece.
    tiny_share : float
        Of a structure against the other side's.
    max_distance_mm, min_overlap : float
        Between what was found and where the hippocampus was located.
    max_alternation : float
        Of the image around it, see `SideMeasures`: the networks may be sure of a head that is a mixture of two.
    max_wild_share, max_step, min_snr, min_sharpness : tuple of float, (2,)
        Of the image around it, see `SideMeasures`: what is worth a note, and what is to be looked at.
    confirming_dice : float
        If that much is predicted of a hippocampus, and nothing is wrong with its label map, it was found: then it does
        not matter that the registration was doubtful, or the image noisy.
    sides_apart, sides_note_share : float
        Between the logits of what is predicted of the two sides: what is to be looked at, if the card says nothing of
        its own networks, and the share of it that is worth a note. Networks draw a hippocampus through a tumour as
        bright as grey matter, but are less sure of it than of the other one. Balls of 24 mm have 1.05 and more of
        longaxis, 0.26 and more of subfields; sound pairs of real heads up to 0.67 and 0.24.
    """

    predicted_dice: tuple[float, float] = (0.78, 0.65)
    volume_range_mm3: tuple[float, float] = (1000.0, 7500.0)
    per_mille_range: tuple[float, float] = (0.8, 5.0)
    asymmetry: tuple[float, float] = (15.0, 35.0)
    min_main_share: float = 0.95
    tiny_share: float = 0.2
    max_distance_mm: float = 6.0
    min_overlap: float = 0.5
    max_alternation: float = 1.1
    max_step: tuple[float, float] = (0.35, 1.2)
    max_wild_share: tuple[float, float] = (0.005, 0.05)
    min_snr: tuple[float, float] = (6.0, 3.45)
    min_sharpness: tuple[float, float] = (0.14, 0.105)
    confirming_dice: float = 0.8
    sides_apart: float = 0.6
    sides_note_share: float = 0.6


QUALITY = QualitySettings()


@dataclass(frozen=True)
class Quality:
    """What is thought of a result.

    Attributes
    ----------
    findings : tuple of Finding
        What a reader of the result should know; empty where all is well.
    predicted_dice : mapping of str to float
        Hemisphere to the Dice that its label map is thought to have with the truth; empty where nothing was learnt.
    measures : mapping of str to SideMeasures
        Hemisphere to what both rest on.
    structure_dice : mapping of str to float
        Abbreviation of a structure, such as "L_CA1", to the Dice that it is thought to have; empty like the other.
    """

    findings: tuple[Finding, ...]
    predicted_dice: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, SideMeasures] = field(default_factory=dict)
    structure_dice: Mapping[str, float] = field(default_factory=dict)


def judge(
    found: Hippocampi,
    scans: Sequence[AlignedScan],
    location: Location | None,
    card: ModelCard,
    settings: QualitySettings = QUALITY,
) -> Quality:
    """Ask whether what was found looks like two hippocampi, in an image that shows them.

    Parameters
    ----------
    found : Hippocampi
    scans : sequence of AlignedScan
        The scan that was segmented, and a second one whose votes were joined.
    location : Location
        Where they lie in the first; None for a ready-made crop, of which less can be told.
    card : ModelCard
        Of the model that found them; it tells how its figures go with the truth.
    settings : QualitySettings
    """
    measures = {side.hemisphere: measure_side(side, scans[0], location) for side in found.sides}
    predicted = predict_dice(card.predicted_dice, measures)
    etiv_mm3, coverage = (None, {}) if location is None else (location.etiv_mm3, location.coverage)
    whole = {side for side, share in coverage.items() if share >= WHOLE_HIPPOCAMPUS_SHARE}
    place = tuple(_place(measures, settings))
    # Where a hippocampus lies is not held against a place that is doubtful itself.
    is_placed = location is None or all(finding.code != DOUBTFUL for finding in location.findings)
    of_result = [
        *_predicted(predicted, measures, settings),
        *_entropy(measures, card.max_entropy),
        *_presence(measures, whole, predicted),
        *_structures(found.volumes(etiv_mm3), settings),
        *_pieces(found, measures, settings),
        *(place if is_placed else ()),
        *_size(measures, whole, etiv_mm3, settings),
        *_asymmetry(measures, whole, predicted, settings),
        *_sides_apart(
            {side: dice for side, dice in predicted.items() if side in whole}, card.max_sides_apart, settings
        ),
        *_coregistration(scans),
        *_alternation(measures, settings),
    ]
    sound = _sound_sides(predicted, of_result, settings)
    of_image = [*(() if is_placed else place), *_image(measures, settings)]
    findings = [*of_result, *(_noted(each) if each.hemisphere in sound else each for each in of_image)]
    findings += _no_size(location)
    return Quality(
        tuple(findings), predicted, measures, predict_structures(card.structure_dice, measures, found.labels)
    )


def confirmed(
    findings: Sequence[Finding], quality: Quality, settings: QualitySettings = QUALITY
) -> tuple[Finding, ...]:
    """Make a note of a doubt about the localization or the range of intensities where the segmentation is sound.

    Where the location was right on one side, the doubt is about the other.

    Parameters
    ----------
    findings : sequence of Finding
        Of the location, and of the images.
    quality : Quality
        Of what was segmented there.
    settings : QualitySettings
    """
    sound = _sound_sides(quality.predicted_dice, quality.findings, settings)
    doubtful = [side for side in quality.measures if side not in sound]

    def told(finding: Finding) -> Finding:
        if finding.code not in (DOUBTFUL, CLIPPED) or not sound:
            return finding
        if not doubtful:
            return _noted(finding)
        return replace(finding, hemisphere=doubtful[0]) if finding.code == DOUBTFUL else finding

    return tuple(map(told, findings))


def _sound_sides(
    predicted: Mapping[str, float], findings: Sequence[Finding], settings: QualitySettings
) -> frozenset[str]:
    """Hemispheres whose hippocampus was found, whatever the image is like: nothing speaks against the label map."""
    doubted = {finding.hemisphere for finding in flags(findings)}
    if None in doubted:
        return frozenset()
    return frozenset(side for side, dice in predicted.items() if dice >= settings.confirming_dice) - doubted


def _noted(finding: Finding) -> Finding:
    """Take a finding for one to be read alone."""
    return replace(finding, weight=Weight.NOTE)


def _predicted(
    predicted: Mapping[str, float], measures: Mapping[str, SideMeasures], settings: QualitySettings
) -> Iterator[Finding]:
    """Find label maps that are thought to be poor, or of the other side."""
    check, fail = settings.predicted_dice
    for side, dice in predicted.items():
        if dice < check:
            name, figures = SIDE_NAMES[side], f"(predicted Dice {dice:.2f}, expected {check:g} or more)"
            if measures[side].is_turned:
                text = (
                    f"what is labelled as the {name} hippocampus may be that of the other side, or poor, since the "
                    f"head does not lie as the header says {figures}"
                )
            else:
                text = f"the {name} hippocampus is thought to be segmented poorly {figures}"
            yield Finding("predicted-dice", Weight.FAIL if dice < fail else Weight.CHECK, text, dice, check, side)


def _entropy(measures: Mapping[str, SideMeasures], limit: float | None) -> Iterator[Finding]:
    """Find label maps of which the networks are unsure."""
    for side, each in measures.items():
        if limit is not None and each.entropy > limit:
            text = (
                f"the networks are unsure of the {SIDE_NAMES[side]} hippocampus (entropy {each.entropy:.2f}, expected "
                f"{limit:g} or less)"
            )
            yield Finding("entropy", Weight.CHECK, text, round(each.entropy, 3), limit, side)


def _presence(
    measures: Mapping[str, SideMeasures], whole: set[str], predicted: Mapping[str, float]
) -> Iterator[Finding]:
    """Ask whether there is a hippocampus; if the two are unlike, the worse one is meant."""
    looks = {side: each.look for side, each in measures.items()}
    for finding in doubts(looks, {side: measures[side].volume_mm3 for side in measures if side in whole}):
        yield replace(finding, hemisphere=finding.hemisphere or _worse(measures, predicted))


def _worse(measures: Mapping[str, SideMeasures], predicted: Mapping[str, float]) -> str:
    """Hemisphere of which less is expected, or whose hippocampus fills less of the place where it was located."""
    return min(measures, key=lambda side: (predicted.get(side, 0.0), measures[side].overlap or 0.0))


def _structures(volumes: Volumes, settings: QualitySettings) -> Iterator[Finding]:
    """Find structures without a voxel, or with hardly any."""
    voxels = {structure.abbreviation: structure.voxels for structure in volumes}
    for structure in volumes:
        side, name = structure.hemisphere, structure.abbreviation
        other = voxels.get(HEMISPHERES[side == HEMISPHERES[0]] + name[1:], 0)
        if structure.voxels == 0:
            yield Finding("structure-empty", Weight.FAIL, f"{structure.name} is empty", 0.0, 0.0, side, name)
        elif structure.voxels < settings.tiny_share * other:
            share = structure.voxels / other
            text = f"{structure.name} has {share:.0%} of the size of the other side's"
            yield Finding("structure-tiny", Weight.CHECK, text, round(share, 3), settings.tiny_share, side, name)


def _pieces(found: Hippocampi, measures: Mapping[str, SideMeasures], settings: QualitySettings) -> Iterator[Finding]:
    """Find hippocampi that came out in several pieces, islands and all."""
    for side in found.sides:
        share, name = measures[side.hemisphere].main_share, SIDE_NAMES[side.hemisphere]
        if 0 < share < settings.min_main_share:
            text = f"only {share:.0%} of the {name} hippocampus are of one piece"
            yield Finding("broken", Weight.CHECK, text, round(share, 3), settings.min_main_share, side.hemisphere)
        if side.n_components > 1:
            text = f"the {name} hippocampus came out in {side.n_components} pieces"
            yield Finding("pieces", Weight.NOTE, text, side.n_components, 1, side.hemisphere)


def _place(measures: Mapping[str, SideMeasures], settings: QualitySettings) -> Iterator[Finding]:
    """Compare what was found with where it was looked for."""
    for side, each in measures.items():
        name, away, limit = SIDE_NAMES[side], each.distance_mm, settings.max_distance_mm
        if away is not None and away > limit:
            text = f"the middle of the {name} hippocampus lies {away:.0f} mm from where it was located"
            yield Finding("off-place", Weight.CHECK, text, round(away, 1), limit, side)
        if each.overlap is not None and each.overlap < settings.min_overlap:
            text = f"only {each.overlap:.0%} of the place of the {name} hippocampus are labelled"
            yield Finding("place-empty", Weight.CHECK, text, round(each.overlap, 3), settings.min_overlap, side)


def _size(
    measures: Mapping[str, SideMeasures], whole: set[str], etiv_mm3: float | None, settings: QualitySettings
) -> Iterator[Finding]:
    """Find volumes that no person has."""
    for side in sorted(whole & measures.keys()):
        volume, name = measures[side].volume_mm3, SIDE_NAMES[side]
        low, high = settings.volume_range_mm3
        if not low <= volume <= high:
            text = f"the {name} hippocampus has {volume:.0f} mm3 (expected {low:g} to {high:g})"
            limit = low if volume < low else high
            yield Finding("volume-range", Weight.FAIL, text, round(volume, 1), limit, side)
        if etiv_mm3 is not None:
            share, (low, high) = 1000 * volume / etiv_mm3, settings.per_mille_range
            if not low <= share <= high:
                text = f"the {name} hippocampus has {share:.2f} ‰ of the head's volume (expected {low:g} to {high:g})"
                limit = low if share < low else high
                yield Finding("volume-by-etiv", Weight.CHECK, text, round(share, 3), limit, side)


def _no_size(location: Location | None) -> Iterator[Finding]:
    """Say why there is no intracranial volume; where heads have no such size, no volume may be right."""
    if location is None or location.etiv_mm3 is not None or location.etiv_reason is None:
        return
    text, size = f"no intracranial volume: {location.etiv_reason}", location.odd_size_mm3
    if size is None:
        yield Finding("etiv-refused", Weight.NOTE, text)
    else:
        text += "; are the voxel sizes right, and is this an adult?"
        yield Finding("etiv-refused", Weight.CHECK, text, round(size / 1e6, 3))


def _asymmetry(
    measures: Mapping[str, SideMeasures], whole: set[str], predicted: Mapping[str, float], settings: QualitySettings
) -> Iterator[Finding]:
    """Compare the two sides, if both are whole; the worse one is to be looked at."""
    if not set(HEMISPHERES) <= whole & measures.keys():
        return
    difference = asymmetry_index(*(measures[side].volume_mm3 for side in HEMISPHERES))
    note, check = settings.asymmetry
    if difference is not None and abs(difference) >= note:
        weight = Weight.CHECK if abs(difference) >= check else Weight.NOTE
        text = f"the {SIDE_NAMES['L' if difference > 0 else 'R']} hippocampus is larger by {abs(difference):.0f} %"
        yield Finding("asymmetry", weight, text, round(difference, 1), note, _worse(measures, predicted))


def _sides_apart(predicted: Mapping[str, float], limit: float | None, settings: QualitySettings) -> Iterator[Finding]:
    """Compare what is predicted of the two sides, unless the worse one is told for itself."""
    if not set(HEMISPHERES) <= predicted.keys():
        return
    worse, better = sorted(HEMISPHERES, key=lambda side: predicted[side])
    apart = _logit(predicted[better]) - _logit(predicted[worse])
    check = settings.sides_apart if limit is None else limit
    note = settings.sides_note_share * check
    if apart >= note and predicted[worse] >= settings.predicted_dice[0]:
        text = (
            f"the networks are less sure of the {SIDE_NAMES[worse]} hippocampus than of the other one (predicted Dice "
            f"{predicted[worse]:.2f} and {predicted[better]:.2f}): is there a lesion?"
        )
        weight = Weight.CHECK if apart >= check else Weight.NOTE
        yield Finding("sides-apart", weight, text, round(apart, 3), round(note, 3), worse)


def _logit(share: float) -> float:
    """Logarithm of the odds; of what is all or nothing, almost."""
    share = min(max(share, 0.001), 0.999)
    return log(share / (1 - share))


def _image(measures: Mapping[str, SideMeasures], settings: QualitySettings) -> Iterator[Finding]:
    """Find images that do not show a hippocampus well: noise, blur, stripes, wild voxels."""
    for side, each in measures.items():
        around = f"around the {SIDE_NAMES[side]} hippocampus"
        snr, sharpness, step, wild = each.snr, each.sharpness, each.step, each.wild_share
        note, check = settings.min_snr
        if snr is not None and snr < note:
            weight = Weight.CHECK if snr < check else Weight.NOTE
            text = f"the image is noisy {around} (signal to noise {snr:.1f}, expected {note:g} or more)"
            yield Finding("noise", weight, text, round(snr, 2), note, side)
        note, check = settings.min_sharpness
        if sharpness is not None and sharpness < note:
            weight = Weight.CHECK if sharpness < check else Weight.NOTE
            text = f"the image is blurred {around} (edges of {sharpness:.2f} a mm, expected {note:g} or more)"
            yield Finding("blur", weight, text, round(sharpness, 3), note, side)
        note, check = settings.max_step
        if step is not None and step > note:
            weight = Weight.CHECK if step > check else Weight.NOTE
            text = f"slices {around} differ by {step:.0%} of the range from the next ones, tissue by {note:.0%} or less"
            yield Finding("stripe", weight, text, round(step, 3), note, side)
        note, check = settings.max_wild_share
        if wild > note:
            weight = Weight.CHECK if wild > check else Weight.NOTE
            text = f"{wild:.1%} of the voxels {around} have intensities that no tissue has"
            yield Finding("wild-voxels", weight, text, round(wild, 4), note, side)


def _alternation(measures: Mapping[str, SideMeasures], settings: QualitySettings) -> Iterator[Finding]:
    """Find images whose slices alternate between two places of the head."""
    for side, each in measures.items():
        value, limit = each.alternation, settings.max_alternation
        if value is not None and value > limit:
            text = (
                f"around the {SIDE_NAMES[side]} hippocampus neighbouring slices differ {value:.2f} times as much as "
                f"slices two apart (expected {limit:g} or less): did the head move between two interleaves?"
            )
            yield Finding("slices-alternate", Weight.CHECK, text, round(value, 3), limit, side)


def _coregistration(scans: Sequence[AlignedScan]) -> Iterator[Finding]:
    """Find contrasts that hardly come together."""
    for scan in scans:
        if scan.coregistration is not None and scan.coregistration.quality < GOOD_QUALITY:
            quality = scan.coregistration.quality
            text = (
                f"{scan.key} hardly fits the other contrast (quality {quality:.2f}, expected {GOOD_QUALITY:g} or more)"
            )
            yield Finding("coregistration", Weight.CHECK, text, round(quality, 4), GOOD_QUALITY)
