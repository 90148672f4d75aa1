"""The whole way of the data, top to bottom: the methods section of the paper, as code.

Participant level: find the scans, fetch the model, choose the device; then for each scan load it,
locate the hippocampi, crop, let the networks vote, carry the votes to the scan's own voxels, decide,
measure, write. Group level: stack the tables that the participant level left.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bids_hsf import files
from bids_hsf.bids import lookup_tables, maps, output_dataset, sidecars, tables
from bids_hsf.bids.contrasts import contrast_of
from bids_hsf.bids.dataset import Scan, check_dataset, find_scans
from bids_hsf.bids.derivatives import find_derivatives
from bids_hsf.bids.group_table import write_group_table
from bids_hsf.bids.label_maps import read_hippocampi
from bids_hsf.bids.provenance import Failure, Input
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.validation import validating
from bids_hsf.errors import (
    BidsHsfError,
    MemoryLimitError,
    NoInputError,
    NothingSelectedError,
    OutputError,
    ScanError,
    StorageError,
    UnreadableImageError,
)
from bids_hsf.files import claimed
from bids_hsf.geometry import Grid, covering_box, field_of_view, from_canonical, resample
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import Ensemble, fetch, find_card
from bids_hsf.images import LoadedScan, load_scan, open_scan
from bids_hsf.labels import HEMISPHERES, SIDE_NAMES, Label, Merge, hemisphere_index
from bids_hsf.localization.coregistration import MIN_QUALITY, Coregistration, coregister
from bids_hsf.localization.crops import crop_grid
from bids_hsf.localization.locate import locate
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location, head_axes, is_limited
from bids_hsf.localization.template import load_template
from bids_hsf.machine import allowed_cores, allowed_memory, release_memory, return_large_arrays
from bids_hsf.networks.device import Device, choose_device
from bids_hsf.networks.members import Members
from bids_hsf.reports import figures
from bids_hsf.reports.group import write_group_report
from bids_hsf.reports.methods import Methods
from bids_hsf.reports.subject import write_subject_report
from bids_hsf.runs import estimates, logs, overview, provenance
from bids_hsf.runs.config import Config, Method
from bids_hsf.runs.group_table import group_row
from bids_hsf.runs.planning import (
    FULL_UNCERTAINTY,
    PARTS_SUFFIX,
    Job,
    Plan,
    find_merge,
    is_done_by_now,
    number_of_augmentations,
    plan_jobs,
    suitable_scans,
    unfinished,
    with_helpers,
)
from bids_hsf.runs.scheduling import Outcome, run_jobs, share_cores
from bids_hsf.segmentation import volumes
from bids_hsf.segmentation.augmentation import draw, import_libraries
from bids_hsf.segmentation.decision import Segmentation, decide, remove_islands, volume_spread
from bids_hsf.segmentation.long_axis import PARTS, split_long_axis
from bids_hsf.segmentation.votes import MergingPredictor, Predictor, Votes, vote

logger = logging.getLogger(__name__)


SOME_FAILED, ALL_FAILED = 1, 65
SMALL_ENSEMBLE_BYTES = 512 << 20  # stays open as a whole, and shares each random view
SAMPLED_HEADERS = 500  # the first whole head decides: a dataset of slabs alone is not read to its end
UNCAL_LABEL = "anterior"
MAP_ATTRIBUTES = {
    "entropy": "entropy",
    "mutualinformation": "mutual_information",
    "expectedentropy": "expected_entropy",
    "voteshare": "vote_share",
}


@dataclass(frozen=True)
class Terminal:
    """How the workflow speaks to whoever started it.

    Attributes
    ----------
    begin_log : callable
        Takes the path of the log file, once the output folder stands.
    show : callable
        Takes a text that was asked for: a table, a listing.
    """

    begin_log: Callable[[Path], None] = lambda _path: None
    show: Callable[[str], None] = lambda _text: None


def run(config: Config, terminal: Terminal | None = None) -> int:
    """Run the levels that were asked for, in order; returns the exit code."""
    levels = {"participant": participant, "group": group, "status": status}
    code = 0
    for level in config.levels:
        try:
            code = max(code, levels[level](config, terminal or Terminal()))
        except NoInputError as error:
            # Where every scan failed, that is the reason, not the empty group.
            if not code:
                raise
            logger.error("%s level: %s", level, error.message)
    return code


def participant(config: Config, terminal: Terminal) -> int:
    """Segment the selected scans; returns 0, 1 (some failed) or 65 (all failed)."""
    if config.behaviour.reports_only:
        return rewrite_reports(config, terminal)
    plan = make_plan(config)
    if config.behaviour.dry_run:
        terminal.show(overview.preview(plan, config))
        return 0
    run_id = logs.new_run_id()
    output_dataset.prepare_output_dir(config.output_dir, config.bids_dir, plan.card.license)
    terminal.begin_log(logs.log_path(config.output_dir, run_id))
    logger.debug("Command: %s", " ".join(config.command))
    lookup_tables.write_label_files(config.output_dir, plan.segmentation, plan.labels, config.behaviour.export_lut)
    if config.behaviour.split_long_axis:
        name = plan.segmentation + PARTS_SUFFIX
        lookup_tables.write_label_files(config.output_dir, name, PARTS, config.behaviour.export_lut)
    if config.behaviour.boilerplate_only:
        write_methods(plan, config)
        logger.info("Methods text: %s", config.output_dir / "logs" / "CITATION.md")
        return 0
    todo = unfinished(plan.jobs, config.behaviour.force)
    logger.info("%d scan(s) selected: %d done before, %d to do", len(plan.jobs), len(plan.jobs) - len(todo), len(todo))
    outcomes = []
    if todo:
        with validation(todo, config):
            outcomes = process_jobs(todo, plan, config, logs.config_path(config.output_dir, run_id))
    code = summarize(plan.jobs, todo, outcomes)
    output_dataset.check_mounted(config.output_dir)
    for subject in sorted({job.scan.subject for job in plan.jobs if not overview.is_reported(job)}):
        write_subject_report(config.output_dir, subject)
    return code


def validation(todo: Sequence[Job], config: Config) -> AbstractContextManager[None]:
    """Let the BIDS validator look at what is to be processed, unless that was not asked for."""
    if not config.behaviour.validate:
        return nullcontext()
    return validating(config.bids_dir, sorted({job.scan.participant for job in todo}), work_dir(config))


def make_plan(config: Config) -> Plan:
    """Find the scans and the model, and what is to become of each; nothing is written."""
    check_dataset(config.bids_dir)
    scans = find_scans(config.bids_dir, config.selection, config.bids_database_dir)
    output_dataset.check_output_dir(config.output_dir)
    card = find_card(config.method.model, config.hub_dirs)
    merge = find_merge(card, config.method.ca_mode)
    suited = suitable_scans(scans, card, config)
    suited_keys = {scan.key for scan in suited}
    left_out = [scan for scan in scans if scan.key not in suited_keys]
    jobs = plan_jobs(suited, card, merge, config)
    return Plan(with_helpers(jobs, t1w_scans(scans, config), config.method.derivatives), card, merge, left_out)


def t1w_scans(scans: Sequence[Scan], config: Config) -> list[Scan]:
    """T1w scans through which T2w ones may be located; they need not be asked for."""
    selection = config.selection
    if not any(contrast_of(scan.suffix) == "T2w" for scan in scans):
        return []
    if not {"T1w", "UNIT1"} & set(selection.modalities):
        with suppress(NothingSelectedError):
            scans = find_scans(config.bids_dir, replace(selection, modalities=("T1w",)), config.bids_database_dir)
    return [scan for scan in scans if contrast_of(scan.suffix) == "T1w"]


def rewrite_reports(config: Config, terminal: Terminal) -> int:
    """Write the reports of all participants (or of those named) again, from the derivatives alone."""
    found = {path.name.removeprefix("sub-") for path in config.output_dir.glob("sub-*") if path.is_dir()}
    subjects = sorted((found & set(config.selection.participants)) if config.selection.participants else found)
    if not subjects:
        raise NoInputError(f"No derivatives to report in {config.output_dir}", "Run the participant level first.")
    terminal.begin_log(logs.log_path(config.output_dir, logs.new_run_id()))
    for subject in subjects:
        write_subject_report(config.output_dir, subject)
    logger.info("%d report(s) written", len(subjects))
    return 0


def status(config: Config, terminal: Terminal) -> int:
    """Tell which scans are done, failed or missing, and how to run the rest; the raw data may be gone."""
    latest = logs.latest_config(config.output_dir)
    if config.method == Method() and latest is not None:
        # Asked without a model: the settings of the last run are meant.
        config = overview.with_settings_of(config, latest)
    plan = make_plan(config) if config.bids_dir.is_dir() else None
    terminal.show(overview.status(plan, config) if plan else overview.status_of_derivatives(config.output_dir))
    return 0


def group(config: Config, terminal: Terminal) -> int:
    """Collect the volumes of all finished scans; the raw data are not needed."""
    rows = []
    for derivative in find_derivatives(config.output_dir):
        if derivative.sidecar is None or derivative.fault is not None:
            logger.warning("%s is left out: %s", derivative.table, derivative.fault)
            continue
        rows.append(group_row(derivative.sidecar, derivative.structures))
    if not rows:
        raise NoInputError(
            f"No finished scan in {config.output_dir}", "Run the participant level with the same output folder first."
        )
    terminal.begin_log(logs.log_path(config.output_dir, logs.new_run_id()))
    path = write_group_table(config.output_dir, rows)
    write_group_report(config.output_dir)
    logger.info("%d row(s) -> %s", len(rows), path)
    return 0


def work_dir(config: Config) -> Path:
    """Folder for what may be thrown away, created."""
    path = config.work_dir or provenance.default_work_dir(config.output_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot create the work folder {path}: {error.strerror}", "Choose another --work-dir."
        ) from error
    return path


def process_jobs(todo: list[Job], plan: Plan, config: Config, config_path: Path) -> list[Outcome]:
    """Process scans, one or several at once; returns how each ended."""
    ensemble = fetch(plan.card)
    scan_mb = max(expected_memory_mb(job, plan.card, config) for job in todo[: estimates.SAMPLED_SCANS])
    n_processes, n_threads = share_cores(config.resources, len(todo), allowed_cores(), allowed_memory(), scan_mb)
    memory_bytes = (config.resources.mem_mb << 20 if config.resources.mem_mb else allowed_memory()) // n_processes
    compiled = (config.work_dir or provenance.default_work_dir(config.output_dir)) / "compiled"
    device = choose_device(
        *(config.resources.device, ensemble.member_paths[0], n_threads, memory_bytes, compiled),
        reduced_precision=config.method.reduced_precision,
    )
    logger.info(
        "%s on %s: %d scan(s) at once, %d thread(s) each (%s)",
        *(plan.card.name, device.provider, n_processes, n_threads, device.reason),
    )
    # Another number of threads or another device gives other float sums: a replay has to use these.
    used = replace(config.resources, omp_nthreads=n_threads, device=device.name)
    logs.write_config(config_path, replace(config, resources=used), plan.card)
    write_methods(plan, config, device.provider)
    make_tools = partial(open_tools, ensemble, plan.merge, device, config)
    outcomes = []
    by_key = {job.key: job for job in todo}
    running = run_jobs(todo, make_tools, n_processes, config.behaviour.stop_on_first_crash)
    for outcome in tqdm(running, total=len(todo), desc="Scans", unit="scan", disable=None):
        outcomes.append(outcome)
        log_outcome(outcome, by_key[outcome.key], f"{len(outcomes)} of {len(todo)}")
    return outcomes


def write_methods(plan: Plan, config: Config, provider: str | None = None) -> None:
    """Write the methods text of this run."""
    card = plan.card
    methods = Methods(
        model=card.name,
        model_version=card.version,
        model_license=card.license,
        model_citation=card.citation,
        labels=tuple(label.name for label in plan.labels),
        n_members=len(card.members),
        n_augmentations=number_of_augmentations(card, config.method),
        mirrors_alone=card.recipe.mirrors_alone,
        contrasts=tuple(sorted({scan.suffix for job in plan.jobs for scan in job.scans})),
        with_etiv=any(may_show_a_head(job) for job in plan.jobs[:SAMPLED_HEADERS]),
        with_joined_votes=any(job.second is not None for job in plan.jobs),
        voxel_size_mm=card.voxel_size_mm,
        provider=provider,
        reduced_precision=config.method.reduced_precision,
        packages=provenance.package_versions(),
        label_maps=tuple(config.method.derivatives),
    )
    logs.write_citation(config.output_dir, methods)


def may_show_a_head(job: Job) -> bool:
    """Whether a scan that the hippocampi are found in is large enough for a whole head, by its header."""
    for path in job.inputs.values():
        try:
            image = open_scan(path)
        except BidsHsfError:  # whoever loads it says why
            continue
        x, y, z = (int(n) for n in image.shape[:3])
        if not is_limited(Grid((x, y, z), np.asarray(image.affine, dtype=np.float64))):
            return True
    return False


@dataclass(frozen=True, eq=False)
class Tools:
    """What all scans of a process share: opened once, used for each."""

    ensemble: Ensemble
    labels: tuple[Label, ...]
    members: Members
    merge: Merge | None
    device: Device
    config: Config

    def __call__(self, job: Job) -> None:
        """Process one scan."""
        process_scan(job, self)

    def rounds(self) -> Iterator[list[Predictor]]:
        """Yield the networks that are open at a time: all of them, or one after the other."""
        if self.members.all_open:
            yield [self.predictor(network) for network in self.members]
            return
        for network in self.members:
            yield [self.predictor(network)]
            del network  # so that it is closed before the next is opened

    def predictor(self, network: Predictor) -> Predictor:
        """Prepare a network for voting: with a merge, its classes are merged before it does."""
        if self.merge is None:
            return network
        return MergingPredictor(network, self.merge, self.ensemble.card.labels)


def open_tools(ensemble: Ensemble, merge: Merge | None, device: Device, config: Config) -> Tools:
    """Make a process ready for scans."""
    return_large_arrays()
    card, paths = ensemble.card, ensemble.member_paths
    labels = card.labels if merge is None else merge.labels
    half = device.memory_bytes // 2
    augmented = number_of_augmentations(card, config.method) > 0
    # With two passes a scan, opening would take as long as they do.
    kept_bytes = min(half, SMALL_ENSEMBLE_BYTES) if augmented else half
    if augmented and not card.recipe.mirrors_alone and device.n_threads > 1:
        # Until the first sample is made, loading and locating the scan leave a core idle.
        Thread(target=import_libraries, name="import torch").start()
    return Tools(ensemble, labels, Members(paths, card, device, kept_bytes), merge, device, config)


def process_scan(job: Job, tools: Tools) -> None:
    """Segment one scan and write all its outputs, unless another run has done so by now."""
    output_dataset.check_mounted(job.outputs.output_dir)
    with claimed(job.outputs.claim):
        if not tools.config.behaviour.force and is_done_by_now(job):
            return
        clock = provenance.Clock()
        with clock.stage("load"):
            check_memory(job, tools)
            inputs = provenance.describe_inputs(job.inputs)
            scan, *others = [load_scan(source.path) for source in job.scans]
        with clock.stage("locate"):
            contrasts, location = locate_contrasts(job, scan, others)
            check_unchanged(job, inputs)
            release_memory()  # what registration has freed, before the networks take theirs
        with clock.stage("segment"):
            hippocampi = segment_hippocampi(contrasts, location, tools)
            release_memory()
            result = join_hemispheres(hippocampi, scan.grid, tools)
        with output_dataset.together(job.outputs, job.parts):
            with clock.stage("write"):
                write_outputs(job, scan, location, result, tools)
                sidecar = describe(job, contrasts, location, result, tools)
                if job.splits:
                    write_parts(job, scan, location, result, sidecar)
            record = provenance.record(job.request, inputs, tools.device, tools.config, clock)
            files.write_json(job.outputs.provenance, record.to_json())
            job.outputs.failure.unlink(missing_ok=True)
            # Last of all: a scan with a sidecar is done.
            files.write_json(job.outputs.sidecar, sidecar.to_json())


def check_memory(job: Job, tools: Tools) -> None:
    """Refuse a scan by its header when it would be killed half-way."""
    needed = expected_memory_mb(job, tools.ensemble.card, tools.config)
    allowed = tools.device.memory_bytes >> 20
    if needed > allowed:
        raise MemoryLimitError(
            f"{job.scan.path} would take about {needed:,} MB, {allowed:,} MB are allowed",
            "Lower --nprocs, raise --mem-mb or the memory of the job, or resample the scan.",
        )


def check_unchanged(job: Job, inputs: Sequence[Input]) -> None:
    """Make sure that what was read is what was described before: what is being copied there changes under us."""
    changed = provenance.replaced_inputs(inputs, job.inputs)
    if changed:
        raise ScanError(f"{', '.join(changed)} changed while it was read", "Run again once nothing writes there.")


def expected_memory_mb(job: Job, card: ModelCard, config: Config) -> int:
    """Estimate the memory that a scan takes, from its header and the model's card; what cannot be read takes none."""
    n_voxels = 0
    for scan in job.scans if job.guide is None else (*job.scans, job.guide):
        with suppress(UnreadableImageError):
            n_voxels += math.prod(open_scan(scan.path).shape)
    return estimates.memory_mb(n_voxels, card, number_of_augmentations(card, config.method))


