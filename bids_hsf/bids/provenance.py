"""Provenance of a scan's result: everything that may differ between equal runs, beside the derivatives in ``logs/``."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_hsf.bids.typed_json import Fields, NotWholeError
from bids_hsf.files import checksums, read_json


@dataclass(frozen=True)
class KnownFile:
    """An image that a result was made of, or a file of the result, as it was then.

    Attributes
    ----------
    path : str
        From the root of its dataset.
    n_bytes : int
        Its size.
    modified_ns : int
        Time of its last change, nanoseconds since 1970.
    sha256 : str
        Hexadecimal.
    """

    path: str
    n_bytes: int
    modified_ns: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {"Path": self.path, "Bytes": self.n_bytes, "ModifiedNs": self.modified_ns, "SHA256": self.sha256}

    @classmethod
    def from_json(cls, fields: Fields) -> "KnownFile":
        """Read what `to_json` gives."""
        n_bytes, modified_ns = fields.number("Bytes"), fields.number("ModifiedNs")
        if n_bytes is None or modified_ns is None:
            raise NotWholeError("the size or the time of a file is missing")
        return cls(fields.required("Path"), int(n_bytes), int(modified_ns), fields.required("SHA256"))


def describe_file(name: str, path: Path) -> KnownFile:
    """Tell a file from others that may take its place, by size, time and checksum; raises OSError."""
    found = path.stat()
    return KnownFile(name, found.st_size, found.st_mtime_ns, _sha256(path))


def is_other(path: Path, known: KnownFile) -> bool:
    """Whether a file is not the one that was described; raises OSError where it cannot be read.

    The checksum decides, but is taken only where the size is the same and the time is not: DataLad and copies change
    times alone.
    """
    return _differs(path, path.stat(), known)


def _differs(path: Path, found: os.stat_result, known: KnownFile) -> bool:
    if found.st_size == known.n_bytes and found.st_mtime_ns == known.modified_ns:
        return False
    return found.st_size != known.n_bytes or not path.is_file() or _sha256(path) != known.sha256


def changed_files(output_dir: Path, recorded: Iterable[KnownFile], paths: Iterable[Path]) -> list[str]:
    """Names of those results that are empty, cut, or not as they were written; what is not there is not told.

    Of results of older versions, which recorded nothing, an empty one is.
    """
    by_path = {f"{output_dir}/{known.path}": known for known in recorded}
    return [path.name for path in paths if _is_changed(path, by_path.get(str(path)))]


def _is_changed(path: Path, known: KnownFile | None) -> bool:
    try:
        found = path.stat()
        return found.st_size == 0 or (known is not None and _differs(path, found, known))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _sha256(path: Path) -> str:
    return checksums(path, ["sha256"])["sha256"]


@dataclass(frozen=True)
class Provenance:
    """What a run did to one scan, with what, and at what cost.

    Attributes
    ----------
    request : mapping of str to value
        As in the sidecar.
    inputs : tuple of KnownFile
        All images that the result depends on.
    outputs : tuple of KnownFile
        All files of the result; empty in records of older versions.
    app, packages : mapping of str to value
        Versions by name.
    device : mapping of str to value
        The execution provider, its options, and why it was chosen.
    host : mapping of str to value
        The machine: system, processor, cores.
    command : tuple of str
        What was typed.
    container : str or None
        Tag of the image.
    seconds : mapping of str to float
        Wall time by stage.
    peak_memory_mb : float or None
        The most that the process has held until this scan was done.
    finished : str or None
        Date and time.
    """

    request: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[KnownFile, ...] = ()
    outputs: tuple[KnownFile, ...] = ()
    app: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    container: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    finished: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "Request": dict(self.request),
            "Inputs": [known.to_json() for known in self.inputs],
            "Outputs": [known.to_json() for known in self.outputs],
            "App": dict(self.app),
            "Packages": dict(self.packages),
            "Device": dict(self.device),
            "Host": dict(self.host),
            "Command": list(self.command),
            "Container": self.container,
            "Seconds": dict(self.seconds),
            "PeakMemoryMB": self.peak_memory_mb,
            "Finished": self.finished,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Provenance":
        """Read what `to_json` gives, or an older version wrote.

        Raises
        ------
        NotWholeError
            A value is of another kind.
        """
        fields = Fields(content)
        return cls(
            request=fields.mapping("Request"),
            inputs=tuple(KnownFile.from_json(known) for known in fields.objects("Inputs")),
            outputs=tuple(KnownFile.from_json(known) for known in fields.objects("Outputs")),
            app=fields.mapping("App"),
            packages=fields.mapping("Packages"),
            device=fields.mapping("Device"),
            host=fields.mapping("Host"),
            command=fields.texts("Command"),
            container=fields.text("Container"),
            seconds=fields.numbers("Seconds"),
            peak_memory_mb=fields.number("PeakMemoryMB"),
            finished=fields.text("Finished"),
        )


def read_provenance(path: Path) -> Provenance:
    """Read the provenance of a scan; where there is none that is whole it says nothing."""
    try:
        return Provenance.from_json(read_json(path) or {})
    except NotWholeError:
        return Provenance()


def read_outputs(path: Path, names: Collection[str]) -> tuple[KnownFile, ...]:
    """Read some files of a result from the provenance of its scan, and no more; none where these are not whole.

    The group level asks for those of every scan.

    Parameters
    ----------
    path : Path
    names : collection of str
        Paths of the files that are asked for, from the root of the output dataset.
    """
    try:
        outputs = Fields(read_json(path) or {}).objects("Outputs")
        return tuple(KnownFile.from_json(known) for known in outputs if known.text("Path") in names)
    except NotWholeError:
        return ()


@dataclass(frozen=True)
class Failure:
    """Why a scan failed, for the status level and the report.

    Attributes
    ----------
    error : str
    hint : str or None
        What to do.
    exit_code : float or None
        That of the error.
    scan, model : str or None
        Key of the scan, and name of the model; not in records of older versions.
    """

    error: str
    hint: str | None = None
    exit_code: float | None = None
    scan: str | None = None
    model: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {
            "Error": self.error,
            "Hint": self.hint,
            "ExitCode": self.exit_code,
            "Scan": self.scan,
            "Model": self.model,
        }


def read_failure(path: Path) -> Failure:
    """Read why a scan failed; an empty reason where there is none that is whole."""
    fields = Fields(read_json(path) or {})
    try:
        return Failure(
            fields.text("Error") or "",
            fields.text("Hint"),
            fields.number("ExitCode"),
            fields.text("Scan"),
            fields.text("Model"),
        )
    except NotWholeError:
        return Failure("")
