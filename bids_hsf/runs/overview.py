"""What a run would do, as a table for people; and the settings of a saved run, to ask where its scans stand."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bids_hsf.errors import StorageError, UnreadableImageError
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


@dataclass(frozen=True)
class Row:
    """One scan in the table of a dry run.

    Attributes
    ----------
    key, action, size, remark : str
    n_voxels : int
        0 where the header cannot be read.
    todo : bool
    """

    key: str
    action: str
    size: str = ""
    remark: str = ""
    n_voxels: int = 0
    voxel_mm3: float = 1.0
    todo: bool = False


def preview(plan: Plan, config: Config) -> str:
    """Table of the scans with what would be done, from headers alone, and the time and memory that it needs."""
    rows = [_row(job, config) for job in plan.jobs]
    rows += [
        Row(scan.key, "left out", remark=f"{plan.card.name} is for {' and '.join(plan.card.contrasts)}")
        for scan in plan.left_out
    ]
    todo = [row for row in rows if row.todo]
    lines = text_table(("scan", "action", "voxels", "remark"), [(r.key, r.action, r.size, r.remark) for r in rows])
    counts = Counter(row.action for row in rows)
    lines += ["", ", ".join(f"{count} {action}" for action, count in counts.most_common())]
    lines += announcements.of_model(plan.card, number_of_augmentations(plan.card, config.method))
    lines.append(announcements.of_device(config))
    if todo:
        lines += _costs(todo, plan, config)
    lines.append("Dry run: nothing was written.")
    return "\n".join(lines)


def _row(job: Job, config: Config) -> Row:
    try:
        image = open_scan(job.scan.path)
    except (UnreadableImageError, StorageError) as error:
        return Row(job.key, "cannot be processed", remark=error.message)
    if job.name_fault is not None:
        return Row(job.key, "cannot be processed", remark=job.name_fault)
    shape = tuple(int(n) for n in image.shape[:3])
    sizes = np.sqrt((np.asarray(image.affine)[:3, :3] ** 2).sum(axis=0))
    size = f"{'x'.join(map(str, shape))} of {'x'.join(f'{mm:.3g}' for mm in sizes)} mm"
    state = state_of(job)
    remarks = [*_doubts(shape, [float(mm) for mm in sizes]), *_basis(job, config)]
    if state is State.DIFFERENT and not config.behaviour.force:
        remarks.insert(0, difference(job))
        return Row(job.key, "refused without --force", size, "; ".join(remarks), math.prod(shape))
    if state in (State.REPLACED, State.CHANGED):
        remarks.insert(0, str(state))
    todo = config.behaviour.force or state is not State.DONE
    action = "done before" if not todo else "to do" if state in (State.MISSING, State.RUNNING) else "to do again"
    return Row(job.key, action, size, "; ".join(remarks), math.prod(shape), math.prod(map(float, sizes)), todo)


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


def _costs(todo: Sequence[Row], plan: Plan, config: Config) -> list[str]:
    """Time and memory of the scans to do."""
    n_augmentations = number_of_augmentations(plan.card, config.method)
    sampled = todo[: estimates.SAMPLED_SCANS]
    scan_mb = max(estimates.memory_mb(row.n_voxels, plan.card, n_augmentations) for row in sampled)
    n_processes, n_threads = share_cores(config.resources, len(todo), allowed_cores(), allowed_memory(), scan_mb)
    measured = estimates.seconds_so_far([job.outputs.provenance for job in plan.jobs])
    device = estimates.usual_device(config.resources.device)

    def reckoned(row: Row) -> float:
        return estimates.seconds(row.n_voxels, plan.card, n_augmentations, n_threads, row.voxel_mm3, device)

    seconds = [measured or reckoned(row) for row in todo]
    memory = max(estimates.memory_mb(row.n_voxels, plan.card, n_augmentations) for row in todo)
    source = "as the scans that are done" if measured else f"a rough guess, for {device} as here"
    return [
        f"Time: about {estimates.readable(sum(seconds) / len(seconds))} a scan, "
        f"{estimates.readable(sum(seconds) / n_processes)} in all ({source}), "
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
        write_transforms=saved.behaviour.write_transforms,
        split_long_axis=saved.behaviour.split_long_axis,
        report_3d=saved.behaviour.report_3d,
        export_lut=saved.behaviour.export_lut,
    )
    return replace(config, selection=selection, method=saved.method, behaviour=behaviour)