@dataclass(frozen=True, eq=False)
class Contrast:
    """A scan as the networks see it.

    Attributes
    ----------
    key : str
        Of the scan.
    data : array, (X, Y, Z) float32
        Canonical.
    grid : Grid
        Of `data`, in the millimetres of the job's first scan.
    coregistration : Coregistration or None
        How it came there; None for the first scan itself.
    """

    key: str
    data: NDArray[np.float32]
    grid: Grid
    coregistration: Coregistration | None = None


def locate_contrasts(job: Job, scan: LoadedScan, others: Sequence[LoadedScan]) -> tuple[list[Contrast], Location]:
    """Find the hippocampi in the space of the job's first scan, and bring a second contrast there."""
    contrasts = [Contrast(job.scan.key, scan.data, scan.grid)]
    if job.second is None:
        return contrasts, locate_scan(job, scan)
    (second,) = others
    together = coregister(scan.data, scan.grid, second.data, second.grid)
    together.checked(job.scan.key, job.second.key)
    rigid = together.reference_from_second
    moved = Grid(second.grid.shape, rigid @ second.grid.affine)
    contrasts.append(Contrast(job.second.key, second.data, moved, together))
    if contrast_of(job.scan.suffix) == "T1w":
        return contrasts, locate_alone(job, job.scan, scan)
    # The template is a T1w brain, and a T2w scan often a slab that cannot be located by itself.
    there = locate_alone(job, job.second, second)
    location = locate(scan.data, scan.grid, reference=there.moved(rigid))
    return contrasts, replace(location, provenance={**there.provenance, "Through": job.second.key})


