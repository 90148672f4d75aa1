"""Let pybids pick images: everything that knows it, and which of its inner parts is built upon."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_hsf.bids.selection import Selection
from bids_hsf.errors import UsageError
from bids_hsf.text_table import near

# As pybids reads the suffix off a name: what stands before the first dot that no hyphen separates from a "_".
SUFFIX = re.compile(r"(?:^|_)([a-zA-Z0-9+]+)\.")

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


def query(bids_dir: Path, images: Sequence[Path], selection: Selection) -> list[Path]:
    """Pick, out of some image files, those of the wanted suffixes that pass the filters, sorted.

    pybids is asked where there are filters alone: to load it takes half a second, to fill its index a millisecond a
    file. It knows the files by name, so that what is not asked for (functional images, other subjects, metadata)
    costs no time.

    Raises
    ------
    UsageError
        A filter names an entity that pybids does not know, or is no regular expression.
    """
    if not any(selection.filters.get(suffix.lower()) for suffix in selection.modalities):
        wanted = set(selection.modalities)
        return sorted(path for path in images if (found := SUFFIX.search(path.name)) and found[1] in wanted)
    # pybids reads entities off whole paths, and a folder above the dataset may be called ses-1 or func.
    by_name = {_legal(f"/{path.relative_to(bids_dir).as_posix()}"): path for path in images}
    layout = _index_in_memory(list(by_name))
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


def _pybids_filters(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a filter file's values: null means absent, "*" means any that is there."""
    from bids.layout import Query

    special = {None: Query.NONE, "*": Query.ANY}

    def translate(value: Any) -> Any:
        if isinstance(value, list):
            return [translate(item) for item in value]
        return special.get(value, value) if isinstance(value, str | None) else value

    return {entity: translate(value) for entity, value in filters.items()}
