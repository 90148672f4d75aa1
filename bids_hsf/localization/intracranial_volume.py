"""Estimated total intracranial volume, from the template's."""

import numpy as np

from bids_hsf.geometry import Grid
from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.features import brain_share
from bids_hsf.localization.template import load_template

# With less of the brain in view its size cannot be told.
WHOLE_BRAIN_SHARE = 0.95


def intracranial_volume(candidate: Candidate, grid: Grid) -> tuple[float | None, str | None]:
    """Volume in mm3 of the template's brain mask, sulci and ventricles included, times the affine's scale; or why not.

    The atlas scaling factor of Buckner et al., NeuroImage 2004, doi:10.1016/j.neuroimage.2004.06.018.
    """
    share = brain_share(candidate.scan_from_template, grid)
    if share < WHOLE_BRAIN_SHARE:
        return None, f"only {share:.0%} of the brain lies in the field of view"
    if candidate.doubtful:
        return None, "the localization is doubtful"
    template = load_template()
    volume = float(template.brain.sum()) * template.grid.voxel_volume
    return volume * float(np.linalg.det(candidate.scan_from_template[:3, :3])), None
