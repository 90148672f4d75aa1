"""Sidecars of label maps: what is known of a scan's result, written and read in one place."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_hsf import __version__
from bids_hsf.bids.finding_fields import OLD_FINDINGS, finding_from_json, finding_to_json, older_findings
from bids_hsf.bids.names import ScanOutputs, bids_uri
from bids_hsf.bids.tables import TSV_COLUMNS
from bids_hsf.bids.typed_json import Fields, ForeignFileError, NotWholeError
from bids_hsf.files import read_text
from bids_hsf.findings import Finding

APP = "bids-hsf"
NATIVE = "native"
AGAIN = "run the participant level again"
STRUCTURES = "Hippocampal segmentation; left structures have the model's index k, right ones 100 + k"
LONG_AXIS = "Hippocampal head (1), body (2) and tail (3); right ones 100 + k"

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Model:
    """The model that segmented a scan, from its card.

    Attributes
    ----------
    name : str
        As given to ``--model``.
    version : str
        Of the weights. This and all that follow are empty where an older version did not tell.
    family : str
        The models that its card describes together.
    description : str
        In a sentence.
    license : str
        Of the weights.
    authors : tuple of str
        Of the model.
    citation : str
        To be cited where results are published.
    training_data : str
        What the networks have learned from.
    evaluation : str
        How good they were found to be.
    voxel_size_mm : float or None
        Of the crops; None, in the file "native", for the scan's own voxels.
    """

    name: str
    version: str = ""
    family: str = ""
    description: str = ""
    license: str = ""
    authors: tuple[str, ...] = ()
    citation: str = ""
    training_data: str = ""
    evaluation: str = ""
    voxel_size_mm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "Name": self.name,
            "Version": self.version,
            "Family": self.family,
            "Description": self.description,
            "License": self.license,
            "Authors": list(self.authors),
            "Citation": self.citation,
            "TrainingData": self.training_data,
            "Evaluation": self.evaluation,
            "VoxelSizeMm": self.voxel_size_mm or NATIVE,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "Model":
        """Read what `to_json` gives."""
        is_native = fields.values.get("VoxelSizeMm") == NATIVE
        return cls(
            name=fields.required("Name"),
            version=fields.text("Version") or "",
            family=fields.text("Family") or "",
            description=fields.text("Description") or "",
            license=fields.text("License") or "",
            authors=fields.texts("Authors"),
            citation=fields.text("Citation") or "",
            training_data=fields.text("TrainingData") or "",
            evaluation=fields.text("Evaluation") or "",
            voxel_size_mm=None if is_native else fields.number("VoxelSizeMm"),
        )


@dataclass(frozen=True)
class Localization:
    """Where the hippocampi were found in a scan, and how well.

    Attributes
    ----------
    quality : float or None
        0-1; below `doubtful_below` the boxes may be wrong.
    doubtful_below : float or None
        The threshold that `quality` was held against.
    coverage : mapping of str to float
        Hemisphere "L", "R" to the share of the hippocampus inside the field of view.
    scan_from_template : tuple of tuple of float, (4, 4)
        Template (MNI152 2009c) RAS+ mm to scan RAS+ mm.
    basis : mapping of str to value
        What else it rests on: another scan, a label map.
    """

    quality: float | None = None
    doubtful_below: float | None = None
    coverage: Mapping[str, float] = field(default_factory=dict)
    scan_from_template: Rows = ()
    basis: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "Quality": self.quality,
            "DoubtfulBelow": self.doubtful_below,
            "Coverage": dict(self.coverage),
            "ScanFromTemplate": [list(row) for row in self.scan_from_template],
            **self.basis,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "Localization":
        """Read what `to_json` gives."""
        return cls(
            quality=fields.number("Quality"),
            doubtful_below=fields.number("DoubtfulBelow"),
            coverage=fields.numbers("Coverage"),
            scan_from_template=fields.matrix("ScanFromTemplate"),
            basis={name: value for name, value in fields.values.items() if name not in LOCALIZATION},
        )


LOCALIZATION = {*Localization().to_json(), OLD_FINDINGS}  # its own fields; others are what it rests on


@dataclass(frozen=True)
class Coregistration:
    """How a second contrast came into the space of the first.

    Attributes
    ----------
    scan : str
        Key of the second.
    quality : float or None
        0-1, as of the localization: how far edges of the two run alike.
    disagreement_mm : float or None
        Between the way of the second scan over the first one and its own way to the template.
    reference_from_scan : tuple of tuple of float, (4, 4)
        RAS+ mm of the second to RAS+ mm of the first.
    """

    scan: str
    quality: float | None = None
    disagreement_mm: float | None = None
    reference_from_scan: Rows = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "Scan": self.scan,
            "Quality": self.quality,
            "DisagreementMm": self.disagreement_mm,
            "ReferenceFromScan": [list(row) for row in self.reference_from_scan],
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "Coregistration":
        """Read what `to_json` gives."""
        return cls(
            scan=fields.required("Scan"),
            quality=fields.number("Quality"),
            disagreement_mm=fields.number("DisagreementMm"),
            reference_from_scan=fields.matrix("ReferenceFromScan"),
        )


@dataclass(frozen=True)
class Sidecar:
    """What ``*_dseg.json`` holds, of a label map and the table beside it: only what is equal in equal runs.

    Attributes
    ----------
    scan : str
        Key of the scan, such as "sub-01_ses-2_T1w", or of two joined contrasts, such as "sub-01_T2w+T1w".
    segmentation : str
        The ``seg-`` entity.
    sources : tuple of str
        BIDS URIs of the scans; the first is the one in whose space the map lies.
    request : mapping of str to value
        All settings that decide the result.
    model : Model
        See below.
    localization : Localization
        See below.
    findings : tuple of Finding
        What a reader of the results should know, heaviest first; empty where all is well.
    predicted_dice : mapping of str to float
        Hemisphere to the Dice that its label map is thought to have with the truth; empty where nothing was learnt.
    passes : float or None
        Votes for each hippocampus.
    components : mapping of str to float
        Hemisphere to the separate pieces before islands were removed.
    coregistration : Coregistration or None
        Of a second contrast, where votes were joined.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    etiv_reason : str or None
        Why there is none.
    long_axis_rule : str or None
        How head, body and tail were told apart; None for any other map.
    description : str
        What the labels are.
    app_version : str
        In the file an object, with the app's name beside it.
    """

    scan: str
    segmentation: str
    sources: tuple[str, ...]
    request: Mapping[str, Any]
    model: Model
    localization: Localization
    findings: tuple[Finding, ...] = ()
    predicted_dice: Mapping[str, float] = field(default_factory=dict)
    passes: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    coregistration: Coregistration | None = None
    etiv_mm3: float | None = None
    etiv_reason: str | None = None
    long_axis_rule: str | None = None
    description: str = STRUCTURES
    app_version: str = __version__

    @property
    def entities(self) -> dict[str, str]:
        """Short BIDS names to labels, "sub" first."""
        return dict(part.split("-", 1) for part in self.scan.split("_") if "-" in part)

    def of_parts(self, outputs: ScanOutputs, parts: ScanOutputs, rule: str) -> "Sidecar":
        """Sidecar of the map of head, body and tail that was made of this one's label map."""
        label_map = outputs.dseg.relative_to(outputs.output_dir).as_posix()
        return replace(
            self,
            description=LONG_AXIS,
            sources=(*self.sources, bids_uri("", label_map)),
            segmentation=parts.segmentation,
            long_axis_rule=rule,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        joined = {} if self.coregistration is None else {"Coregistration": self.coregistration.to_json()}
        rule = {} if self.long_axis_rule is None else {"LongAxisRule": self.long_axis_rule}
        return {
            "Description": self.description,
            "Manual": False,
            **origin(self.sources),
            "GeneratedBy": {"Name": APP, "Version": self.app_version},
            "Scan": self.scan,
            "Segmentation": self.segmentation,
            "Request": dict(self.request),
            "Model": self.model.to_json(),
            "Passes": self.passes,
            "Components": dict(self.components),
            "Findings": [finding_to_json(finding) for finding in self.findings],
            "PredictedDice": dict(self.predicted_dice),
            "Localization": self.localization.to_json(),
            **joined,
            "eTIV_mm3": self.etiv_mm3,
            "eTIVReason": self.etiv_reason,
            **TSV_COLUMNS,
            **rule,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Sidecar":
        """Read what `to_json` gives, or an older version wrote.

        Raises
        ------
        ForeignFileError
            It is of other software.
        NotWholeError
            It lacks the scan, the model or the settings, or holds other kinds of values.
        """
        if _is_foreign(content):
            raise ForeignFileError(f"{APP} did not write it")
        try:
            return cls._read(Fields(content))
        except NotWholeError as error:
            raise NotWholeError(f"it is not whole ({error}); {AGAIN}") from None

    @classmethod
    def _read(cls, fields: Fields) -> "Sidecar":
        scan = fields.required("Scan")
        if "Request" not in fields.values:
            raise NotWholeError("Request is missing")
        joined, localization = fields.fields("Coregistration"), fields.fields("Localization")
        return cls(
            scan=scan,
            segmentation=fields.text("Segmentation") or "",
            sources=fields.texts("Sources"),
            request=fields.mapping("Request"),
            model=Model.from_json(fields.fields("Model")),
            localization=Localization.from_json(localization),
            findings=(*map(finding_from_json, fields.objects("Findings")), *older_findings(localization)),
            predicted_dice=fields.numbers("PredictedDice"),
            passes=fields.number("Passes"),
            components=fields.numbers("Components"),
            coregistration=Coregistration.from_json(joined) if joined.values else None,
            etiv_mm3=fields.number("eTIV_mm3"),
            etiv_reason=fields.text("eTIVReason"),
            long_axis_rule=fields.text("LongAxisRule"),
            description=fields.text("Description") or "",
            app_version=fields.fields("GeneratedBy").text("Version") or "unknown",
        )


def _is_foreign(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object names another maker, or shows no trace of this app."""
    maker = content.get("GeneratedBy")
    if isinstance(maker, dict) and "Name" in maker:
        return bool(maker["Name"] != APP)
    return not {"Scan", "Request"} & set(content)


def read_sidecar(path: Path) -> Sidecar:
    """Read the sidecar of a label map.

    Raises
    ------
    FileNotFoundError
        There is none.
    ForeignFileError
        It is of other software.
    NotWholeError
        It cannot be read, or is not whole.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "no JSON"
        raise NotWholeError(f"it cannot be read ({reason}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise NotWholeError(f"it is not whole (no JSON object); {AGAIN}")
    return Sidecar.from_json(content)


def find_sidecar(path: Path) -> Sidecar | None:
    """Sidecar of a label map, or None where there is none that is whole: the scan is not done then."""
    try:
        return read_sidecar(path)
    except (FileNotFoundError, NotWholeError):
        return None


def origin(uris: Sequence[str]) -> dict[str, Any]:
    """Where a map comes from and in which space it lies, that of the first source; as BIDS URIs."""
    return {"SpatialReference": uris[0] if uris else None, "Sources": list(uris)}


def source_uris(sources: Sequence[str]) -> tuple[str, ...]:
    """BIDS URIs of scans by their paths from the root of the raw dataset."""
    return tuple(bids_uri("raw", source) for source in sources)
