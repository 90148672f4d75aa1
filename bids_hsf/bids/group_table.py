"""The group table: one row a scan, its columns in one place for who writes and who reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bids_hsf.bids.tables import MISSING, parse_number, read_tsv, write_tsv
from bids_hsf.labels import HEMISPHERES

NAME = "group_volumes.tsv"
IDENTITY = ("participant_id", "session_id", "scan", "model", "segmentation")
TOTAL = "total"
VOLUME_END, SHARE_END = "_mm3", "_per_mille_eTIV"

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
    localization_quality : float or None
        0-1.
    coverage : mapping of str to float
        Hemisphere to the share of the hippocampus inside the field of view.
    n_components : mapping of str to float
        Hemisphere to the pieces before islands were removed.
    findings : str or None
        Texts of what a reader should know, heaviest first, joined by "; ".
    finding_codes : str or None
        Their codes, joined by ";".
    worst_finding : str or None
        Heaviest weight among them: note, check or fail.
    predicted_dice : mapping of str to float
        Hemisphere to the Dice that its label map is thought to have with the truth.
    volumes : mapping of str to float or None
        Abbreviation with its hemisphere, such as "L_CA1", to mm3.
    totals : mapping of str to float or None
        Hemisphere to the sum of its structures, mm3.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    per_mille : mapping of str to float or None
        Names of `volumes`, and "L_total", "R_total", to thousandths of the intracranial volume.
    """

    participant_id: str
    scan: str
    model: str
    session_id: str | None = None
    segmentation: str | None = None
    localization_quality: float | None = None
    coverage: Mapping[str, float | None] = field(default_factory=dict)
    n_components: Mapping[str, float | None] = field(default_factory=dict)
    findings: str | None = None
    finding_codes: str | None = None
    worst_finding: str | None = None
    predicted_dice: Mapping[str, float | None] = field(default_factory=dict)
    volumes: Mapping[str, float | None] = field(default_factory=dict)
    totals: Mapping[str, float | None] = field(default_factory=dict)
    etiv_mm3: float | None = None
    etiv_reason: str | None = None
    per_mille: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, float | None]:
        """Volumes in mm3 by their columns, the structures' and then the totals."""
        sizes = {name + VOLUME_END: volume for name, volume in self.volumes.items()}
        return sizes | {total_column(side): self.totals.get(side) for side in HEMISPHERES}

    def cells(self) -> dict[str, Cell]:
        """Columns and values, in the order of the file."""
        return {
            **{name: getattr(self, name) for name in IDENTITY},
            "localization_quality": self.localization_quality,
            **{f"{side}_coverage": self.coverage.get(side) for side in HEMISPHERES},
            **{f"{side}_n_components": self.n_components.get(side) for side in HEMISPHERES},
            "findings": self.findings,
            "finding_codes": self.finding_codes,
            "worst_finding": self.worst_finding,
            **{f"{side}_predicted_dice": self.predicted_dice.get(side) for side in HEMISPHERES},
            **self.sizes,
            "eTIV_mm3": self.etiv_mm3,
            "eTIV_reason": self.etiv_reason,
            **{name + SHARE_END: share for name, share in self.per_mille.items()},
        }

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> "GroupRow":
        """Read a row of the file; columns that it does not know are left out.

        Raises
        ------
        NotWholeError
            There is another thing than a number in the place of one.
        """

        def text(name: str) -> str | None:
            found = cells.get(name, MISSING)
            return None if found in (MISSING, "") else found

        def numbers(end: str) -> dict[str, float | None]:
            names = [name for name in cells if name.startswith(("L_", "R_")) and name.endswith(end)]
            return {name.removesuffix(end): parse_number(cells[name]) for name in names}

        volumes, quality = numbers(VOLUME_END), parse_number(cells.get("localization_quality"))
        totals = {side: volumes.pop(f"{side}_{TOTAL}", None) for side in HEMISPHERES}
        return cls(
            participant_id=text("participant_id") or MISSING,
            session_id=text("session_id"),
            scan=text("scan") or MISSING,
            model=text("model") or MISSING,
            segmentation=text("segmentation"),
            localization_quality=quality,
            coverage={side: parse_number(cells.get(f"{side}_coverage")) for side in HEMISPHERES},
            n_components={side: parse_number(cells.get(f"{side}_n_components")) for side in HEMISPHERES},
            findings=text("findings"),
            finding_codes=text("finding_codes"),
            worst_finding=text("worst_finding"),
            predicted_dice={side: parse_number(cells.get(f"{side}_predicted_dice")) for side in HEMISPHERES},
            volumes=volumes,
            totals=totals,
            etiv_mm3=parse_number(cells.get("eTIV_mm3")),
            etiv_reason=text("eTIV_reason"),
            per_mille=numbers(SHARE_END),
        )


def total_column(hemisphere: str) -> str:
    """Column of the sum of a hemisphere's structures."""
    return f"{hemisphere}_{TOTAL}{VOLUME_END}"


def columns_of(rows: Sequence[GroupRow]) -> list[str]:
    """Union of the rows' columns in order of first sight: models have structures of their own."""
    return list(dict.fromkeys(name for row in rows for name in row.cells()))


def write_group_table(output_dir: Path, rows: Sequence[GroupRow]) -> Path:
    """Write ``group_volumes.tsv``; returns its path."""
    path = output_dir / NAME
    write_tsv(path, columns_of(rows), [row.cells() for row in rows])
    return path


def read_group_table(output_dir: Path) -> list[GroupRow]:
    """Read ``group_volumes.tsv``; raises as `read_tsv` and `GroupRow.from_cells` do."""
    return [GroupRow.from_cells(cells) for cells in read_tsv(output_dir / NAME)]
