"""Provenance of a scan's result: everything that may differ between equal runs, beside the derivatives in ``logs/``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_hsf.bids.typed_json import Fields, NotWholeError
from bids_hsf.files import read_json


@dataclass(frozen=True)
class Input:
    """An image that a result was made of.

    Attributes
    ----------
    path : str
        From the root of the raw dataset.
    n_bytes : int
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
    def from_json(cls, fields: Fields) -> "Input":
        """Read what `to_json` gives."""
        n_bytes, modified_ns = fields.number("Bytes"), fields.number("ModifiedNs")
        if n_bytes is None or modified_ns is None:
            raise NotWholeError("the size or the time of an input is missing")
        return cls(fields.required("Path"), int(n_bytes), int(modified_ns), fields.required("SHA256"))


@dataclass(frozen=True)
class Provenance:
    """What a run did to one scan, with what, and at what cost.

    Attributes
    ----------
    request : mapping of str to value
        As in the sidecar.
    inputs : tuple of Input
        All images that the result depends on.
    app, packages : mapping of str to value
        Versions by name.
    device, host : mapping of str to value
        The execution provider, and why it was chosen; the machine.
    command : tuple of str
    container : str or None
        Tag of the image.
    seconds : mapping of str to float
        Wall time by stage.
    peak_memory_mb : float or None
    finished : str or None
        Date and time.
    """

    request: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
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
            inputs=tuple(Input.from_json(known) for known in fields.objects("Inputs")),
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
    """

    error: str
    hint: str | None = None
    exit_code: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {"Error": self.error, "Hint": self.hint, "ExitCode": self.exit_code}


def read_failure(path: Path) -> Failure:
    """Read why a scan failed; an empty reason where there is none that is whole."""
    fields = Fields(read_json(path) or {})
    try:
        return Failure(fields.text("Error") or "", fields.text("Hint"), fields.number("ExitCode"))
    except NotWholeError:
        return Failure("")
