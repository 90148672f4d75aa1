"""Rows of the group table, from what the participant level left."""

from collections.abc import Iterable

from bids_hsf.bids.group_table import TOTAL, GroupRow
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.tables import Structure
from bids_hsf.findings import worst
from bids_hsf.labels import HEMISPHERES
from bids_hsf.segmentation.volumes import per_mille


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
        localization_quality=sidecar.localization.quality,
        coverage=sidecar.localization.coverage,
        n_components=sidecar.components,
        findings="; ".join(finding.text for finding in sidecar.findings) or None,
        finding_codes=";".join(dict.fromkeys(finding.code for finding in sidecar.findings)) or None,
        worst_finding=worst(sidecar.findings),
        predicted_dice=sidecar.predicted_dice,
        volumes=volumes,
        totals={side: None if total is None else round(total, 2) for side, total in totals.items()},
        etiv_mm3=sidecar.etiv_mm3,
        etiv_reason=sidecar.etiv_reason,
        per_mille={
            name: None if volume is None else per_mille(volume, sidecar.etiv_mm3) for name, volume in measures.items()
        },
    )


def _total(volumes: list[float | None]) -> float | None:
    known = [volume for volume in volumes if volume is not None]
    return sum(known) if volumes and len(known) == len(volumes) else None
