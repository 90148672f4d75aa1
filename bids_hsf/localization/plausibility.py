"""Whether a transform can be that of a head: its size, its shape, how far apart the hippocampi would be."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine

from bids_hsf.findings import Finding, Weight
from bids_hsf.geometry import Matrix
from bids_hsf.labels import HEMISPHERES


@dataclass(frozen=True)
class PlausibilitySettings:
    """What heads there are.

    Attributes
    ----------
    stretch_range : tuple of float, (2,)
        Against the template, in any direction: adults, with what a scanner's gradients and wrong voxel sizes add.
    distance_range_mm : tuple of float, (2,)
        Between the middles of the two hippocampi: 45 to 62 in adults, and the same allowance.
    """

    stretch_range: tuple[float, float] = (0.65, 1.5)
    distance_range_mm: tuple[float, float] = (38.0, 76.0)


HEADS = PlausibilitySettings()


def implausibilities(
    scan_from_template: Matrix, hippocampi: Mapping[str, Matrix], settings: PlausibilitySettings = HEADS
) -> tuple[Finding, ...]:
    """Tell why a transform (4, 4) cannot be that of a head with `hippocampi` (N, 3) in template mm; empty if it can."""
    if np.linalg.det(scan_from_template[:3, :3]) <= 0:
        return (Finding("head-mirrored", Weight.FAIL, "the head would be a mirror image of the template"),)
    found = []
    stretches = np.linalg.svd(scan_from_template[:3, :3], compute_uv=False)
    low, high = settings.stretch_range
    if stretches.min() < low or stretches.max() > high:
        text = (
            f"the head would be {stretches.min():.2f} to {stretches.max():.2f} times as large as the template "
            f"(expected {low:g} to {high:g})"
        )
        figure, limit = (stretches.min(), low) if stretches.min() < low else (stretches.max(), high)
        found.append(Finding("head-size", Weight.FAIL, text, round(float(figure), 3), limit))
    left, right = (apply_affine(scan_from_template, hippocampi[side]).mean(axis=0) for side in HEMISPHERES)
    distance_mm, (low, high) = float(np.linalg.norm(left - right)), settings.distance_range_mm
    if not low <= distance_mm <= high:
        text = f"the two hippocampi would be {distance_mm:.0f} mm apart (expected {low:g} to {high:g} mm)"
        limit = low if distance_mm < low else high
        found.append(Finding("hippocampi-apart", Weight.FAIL, text, round(distance_mm, 1), limit))
    return tuple(found)
