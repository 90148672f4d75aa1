"""Data dictionaries of the group tables: what each column holds, in which unit, and with which words."""

from collections.abc import Iterable, Mapping
from typing import Any

from bids_hsf.bids.group_row import ASYMMETRY_END, SHARE_END, SIDES, VOLUME_END
from bids_hsf.bids.tables import TSV_COLUMNS
from bids_hsf.labels import SIDE_NAMES

Descriptions = dict[str, Any]

MODEL = {"Description": "Model that segmented the scan"}
SEGMENTATION = {"Description": "seg- entity of the label map: the model, and the labels that were joined"}
SUFFIX = {"Description": "Contrast by the scan's suffix; two joined by + where the votes of two scans were"}
PARTICIPANT = {"Description": "Participant, with sub-"}
IDENTITY: Descriptions = {
    "participant_id": PARTICIPANT,
    "session_id": {"Description": "Session, with ses-"},
    "scan": {"Description": "Name of the scan: its BIDS entities and suffix, which is also in the column suffix"},
    "suffix": SUFFIX,
    "model": MODEL,
    "segmentation": SEGMENTATION,
}
OWN: Descriptions = {
    **IDENTITY,
    "status": {
        "Description": "What became of the scan; all measures of one that is not done are n/a",
        "Levels": {
            "done": "Segmented",
            "failed": "It could not be segmented, or its results are not whole any more",
            "missing": "In the raw dataset, but not segmented yet",
            "killed": "A run was killed while it worked on it",
        },
    },
    "status_reason": {"Description": "Why it is not done"},
    "worst_finding": {
        "Description": "Heaviest weight among the findings",
        "Levels": {"note": "To be read", "check": "To be looked at", "fail": "Not to be used before it is looked at"},
    },
    "finding_codes": {"Description": "Codes of the findings, heaviest first, parted by ;"},
    "findings": {"Description": "What a reader of the results should know, heaviest first, parted by ;"},
    "qc": {
        "Description": "Rating by somebody who looked at the segmentation (--ratings)",
        "Levels": {"good": "Good", "usable": "Usable", "exclude": "To be left out of analyses"},
    },
    "qc_comment": {"Description": "What they wrote"},
    "qc_rated_at": {"Description": "When they rated it, as their table says"},
    "outlier": {
        "Description": "Whether any measure lies far from those of other scans of one model, contrast and settings; "
        "n/a where fewer than eight can be compared. The rule: each measure's robust z (distance from the median over "
        "1.4826 times the median absolute deviation) beyond Student's t with 0.37 (n - 1) degrees of freedom for a "
        "chance of 1 % over the number of measures; pieces, entropy, quality, Dice and coverage on the bad side alone",
        "Levels": {"yes": "Far from the others", "no": "Among the others"},
    },
    "outlier_score": {"Description": "Root mean square of the robust z of all measures; 1 is usual"},
    "outlier_measures": {"Description": "The measures that lie far, with their robust z, farthest first, parted by ;"},
    "model_version": {"Description": "Version of the model"},
    "model_files": {"Description": "First eight digits of a checksum over the model's files"},
    "app_version": {"Description": "Version of bids-hsf"},
    "labels": {"Description": "Labels that were joined (--ca-mode); all where none were"},
    "test_time_augmentations": {"Description": "Random views beside the plain one (--tta)"},
    "derivatives": {"Description": "Other software whose label maps gave the boxes (--derivatives)"},
    "other_settings": {"Description": "Other settings that differ from their defaults, parted by ;"},
    "localization_quality": {"Description": "How well the hippocampi were located, 0 to 1"},
    "eTIV_mm3": {"Description": "Estimated total intracranial volume", "Units": "mm^3"},
    "eTIV_reason": {"Description": "Why there is no estimated total intracranial volume"},
    "acq_time": {"Description": "When the scan was acquired, by scans.tsv or sessions.tsv of the raw dataset"},
}
OF_A_SIDE: Mapping[str, str] = {
    "coverage": "share of the hippocampus inside the field of view, 0 to 1",
    "n_components": "separate pieces before islands were removed",
    "predicted_dice": "Dice that the label map is thought to have with the truth, 0 to 1",
    "entropy_mean": "mean normalised predictive entropy over the structures' voxels, 0 to 1",
}
LONG: Descriptions = {
    **IDENTITY,
    "hemisphere": TSV_COLUMNS["hemisphere"],
    "structure": {"Description": "Abbreviation of the structure"},
    **{
        name: TSV_COLUMNS[name]
        for name in ("volume_mm3", "volume_per_mille_eTIV", "entropy_mean", "volume_mm3_low", "volume_mm3_high")
    },
}
CHANGES: Descriptions = {
    "participant_id": PARTICIPANT,
    "suffix": SUFFIX,
    "model": MODEL,
    "segmentation": SEGMENTATION,
    "compared_with": {
        "Description": "Which earlier session the change is from",
        "Levels": {"first": "The participant's first one", "previous": "The one before, where that is not the first"},
    },
    "from_session": {"Description": "Earlier session"},
    "to_session": {"Description": "Later session"},
    "from_scan": {"Description": "Scan of the earlier session"},
    "to_scan": {"Description": "Scan of the later session"},
    "years": {"Description": "Time between them; n/a where neither dates nor ages are known", "Units": "year"},
    "years_from": {"Description": "Column that tells the time: acq_time, session_age or age"},
    "measure": {"Description": "Hemisphere and structure, or the total of a hemisphere"},
    "from_mm3": {"Description": "Earlier volume", "Units": "mm^3"},
    "to_mm3": {"Description": "Later volume", "Units": "mm^3"},
    "change_mm3": {"Description": "Later minus earlier volume", "Units": "mm^3"},
    "change_percent": {"Description": "Change over the earlier volume", "Units": "%"},
    "change_mm3_per_year": {"Description": "Change over the time between", "Units": "mm^3/year"},
    "change_percent_per_year": {"Description": "Change in per cent over the time between", "Units": "%/year"},
}


