"""What a run would do, as a table for people; and the settings of a saved run, to ask where its scans stand."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from pathlib import Path

import numpy as np

from bids_hsf.errors import StorageError, UnreadableImageError
from bids_hsf.image_files import file_size
from bids_hsf.images import open_scan
from bids_hsf.machine import allowed_cores, allowed_memory
from bids_hsf.runs import announcements, estimates
from bids_hsf.runs.config import Config, config_from
from bids_hsf.runs.jobs import Job, Plan
from bids_hsf.runs.logs import read_config
from bids_hsf.runs.planning import number_of_augmentations
from bids_hsf.runs.scheduling import share_cores
from bids_hsf.runs.states import State, difference, state_of
from bids_hsf.text_table import text_table

logger = logging.getLogger(__name__)

COARSE_MM = 1.6

# A head from ear to ear, and from the nose to the back; less in a direction may miss a hippocampus.
SMALL_EXTENT_MM = 100.0

IMPOSSIBLE, TO_DO = "cannot be processed", "to do"

# Headers that are read for a dry run, each in 2 ms: of a larger dataset those of some scans, and of its largest files.
READ_HEADERS = 1000
LARGEST_FILES = 50


@dataclass(frozen=True)
class Row:
    """One scan in the table of a dry run.

    Attributes
    ----------
    job : Job
    action : str
    why : str
        What the action is due to, where that is worth a word.
    n_bytes : int
        Of the image's file.
    header : Header or None
        None where it has not been read.
    todo : bool
    """

    job: Job
    action: str
    why: str = ""
    n_bytes: int = 0
    header: "Header | None" = None
    todo: bool = False

    def cells(self, config: Config) -> tuple[str, str, str, str]:
        """Line of the table."""
        header = self.header
        doubts = () if header is None else header.doubts
        basis = [] if self.action == IMPOSSIBLE else _basis(self.job, config)
        remarks = "; ".join([*([self.why] if self.why else []), *doubts, *basis])
        return self.job.key, self.action, "" if header is None else header.size, remarks


@dataclass(frozen=True)
class Header:
    """What the header of a scan tells.

    Attributes
    ----------
    size : str
        For people.
    n_voxels : int
    voxel_mm3 : float
    doubts : tuple of str
        What it says against a good segmentation.
    """

    size: str
    n_voxels: int
    voxel_mm3: float
    doubts: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> "Header":
        """Read it; raises as `open_scan` does."""
        image = open_scan(path)
        shape = tuple(int(n) for n in image.shape[:3])
        sizes = [float(mm) for mm in np.sqrt((np.asarray(image.affine)[:3, :3] ** 2).sum(axis=0))]
        size = f"{'x'.join(map(str, shape))} of {'x'.join(f'{mm:.3g}' for mm in sizes)} mm"
        return cls(size, math.prod(shape), math.prod(sizes), tuple(_doubts(shape, sizes)))


def preview(plan: Plan, config: Config) -> str:
    """Table of the scans with what would be done, from headers alone, and the time and memory that it needs."""
    rows, sampled = _with_headers([_row(job, config) for job in plan.jobs])
    cells = [row.cells(config) for row in rows]
    suits = f"{plan.card.name} is for {' and '.join(plan.card.contrasts)}"
    cells += [(scan.key, "left out", "", suits) for scan in plan.left_out]
    lines = text_table(("scan", "action", "voxels", "remark"), cells)
    counts = Counter(action for _, action, _, _ in cells)
    lines += ["", ", ".join(f"{count} {action}" for action, count in counts.most_common())]
    lines += announcements.of_model(plan.card, number_of_augmentations(plan.card, config.method))
    lines.append(announcements.of_device(config))
    if len(rows) > READ_HEADERS:
        n_read = sum(row.header is not None for row in rows)
        lines.append(
            f"Headers: {n_read:,} of {len(rows):,} were read, evenly spaced and of the largest files; time and memory "
            "rest on these. Of a part of the participants (--shard 1/100, --participant-label) all are read."
        )
    if any(row.todo for row in rows):
        lines += _costs(rows, sampled, plan, config)
    lines.append("Dry run: nothing was written.")
    return "\n".join(lines)


def _row(job: Job, config: Config) -> Row:
    """Tell what would become of a scan, its header unread."""
    try:
        n_bytes = file_size(job.scan.path)
    except (UnreadableImageError, StorageError) as error:
        return Row(job, IMPOSSIBLE, error.message)
    state = state_of(job)
    if state is State.FAILED and (fault := job.name_fault) is not None:
        return Row(job, IMPOSSIBLE, fault)
    if state is State.DIFFERENT and not config.behaviour.force:
        return Row(job, "refused without --force", difference(job), n_bytes)
    why = str(state) if state in (State.REPLACED, State.CHANGED) else ""
    if state is State.DONE and not config.behaviour.force:
        return Row(job, "done before", why, n_bytes)
    action = TO_DO if state in (State.MISSING, State.RUNNING) else f"{TO_DO} again"
    return Row(job, action, why, n_bytes, todo=True)


def _with_headers(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Read headers, of many scans those of some; returns all rows, and those that stand for what is to be done."""
    if len(rows) <= READ_HEADERS:
        read = [_with_header(row) for row in rows]
        return read, read
    todo = [place for place, row in enumerate(rows) if row.todo]
    even = todo[:: math.ceil(len(todo) / READ_HEADERS)] if todo else []
    largest = nlargest(LARGEST_FILES, todo, key=lambda place: rows[place].n_bytes)
    first = todo[: estimates.SAMPLED_SCANS]  # by which a run decides how many scans it does at once
    known = {place: _with_header(rows[place]) for place in {*even, *largest, *first}}
    return [known.get(place, row) for place, row in enumerate(rows)], [known[place] for place in even]