def locate_scan(job: Job, scan: LoadedScan) -> Location:
    """Find the hippocampi of a job's one scan: a slab, and what is doubtful by itself, through its session's T1w."""
    if job.guide is None:
        return locate_alone(job, job.scan, scan)
    borrows = job.guide.key in job.label_maps and job.scan.key not in job.label_maps
    if is_limited(scan.grid) or borrows:
        return locate_guided(job, job.guide, scan) or locate_alone(job, job.scan, scan)
    alone = locate_alone(job, job.scan, scan)
    return alone if not alone.doubtful else locate_guided(job, job.guide, scan) or alone


def locate_alone(job: Job, source: Scan, scan: LoadedScan) -> Location:
    """Find the hippocampi in one scan of a job, and take those of its label map if other software made one."""
    label_map = job.label_maps.get(source.key)
    own = None if label_map is None else read_hippocampi(label_map)
    location = locate(scan.data, scan.grid, orientation_known=scan.orientation_known, own=own)
    if label_map is None:
        return location
    return replace(location, provenance={"LabelMap": f"{label_map.name}:{label_map.relative_path}"})


def locate_guided(job: Job, guide: Scan, scan: LoadedScan) -> Location | None:
    """Find the hippocampi in another scan of the session and carry them over; None where that cannot be trusted."""
    try:
        other = load_scan(guide.path)
        there = locate_alone(job, guide, other)
    except ScanError as error:
        logger.warning("%s is located without %s: %s", job.key, guide.key, error.message)
        return None
    together = coregister(scan.data, scan.grid, other.data, other.grid)
    if there.doubtful or not together.is_usable():
        logger.warning(
            "%s is located without %s: quality there %.2f, of the coregistration %.2f (expected %g and %g or more)",
            *(job.key, guide.key, there.quality, together.quality, DOUBTFUL_QUALITY, MIN_QUALITY),
        )
        return None
    location = locate(scan.data, scan.grid, reference=there.moved(together.reference_from_second))
    through = {"Through": guide.key, "CoregistrationQuality": round(together.quality, 4)}
    return replace(location, provenance={**there.provenance, **through})


