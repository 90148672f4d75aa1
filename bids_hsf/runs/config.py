"""What the command line asked for: one frozen, validated value, without any input or output."""

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from bids_hsf.bids.selection import Selection
from bids_hsf.errors import UsageError
from bids_hsf.hub import DEFAULT_MODEL

MAX_MARGIN_MM = 100.0
REFERENCES = ("T1w", "T2w")

UNCERTAINTIES = ("entropy", "full")

VIEWERS = ("itksnap", "freesurfer", "fsleyes")

LEVELS = ("participant", "group", "status")


@dataclass(frozen=True)
class Resources:
    """Cores and memory; None where the app chooses.

    Attributes
    ----------
    nthreads : int or None
        Cores in total.
    nprocs : int or None
        Scans at once.
    omp_nthreads : int or None
        Threads a scan.
    mem_mb : int or None
        Memory in total.
    device : str
        "auto", "cpu", "openvino", "cuda", ...
    """

    nthreads: int | None = None
    nprocs: int | None = None
    omp_nthreads: int | None = None
    mem_mb: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Method:
    """Everything that changes the result; two runs with equal methods give equal label maps.

    Attributes
    ----------
    model : str
        Name on the hub, or path to a card.
    ca_mode : str or None
        Name of the card's merge; None for the labels as they are.
    n_augmentations : int or None
        Test-time samples; None for the card's number.
    seed : int
    box_margin_mm : float or None
        Margin around the hippocampus; None for the card's, or the app's default.
    derivatives : mapping of str to str
        Name to folder of other software's label maps, whose hippocampi take the place of the template's.
    keep_islands : bool
    reduced_precision : bool
        Let the hardware compute in fewer bits than float32 where it has them.
    multispectral : bool
        Join the votes of the T1w and the T2w scan of a session.
    reference : str
        The contrast on whose voxels they are joined: "T1w" or "T2w".
    members : mapping of str to str
        File names and checksums of the model as a saved run had it; empty for whatever the card names.
    """

    model: str = DEFAULT_MODEL
    ca_mode: str | None = None
    n_augmentations: int | None = None
    seed: int = 42
    box_margin_mm: float | None = None
    derivatives: Mapping[str, str] = field(default_factory=dict)
    keep_islands: bool = False
    reduced_precision: bool = False
    multispectral: bool = False
    reference: str = "T2w"
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Behaviour:
    """How the run goes about its work.

    Attributes
    ----------
    validate : bool
        Run the BIDS validator on the input.
    dry_run, reports_only, boilerplate_only, force, stop_on_first_crash : bool
    uncertainty : str
        "entropy", or "full" for all maps.
    write_probabilities, split_long_axis : bool
    export_lut : tuple of str
        Viewers for which label files are written.
    verbosity : int
    """

    validate: bool = True
    dry_run: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    force: bool = False
    stop_on_first_crash: bool = False
    uncertainty: str = "entropy"
    write_probabilities: bool = False
    split_long_axis: bool = False
    export_lut: tuple[str, ...] = ()
    verbosity: int = 0

    @property
    def full_uncertainty(self) -> bool:
        """Whether the further maps of uncertainty are wanted."""
        return self.uncertainty == "full"


@dataclass(frozen=True)
class Config:
    """One run of the app.

    Attributes
    ----------
    bids_dir, output_dir, work_dir : Path
        Absolute; `work_dir` None for a default beside $TMPDIR or in the output.
    levels : tuple of str
    hub_dirs : tuple of Path
        Folders with further model cards.
    bids_database_dir : Path or None
        A pybids index to reuse.
    command : tuple of str
        The command line, for the provenance.
    """

    bids_dir: Path
    output_dir: Path
    levels: tuple[str, ...]
    selection: Selection = field(default_factory=Selection)
    method: Method = field(default_factory=Method)
    resources: Resources = Resources()
    behaviour: Behaviour = Behaviour()
    work_dir: Path | None = None
    hub_dirs: tuple[Path, ...] = ()
    bids_database_dir: Path | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.output_dir == self.bids_dir:
            raise UsageError(
                f"The output folder is the BIDS folder itself: {self.bids_dir}",
                f"Use for example {self.bids_dir / 'derivatives' / 'bids-hsf'}",
            )
        if self.work_dir is not None and self.work_dir.is_relative_to(self.bids_dir) and not self._work_in_output():
            raise UsageError(
                f"The work folder {self.work_dir} lies inside the BIDS folder {self.bids_dir}",
                "Choose one outside with --work-dir; raw data stay untouched.",
            )
        counts = {
            "--nthreads": self.resources.nthreads,
            "--nprocs": self.resources.nprocs,
            "--omp-nthreads": self.resources.omp_nthreads,
            "--mem-mb": self.resources.mem_mb,
        }
        for flag, count in counts.items():
            if count is not None and count < 1:
                raise UsageError(f"{flag} must be at least 1, got {count}")
        if self.method.n_augmentations is not None and self.method.n_augmentations < 0:
            raise UsageError(f"--tta must not be negative, got {self.method.n_augmentations}")
        if self.method.reference not in REFERENCES:
            raise UsageError(f"--reference must be {' or '.join(REFERENCES)}, got {self.method.reference}")
        if self.method.reference != Method.reference and not self.method.multispectral:
            raise UsageError(f"--reference {self.method.reference} says nothing without --multispectral")
        margin = self.method.box_margin_mm
        if margin is not None and not 0 <= margin <= MAX_MARGIN_MM:
            raise UsageError(f"--box-margin-mm must be within 0 and {MAX_MARGIN_MM:g}, got {margin:g}")

    def _work_in_output(self) -> bool:
        return self.work_dir is not None and self.work_dir.is_relative_to(self.output_dir)

    def as_record(self) -> dict[str, Any]:
        """Plain values of every setting; `config_from` reads them back."""
        record: dict[str, Any] = _plain(asdict(self))
        return record


def config_from(record: Mapping[str, Any]) -> Config:
    """Build a Config of plain values, such as those of a saved run; what is left out has its default.

    Raises
    ------
    UsageError
        A setting is unknown, or not of its type.
    """
    return _build(Config, record, "")


Settings = TypeVar("Settings")


def _build(cls: type[Settings], record: Mapping[str, Any], place: str) -> Settings:
    hints = typing.get_type_hints(cls)
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = [name for name in record if name not in known]
    if unknown:
        raise UsageError(f"Unknown setting: {place}{unknown[0]}", f"Known: {', '.join(sorted(known))}")
    return cls(**{name: _convert(hints[name], value, place + name) for name, value in record.items()})


def _convert(hint: Any, value: Any, place: str) -> Any:
    """Check a plain value against a field's type; strings become paths, lists become tuples."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return None if value is None else _convert(arguments[0], value, place)
    if is_dataclass(hint) and isinstance(value, Mapping):
        return _build(typing.cast(type[Any], hint), value, f"{place}.")
    origin = typing.get_origin(hint) or hint
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(arguments[0], item, place) for item in value)
    if origin is Path and isinstance(value, (str, Path)):
        return Path(value)
    if origin is float and type(value) is int:
        return float(value)
    if origin is not Path and isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
        return value
    raise UsageError(f"Setting {place}: expected {getattr(origin, '__name__', origin)}, got {value!r}")


def _plain(value: Any) -> Any:
    """Paths to strings, tuples to lists, mappings to dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
