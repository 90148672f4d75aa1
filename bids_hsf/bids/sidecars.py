"""Sidecars of label maps."""

from collections.abc import Mapping, Sequence
from typing import Any

from bids_hsf import __version__
from bids_hsf.bids.names import ScanOutputs, bids_uri
from bids_hsf.bids.tables import TSV_COLUMNS


def dseg_sidecar(sources: Sequence[str], content: Mapping[str, Any]) -> dict[str, Any]:
    """Sidecar of a label map and of the table beside it.

    Parameters
    ----------
    sources : sequence of str
        Paths of the scans, from the root of the raw dataset; the first is the one in whose space the map lies.
    content : mapping
        What the workflow has to say of the result.
    """
    return {
        "Description": "Hippocampal segmentation; left structures have the model's index k, right ones 100 + k",
        "Manual": False,
        **origin(sources),
        "GeneratedBy": {"Name": "bids-hsf", "Version": __version__},
        **content,
        **TSV_COLUMNS,
    }


def parts_sidecar(sidecar: Mapping[str, Any], outputs: ScanOutputs, parts: ScanOutputs, rule: str) -> dict[str, Any]:
    """Sidecar of a map of head, body and tail, from that of the label map it is made of."""
    label_map = outputs.dseg.relative_to(outputs.output_dir).as_posix()
    return {
        **sidecar,
        "Description": "Hippocampal head (1), body (2) and tail (3); right ones 100 + k",
        "Sources": [*sidecar["Sources"], bids_uri("", label_map)],
        "Segmentation": parts.segmentation,
        "LongAxisRule": rule,
    }


def identity_columns(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """First columns of a scan's row in ``group_volumes.tsv``, from the sidecar of its label map."""
    scan = str(sidecar["Scan"])
    entities = dict(part.split("-", 1) for part in scan.split("_") if "-" in part)
    localization, joined = sidecar["Localization"], sidecar.get("Coregistration", {})
    return {
        "participant_id": f"sub-{entities['sub']}",
        "session_id": f"ses-{entities['ses']}" if "ses" in entities else None,
        "scan": scan,
        "model": sidecar["Model"]["Name"],
        "segmentation": sidecar.get("Segmentation"),
        "localization_quality": localization["Quality"],
        "L_coverage": localization["Coverage"]["L"],
        "R_coverage": localization["Coverage"]["R"],
        "L_n_components": sidecar["Components"]["L"],
        "R_n_components": sidecar["Components"]["R"],
        "warnings": "; ".join([*localization["Warnings"], *joined.get("Warnings", ())]) or None,
    }


def origin(sources: Sequence[str]) -> dict[str, Any]:
    """Where a map comes from and in which space it lies, that of the first source."""
    uris = [bids_uri("raw", source) for source in sources]
    return {"SpatialReference": uris[0], "Sources": uris}