@dataclass(frozen=True, eq=False)
class Hippocampus:
    """One segmented hippocampus.

    Attributes
    ----------
    hemisphere : str
    crop : Grid
        What the networks saw.
    slices : tuple of slice
        Where `segmentation` lies in the scan's canonical array.
    segmentation : Segmentation
    probabilities : array, (C, X, Y, Z) float32
        Mean over the passes, background first, on the voxels of `slices`.
    pass_volumes : array, (n_passes, C) float32
        Volume in mm3 that each pass gives each class.
    n_components : int
        Separate pieces before islands were removed.
    """

    hemisphere: str
    crop: Grid
    slices: tuple[slice, slice, slice]
    segmentation: Segmentation
    probabilities: NDArray[np.float32]
    pass_volumes: NDArray[np.float32]
    n_components: int


@dataclass(frozen=True, eq=False)
class Crop:
    """One hippocampus in one contrast, as the networks are shown it.

    Attributes
    ----------
    contrast : Contrast
    hemisphere : str
    data : array, (X, Y, Z) float32
    grid : Grid
        Of `data`: the same for all contrasts of a hemisphere.
    """

    contrast: Contrast
    hemisphere: str
    data: NDArray[np.float32]
    grid: Grid

    def random_state(self, seed: int) -> np.random.Generator:
        """Seed its random samples: the same for each network, whatever the order of scans and workers."""
        text = f"{seed}/{self.contrast.key}/{self.hemisphere}"
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def segment_hippocampi(contrasts: Sequence[Contrast], location: Location, tools: Tools) -> list[Hippocampus]:
    """Crop both hippocampi, let all networks vote on each contrast, and decide on the first scan's own voxels."""
    crops = [crop for side in HEMISPHERES for crop in cut_crops(contrasts, location, side, tools)]
    votes = vote_on(crops, tools)
    hippocampi = []
    for side in HEMISPHERES:
        (first, joined), *others = [pair for pair in zip(crops, votes, strict=True) if pair[0].hemisphere == side]
        for crop, voted in others:
            joined += voted.within(field_of_view(crop.contrast.grid, crop.grid), joined)
        hippocampi.append(decide_on_scan(first, joined, tools))
    return hippocampi