def _with_header(row: Row) -> Row:
    """Read the header of a scan, which may show that it cannot be processed."""
    if row.action == IMPOSSIBLE:
        return row
    try:
        return replace(row, header=Header.of(row.job.scan.path))
    except (UnreadableImageError, StorageError) as error:
        return Row(row.job, IMPOSSIBLE, error.message)


def _doubts(shape: Sequence[int], sizes: Sequence[float]) -> Iterable[str]:
    """Tell what a header says against a good segmentation."""
    if max(sizes) > COARSE_MM:
        kind = "thick slices" if max(sizes) > 2 * min(sizes) else "coarse voxels"
        yield f"{kind} ({max(sizes):.3g} mm)"
    extents = sorted(n * mm for n, mm in zip(shape, sizes, strict=True))
    if extents[0] < SMALL_EXTENT_MM:
        yield f"small field of view ({extents[0]:.0f} mm)"


def _basis(job: Job, config: Config) -> Iterable[str]:
    """Tell where the boxes of a scan come from, where label maps were asked for."""
    if not config.method.derivatives:
        return
    own, *others = [job.label_maps.get(scan.key) for scan in (*job.scans, *([job.guide] if job.guide else []))]
    borrowed = next((label_map for label_map in others if label_map is not None), None)
    if own is not None:
        yield f"boxes by {own}"
    elif borrowed is not None:
        yield f"boxes by {borrowed}, through the other scan of its session"
    else:
        yield "no label map: boxes by the template"


def _costs(rows: Sequence[Row], sampled: Sequence[Row], plan: Plan, config: Config) -> list[str]:
    """Time and memory of the scans to do; `sampled` stand for all of them."""
    n_augmentations = number_of_augmentations(plan.card, config.method)
    todo = [row for row in rows if row.todo]
    sizes = [0 if row.header is None else row.header.n_voxels for row in todo]
    memory, of_first = (
        estimates.memory_mb(max(some), plan.card, n_augmentations, config.behaviour)
        for some in (sizes, sizes[: estimates.SAMPLED_SCANS])
    )
    n_processes, n_threads = share_cores(config.resources, len(todo), allowed_cores(), allowed_memory(), of_first)
    made = [row.job.outputs.provenance for row in rows if row.action not in (TO_DO, IMPOSSIBLE)]
    measured = estimates.seconds_so_far(made)
    device = estimates.usual_device(config.resources.device)
    kinds = [(row.header.n_voxels, row.header.voxel_mm3) for row in sampled if row.todo and row.header is not None]
    seconds = measured or estimates.mean_seconds(kinds, plan.card, n_augmentations, n_threads, device)
    source = "as the scans that are done" if measured else f"a rough guess, for {device} at the pace of this machine"
    return [
        f"Time: about {estimates.readable(seconds)} a scan, "
        f"{estimates.readable(seconds * len(todo) / n_processes)} in all ({source}), "
        f"{n_processes} scan(s) at once with {n_threads} thread(s) each",
        f"Memory: about {memory:,} MB a scan, {memory * n_processes:,} MB in all",
    ]


def with_settings_of(config: Config, saved_path: Path) -> Config:
    """Take the method, the contrasts and the outputs of a saved run, and nothing else.

    Whoever may write into the output folder wrote it: no folder that it names is made or searched, no command of it
    is repeated.
    """
    saved = config_from(read_config(saved_path))
    if saved.hub_dirs and not config.hub_dirs:
        logger.warning(
            "%s names folders of model cards (%s), which are not searched unless you name them: --hub-dir",
            saved_path,
            ", ".join(map(str, saved.hub_dirs)),
        )
    asked = config.selection
    selection = replace(
        saved.selection,
        participants=asked.participants,
        excluded_participants=asked.excluded_participants,
        sessions=asked.sessions,
        shard=asked.shard,
        runs=asked.runs,
        modalities=asked.modalities if asked.modalities_asked else saved.selection.modalities,
        filters=asked.filters or saved.selection.filters,
    )
    behaviour = replace(
        config.behaviour,
        uncertainty=saved.behaviour.uncertainty,
        write_probabilities=saved.behaviour.write_probabilities,
        write_coordinates=saved.behaviour.write_coordinates,
        write_transforms=saved.behaviour.write_transforms,
        split_long_axis=saved.behaviour.split_long_axis,
        report_3d=saved.behaviour.report_3d,
        export_lut=saved.behaviour.export_lut,
    )
    return replace(config, selection=selection, method=saved.method, behaviour=behaviour)
