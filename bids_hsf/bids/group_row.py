"""One scan of the group table: what is told of it, and in which columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from bids_hsf.bids.tables import MISSING, parse_number
from bids_hsf.labels import HEMISPHERES

IDENTITY = ("participant_id", "session_id", "scan", "suffix", "model", "segmentation")
JUDGEMENT = (
    *("status", "status_reason", "worst_finding", "finding_codes", "findings"),
    *("qc", "qc_comment", "qc_rated_at", "outlier", "outlier_score", "outlier_measures"),
)
SETTINGS = (
    "model_version",
    "model_files",
    "app_version",
    "labels",
    "test_time_augmentations",
    "derivatives",
    "other_settings",
)
TOTAL = "total"
VOLUME_END, SHARE_END, ASYMMETRY_END = "_mm3", "_per_mille_eTIV", "_asymmetry_percent"
# Of a side, by the attribute that holds them.
SIDES = {
    "coverage": "coverage",
    "n_components": "n_components",
    "predicted_dice": "predicted_dice",
    "entropy": "entropy_mean",
}
NUMBERS = ("outlier_score", "test_time_augmentations", "localization_quality", "eTIV_mm3")
TEXTS = {*IDENTITY, *JUDGEMENT, *SETTINGS, "eTIV_reason"} - {*NUMBERS}

DONE, FAILED, NOT_BEGUN, KILLED = STATUSES = ("done", "failed", "missing", "killed")

Cell = str | float | None


@dataclass(frozen=True)
class GroupRow:
    """One scan of the group table; what is None is "n/a" in the file.

    Attributes
    ----------
    participant_id : str
        With ``sub-``.
    session_id : str or None
        With ``ses-``.
    scan : str
        Key of the scan.
    model : str
    segmentation : str or None
        The ``seg-`` entity of its label map.
    status : str
        "done", "failed", "missing" or "killed"; but for done ones all measures are None.
    status_reason : str or None
        Why it is not done.
    findings : str or None
        Texts of what a reader should know, heaviest first, joined by "; ".
    finding_codes : str or None
        Their codes, joined by ";".
    worst_finding : str or None
        Heaviest weight among them: note, check or fail.
    qc, qc_comment, qc_rated_at : str or None
        What somebody who looked at it has said: "good", "usable" or "exclude"; and when.
    outlier : str or None
        "yes" or "no"; None where too few scans can be compared.
    outlier_score : float or None
        Root mean square of the robust z of all measures.
    outlier_measures : str or None
        Which of them lie far from the others', with their z, farthest first.
    settings : mapping of str to str or float or None
        Out of `SETTINGS`: what else decides the result, and must be equal where scans are compared.
    localization_quality : float or None
        0-1.
    coverage : mapping of str to float
        Hemisphere to the share of the hippocampus inside the field of view.
    n_components : mapping of str to float
        Hemisphere to the pieces before islands were removed.
    predicted_dice : mapping of str to float
        Hemisphere to the Dice that its label map is thought to have with the truth.
    entropy : mapping of str to float
        Hemisphere to the mean entropy over its structures' voxels, 0-1.
    volumes : mapping of str to float or None
        Abbreviation with its hemisphere, such as "L_CA1", to mm3.
    totals : mapping of str to float or None
        Hemisphere to the sum of its structures, mm3.
    asymmetry : mapping of str to float or None
        Structure, such as "CA1" or "total", to left minus right over their mean, per cent.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    per_mille : mapping of str to float or None
        Names of `volumes`, and "L_total", "R_total", to thousandths of the intracranial volume.
    covariates : mapping of str to str or None
        What the raw dataset's tables say of participant, session and scan, as they have it.
    """

    participant_id: str
    scan: str
    model: str
    session_id: str | None = None
    segmentation: str | None = None
    status: str = DONE
    status_reason: str | None = None
    findings: str | None = None
    finding_codes: str | None = None
    worst_finding: str | None = None
    qc: str | None = None
    qc_comment: str | None = None
    qc_rated_at: str | None = None
    outlier: str | None = None
    outlier_score: float | None = None
    outlier_measures: str | None = None
    settings: Mapping[str, Cell] = field(default_factory=dict)
    localization_quality: float | None = None
    coverage: Mapping[str, float | None] = field(default_factory=dict)
    n_components: Mapping[str, float | None] = field(default_factory=dict)
    predicted_dice: Mapping[str, float | None] = field(default_factory=dict)
    entropy: Mapping[str, float | None] = field(default_factory=dict)
    volumes: Mapping[str, float | None] = field(default_factory=dict)
    totals: Mapping[str, float | None] = field(default_factory=dict)
    asymmetry: Mapping[str, float | None] = field(default_factory=dict)
    etiv_mm3: float | None = None
    etiv_reason: str | None = None
    per_mille: Mapping[str, float | None] = field(default_factory=dict)
    covariates: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """Contrast as the scan's name has it: "T1w", "T2w", "UNIT1", "T2w+T1w"."""
        return self.scan.rpartition("_")[2]

    @property
    def is_done(self) -> bool:
        """Whether there are results."""
        return self.status == DONE

    @property
    def sizes(self) -> dict[str, float | None]:
        """Volumes in mm3 by their columns, the structures' and then the totals."""
        sizes = {name + VOLUME_END: volume for name, volume in self.volumes.items()}
        return sizes | {total_column(side): self.totals.get(side) for side in HEMISPHERES}

    def cells(self) -> dict[str, Cell]:
        """Columns and values, in the order of the file."""
        sides = {name: getattr(self, attribute) for attribute, name in SIDES.items()}
        return {
            **{name: getattr(self, name) for name in (*IDENTITY, *JUDGEMENT)},
            **{name: self.settings.get(name) for name in SETTINGS},
            "localization_quality": self.localization_quality,
            **{f"{side}_{name}": values.get(side) for name, values in sides.items() for side in HEMISPHERES},
            **self.sizes,
            **{name + ASYMMETRY_END: value for name, value in self.asymmetry.items()},
            "eTIV_mm3": self.etiv_mm3,
            "eTIV_reason": self.etiv_reason,
            **{name + SHARE_END: share for name, share in self.per_mille.items()},
            **self.covariates,
        }

    @classmethod
    def from_cells(cls, cells: Mapping[str, Cell]) -> "GroupRow":
        """Read a row of the file.

        Raises
        ------
        NotWholeError
            There is another thing than a number in the place of one.
        """

        def text(name: str) -> str | None:
            found = cells.get(name, MISSING)
            return None if found in (MISSING, "", None) else str(found)

        def ending(end: str) -> dict[str, float | None]:
            names = [name for name in cells if name.endswith(end) and name not in NUMBERS]
            return {name.removesuffix(end): to_number(cells[name]) for name in names}

        volumes = ending(VOLUME_END)
        totals = {side: volumes.pop(f"{side}_{TOTAL}", None) for side in HEMISPHERES}
        sides: dict[str, Any] = {
            attribute: {side: to_number(cells.get(f"{side}_{name}")) for side in HEMISPHERES}
            for attribute, name in SIDES.items()
        }
        return cls(
            participant_id=text("participant_id") or MISSING,
            scan=text("scan") or MISSING,
            model=text("model") or MISSING,
            status=text("status") or DONE,
            outlier_score=to_number(cells.get("outlier_score")),
            settings={name: to_number(cells.get(name)) if name in NUMBERS else text(name) for name in SETTINGS},
            localization_quality=to_number(cells.get("localization_quality")),
            volumes=volumes,
            totals=totals,
            asymmetry=ending(ASYMMETRY_END),
            etiv_mm3=to_number(cells.get("eTIV_mm3")),
            per_mille=ending(SHARE_END),
            covariates={name: text(name) for name in cells if not is_own(name)},
            **(sides | {name: text(name) for name in TEXT_FIELDS}),
        )


TEXT_FIELDS = (
    *("session_id", "segmentation", "status_reason", "findings", "finding_codes", "worst_finding"),
    *("qc", "qc_comment", "qc_rated_at", "outlier", "outlier_measures"),
)


def to_number(cell: Cell) -> float | None:
    """Read a cell of a file, or of a table in memory; raises as `parse_number` does."""
    return parse_number(cell) if isinstance(cell, str) else cell


def total_column(hemisphere: str) -> str:
    """Column of the sum of a hemisphere's structures."""
    return f"{hemisphere}_{TOTAL}{VOLUME_END}"


@cache
def is_number(column: str) -> bool:
    """Whether a column of this app's holds numbers.

    >>> is_number("L_CA1_mm3"), is_number("findings"), is_number("age")
    (True, False, False)
    """
    if column in NUMBERS or column.endswith(ASYMMETRY_END):
        return True
    of_a_side = column.startswith(("L_", "R_"))
    return of_a_side and (column.endswith((VOLUME_END, SHARE_END)) or column[2:] in SIDES.values())


@cache
def is_own(column: str) -> bool:
    """Whether a column is this app's; what is not comes of the raw dataset's tables."""
    return column in TEXTS or is_number(column)
