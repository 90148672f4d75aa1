"""The group level: a cohort's ratings, outliers and changes, and the tables that are written of it."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bids_hsf.bids import group_dictionary, group_table, long_table
from bids_hsf.bids.group_row import DONE, STATUSES
from bids_hsf.bids.group_table import GroupTable, write_lines
from bids_hsf.bids.ratings import EXCLUDE, RATINGS, Ratings, read_ratings
from bids_hsf.cohort import changes
from bids_hsf.cohort.families import mixtures_of
from bids_hsf.cohort.outliers import MIN_SCANS, judge
from bids_hsf.errors import StorageError, UsageError
from bids_hsf.files import write_json
from bids_hsf.runs.cohort import Cohort, collect
from bids_hsf.runs.config import Config
from bids_hsf.text_table import text_table

logger = logging.getLogger(__name__)

SHOWN = 5
ENTITIES = ("suffix", "extension", "datatype")  # of pybids, that files in the root of a dataset have


def judged_cohort(config: Config) -> tuple[Cohort, list[str]]:
    """Collect the scans that were asked for, rated and judged; returns them, and what is to be said of them."""
    if config.behaviour.leave_out_excluded and config.behaviour.ratings is None:
        raise UsageError("--leave-out-excluded says nothing without --ratings")
    ratings = None if config.behaviour.ratings is None else read_ratings(config.behaviour.ratings)
    cohort = collect(config)
    said = []
    if ratings is not None:
        said += _rate(cohort, ratings, config.behaviour.leave_out_excluded)
    judge(cohort.table).put_into(cohort.table)
    return cohort, [*_counts(cohort.table), *said]


def _rate(cohort: Cohort, ratings: Ratings, leave_out: bool) -> list[str]:
    """Fill the columns of ratings, and leave excluded scans out where that is asked for; says how many of each."""
    ratings.put_into(cohort.table)
    strangers = ratings.strangers(cohort.table)
    if strangers:
        shown = ", ".join(strangers[:SHOWN]) + (", ..." if len(strangers) > SHOWN else "")
        logger.warning("%s: %d rating(s) are of no scan here: %s", ratings.path, len(strangers), shown)
    words = cohort.table.texts("qc")
    counts = Counter(words)
    said = [", ".join(f"{counts[word]} rated {word}" for word in RATINGS) + f", {counts[None]} not rated"]
    if leave_out:
        cohort.leave_out(np.array([word == EXCLUDE for word in words], bool))
        said.append(f"{counts[EXCLUDE]} excluded scan(s) left out of the tables")
    return said


def _counts(table: GroupTable) -> list[str]:
    """Say how many scans stand where, how many lie far from the others, and what was mixed."""
    states, outliers = Counter(table.texts("status")), Counter(table.texts("outlier"))
    said = [", ".join(f"{states[status]} {status}" for status in STATUSES if states[status] or status == DONE)]
    if outliers["yes"] or outliers["no"]:
        said.append(f"{outliers['yes']} of {outliers['yes'] + outliers['no']} lie far from the others")
    else:
        said.append(f"no outliers are told: fewer than {MIN_SCANS} scans can be compared")
    for mixture in mixtures_of(table):
        logger.warning("The table mixes settings, and compares within each alone: %s", mixture)
    return said


def tell_what_is_missing(cohort: Cohort, config: Config) -> bool:
    """Name the first scans that are not done; returns whether none is missing, as far as is known."""
    columns = [cohort.table.texts(name) for name in ("scan", "status", "status_reason", "model")]
    has_one_model = len(set(columns[-1])) == 1
    rows = [row for row in zip(*columns, strict=True) if row[1] != DONE]
    for scan, status, reason, model in rows[:SHOWN]:
        logger.warning("%s is %s: %s", scan if has_one_model else f"{scan} by {model}", status, reason)
    if len(rows) > SHOWN:
        logger.warning("%d further scan(s) are not done; the status level lists them", len(rows) - SHOWN)
    is_known = config.bids_dir.is_dir()
    if not is_known:
        logger.log(
            logging.ERROR if config.behaviour.require_complete else logging.INFO,
            "The BIDS folder %s is not there: whether scans are missing is not known",
            config.bids_dir,
        )
    if rows and config.behaviour.require_complete:
        logger.error("%d of %d scan(s) are not done", len(rows), len(cohort.table))
    return is_known and not rows


def preview(cohort: Cohort, said: Iterable[str], output_dir: Path) -> str:
    """Say what would be written, with the scans that are not done."""
    table = cohort.table
    columns = [table.texts(name) for name in ("scan", "model", "status", "status_reason")]
    rows = [tuple(cell or "" for cell in row) for row in zip(*columns, strict=True) if row[2] != DONE]
    lines = [*text_table(("scan", "model", "status", "reason"), rows), ""] if rows else []
    lines += [*said, f"{len(table)} row(s) would go to {output_dir / group_table.NAME}"]
    return "\n".join([*lines, "Dry run: nothing was written."])


def write_tables(cohort: Cohort, output_dir: Path) -> Path:
    """Write the tables of a cohort with their data dictionaries; returns the path of the first one."""
    descriptions = group_dictionary.dictionary(cohort.table.names, cohort.covariates.descriptions)
    path = _write(output_dir / group_table.NAME, cohort.table.lines(), descriptions)
    _write(output_dir / long_table.NAME, cohort.long_lines(), group_dictionary.LONG)
    lines = changes.change_lines(cohort.table, cohort.covariates.years_per_unit)
    title, first = next(lines), next(lines, None)
    if first is not None:
        _write(output_dir / changes.NAME, chain([title, first], lines), group_dictionary.CHANGES)
    else:
        _remove(output_dir / changes.NAME)
    return path


def _write(path: Path, lines: Iterable[str], descriptions: Mapping[str, Any]) -> Path:
    """Write a table and its data dictionary."""
    write_lines(path, lines)
    # pybids takes the dictionary for metadata of the files of that name, refuses one whose entities are others, and
    # knows an entity "suffix"; a null it passes over. The description is in the documentation.
    entities = dict.fromkeys(name for name in descriptions if name in ENTITIES)
    write_json(path.with_suffix(".json"), {**descriptions, **entities})
    return path


def _remove(path: Path) -> None:
    """Remove a table of this app's that would tell of another cohort."""
    for old in (path, path.with_suffix(".json")):
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot remove {old}: {error.strerror}", "Check permissions.") from error
