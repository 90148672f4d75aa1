"""What an output folder holds of a cohort: results, failures, and what was stopped or never begun; none is left out."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.covariates import Covariates, read_covariates
from bids_hsf.bids.dataset import find_scans
from bids_hsf.bids.derivatives import each_derivative, names_in, result_tables
from bids_hsf.bids.entities import legal_label
from bids_hsf.bids.group_row import FAILED, KILLED, NOT_BEGUN, GroupRow
from bids_hsf.bids.group_table import GroupTable
from bids_hsf.bids.long_table import LongTable
from bids_hsf.bids.names import FAILURE_END, STARTED_END, ScanName, claim_beside, parse_stem
from bids_hsf.bids.provenance import read_failure
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import BidsHsfError, NoInputError, NothingSelectedError
from bids_hsf.hub.models import find_card
from bids_hsf.runs import logs, overview
from bids_hsf.runs.beginnings import is_at_work, read_beginning
from bids_hsf.runs.config import Config
from bids_hsf.runs.group_table import failed_row, group_row, unfinished_row
from bids_hsf.runs.planning import plan_jobs, suitable_scans
from bids_hsf.segmentation.model import find_merge

logger = logging.getLogger(__name__)

UNKNOWN = "n/a"
SHOWN_LABELS = 30
NEVER_BEGUN = "it has not been segmented yet; run the participant level"
AT_WORK = "a run is at work on it"


@dataclass(eq=False)
class Cohort:
    """All scans that an output folder tells of.

    Attributes
    ----------
    table : GroupTable
        A row a scan and model: the finished ones, then the others.
    structures : LongTable
        Of the finished ones.
    covariates : Covariates
    leftovers : list of Path
        Hidden files beside the records of scans.
    """

    table: GroupTable
    structures: LongTable
    covariates: Covariates
    leftovers: list[Path] = field(default_factory=list)
    _all: GroupTable | None = None
    _kept: NDArray[np.bool_] | None = None

    def leave_out(self, unwanted: NDArray[np.bool_]) -> None:
        """Leave scans out of all tables."""
        self._all, self._kept = self.table, ~unwanted
        self.table = self.table.chosen(self._kept)

    def long_lines(self) -> Iterator[str]:
        """Lines of the long table."""
        return self.structures.lines(self._all or self.table, self._kept)

    def append(self, row: GroupRow) -> None:
        """Add a scan, with what the raw dataset says of it."""
        known = self.covariates.of(row.participant_id, row.session_id, row.scan)
        self.table.append(row.cells() | known)


@dataclass(eq=False)
class Names:
    """Names of outputs that an output folder, or its raw dataset, tells of.

    Attributes
    ----------
    results : list of Path
        Tables of label maps.
    failures, begun : dict of str to Path
        Stem to its record.
    leftovers : list of Path
        Hidden files beside the records: what runs are just writing, and what killed ones have left.
    planned : dict of str to (str, str)
        Stem to the key of the scan and the model, of what the raw dataset holds.
    """

    results: list[Path]
    failures: dict[str, Path]
    begun: dict[str, Path]
    leftovers: list[Path] = field(default_factory=list)
    planned: dict[str, tuple[str, str]] = field(default_factory=dict)

    def stems(self) -> Iterator[str]:
        """All of them; one may come several times."""
        yield from map(_stem, self.results)
        for known in (self.failures, self.begun, self.planned):
            yield from known


def collect(config: Config) -> Cohort:
    """Read all that is known of the scans which were asked for.

    Raises
    ------
    NoInputError
        There are no results, not even failures.
    NothingSelectedError
        A label that was asked for is not known, or nothing is left.
    """
    names = find_names(config)
    if not names.results and not names.failures:
        raise NoInputError(
            f"No finished scan in {config.output_dir}", "Run the participant level with the same output folder first."
        )
    asked = _Asked(config.selection)
    if asked.names_labels:
        asked.check([name for name in map(parse_stem, names.stems()) if name is not None])
    cohort = Cohort(GroupTable(), LongTable(), read_covariates(config.bids_dir), names.leftovers)
    told = _add_results(cohort, names, asked, config.output_dir)
    for row in _others(names, told):
        if asked.takes(row.participant_id, row.session_id, row.suffix):
            cohort.append(row)
    if not len(cohort.table):
        raise NothingSelectedError(f"No scan in {config.output_dir} matches", "Check labels and -m/--modalities.")
    return cohort


def find_names(config: Config) -> Names:
    """List the files that tell of scans; none is read."""
    failures, begun, leftovers = {}, {}, []
    for folder, name in _records(str(config.output_dir / "logs")):
        if name.startswith("."):
            leftovers.append(Path(folder, name))
        elif name.startswith("sub-") and name.endswith(FAILURE_END):
            failures[name.removesuffix(FAILURE_END)] = Path(folder, name)
        elif name.startswith("sub-") and name.endswith(STARTED_END):
            begun[name.removesuffix(STARTED_END)] = Path(folder, name)
    return Names(result_tables(config.output_dir), failures, begun, leftovers, dict(_planned(config)))


def _records(logs_dir: str) -> Iterator[tuple[str, str]]:
    """Folder and name of what lies in ``logs/``, and in its folders of subjects."""
    for name in names_in(logs_dir):
        yield logs_dir, name
        if name.startswith("sub-") and "." not in name:
            folder = f"{logs_dir}/{name}"
            yield from ((folder, inner) for inner in names_in(folder))


def _planned(config: Config) -> Iterator[tuple[str, tuple[str, str]]]:
    """Names of what each model of the folder would write for the raw dataset, where that is there."""
    if not config.bids_dir.is_dir():
        return
    for path in logs.latest_configs(config.output_dir):
        try:
            saved = overview.with_settings_of(replace(config, selection=Selection()), path)
            card = find_card(saved.method.model, saved.hub_dirs)
            merge = find_merge(card, saved.method.ca_mode)
            scans = suitable_scans(find_scans(saved.bids_dir, saved.selection), card, saved)
            # A participant after the other: the jobs of a large dataset do not fit into memory together.
            for _, some in groupby(scans, lambda scan: scan.subject):
                for job in plan_jobs(list(some), card, merge, saved):
                    yield Path(job.outputs.stem).name, (job.key, card.name)
        except BidsHsfError as error:
            logger.warning("Which scans are missing is not known, by the settings of %s: %s", path, error.message)


def _add_results(cohort: Cohort, names: Names, asked: "_Asked", output_dir: Path) -> dict[str, GroupRow | None]:
    """Add what has results that are whole; returns their stems, and of results that are not the row to be."""
    told: dict[str, GroupRow | None] = {}
    wanted: Iterable[Path] = names.results
    if asked.is_choosy:
        wanted = [path for path in names.results if asked.takes_name(parse_stem(_stem(path)))]
    for found in each_derivative(wanted, output_dir):
        sidecar = found.sidecar
        if sidecar is not None and found.fault is None:
            told[found.stem] = None
            cohort.structures.append(len(cohort.table), found.structures, sidecar.etiv_mm3)
            cohort.append(group_row(sidecar, found.structures))
            continue
        logger.warning("%s is left out: %s", found.table, found.fault)
        name = parse_stem(found.stem)
        if name is not None:
            scan, model = (None, UNKNOWN) if sidecar is None else (sidecar.scan, sidecar.model.name)
            told[found.stem] = unfinished_row(name, FAILED, str(found.fault), model, scan)
    return told


def _others(names: Names, told: Mapping[str, GroupRow | None]) -> Iterator[GroupRow]:
    """Rows of the scans without whole results, sorted by name."""
    models = {stem.partition("_seg-")[2].partition("_")[0]: model for stem, (_, model) in names.planned.items()}
    done = {stem for stem, damaged in told.items() if damaged is None}
    for stem in sorted({*told, *names.failures, *names.begun, *names.planned} - done):
        name, damaged = parse_stem(stem), told.get(stem)
        if name is None:
            continue
        scan, model = names.planned.get(stem, (name.scan, models.get(name.segmentation, UNKNOWN)))
        beginning = read_beginning(names.begun[stem]) if stem in names.begun else None
        if beginning is not None:  # later than a failure that is still recorded
            record = names.begun[stem]
            held = is_at_work(beginning, record, claim_beside(record), watch=True)
            state, reason = (NOT_BEGUN, AT_WORK) if held else (KILLED, beginning.told)
            yield unfinished_row(name, state, reason, model, scan)
        elif stem in names.failures:
            yield failed_row(name, read_failure(names.failures[stem]), model)
        elif damaged is not None:
            yield damaged
        else:
            yield unfinished_row(name, NOT_BEGUN, NEVER_BEGUN, model, scan)


def _stem(table: Path) -> str:
    return table.name.removesuffix("_dseg.tsv")


class _Asked:
    """Which scans were asked for, by the labels that outputs have."""

    def __init__(self, selection: Selection) -> None:
        self.participants = {f"sub-{legal_label(label)}" for label in selection.participants}
        self.excluded = {f"sub-{legal_label(label)}" for label in selection.excluded_participants}
        self.sessions = {f"ses-{legal_label(label)}" for label in selection.sessions}
        self.suffixes = set(selection.modalities) if selection.modalities_asked else set()

    @property
    def names_labels(self) -> bool:
        """Whether labels were given that must be known."""
        return bool(self.participants or self.sessions)

    @property
    def is_choosy(self) -> bool:
        """Whether not all scans were asked for."""
        return bool(self.names_labels or self.excluded or self.suffixes)

    def takes(self, participant: str, session: str | None, suffix: str) -> bool:
        """Whether a scan was asked for."""
        return (
            (not self.participants or participant in self.participants)
            and participant not in self.excluded
            and (not self.sessions or session in self.sessions)
            and (not self.suffixes or suffix.partition("+")[0] in self.suffixes)
        )

    def takes_name(self, name: ScanName | None) -> bool:
        """Whether a scan was asked for, by the name of its outputs; one that tells nothing is taken."""
        return name is None or self.takes(name.participant, name.session, name.scan.rpartition("_")[2])

    def check(self, names: Iterable[ScanName]) -> None:
        """Make sure that all labels are known.

        Raises
        ------
        NothingSelectedError
            One is not; the known ones are listed.
        """
        participants: set[str] = set()
        sessions: set[str] = set()
        for name in names:
            participants.add(name.participant)
            sessions |= {name.session} if name.session else set()
        for kind, asked, known in (
            ("participant", self.participants, participants),
            ("session", self.sessions, sessions),
        ):
            unknown = sorted(asked - known)
            if unknown:
                shown = ", ".join(sorted(known)[:SHOWN_LABELS]) + (" ..." if len(known) > SHOWN_LABELS else "")
                raise NothingSelectedError(
                    f"Unknown {kind} label: {', '.join(label[4:] for label in unknown)}",
                    f"Known {kind}s: {shown.replace('sub-', '').replace('ses-', '') or 'none'}",
                )
