"""Rows of the group table, from what the participant level left."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bids_hsf.bids.group_row import FAILED, TOTAL, Cell, GroupRow
from bids_hsf.bids.names import ScanName
from bids_hsf.bids.provenance import Failure
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.tables import Structure
from bids_hsf.findings import worst
from bids_hsf.labels import HEMISPHERES
from bids_hsf.runs.config import Method
from bids_hsf.segmentation.volumes import asymmetry_index, per_mille

# Of a request: what has a column of its own, and what is another one in each scan.
TOLD = {"Model", "ModelVersion", "Members", "Labels", "TestTimeAugmentations", "Derivatives", "SecondContrast"}
DEFAULTS: Mapping[str, Any] = {
    "Seed": Method.seed,
    "BoxMarginMm": Method.box_margin_mm,
    "KeepIslands": Method.keep_islands,
}


def group_row(sidecar: Sidecar, structures: Iterable[Structure]) -> GroupRow:
    """One scan's row of ``group_volumes.tsv``, from the sidecar of its label map and the structures in its table.

    A hemisphere with a structure of unknown volume has no total, nor has one without structures.
    """
    structures, entities = tuple(structures), sidecar.entities
    volumes = {structure.abbreviation: structure.volume_mm3 for structure in structures}
    totals = {side: _total([s.volume_mm3 for s in structures if s.hemisphere == side]) for side in HEMISPHERES}
    measures = volumes | {f"{side}_{TOTAL}": total for side, total in totals.items()}
    return GroupRow(
        participant_id=f"sub-{entities['sub']}",
        session_id=f"ses-{entities['ses']}" if "ses" in entities else None,
        scan=sidecar.scan,
        model=sidecar.model.name,
        segmentation=sidecar.segmentation or None,
        findings="; ".join(finding.text for finding in sidecar.findings) or None,
        finding_codes=";".join(dict.fromkeys(finding.code for finding in sidecar.findings)) or None,
        worst_finding=worst(sidecar.findings),
        settings=settings_of(sidecar),
        localization_quality=sidecar.localization.quality,
        coverage=sidecar.localization.coverage,
        n_components=sidecar.components,
        predicted_dice=sidecar.predicted_dice,
        entropy={side: _entropy([s for s in structures if s.hemisphere == side]) for side in HEMISPHERES},
        volumes=volumes,
        totals={side: None if total is None else round(total, 2) for side, total in totals.items()},
        asymmetry=_asymmetries(measures),
        etiv_mm3=sidecar.etiv_mm3,
        etiv_reason=sidecar.etiv_reason,
        per_mille={
            name: None if volume is None else per_mille(volume, sidecar.etiv_mm3) for name, volume in measures.items()
        },
    )


def settings_of(sidecar: Sidecar) -> dict[str, Cell]:
    """Tell what decided a result beside model and contrast, by the columns of the table."""
    request = sidecar.request
    augmentations, derivatives = request.get("TestTimeAugmentations"), request.get("Derivatives")
    others = {name: value for name, value in request.items() if name not in TOLD and value != DEFAULTS.get(name)}
    members = json.dumps(request.get("Members"), sort_keys=True)
    return {
        "model_version": sidecar.model.version or None,
        "model_files": hashlib.sha256(members.encode()).hexdigest()[:8],
        "app_version": sidecar.app_version,
        "labels": _text(request.get("Labels")),
        "test_time_augmentations": augmentations if isinstance(augmentations, int | float) else None,
        "derivatives": ", ".join(map(str, derivatives)) if isinstance(derivatives, list) else None,
        "other_settings": "; ".join(f"{name} {value}" for name, value in sorted(others.items())) or None,
    }


def unfinished_row(name: ScanName, status: str, reason: str, model: str, scan: str | None = None) -> GroupRow:
    """Row of a scan that has no results, with the reason."""
    return GroupRow(
        participant_id=name.participant,
        session_id=name.session,
        scan=scan or name.scan,
        model=model,
        segmentation=name.segmentation,
        status=status,
        status_reason=reason,
    )


def failed_row(name: ScanName, failure: Failure, model: str) -> GroupRow:
    """Row of a scan that failed, by its record."""
    return unfinished_row(
        name, FAILED, failure.error or "its record is not whole", failure.model or model, failure.scan
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _total(volumes: list[float | None]) -> float | None:
    known = [volume for volume in volumes if volume is not None]
    return sum(known) if volumes and len(known) == len(volumes) else None


def _entropy(structures: list[Structure]) -> float | None:
    """Mean over the voxels of all structures of a side that are not empty; their voxels have one size."""
    known = [(s.entropy_mean, s.volume_mm3) for s in structures if s.entropy_mean is not None and s.volume_mm3]
    volume = sum(size for _, size in known)
    return round(sum(entropy * size for entropy, size in known) / volume, 4) if volume else None


def _asymmetries(measures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Left minus right over their mean, per cent, of what both sides have."""
    found: dict[str, float | None] = {}
    for name in (name[2:] for name in measures if name.startswith("L_") and f"R_{name[2:]}" in measures):
        left, right = measures[f"L_{name}"], measures[f"R_{name}"]
        index = None if left is None or right is None else asymmetry_index(left, right)
        found[name] = None if index is None else round(index, 2)
    return found