def cut_crops(contrasts: Sequence[Contrast], location: Location, side: str, tools: Tools) -> Iterator[Crop]:
    """Cut one hippocampus out of each contrast that shows any of it, by its place in space."""
    card, grid = tools.ensemble.card, contrasts[0].grid
    asked = tools.config.method.box_margin_mm
    target = crop_grid(location, grid, side, card.voxel_size_mm, card.margin_mm if asked is None else asked)
    if 0 in target.shape:
        raise ScanError(
            f"the {SIDE_NAMES[side]} hippocampus lies outside the field of view: there is no voxel to crop",
            "Take a scan that shows both, or a --model with voxels of its own size (see `hsf-hub list`).",
        )
    for contrast in contrasts:
        if contrast is contrasts[0] or field_of_view(contrast.grid, target).any():
            # Splines keep the edges that the networks were trained on; where grids coincide nothing is interpolated.
            data = resample(contrast.data, contrast.grid, target, order=3, fill=float(contrast.data.min()))
            yield Crop(contrast, side, data, target)


def vote_on(crops: Sequence[Crop], tools: Tools) -> list[Votes]:
    """Let the networks vote on all crops: together where all are open, else one after the other."""
    card, method = tools.ensemble.card, tools.config.method
    n_augmentations = number_of_augmentations(card, method)
    samples = [draw(card.recipe, n_augmentations, crop.random_state(method.seed)) for crop in crops]
    n_passes = len(tools.members) * (1 + n_augmentations)
    # Shown on a terminal alone, and where there is something to wait for.
    silent = None if n_passes > 1 else True
    sums: list[Votes] = []
    with tqdm(total=n_passes * len(crops), desc=crops[0].contrast.key, unit="pass", leave=False, disable=silent) as bar:
        for predictors in tools.rounds():
            counted = [CountedPredictor(predictor, bar.update) for predictor in predictors]
            votes = [
                vote(crop.data, counted, crop.grid, drawn, tools.device.n_threads)
                for crop, drawn in zip(crops, samples, strict=True)
            ]
            sums = [a + b for a, b in zip(sums, votes, strict=True)] if sums else votes
            del predictors, counted  # so that the network is closed before the next is opened
    return sums


