"""A job's images and what helps to locate them, as the core takes them."""

from functools import partial

from bids_hsf.bids.contrasts import contrast_of
from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.label_maps import read_hippocampi
from bids_hsf.images import LoadedScan, load_scan
from bids_hsf.localization.contrasts import Guide, View
from bids_hsf.runs.jobs import Job


def view_of(job: Job, source: Scan, loaded: LoadedScan) -> View:
    """Show one scan of a job to the core, with the label map that other software made of it."""
    label_map = job.label_maps.get(source.key)
    return View(
        key=source.key,
        data=loaded.data,
        grid=loaded.grid,
        contrast=contrast_of(source.suffix),
        orientation_known=loaded.orientation_known,
        hippocampi=None if label_map is None else partial(read_hippocampi, label_map),
        provenance={} if label_map is None else {"LabelMap": f"{label_map.name}:{label_map.relative_path}"},
    )


def guide_of(job: Job) -> Guide | None:
    """Give the T1w of the session through which a T2w may be located; it is read only if it is needed."""
    guide = job.guide
    if guide is None:
        return None
    return Guide(guide.key, guide.key in job.label_maps, lambda: view_of(job, guide, load_scan(guide.path)))
