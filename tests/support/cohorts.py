"""Output folders of many scans, as the participant level leaves them, without images."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from sidecars import sidecar

from bids_hsf.bids.names import ScanOutputs, scan_outputs
from bids_hsf.bids.tables import write_table

STRUCTURES = ((1, "anterior"), (2, "posterior"))


def outputs_of(out: Path, scan: str, segmentation: str = "toyFast") -> ScanOutputs:
    *entities, suffix = scan.split("_")
    pairs = [tuple(entity.split("-", 1)) for entity in entities]
    return scan_outputs(out, pairs, suffix, segmentation)


def write_result(
    out: Path,
    scan: str,
    volumes: tuple[float, float, float, float] = (1500.0, 1400.0, 1550.0, 1450.0),
    *,
    entropy: float = 0.1,
    segmentation: str = "toyFast",
    **changes: Any,
) -> ScanOutputs:
    """Write table and sidecar of a scan; `volumes` are anterior and posterior of the left, then of the right."""
    outputs = outputs_of(out, scan, segmentation)
    rows = []
    for place, volume in enumerate(volumes):
        side = "LR"[place // 2]
        index, name = STRUCTURES[place % 2]
        rows.append(
            {
                "index": index + 100 * (place // 2),
                "name": f"{'Left' if side == 'L' else 'Right'} {name}",
                "abbreviation": f"{side}_{name}",
                "color": "#ff0000",
                "hemisphere": side,
                "volume_mm3": volume,
                "entropy_mean": entropy,
                "volume_mm3_low": volume - 50,
                "volume_mm3_high": volume + 50,
            }
        )
    write_table(outputs.table, rows)
    known = {"components": {"L": 1, "R": 1}, "findings": (), **changes}
    content = sidecar(scan=scan, segmentation=segmentation, **known).to_json()
    outputs.sidecar.write_text(json.dumps(content))
    return outputs


def write_label_map(path: Path, labels: np.ndarray, shift: float = 0.0) -> None:
    """Write a label map of 1 mm voxels."""
    affine = np.eye(4)
    affine[0, 3] = shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), path)


def write_cohort(out: Path, n_scans: int, sessions: tuple[str, ...] = (), seed: int = 0) -> list[str]:
    """Write sound scans of so many participants, each of as many sessions; returns their names."""
    rng = np.random.default_rng(seed)
    names = []
    for place in range(n_scans):
        head = 1.5e6 * (1 + 0.08 * rng.standard_normal())
        size = head / 1.5e6 * (1 + 0.08 * rng.standard_normal())
        for session in sessions or ("",):
            name = f"sub-{place:05d}_{f'ses-{session}_' if session else ''}T1w"
            noise = 1 + 0.03 * rng.standard_normal(4)
            volumes = (np.array([1500, 1400, 1550, 1450]) * size * noise).round(2).tolist()
            write_result(
                out,
                name,
                tuple(volumes),
                entropy=round(0.1 * float(np.exp(0.1 * rng.standard_normal())), 4),
                etiv_mm3=round(head),
            )
            names.append(name)
    return names
