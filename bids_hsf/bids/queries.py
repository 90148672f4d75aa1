"""Let pybids pick images: everything that knows it, and which of its inner parts is built upon."""

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_hsf.bids.selection import Selection
from bids_hsf.errors import StorageError, UsageError
from bids_hsf.text_table import near

logger = logging.getLogger(__name__)

# Of anatomical images, as names of files have them, and as pybids calls them.
ENTITIES = {
    "sub": "subject",
    "ses": "session",
    "acq": "acquisition",
    "ce": "ceagent",
    "rec": "reconstruction",
    "run": "run",
    "echo": "echo",
    "inv": "inv",
    "part": "part",
    "space": "space",
    "desc": "desc",
    "datatype": "datatype",
    "suffix": "suffix",
    "extension": "extension",
}


def query(bids_dir: Path, images: Sequence[Path], selection: Selection, database_dir: Path | None) -> list[Path]:
    """Pick, out of some image files, those of the wanted suffixes that pass the filters, sorted.

    pybids knows the files by name alone, so that what is not asked for (functional images, other
    subjects, metadata) costs no time.

    Raises
    ------
    UsageError
        A filter names an entity that pybids does not know, or is no regular expression.
    StorageError
        The index in `database_dir` cannot be used.
    """
    if database_dir is None:
        # pybids reads entities off whole paths, and a folder above the dataset may be called ses-1 or func.
        by_name = {_legal(f"/{path.relative_to(bids_dir).as_posix()}"): path for path in images}
        layout = _index_in_memory(list(by_name))
    else:
        by_name = {str(path): path for path in images}
        layout = _open_index(bids_dir, images, database_dir)
    picked: set[str] = set()
    for suffix in selection.modalities:
        filters = _pybids_filters(selection.filters.get(suffix.lower(), {}))
        try:
            # The suffix only opens the choice: a filter file may say another, as nipreps ones do.
            picked |= set(layout.get(return_type="filename", **{"suffix": suffix, **filters}))
        except Exception as error:  # pybids' own, and SQLAlchemy's around those of a regular expression
            # Without what pybids advises to its own callers.
            reason = re.sub(r"\s*(\[SQL:|Did you mean|If you're sure).*", "", str(error), flags=re.DOTALL)
            message = f"--bids-filter-file, {suffix.lower()}: {' '.join(reason.split())}"
            hint = "Use pybids' names, such as session, acquisition, run, and with regex_search regular expressions."
            raise UsageError(message, _meant(reason) + hint) from error
    # Not through resolve(): a DataLad file is a link, and its target has no BIDS name.
    return sorted(by_name[name] for name in picked & set(by_name))


def _meant(reason: str) -> str:
    """Ask whether another entity was meant than the one that pybids does not know."""
    unknown = re.match("'([^']*)' is not a recognized entity", reason)
    if unknown is None:
        return ""
    short = unknown[1].lower()
    return f"Did you mean {ENTITIES[short]}? " if short in ENTITIES else near(short, ENTITIES.values())


def _legal(name: str) -> str:
    """Name without bytes that are no UTF-8, which no database takes: letters that nobody uses stand for them."""
    return "".join(chr(ord(letter) + 0x2000) if "\udc80" <= letter <= "\udcff" else letter for letter in name)


def _index_in_memory(names: Sequence[str]) -> Any:
    """Index files that are named by their paths from the root of the dataset, with a "/" before them."""
    with warnings.catch_warnings():
        # pybids warns of its own future.
        warnings.simplefilter("ignore")
        from bids import BIDSLayout, BIDSLayoutIndexer

        class NamedFilesIndexer(BIDSLayoutIndexer):  # type: ignore[misc]
            """Index the files that are named, walking no folder."""

            def _index_dir(self, _path: Any, config: list[Any], _force: Any = None) -> tuple[list[Any], list[Any]]:
                entities = {name: entity for part in config for name, entity in part.entities.items()}
                pairs = [self._index_file(name, entities) for name in names]
                return [file for file, _ in pairs], [tag for _, tags in pairs for tag in tags]

        indexer = NamedFilesIndexer(validate=False, index_metadata=False)
        # With the entities of derivatives, so that filters know desc-. The root is that of the names.
        return BIDSLayout("/", validate=False, indexer=indexer, config=["bids", "derivatives"])


def _open_index(bids_dir: Path, images: Sequence[Path], database_dir: Path) -> Any:
    """Open the complete index that the user keeps in a folder, or make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bids import BIDSLayout, BIDSLayoutIndexer

        class OwnEntitiesIndexer(BIDSLayoutIndexer):  # type: ignore[misc]
            """Read entities off the part of a path that lies in the dataset."""

            def _index_file(self, path: Any, entities: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
                file, _ = super()._index_file(path, {})
                below = Path(file.path).relative_to(bids_dir).as_posix()
                _, tags = super()._index_file(f"/{below}", entities)
                return file, [{**tag, "file_path": file.path} for tag in tags]

        try:
            layout = BIDSLayout(
                bids_dir, validate=False, database_path=database_dir, indexer=OwnEntitiesIndexer(validate=False)
            )
            indexed = layout.files
        except Exception as error:  # SQLAlchemy's tree of errors, and pybids' own
            raise StorageError(
                f"--bids-database-dir {database_dir} cannot be used: {' '.join(str(error).split())}",
                "Delete it to have it made anew, or leave the flag out.",
            ) from error
    known = {str(path): path for path in indexed}
    missing = [path for path in images if str(path) not in known]
    if missing:
        logger.warning(
            "--bids-database-dir %s does not know %d image(s), first %s; delete it to have it made anew",
            database_dir,
            len(missing),
            missing[0],
        )
    _check_entities([indexed[known[str(path)]] for path in images if str(path) in known], database_dir)
    return layout


def _check_entities(files: Sequence[Any], database_dir: Path) -> None:
    """Make sure that an index was not made of the folders above the dataset; the first image tells."""
    for file in files[:1]:
        found = file.entities.get("datatype")
        if found != "anat":
            raise StorageError(
                f"--bids-database-dir {database_dir} takes {file.path} for {found or 'no data type'}, expected anat: "
                "it was made by a pybids that reads the names of the folders above the dataset",
                "Delete it to have it made anew, or leave the flag out.",
            )


def _pybids_filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a filter file's values: null means absent, "*" means any that is there."""
    from bids.layout import Query

    special = {None: Query.NONE, "*": Query.ANY}

    def translate(value: Any) -> Any:
        if isinstance(value, list):
            return [translate(item) for item in value]
        return special.get(value, value) if isinstance(value, str | None) else value

    return {entity: translate(value) for entity, value in filters.items()}
