"""Write the results of a scan aside, and put them in their places when all are whole.

Until then the results of an earlier run stand; what is killed leaves nothing under a final name.
"""

import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bids_hsf.bids.names import ScanOutputs
from bids_hsf.bids.output_dataset import STAGING, check_mounted, own_files
from bids_hsf.bids.provenance import KnownFile, describe_file, is_other, read_provenance
from bids_hsf.errors import StorageError
from bids_hsf.files import TEMPORARY_NAME, is_stale, move, of_disk, remove_temporary, temporary_name

logger = logging.getLogger(__name__)

KEPT_FOLDER = "replaced"  # in logs/


@dataclass(frozen=True)
class Stage:
    """Where the results of a scan are written before they are put in their places.

    Attributes
    ----------
    folder : Path
        Stands for the output dataset.
    final : tuple of ScanOutputs
        Where the results go; the sidecar of the first one tells that all of them are there.
    """

    folder: Path
    final: tuple[ScanOutputs, ...]

    @property
    def outputs(self) -> tuple[ScanOutputs, ...]:
        """The same files, aside."""
        return tuple(replace(outputs, output_dir=self.folder) for outputs in self.final)

    @property
    def _written(self) -> list[Path]:
        """Relative paths of all files that have been written, the sidecar that tells of them last."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        written = sorted(path.relative_to(self.folder) for path in found)
        last = [outputs.relative_to(self.folder) for outputs in (self.outputs[0].provenance, self.outputs[0].sidecar)]
        return sorted(written, key=lambda path: (path in last, path == last[1]))

    def describe(self) -> tuple[KnownFile, ...]:
        """Tell the files that have been written from others, for the provenance."""
        return tuple(describe_file(path.as_posix(), self.folder / path) for path in self._written)

    def put(self) -> None:
        """Move all files to their places, over those of an earlier run, whose others go.

        Raises
        ------
        StorageError
            The output folder is gone, or a file cannot be moved.
        """
        output_dir = self.final[0].output_dir
        check_mounted(output_dir)
        places = {output_dir / path: self.folder / path for path in self._written}
        others = [path for path in _obsolete(self.final) if path not in places]
        try:
            _keep_changed(self.final[0], [*places, *others])
            # First, so that nobody takes a mixture of old and new for whole; the new one comes last.
            self.final[0].sidecar.unlink(missing_ok=True)
            for path in others:
                path.unlink(missing_ok=True)
            for place, path in places.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                move(path, place)
        except OSError as error:
            message = f"Cannot put {error.filename2 or error.filename} in its place: {error.strerror}"
            raise of_disk(StorageError(message, "Check permissions; the same command goes on."), error) from error


@contextmanager
def together(*scan_outputs: ScanOutputs, alone: bool = True) -> Iterator[Stage]:
    """Write the files of one scan: all of them or none, and until then those of an earlier run stay.

    Parameters
    ----------
    *scan_outputs : ScanOutputs
        Of one output folder.
    alone : bool
        Nobody else writes the same scan: what others left aside is of runs that were killed.

    Raises
    ------
    StorageError
        The output folder is gone, or a file cannot be written.
    """
    output_dir = scan_outputs[0].output_dir
    check_mounted(output_dir)
    stem = Path(scan_outputs[0].stem).name
    _clear(output_dir / STAGING, stem, alone)
    stage = Stage(output_dir / STAGING / temporary_name(stem), scan_outputs)
    try:
        yield stage
        stage.put()
    finally:
        shutil.rmtree(stage.folder, ignore_errors=True)
        with suppress(OSError):  # others are at work
            stage.folder.parent.rmdir()


def _clear(folder: Path, stem: str, alone: bool) -> None:
    """Remove what killed runs left aside of a scan."""
    own = re.compile(re.escape(f".{stem}") + TEMPORARY_NAME.pattern.removeprefix(r"\..*"))
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if own.fullmatch(path.name) and (alone or is_stale(path)):
                remove_temporary(path)


def _obsolete(scan_outputs: Sequence[ScanOutputs]) -> list[Path]:
    """Files of an earlier run: of its record, where there is one, else all that go by this app's names."""
    output_dir = scan_outputs[0].output_dir
    own = [path for outputs in scan_outputs for path in own_files(outputs)]
    recorded = {output_dir / known.path for known in read_provenance(scan_outputs[0].provenance).outputs}
    return [path for path in own if path in recorded or not recorded]


def _keep_changed(outputs: ScanOutputs, paths: Sequence[Path]) -> None:
    """Put aside what somebody has changed since: a label map that was mended by hand is hours of work."""
    recorded = {outputs.output_dir / known.path: known for known in read_provenance(outputs.provenance).outputs}
    for path in paths:
        known = recorded.get(path)
        if known is None or not path.is_file() or not path.stat().st_size or not is_other(path, known):
            continue
        kept = outputs.output_dir / "logs" / KEPT_FOLDER / time.strftime("%Y%m%dT%H%M%S") / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        move(path, kept)
        logger.warning("%s was changed after it had been written; it is replaced, and kept as %s", path, kept)