def dictionary(columns: Iterable[str], covariates: Mapping[str, object]) -> Descriptions:
    """Describe columns of ``group_volumes.tsv``.

    Parameters
    ----------
    columns : iterable of str
    covariates : mapping of str to object
        What the raw dataset says of its own columns.
    """
    return {name: _describe(name, covariates) for name in columns}


def _describe(column: str, covariates: Mapping[str, object]) -> Any:
    if column in OWN:
        return OWN[column]
    side, _, rest = column.partition("_")
    if column.endswith(ASYMMETRY_END):
        name = column.removesuffix(ASYMMETRY_END)
        return {"Description": f"{name}: left minus right volume over their mean", "Units": "%"}
    if side in SIDE_NAMES and rest in SIDES.values():
        return {"Description": f"{SIDE_NAMES[side].capitalize()} side: {OF_A_SIDE[rest]}"}
    if side in SIDE_NAMES and rest.endswith(VOLUME_END):
        return {"Description": f"Volume of {_structure(side, rest, VOLUME_END)}", "Units": "mm^3"}
    if side in SIDE_NAMES and rest.endswith(SHARE_END):
        what = _structure(side, rest, SHARE_END)
        return {"Description": f"Volume of {what} over the estimated total intracranial volume, in thousandths"}
    known = covariates.get(column)
    if isinstance(known, dict):
        return known
    table = "sessions.tsv" if column.startswith("session_") else "participants.tsv"
    return {"Description": f"As in {table} of the raw dataset, which does not describe it"}


def _structure(side: str, rest: str, end: str) -> str:
    name = rest.removesuffix(end)
    return f"all {SIDE_NAMES[side]} structures" if name == "total" else f"the {SIDE_NAMES[side]} {name}"
