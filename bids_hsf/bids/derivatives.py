"""Read an output dataset back: which scans lie in it, with their sidecars and tables."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bids_hsf.bids.names import log_folder
from bids_hsf.bids.provenance import changed_files, read_outputs
from bids_hsf.bids.sidecars import AGAIN, Sidecar, read_sidecar
from bids_hsf.bids.tables import Structure, read_structures
from bids_hsf.bids.typed_json import ForeignFileError, NotWholeError

logger = logging.getLogger(__name__)

ENDINGS = ("_dseg.json", "_dseg.tsv")
OWN_ENTITIES = ("_space-", "_seg-")  # in the names of all of this app's label maps


@dataclass(frozen=True)
class Derivative:
    """A label map of an output dataset, by the files that tell of it.

    Attributes
    ----------
    table : Path
        ``*_dseg.tsv``; the other files lie beside it.
    sidecar : Sidecar or None
        None where there is none that is whole.
    structures : tuple of Structure
        Empty where the table is not whole.
    fault : str or None
        Why it does not count as done: "it ...".
    """

    table: Path
    sidecar: Sidecar | None
    structures: tuple[Structure, ...]
    fault: str | None

    @property
    def stem(self) -> str:
        """Name of its files, without suffix."""
        return self.table.name.removesuffix("_dseg.tsv")


def find_derivatives(output_dir: Path, subject: str | None = None) -> list[Derivative]:
    """Find the label maps of all subjects, or of one, sorted by path; other software's are passed over, and told."""
    return list(each_derivative(result_tables(output_dir, subject), output_dir))


def result_tables(output_dir: Path, subject: str | None = None) -> list[Path]:
    """Tables of label maps, sorted, be they there or known by their sidecars alone."""
    tables = dict.fromkeys((folder, f"{name.rpartition('.')[0]}.tsv") for folder, name in _results(output_dir, subject))
    return [Path(folder, name) for folder, name in tables]


def each_derivative(tables: Iterable[Path], output_dir: Path) -> Iterator[Derivative]:
    """Read one label map's files after the other: a large cohort's do not fit into memory together."""
    for table in tables:
        found = read_derivative(table, output_dir)
        if found is not None:
            yield _of_a_subject(found)


def _of_a_subject(found: Derivative) -> Derivative:
    """Refuse a sidecar in a dataset that names no participant."""
    if found.sidecar is None or "sub" in found.sidecar.entities:
        return found
    fault = f"it is not whole (Scan is {found.sidecar.scan!r}, expected the name of a scan); {AGAIN}"
    return replace(found, sidecar=None, fault=fault)


def result_files(output_dir: Path, subject: str | None = None) -> list[Path]:
    """Sidecars and tables of label maps, of this app or of others, sorted."""
    return [Path(folder, name) for folder, name in _results(output_dir, subject)]


def _results(output_dir: Path, subject: str | None) -> Iterator[tuple[str, str]]:
    """Folders and names of such files, sorted; hidden ones are not looked at, and folders of outputs alone."""
    # As texts: a large cohort has hundreds of thousands, and paths take several times as long.
    subjects = names_in(str(output_dir)) if subject is None else [f"sub-{subject}"]
    for folder in (f"{output_dir}/{name}" for name in subjects if name.startswith("sub-")):
        for inner in names_in(folder):
            anat = f"{folder}/{inner}" if inner == "anat" else f"{folder}/{inner}/anat"
            if inner == "anat" or inner.startswith("ses-"):
                names = names_in(anat)
                yield from ((anat, name) for name in names if name.endswith(ENDINGS) and not name.startswith("."))


def names_in(folder: str) -> list[str]:
    """Names in a folder, sorted; none where there is no such folder, or it is closed to us."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - a third of the time of iterdir
    except OSError:
        return []


def read_derivative(table: Path, output_dir: Path) -> Derivative | None:
    """Read the sidecar and the table of a label map; None where they are not this app's."""
    sidecar: Sidecar | None = None
    structures: tuple[Structure, ...] = ()
    faults = []
    try:
        sidecar = read_sidecar(table.with_suffix(".json"))
    except FileNotFoundError:
        faults.append(f"it has no sidecar; {AGAIN}")
    except ForeignFileError as error:
        _pass_over(table, str(error))
        return None
    except NotWholeError as error:
        faults.append(str(error))
    if sidecar is None and not all(part in table.name for part in OWN_ENTITIES):
        _pass_over(table, faults[0])
        return None
    try:
        structures = tuple(read_structures(table))
    except FileNotFoundError:
        faults.append(f"it has no table; {AGAIN}")
    except NotWholeError as error:
        faults.append(f"its table is not whole ({error}); {AGAIN}")
    if sidecar is not None and not faults:
        faults += _changes(table, sidecar, output_dir)
    return Derivative(table, sidecar, structures, faults[0] if faults else None)


def _changes(table: Path, sidecar: Sidecar, output_dir: Path) -> list[str]:
    """Tell what is not as it was written; a label map that is a link to what is not here (DataLad) is not looked at."""
    # Head, body and tail are recorded with the label map that they were made of, their last source.
    whole = sidecar.sources[-1].rpartition("/")[2] if sidecar.long_axis_rule and sidecar.sources else table.name
    stem = whole.partition("_dseg.")[0]
    label_map = table.with_suffix(".nii.gz")
    own = [label_map, table, table.with_suffix(".json")]
    names = {str(path).removeprefix(f"{output_dir}/") for path in own}
    recorded = read_outputs(log_folder(output_dir, stem) / f"{stem}_provenance.json", names)
    if recorded and not label_map.exists() and not label_map.is_symlink():
        return [f"it has no label map; {AGAIN}"]
    changed = changed_files(output_dir, recorded, own)
    return [f"{', '.join(changed)} is not as it was written; {AGAIN}"] if changed else []


def _pass_over(table: Path, reason: str) -> None:
    logger.warning("%s is passed over: %s", table.with_suffix(".json"), reason)
