"""A job's images and what helps to locate them, as the core takes them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.contrasts import contrast_of
from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.label_maps import read_drawn_on, read_hippocampi
from bids_hsf.geometry import Grid
from bids_hsf.images import LoadedScan, load_scan
from bids_hsf.localization.contrasts import Guide, HeadScan, LocatedScans, locate_head
from bids_hsf.localization.locator import Locator
from bids_hsf.runs.jobs import Job


def head_scan_of(job: Job, source: Scan, loaded: LoadedScan) -> HeadScan:
    """Show one scan of a job to the core, with the label map that other software made of it."""
    label_map = job.label_maps.get(source.key)
    return HeadScan(
        key=source.key,
        data=loaded.data,
        grid=loaded.grid,
        contrast=contrast_of(source.suffix),
        orientation_known=loaded.orientation_known,
        hippocampi=None if label_map is None else partial(read_hippocampi, label_map),
        provenance={} if label_map is None else {"LabelMap": str(label_map)},
        drawn_on=None if label_map is None or label_map.image_path is None else partial(_image, label_map.image_path),
    )


def _image(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """Read the image that a label map was drawn on."""
    image = read_drawn_on(path)
    return image.data, image.grid


def guide_of(job: Job) -> Guide | None:
    """Give the T1w of the session through which a T2w may be located; it is read only if it is needed."""
    guide = job.guide
    if guide is None:
        return None
    return Guide(guide.key, guide.key in job.label_maps, lambda: head_scan_of(job, guide, load_scan(guide.path)))


def locate_scans(job: Job, scan: LoadedScan, others: Sequence[LoadedScan], locator: Locator) -> LocatedScans:
    """Find the hippocampi of a job in the space of its first scan; `others` holds its second contrast, if any."""
    first = head_scan_of(job, job.scan, scan)
    second = None if job.second is None else head_scan_of(job, job.second, others[0])
    return locate_head(first, second, guide_of(job), locator)
