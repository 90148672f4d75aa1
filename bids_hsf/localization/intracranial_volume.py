"""Estimated total intracranial volume: the template's, scaled to the brain's border in a scan."""

from bids_hsf.localization.brain_size import brain_size
from bids_hsf.localization.candidates import Candidate
from bids_hsf.localization.features import brain_share
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.template import load_template

# With less of the brain in view its size cannot be told.
WHOLE_BRAIN_SHARE = 0.95

# Of what the fits say, as a share.
MAX_SPREAD = 0.1

# Of people: a child of two years has 1.1 l, 99 of 100 adults 1.1 to 2 l.
RANGE_MM3 = (0.8e6, 2.3e6)


def intracranial_volume(candidate: Candidate, scan: ReducedScan, n_threads: int = 1) -> tuple[float | None, str | None]:
    """Volume in mm3 of the template's brain mask, sulci and ventricles included, times the scale; or why not.

    Both where it was measured, but is no size of a head.

    The atlas scaling factor of Buckner et al., NeuroImage 2004, doi:10.1016/j.neuroimage.2004.06.018, by the brain's
    own border: the affine of the whole head, whose scalp is bright on T2w, makes the T2w of a head larger than its T1w.
    """
    share = brain_share(candidate.scan_from_template, scan.fine.grid)
    if share < WHOLE_BRAIN_SHARE:
        return None, f"only {share:.0%} of the brain lies in the field of view"
    if candidate.doubtful:
        return None, "the localization is doubtful"
    template = load_template()
    template_mm3 = float(template.brain.sum()) * template.grid.voxel_volume
    size = brain_size(scan, candidate.scan_from_template, n_threads=n_threads)
    if size.spread > MAX_SPREAD:
        low, high = size.low * template_mm3 / 1e6, size.high * template_mm3 / 1e6
        return None, f"the size of the brain is not steady: {low:.2f} to {high:.2f} l under small changes of the fit"
    volume = template_mm3 * size.scale
    if not RANGE_MM3[0] <= volume <= RANGE_MM3[1]:
        return volume, (
            f"{volume / 1e6:.2f} l is no size of a head (expected {RANGE_MM3[0] / 1e6:g} to {RANGE_MM3[1] / 1e6:g} l)"
        )
    return volume, None
