"""A sidecar as the participant level writes one, to be changed where a test needs it."""

from dataclasses import replace
from typing import Any

from bids_hsf.bids.sidecars import Localization, Model, Sidecar, source_uris
from bids_hsf.findings import Finding, Weight

SIDECAR = Sidecar(
    scan="sub-01_ses-pre_run-2_T1w",
    segmentation="toy",
    sources=source_uris(["sub-01/ses-pre/anat/sub-01_ses-pre_run-2_T1w.nii.gz"]),
    request={"Model": "toy_fast", "Members": {"toy.onnx": "ab"}, "Seed": 42},
    model=Model("toy_fast", "1.0", "toy", "A toy", "CC0-1.0", ("Nobody",), "Nobody 2026", "none", "none", 1.0),
    localization=Localization(
        quality=0.9312,
        doubtful_below=0.45,
        coverage={"L": 1.0, "R": 0.5},
        scan_from_template=((1.0, 0.0, 0.0, 2.5), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        basis={"Through": "sub-01_ses-pre_T1w"},
    ),
    findings=(
        Finding("coverage", Weight.CHECK, "a", 0.5, 0.99, "R"),
        Finding("structure-empty", Weight.NOTE, "b", 0.0, None, "L", "L_x"),
    ),
    predicted_dice={"L": 0.91, "R": 0.62},
    passes=21,
    components={"L": 1, "R": 2},
    etiv_mm3=1500000,
)


def sidecar(**changes: Any) -> Sidecar:
    """Give the sidecar with other values."""
    return replace(SIDECAR, **changes)