def decide_on_scan(crop: Crop, votes: Votes, tools: Tools) -> Hippocampus:
    """Carry the votes on one hippocampus to the scan's own voxels, and decide there."""
    grid = crop.contrast.grid
    box = covering_box(grid, crop.grid, crop.hemisphere)
    native = grid.subgrid(box.start, box.stop)
    carried = votes.carried(lambda sums: resample(sums, crop.grid, native))
    decided = decide(carried, tools.labels)
    cleaned, n_components = remove_islands(decided.labels, grid.voxel_sizes)
    if not tools.config.method.keep_islands:
        decided = replace(decided, labels=cleaned)
    probabilities = carried.mean_probabilities()
    return Hippocampus(crop.hemisphere, crop.grid, box.slices, decided, probabilities, votes.pass_volumes, n_components)


@dataclass(frozen=True)
class CountedPredictor:
    """A network that tells when it has done a pass.

    Attributes
    ----------
    predictor : Predictor
    done : callable
    """

    predictor: Predictor
    done: Callable[[], object]

    def __call__(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict, then tell."""
        probabilities = self.predictor(crop)
        self.done()
        return probabilities


@dataclass(frozen=True, eq=False)
class Result:
    """Both hippocampi on a scan's canonical grid.

    Attributes
    ----------
    label_map : array, (X, Y, Z) uint8
        Left k, right 100 + k.
    maps : mapping of str to array, (X, Y, Z) float32
        "entropy" and the other maps of uncertainty, 0-1.
    probabilities : array, (X, Y, Z, N) float32
        One volume a structure, left ones first; None where they are not to be written.
    spreads : mapping of int to mapping
        Bilateral index to "mean", "sd", "low", "high" of the volume in mm3 over the passes.
    hippocampi : list of Hippocampus
    head_indices : tuple of int
        Labels of the left that make up the head, as far as the uncal apex; empty where the model has none.
    """

    label_map: NDArray[np.uint8]
    maps: Mapping[str, NDArray[np.float32]]
    probabilities: NDArray[np.float32] | None
    spreads: Mapping[int, Mapping[str, float]]
    hippocampi: list[Hippocampus]
    head_indices: tuple[int, ...]


def join_hemispheres(hippocampi: list[Hippocampus], grid: Grid, tools: Tools) -> Result:
    """Put both hippocampi into arrays of the scan's canonical shape."""
    names = ("entropy", *(FULL_UNCERTAINTY if tools.config.behaviour.full_uncertainty else ()))
    certain = {"voteshare": 1.0}
    maps = {name: np.full(grid.shape, certain.get(name, 0.0), dtype=np.float32) for name in names}
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    n_labels = len(tools.labels)
    write_probabilities = tools.config.behaviour.write_probabilities
    probabilities = np.zeros((*grid.shape, 2 * n_labels), dtype=np.float32) if write_probabilities else None
    spreads: dict[int, Mapping[str, float]] = {}
    for place, side in enumerate(hippocampi):
        offset = hemisphere_index(Label(0, "", "", ""), side.hemisphere)
        labels = side.segmentation.labels
        view = label_map[side.slices]
        view[labels > 0] = labels[labels > 0] + offset
        for name in names:
            # Where two boxes overlap, the more uncertain side is shown.
            worse = np.minimum if name in certain else np.maximum
            values = getattr(side.segmentation, MAP_ATTRIBUTES[name])
            maps[name][side.slices] = worse(maps[name][side.slices], values)
        if probabilities is not None:
            channels = slice(place * n_labels, (place + 1) * n_labels)
            probabilities[(*side.slices, channels)] = np.moveaxis(side.probabilities[1:], 0, -1)
        if len(side.pass_volumes) > 1:
            spread = volume_spread(side.pass_volumes)
            for channel, label in enumerate(tools.labels, start=1):
                spreads[label.index + offset] = {
                    name: float(getattr(spread, name)[channel]) for name in ("mean", "sd", "low", "high")
                }
    head_indices = tuple(label.index for label in tools.labels if label.abbreviation == UNCAL_LABEL)
    return Result(label_map, maps, probabilities, spreads, hippocampi, head_indices)


def write_outputs(job: Job, scan: LoadedScan, location: Location, result: Result, tools: Tools) -> None:
    """Write everything of one scan but the sidecar."""
    outputs, affine = job.outputs, scan.image.affine
    entropy, etiv = result.maps["entropy"], location.etiv_mm3
    rows = volumes.measure(result.label_map, scan.grid, tools.labels, entropy, result.spreads, etiv)
    draw_figures(job, scan, location, result, tools)
    tables.write_table(outputs.table, rows)
    for name, values in result.maps.items():
        maps.write_map(outputs, name, from_canonical(values, affine), scan.image, *job.sources)
    if result.probabilities is not None:
        stored = from_canonical(result.probabilities, affine)
        names = [row["abbreviation"] for row in rows]
        maps.write_probabilities(outputs, stored, names, scan.image, *job.sources)
    maps.write_image(outputs.dseg, from_canonical(result.label_map, affine), scan.image)


def write_parts(job: Job, scan: LoadedScan, location: Location, result: Result, sidecar: Sidecar) -> None:
    """Write the map of head, body and tail that the label map gives; `sidecar` is the label map's."""
    outputs = job.parts
    split = split_long_axis(result.label_map, scan.grid, head_axes(location)[:, 1], result.head_indices)
    rows = volumes.measure(split.label_map, scan.grid, PARTS, result.maps["entropy"], {}, location.etiv_mm3)
    picture = figures.draw_segmentation(figures.cut_mosaic(scan.data, split.label_map, scan.grid), PARTS)
    files.write_text(outputs.figure("segmentation"), picture)
    tables.write_table(outputs.table, rows)
    maps.write_image(outputs.dseg, from_canonical(split.label_map, scan.image.affine), scan.image)
    files.write_json(outputs.sidecar, sidecar.of_parts(job.outputs, outputs, split.rule).to_json())


def draw_figures(job: Job, scan: LoadedScan, location: Location, result: Result, tools: Tools) -> None:
    """Draw the pictures of the report now: later levels never need the scan again."""
    template = load_template()
    brain_grid = Grid(template.grid.shape, location.scan_from_template @ template.grid.affine)
    boxes = {side.hemisphere: side.crop for side in result.hippocampi}
    entropy = result.maps["entropy"]
    with ThreadPoolExecutor(tools.device.n_threads) as pool:
        whole = pool.submit(figures.draw_localization, scan.data, scan.grid, template.brain, brain_grid, boxes)
        cut = figures.cut_mosaic(scan.data, result.label_map, scan.grid, pool)
        pictures = {
            "segmentation": pool.submit(figures.draw_segmentation, cut, tools.labels),
            "entropy": pool.submit(figures.draw_entropy, cut, entropy, scan.grid),
            "localization": whole,
        }
    for name, picture in pictures.items():
        files.write_text(job.outputs.figure(name), picture.result())


def describe(job: Job, contrasts: Sequence[Contrast], location: Location, result: Result, tools: Tools) -> Sidecar:
    """Content of the label map's sidecar: only what is equal in equal runs."""
    joined = None
    for contrast in contrasts:
        if contrast.coregistration is not None:
            joined = sidecars.Coregistration(
                scan=contrast.key,
                quality=round(contrast.coregistration.quality, 4),
                disagreement_mm=round(contrast.coregistration.disagreement_mm, 3),
                reference_from_scan=rounded_rows(contrast.coregistration.reference_from_second),
            )
    return Sidecar(
        scan=job.key,
        segmentation=job.outputs.segmentation,
        sources=sidecars.source_uris(job.sources),
        request=job.request,
        model=describe_model(tools.ensemble.card),
        localization=sidecars.Localization(
            quality=round(location.quality, 4),
            doubtful_below=DOUBTFUL_QUALITY,
            coverage={side: round(share, 4) for side, share in location.coverage.items()},
            scan_from_template=rounded_rows(location.scan_from_template),
            basis=location.provenance,
            warnings=location.warnings,
        ),
        passes=result.hippocampi[0].segmentation.n_passes,
        components={side.hemisphere: side.n_components for side in result.hippocampi},
        coregistration=joined,
        etiv_mm3=None if location.etiv_mm3 is None else round(location.etiv_mm3),
        etiv_reason=location.etiv_reason,
    )


def describe_model(card: ModelCard) -> sidecars.Model:
    """Collect what a sidecar tells of the model."""
    return sidecars.Model(
        name=card.name,
        version=card.version,
        family=card.family,
        description=card.description,
        license=card.license,
        authors=tuple(card.authors),
        citation=card.citation,
        training_data=card.training_data,
        evaluation=card.evaluation,
        voxel_size_mm=card.voxel_size_mm,
    )


def rounded_rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Rows of a matrix (4, 4) as plain numbers, as many digits as mean anything."""
    return tuple(map(tuple, np.round(matrix, 5).tolist()))


def log_outcome(outcome: Outcome, job: Job, progress: str) -> None:
    """One line a scan; a failure also leaves its reason for the status level."""
    if outcome.error is None:
        logger.info("%s: done in %.1f s (%s)", outcome.key, outcome.seconds, progress)
        return
    logger.error("%s: %s", outcome.key, outcome.error.message)
    if outcome.error.hint:
        logger.error("%s: hint: %s", outcome.key, outcome.error.hint)
    if isinstance(outcome.error, StorageError):
        return
    with suppress(BidsHsfError):
        failure = Failure(outcome.error.message, outcome.error.hint, outcome.error.exit_code)
        files.write_json(job.outputs.failure, failure.to_json())


def summarize(jobs: Sequence[Job], todo: Sequence[Job], outcomes: Sequence[Outcome]) -> int:
    """Say how the run ended; returns its exit code."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    n_left = len(todo) - len(outcomes)
    n_done = len(jobs) - len(errors) - n_left
    rest = f", {n_left} not begun" if n_left else ""
    logger.log(logging.WARNING if errors else logging.INFO, "%d of %d scan(s) done%s", n_done, len(jobs), rest)
    if not errors:
        return 0
    # A full disk or a broken model is not the fault of the scans.
    codes = {error.exit_code for error in errors}
    return SOME_FAILED if n_done else codes.pop() if len(codes) == 1 else ALL_FAILED
