"""All scans of the group table, as the pages need them: by columns, since there may be a hundred thousand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.group_row import VOLUME_END, is_own
from bids_hsf.bids.group_table import NAME, GroupTable, read_group_table
from bids_hsf.bids.tables import MISSING
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.findings import Weight
from bids_hsf.reports.pages import anchor

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

DONE, MISSED = "done", "missing"
MIN_KNOWN = 3  # values of a covariate that are worth a chart, and different ones
MAX_GROUPS = 40  # values of a column that is filtered by
MAX_CODES = 6  # of those that are numbers


@dataclass(frozen=True, eq=False)
class Cohort:
    """All scans of a table, done or not.

    Attributes
    ----------
    table : GroupTable
    """

    table: GroupTable

    @cached_property
    def volume_columns(self) -> list[str]:
        """Columns of volumes of structures, and of their sums."""
        return [name for name in self.table.names if name.startswith(("L_", "R_")) and name.endswith(VOLUME_END)]

    @cached_property
    def outlying(self) -> NDArray[np.bool_]:
        """Scans that lie far from those that they can be compared with, (N,)."""
        return np.array([word == "yes" for word in self.table.texts("outlier")], bool)

    @cached_property
    def weights(self) -> list[str]:
        """Heaviest weight of what is to be said of each scan; "none" where nothing is."""
        found = []
        rows = zip(self.table.texts("worst_finding"), self.outlying.tolist(), self.statuses, strict=True)
        for worst, is_outlier, status in rows:
            if worst == Weight.FAIL or status not in (DONE, MISSED):
                found.append(str(Weight.FAIL))
            else:
                found.append(str(Weight.CHECK) if is_outlier else worst or "none")
        return found

    @cached_property
    def flagged(self) -> NDArray[np.bool_]:
        """Scans that somebody has to look at, (N,)."""
        return np.array([weight in (Weight.CHECK, Weight.FAIL) for weight in self.weights], bool)

    @cached_property
    def statuses(self) -> list[str]:
        """What became of each scan."""
        return [status or DONE for status in self.table.texts("status")]

    @cached_property
    def scans(self) -> list[str]:
        """Keys of the scans."""
        return [scan or MISSING for scan in self.table.texts("scan")]

    @cached_property
    def remarks(self) -> list[str]:
        """Tell what is to be said of each scan, in one line: why it is not done, findings, what lies far."""
        reasons, findings, measures = map(self.table.texts, ("status_reason", "findings", "outlier_measures"))
        far = [measure and f"far from the others (robust z): {readable_measures(measure)}" for measure in measures]
        return ["; ".join(filter(None, parts)) for parts in zip(reasons, findings, far, strict=True)]

    @cached_property
    def covariates(self) -> dict[str, FloatArray]:
        """Columns of the raw dataset's tables that hold numbers, such as ages; NaN where there is none."""
        found = {}
        for name in self.table.names:
            if is_own(name):
                continue
            values = self.table.numbers(name)
            n_texts = sum(cell is not None for cell in self.table.texts(name))
            known = values[np.isfinite(values)]
            if len(known) == n_texts and len(np.unique(known)) >= MIN_KNOWN:
                found[name] = values
        return found

    @cached_property
    def groups(self) -> dict[str, Sequence[str | None]]:
        """Columns of the raw dataset's tables with few values, such as sites."""
        found = {}
        for name in self.table.names:
            if is_own(name):
                continue
            values = self.table.texts(name)
            n_values = len(set(values))
            most = MAX_CODES if name in self.covariates else min(MAX_GROUPS, max(MAX_CODES, len(values) // 3))
            if 1 < n_values <= most:
                found[name] = values
        return found

    @cached_property
    def addresses(self) -> list[str]:
        """Where each scan stands on its subject's page."""
        names = ("participant_id", "model", "segmentation")
        participants, models, segmentations = ([cell or "" for cell in self.table.texts(name)] for name in names)
        rows = zip(participants, self.scans, models, segmentations, strict=True)
        return [f"{quote(participant)}.html#{anchor(*scan)}" for participant, *scan in rows]


def read_cohort(output_dir: Path) -> Cohort:
    """Read ``group_volumes.tsv``; no scan where it is not there or not whole, which is told."""
    try:
        return Cohort(read_group_table(output_dir))
    except FileNotFoundError:
        pass
    except NotWholeError as error:
        logger.warning("%s is passed over: %s; run the group level again", output_dir / NAME, error)
    return Cohort(GroupTable())


def readable_measures(text: str) -> str:
    """Write what lies far from the others for the eye.

    >>> readable_measures("L_CA1_per_mille_eTIV -5.2; total_asymmetry_percent +4.0; together +7.1")
    'L CA1 by eTIV −5.2, total asymmetry +4.0, all measures together +7.1'
    """
    words = {"_per_mille_eTIV": " by eTIV", "_asymmetry_percent": " asymmetry", "_mm3": "", "_n_components": " pieces"}
    words |= {"together": "all measures together", "; ": ", ", " -": " \u2212", "_": " "}
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def short_heading(column: str) -> str:
    """Shorten a column's name for the eye.

    >>> short_heading("L_CA1_mm3"), short_heading("R_n_components")
    ('L CA1', 'R pieces')
    """
    return column.removesuffix("_mm3").replace("n_components", "pieces").replace("per_mille_", "‰ ").replace("_", " ")
