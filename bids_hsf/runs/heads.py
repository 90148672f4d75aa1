"""A job's images and what helps to locate them, as the core takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.contrasts import contrast_of
from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.label_maps import read_drawn_on, read_hippocampi
from bids_hsf.bids.provenance import KnownFile
from bids_hsf.geometry import Grid
from bids_hsf.images import LoadedScan, load_scan
from bids_hsf.localization.contrasts import Guide, HeadScan, LocatedScans, locate_head
from bids_hsf.localization.locator import Locator
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.known_heads import KnownHeads


@dataclass(frozen=True)
class HeadScans:
    """The scans of one job, as the core takes them.

    Attributes
    ----------
    job : Job
    inputs : sequence of KnownFile
        Its images, as they were just before they are read.
    known : KnownHeads
        What this process has found before; it learns what is found now.
    """

    job: Job
    inputs: Sequence[KnownFile]
    known: KnownHeads

    def head_scan(self, source: Scan, loaded: LoadedScan) -> HeadScan:
        """Show one scan to the core, with the label map that other software made of it."""
        label_map = self.job.label_maps.get(source.key)
        image = None if label_map is None else label_map.image_path
        checksum = self._checksum(source)
        return HeadScan(
            key=source.key,
            data=loaded.data,
            grid=loaded.grid,
            contrast=contrast_of(source.suffix),
            orientation_known=loaded.orientation_known,
            hippocampi=None if label_map is None else partial(read_hippocampi, label_map),
            provenance={} if label_map is None else {"LabelMap": str(label_map)},
            drawn_on=None if image is None else partial(_image, image),
            tell=(lambda _: None) if checksum is None else partial(self.known.remember, checksum),
        )

    @property
    def guide(self) -> Guide | None:
        """The T1w of the session through which a T2w may be located; it is read only if it is needed."""
        guide = self.job.guide
        if guide is None:
            return None
        checksum = self._checksum(guide)
        return Guide(
            guide.key,
            guide.key in self.job.label_maps,
            lambda: self.head_scan(guide, load_scan(guide.path)),
            None if checksum is None else self.known.recall(checksum),
        )

    def _checksum(self, scan: Scan) -> str | None:
        """Tell of a T1w by what it is known again; none where a label map helps, whose checksum nobody has taken."""
        if contrast_of(scan.suffix) != "T1w" or scan.key in self.job.label_maps:
            return None
        return next((file.sha256 for file in self.inputs if file.path == scan.relative_path), None)


def _image(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """Read the image that a label map was drawn on."""
    image = read_drawn_on(path)
    return image.data, image.grid


def locate_scans(
    job: Job, loaded: Sequence[LoadedScan], inputs: Sequence[KnownFile], locator: Locator, known: KnownHeads
) -> LocatedScans:
    """Find the hippocampi of a job in the space of its first scan; `loaded` holds its scans, in their order."""
    heads = HeadScans(job, inputs, known)
    first, *others = [heads.head_scan(source, scan) for source, scan in zip(job.scans, loaded, strict=True)]
    return locate_head(first, others[0] if others else None, heads.guide, locator)
