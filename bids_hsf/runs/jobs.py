"""A scan with what is asked of it, and where its results go."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.label_maps import LabelMap
from bids_hsf.bids.names import FIGURES, UNFOLDED, ScanOutputs, bids_uri
from bids_hsf.files import name_fault
from bids_hsf.hub.cards import ModelCard
from bids_hsf.labels import COORDINATES, Label, Merge
from bids_hsf.results import segmentation_name

# Bytes of a stem and of an output folder to which all endings can be added; nearly all are shorter.
SHORT_BYTES, SHORT_FOLDER_BYTES = 160, 2048


@dataclass(frozen=True)
class Job:
    """A scan, where its results go, and what was asked of it.

    Attributes
    ----------
    scan : Scan
    outputs : ScanOutputs
    request : mapping
        All that decides the result; kept in the sidecar, compared on the next run.
    maps : tuple of str
        Soft maps to be written.
    parts : ScanOutputs
        Where head, body and tail go.
    splits : bool
        Whether they are to be written.
    transforms : bool
        Whether the transforms between scan and template are to be written.
    turns : bool
        Whether the page on which the hippocampi can be turned is to be written.
    second : Scan or None
        Other contrast of the session, whose votes are joined on the voxels of `scan`.
    guide : Scan or None
        T1w of the session through which a T2w that cannot be located by itself is.
    label_maps : mapping of str to LabelMap
        Key of a scan to what other software made of it.
    """

    scan: Scan
    outputs: ScanOutputs
    request: Mapping[str, Any]
    maps: tuple[str | None, ...]
    parts: ScanOutputs
    splits: bool = False
    transforms: bool = False
    turns: bool = False
    second: Scan | None = None
    guide: Scan | None = None
    label_maps: Mapping[str, LabelMap] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the scan in the log and in tables, such as "sub-01_T2w+T1w" for two contrasts."""
        return self.scan.key if self.second is None else f"{self.scan.key}+{self.second.suffix}"

    @property
    def kin(self) -> str:
        """Name of its session, whose T1w is located once for all scans in a process."""
        return f"{self.scan.subject}/{self.scan.session or ''}"

    @property
    def scans(self) -> tuple[Scan, ...]:
        """The scan and, if it has one, its second contrast."""
        return (self.scan,) if self.second is None else (self.scan, self.second)

    @property
    def inputs(self) -> dict[str, Path]:
        """Relative and full paths of all scans that the result depends on, the guide too."""
        scans = self.scans if self.guide is None else (*self.scans, self.guide)
        return {scan.relative_path: scan.path for scan in scans}

    @property
    def sources(self) -> tuple[str, ...]:
        """BIDS URIs of `scans`, or their file names where they belong to no dataset."""
        return tuple(
            scan.relative_path if scan.is_loose else bids_uri("raw", scan.relative_path) for scan in self.scans
        )

    @property
    def expected_files(self) -> tuple[Path, ...]:
        """All files without which the scan is not done; the sidecar is written last."""
        outputs = self.outputs
        maps = tuple(path for name in self.maps for path in (outputs.map(name), outputs.map_sidecar(name)))
        unfolded = (UNFOLDED,) if set(COORDINATES) <= set(self.maps) else ()
        figures = tuple(outputs.figure(name) for name in (*FIGURES, *unfolded))
        parts = (self.parts.dseg, self.parts.table, self.parts.sidecar) if self.splits else ()
        transforms = (outputs.transform_to_template, outputs.transform_from_template) if self.transforms else ()
        pages = (outputs.turning_page,) if self.turns else ()
        return (outputs.dseg, outputs.table, *maps, *figures, *parts, *transforms, *pages, outputs.sidecar)

    @property
    def name_fault(self) -> str | None:
        """Why the results cannot be written under their names; None where they can."""
        stem = os.fsencode(self.outputs.stem)
        if len(stem) < SHORT_BYTES and len(os.fsencode(self.outputs.output_dir)) < SHORT_FOLDER_BYTES:
            return None
        return name_fault((*self.expected_files, self.outputs.provenance, self.outputs.failure, self.outputs.claim))


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes
    ----------
    jobs : list of Job
        One a scan that suits the model, done before or not.
    card : ModelCard
    merge : Merge or None
    left_out : list of Scan
        Selected, but of a contrast that the model does not know.
    """

    jobs: list[Job]
    card: ModelCard
    merge: Merge | None
    left_out: list[Scan]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Structures of one hemisphere."""
        return self.merge.labels if self.merge else self.card.labels

    @property
    def subjects(self) -> list[str]:
        """Labels of all subjects, sorted; none of images that belong to no dataset."""
        return sorted({job.scan.subject for job in self.jobs if not job.scan.is_loose})

    @property
    def segmentation(self) -> str:
        """The ``seg-`` entity of the outputs."""
        return segmentation_name(self.card, self.merge)


PARTS_SUFFIX = "HBT"  # head, body, tail

FULL_UNCERTAINTY = ("mutualinformation", "expectedentropy", "voteshare")
