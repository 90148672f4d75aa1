"""The whole way of the data, top to bottom: the methods section of the paper, as code.

Participant level: find the scans, fetch the model, choose the device; then for each scan load it,
locate the hippocampi, crop, let the networks vote, carry the votes to the scan's own voxels, decide,
measure, write. Group level: stack the tables that the participant level left.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from bids_hsf.bids import lookup_tables, output_dataset
from bids_hsf.bids.derivatives import find_derivatives
from bids_hsf.bids.folders import known_participants
from bids_hsf.bids.provenance import KnownFile
from bids_hsf.bids.staging import together
from bids_hsf.bids.validation import validating
from bids_hsf.errors import ClusterError, EmptyShardError, NoInputError, OutputError, ScanError
from bids_hsf.files import claimed, make_private, write_json
from bids_hsf.hub.cards import ModelCard
from bids_hsf.images import load_scan
from bids_hsf.labels import Merge
from bids_hsf.libraries import release_libraries
from bids_hsf.localization.locate import locate, prepare_search
from bids_hsf.localization.locator import Locator
from bids_hsf.machine import allowed_cores, release_memory, without_search_for_cycles
from bids_hsf.networks.device import Device
from bids_hsf.networks.sessions import MemberFile
from bids_hsf.reports.neighbours import Neighbours, in_order, linked_neighbours, order_of
from bids_hsf.reports.pages import prepare_templates
from bids_hsf.reports.subject import is_up_to_date, join_pages, write_image_report, write_subject_report
from bids_hsf.results import judged_result
from bids_hsf.runs import announcements, beginnings, logs, overview, provenance
from bids_hsf.runs.arrays import in_array
from bids_hsf.runs.config import Config, Method
from bids_hsf.runs.endings import SOME_FAILED, log_outcome, say_what_to_look_at, summarize, while_disk_lasts
from bids_hsf.runs.estimates import check_memory
from bids_hsf.runs.heads import locate_scans
from bids_hsf.runs.jobs import PARTS_SUFFIX, Job, Plan
from bids_hsf.runs.known_heads import KnownHeads
from bids_hsf.runs.launches import launcher
from bids_hsf.runs.methods import write_methods
from bids_hsf.runs.planning import make_plan, options_of
from bids_hsf.runs.results import Draw, draw_figures, write_result
from bids_hsf.runs.scheduling import muster
from bids_hsf.runs.states import is_done_by_now, unfinished
from bids_hsf.runs.tasks import Outcome
from bids_hsf.segmentation.hippocampi import segment
from bids_hsf.segmentation.long_axis import PARTS
from bids_hsf.segmentation.model import Model

logger = logging.getLogger(__name__)


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


def make_ready() -> None:
    """Prepare what every scan needs: in a thread of its own, while networks are opened and the first scan is read."""
    prepare_search()
    prepare_templates()


@dataclass(frozen=True)
class Seams:
    """Steps that may be replaced by others of the same kind; they travel to the processes that do the work.

    Attributes
    ----------
    locate : callable
        Finds the hippocampi of a scan, as `localization.locate.locate` does.
    draw : callable
        Draws the pictures of a scan's report, as `runs.results.draw_figures` does.
    allowed_cores : callable
        Tells how many cores this process may use.
    make_ready : callable
        Prepares what scans need, beside the choice of the device.
    """

    locate: Locator = locate
    draw: Draw = draw_figures
    allowed_cores: Callable[[], int] = allowed_cores
    make_ready: Callable[[], None] = make_ready


def run(config: Config, terminal: Terminal | None = None, seams: Seams | None = None) -> int:
    """Run the levels that were asked for, in order; returns the exit code."""
    levels: dict[str, Callable[[Config, Terminal], int]] = {
        "participant": partial(participant, seams=seams or Seams()),
        "group": group,
        "status": status,
    }
    code = 0
    # A launcher is of the work itself, and nothing else is done then.
    for level in config.levels if config.behaviour.launcher is None else ("participant",):
        try:
            code = max(code, levels[level](config, terminal or Terminal()))
        except NoInputError as error:
            # Where every scan failed, that is the reason, not the empty group.
            if not code:
                raise
            logger.error("%s level: %s", level, error.message)
    return code


def participant(config: Config, terminal: Terminal, seams: Seams) -> int:
    """Segment the selected scans; returns 0, 1 (some failed) or 65 (all failed)."""
    if config.behaviour.reports_only and not config.images:
        return rewrite_reports(config, terminal)
    config = in_array(config, os.environ)
    try:
        plan = make_plan(config)
    except EmptyShardError as error:
        logger.warning("%s; there is nothing to do for this one", error.message)
        return 0
    if config.behaviour.reports_only:
        write_reports(plan, config)
        return 0
    announcements.check_wishes(plan, config)
    if config.behaviour.dry_run or config.behaviour.launcher is not None:
        terminal.show(overview.preview(plan, config) if config.behaviour.launcher is None else launcher(plan, config))
        return 0
    run_id = logs.new_run_id()
    prepare_output(plan, config)
    terminal.begin_log(logs.log_path(config.output_dir, run_id, plan.subjects))
    logger.debug("Command: %s", " ".join(config.command))
    if config.behaviour.boilerplate_only:
        write_methods(plan, config)
        logger.info("Methods text: %s", config.output_dir / "logs" / "CITATION.md")
        return 0
    announcements.tell_names_at_fault(plan)
    todo = unfinished(plan.jobs, config.behaviour.force)
    logger.info("%d scan(s) selected: %d done before, %d to do", len(plan.jobs), len(plan.jobs) - len(todo), len(todo))
    outcomes: list[Outcome] = []
    try:
        if todo:
            with validation(todo, config):
                process_jobs(todo, plan, config, run_id, seams, outcomes)
    except ClusterError:
        if outcomes:
            finish(todo, outcomes, plan, config, run_id)
        raise
    return finish(todo, outcomes, plan, config, run_id)


def finish(todo: Sequence[Job], outcomes: Sequence[Outcome], plan: Plan, config: Config, run_id: str) -> int:
    """Tell how a run ended, and write its pages; returns its exit code."""
    code = summarize(plan.jobs, todo, outcomes)
    say_what_to_look_at(todo, outcomes)
    output_dataset.check_mounted(config.output_dir)
    write_reports(plan, config)
    announcements.at_the_end(plan, config, logs.log_path(config.output_dir, run_id, plan.subjects), code)
    return code


def prepare_output(plan: Plan, config: Config) -> None:
    """Make the output folder ready for the results of a plan."""
    if config.images:
        output_dataset.prepare_loose_dir(config.output_dir)
    else:
        output_dataset.prepare_output_dir(config.output_dir, config.bids_dir, plan.card.license)
        if config.selection.is_whole:
            output_dataset.tidy(config.output_dir)
    lookup_tables.write_label_files(config.output_dir, plan.segmentation, plan.labels, config.behaviour.export_lut)
    if config.behaviour.split_long_axis:
        name = plan.segmentation + PARTS_SUFFIX
        lookup_tables.write_label_files(config.output_dir, name, PARTS, config.behaviour.export_lut)


def write_reports(plan: Plan, config: Config) -> None:
    """Write the page of each participant, or of each image that belongs to none."""
    if config.images:
        for job in plan.jobs:
            if job.outputs.table.exists():
                write_image_report(config.output_dir, job.outputs.table, job.key)
        return
    order = order_of(config.output_dir) if config.selection.is_whole else {}
    if config.selection.shard is not None:
        # Those beside them will have pages, too; where not, the group level joins what there is.
        everybody = known_participants(config.bids_dir)
        order = in_order(set(everybody) - set(config.selection.excluded_participants))
    for subject in plan.subjects:
        # Of some participants alone the neighbours are not looked for.
        page = config.output_dir / f"sub-{subject}.html"
        neighbours = order.get(subject, Neighbours()) if order else linked_neighbours(page)
        if not is_up_to_date(config.output_dir, subject, neighbours):
            write_subject_report(config.output_dir, subject, neighbours)


def validation(todo: Sequence[Job], config: Config) -> AbstractContextManager[None]:
    """Let the BIDS validator look at what is to be processed, unless that was not asked for."""
    if config.images or not config.behaviour.validate:
        return nullcontext()
    return validating(config.bids_dir, sorted({job.scan.participant for job in todo}), work_dir(config))


def rewrite_reports(config: Config, terminal: Terminal) -> int:
    """Write the reports of all participants (or of those named) again, from the derivatives alone."""
    found = {path.name.removeprefix("sub-") for path in config.output_dir.glob("sub-*") if path.is_dir()}
    subjects = sorted((found & set(config.selection.participants)) if config.selection.participants else found)
    if not subjects:
        raise NoInputError(f"No derivatives to report in {config.output_dir}", "Run the participant level first.")
    terminal.begin_log(logs.log_path(config.output_dir, logs.new_run_id()))
    output_dataset.tidy(config.output_dir)
    order = order_of(config.output_dir)
    for subject in subjects:
        write_subject_report(config.output_dir, subject, order[subject])
    logger.info("%d report(s) written", len(subjects))
    write_known_labels(config)
    return 0


def write_known_labels(config: Config) -> None:
    """Write label descriptions, if they were asked for, from the tables of the scans that are there."""
    told = set()
    for derivative in find_derivatives(config.output_dir) if config.behaviour.export_lut else ():
        if derivative.sidecar is not None and derivative.structures and derivative.sidecar.segmentation not in told:
            name = derivative.sidecar.segmentation
            told.add(name)
            labels = lookup_tables.labels_of(derivative.structures)
            lookup_tables.write_label_files(config.output_dir, name, labels, config.behaviour.export_lut)


def status(config: Config, terminal: Terminal) -> int:
    """Tell which scans are done, failed or missing, and how to run the rest; the raw data may be gone."""
    from bids_hsf.runs import census

    configs, asked = [config], config.method != Method()
    if not asked:
        # Asked without a model: the settings of the last run of each are meant.
        saved = logs.latest_configs(config.output_dir) if config.bids_dir.is_dir() else []
        configs = [overview.with_settings_of(config, path) for path in saved] or configs
    if config.bids_dir.is_dir():
        parts = [census.status(make_plan(each), each, asked) for each in configs]
    else:
        parts = [census.status_of_derivatives(config.output_dir)]
    terminal.show(census.shown(parts, config.behaviour.as_json))
    return SOME_FAILED if config.behaviour.require_complete and not all(part.is_complete for part in parts) else 0


@without_search_for_cycles()
def group(config: Config, terminal: Terminal) -> int:
    """Collect what there is of all scans, judge them by each other, and write it down; the raw data are not needed."""
    # A tenth of what a task of the participant level imports.
    from bids_hsf.reports.group import write_group_report
    from bids_hsf.reports.review import PAGE as REVIEW_PAGE
    from bids_hsf.runs.group_level import judged_cohort, preview, tell_what_is_missing, write_tables

    cohort, said = judged_cohort(config)
    if config.behaviour.dry_run:
        terminal.show(preview(cohort, said, config.output_dir))
        return 0
    # Behind an array none of whose tasks looks through the root; records have been listed anyway.
    output_dataset.tidy(config.output_dir, cohort.leftovers)
    terminal.begin_log(logs.log_path(config.output_dir, logs.new_run_id()))
    path = write_tables(cohort, config.output_dir)
    page = write_group_report(config.output_dir, cohort.table)
    join_pages(config.output_dir)
    for line in said:
        logger.info("%s", line)
    logger.info("%d row(s) -> %s", len(cohort.table), path)
    announcements.after_group(page, config.output_dir / REVIEW_PAGE)
    is_complete = tell_what_is_missing(cohort, config)
    return SOME_FAILED if config.behaviour.require_complete and not is_complete else 0


def work_dir(config: Config) -> Path:
    """Folder for what may be thrown away, created."""
    path = config.work_dir or provenance.default_work_dir(config.output_dir)
    try:
        if config.work_dir is None and path.parent != config.output_dir:
            make_private(path)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"Cannot create the work folder {path}: {error.strerror}"
        raise OutputError(message, "Choose another --work-dir.") from error
    return path


def process_jobs(
    todo: Sequence[Job], plan: Plan, config: Config, run_id: str, seams: Seams, outcomes: list[Outcome]
) -> None:
    """Process scans, one or several at once; how each ended is added to `outcomes`, whatever comes afterwards."""
    if config.behaviour.clean_work_dir:
        provenance.remove_compiled(work_dir(config))
    make = partial(open_worker, plan.card, plan.merge, config, seams)
    crew = muster(todo, plan, config, seams.allowed_cores, make, seams.make_ready)
    saved = logs.save_config(replace(config, resources=crew.resources), plan.card, run_id)
    by_key = {job.key: job for job in todo}
    device = None
    with closing(crew.engine.run(todo, crew.open_tools, config.behaviour.stop_on_first_crash)) as running:
        for outcome in tqdm(while_disk_lasts(running), total=len(todo), desc="Scans", unit="scan", disable=None):
            outcomes.append(outcome)
            # Not before: of a run whose every scan is refused, another's methods would be lost.
            if device is None and outcome.device is not None:
                device = outcome.device
                used = crew.resources_on(device)
                # Where a worker has chosen it; and the file is not that of an earlier run.
                if used != crew.resources and saved == logs.config_path(config.output_dir, run_id):
                    logs.write_config(saved, replace(config, resources=used), plan.card)
                write_methods(plan, config, device.provider)
            log_outcome(outcome, by_key[outcome.key], f"{len(outcomes)} of {len(todo)}")


@dataclass(frozen=True, eq=False)
class Worker:
    """What all scans of a process share: opened once, used for each.

    Attributes
    ----------
    model : Model
    config : Config
    seams : Seams
    heads : KnownHeads
        Found by this process.
    """

    model: Model
    config: Config
    seams: Seams
    heads: KnownHeads = field(default_factory=KnownHeads)

    def __call__(self, job: Job) -> Device:
        """Process one scan; tells on which device."""
        process_scan(job, self)
        release_memory()  # the last the scan has left, before the next one is loaded
        return self.model.device


def open_worker(
    card: ModelCard,
    merge: Merge | None,
    config: Config,
    seams: Seams,
    networks: Sequence[MemberFile],
    device: Device,
) -> Worker:
    """Make a process ready for scans."""
    augmented = options_of(config).augmentations_of(card) > 0
    return Worker(Model(card, networks, device, merge, augmented=augmented), config, seams)


def process_scan(job: Job, worker: Worker) -> None:
    """Segment one scan and write all its outputs, unless another run has done so by now."""
    output_dataset.check_mounted(job.outputs.output_dir)
    if job.name_fault is not None:
        raise ScanError(f"{job.key} has no results: {job.name_fault}", "Give the scan a shorter name.")
    with claimed(job.outputs.claim) as alone:
        if not worker.config.behaviour.force and is_done_by_now(job):
            return
        with beginnings.told(job):
            segment_scan(job, worker, alone)


def segment_scan(job: Job, worker: Worker, alone: bool) -> None:
    """Segment one scan that nobody else is at (if `alone`), and write all its outputs."""
    model, config = worker.model, worker.config
    clock = provenance.Clock(job.key)
    with clock.stage("load"):
        check_memory(job, model.card, config, model.device.memory_bytes)
        inputs = provenance.describe_inputs(job.inputs)
        loaded = [load_scan(source.path) for source in job.scans]
        release_memory()  # the file's bytes
    with clock.stage("locate"):
        locator = partial(worker.seams.locate, n_threads=model.device.n_threads)
        located = locate_scans(job, loaded, inputs, locator, worker.heads)
        check_unchanged(job, inputs, worker.heads)
        release_memory()  # what registration has freed, before the networks take theirs
        release_libraries()
    with clock.stage("segment"):
        hippocampi = segment(located.scans, located.location, model, options_of(config))
        release_memory()
    result = judged_result(job.key, loaded, located, hippocampi, model.card, job.request)
    with together(job.outputs, job.parts, alone=alone) as stage:
        with clock.stage("write"):
            outputs, parts = stage.outputs
            aside = replace(job, outputs=outputs, parts=parts)
            sidecar = write_result(aside, result, worker.seams.draw, model.device.n_threads)
            write_json(outputs.sidecar, sidecar.to_json())
        record = provenance.record(job.request, inputs, stage.describe(), model.device, config, clock)
        write_json(outputs.provenance, record.to_json())
    job.outputs.failure.unlink(missing_ok=True)


def check_unchanged(job: Job, inputs: Sequence[KnownFile], heads: KnownHeads) -> None:
    """Make sure that what was read is what was described before: what is being copied there changes under us."""
    changed = provenance.replaced_inputs(inputs, job.inputs)
    if changed:
        heads.forget()
        raise ScanError(f"{', '.join(changed)} changed while it was read", "Run again once nothing writes there.")
