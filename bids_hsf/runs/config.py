"""What the command line asked for: one frozen, validated value, without any input or output."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from bids_hsf.bids.selection import Selection
from bids_hsf.errors import UsageError
from bids_hsf.hub import DEFAULT_MODEL
from bids_hsf.text_table import near

MAX_MARGIN_MM = 100.0
MIN_TOLERANCE = 0.01
MAX_AUGMENTATIONS = 1000  # as in cards
MAX_WAIT_MINUTES = 60 * 24 * 365

Reference = Literal["T1w", "T2w"]
Uncertainty = Literal["entropy", "full"]
Viewer = Literal["itksnap", "freesurfer", "fsleyes", "slicer"]
Launcher = Literal["slurm", "pbs", "lsf", "sge", "babs", "nipoppy", "snakemake"]
Level = Literal["participant", "group", "status"]
Executor = Literal["local", "dask"]

REFERENCES: tuple[Reference, ...] = get_args(Reference)
UNCERTAINTIES: tuple[Uncertainty, ...] = get_args(Uncertainty)
VIEWERS: tuple[Viewer, ...] = get_args(Viewer)
LEVELS: tuple[Level, ...] = get_args(Level)
LAUNCHERS: tuple[Launcher, ...] = get_args(Launcher)
EXECUTORS: tuple[Executor, ...] = get_args(Executor)


class _Exact:
    """Tells pydantic to take a number for a number alone, not True or "3"."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "strict": True}


Whole = Annotated[int, _Exact()]
Number = Annotated[float, _Exact()]


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
    executor : str
        "local", or "dask" for the workers of a Dask cluster.
    dask_scheduler : str or None
        Address of its scheduler, or path of the JSON file that this has written.
    dask_jobqueue : Path or None
        Configuration of dask-jobqueue, for workers that a batch system starts.
    dask_wait : float
        Minutes without any worker, and without any that waits in a queue, after which the run ends.
    """

    nthreads: Whole | None = None
    nprocs: Whole | None = None
    omp_nthreads: Whole | None = None
    mem_mb: Whole | None = None
    device: str = "auto"
    executor: Executor = "local"
    dask_scheduler: str | None = None
    dask_jobqueue: Path | None = None
    dask_wait: Number = 10.0


@dataclass(frozen=True)
class Method:
    """Everything that changes the result; two runs with equal methods give equal label maps.

    Attributes
    ----------
    model : str
        Name on the hub, or path to a card.
    ca_mode : str or None
        Name of the card's merge; None for the labels as they are.
    n_augmentations : int or "auto" or None
        Test-time samples; "auto" for as many as it takes until volumes are steady, None for the card's number.
    volume_tolerance : float
        Per cent: with "auto" samples, how near to those of ever more samples volumes have to be.
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
    n_augmentations: Whole | Literal["auto"] | None = None
    volume_tolerance: Number = 1.0
    seed: Whole = 42
    box_margin_mm: Number | None = None
    derivatives: Mapping[str, str] = field(default_factory=dict)
    keep_islands: bool = False
    reduced_precision: bool = False
    multispectral: bool = False
    reference: Reference = "T2w"
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Behaviour:
    """How the run goes about its work.

    Attributes
    ----------
    validate : bool
        Run the BIDS validator on the input.
    dry_run, reports_only, boilerplate_only, force, stop_on_first_crash : bool
    clean_work_dir : bool
        Remove what earlier runs left in the scratch folder.
    uncertainty : str
        "entropy", or "full" for all maps.
    write_probabilities, write_coordinates, write_transforms, split_long_axis, report_3d : bool
    export_lut : tuple of str
        Viewers for which label files are written.
    verbosity : int
    ratings : Path or None
        Of scans, by those who looked at them, for the group table.
    leave_out_excluded : bool
        Leave scans that are rated "exclude" out of the group's tables.
    as_json : bool
        Of the status level.
    require_complete : bool
        Let status and group levels end as failed where scans are not done.
    launcher : str or None
        What is to be written instead of a run: a script that starts it on a cluster.
    """

    validate: bool = True
    dry_run: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    force: bool = False
    stop_on_first_crash: bool = False
    clean_work_dir: bool = False
    uncertainty: Uncertainty = "entropy"
    write_probabilities: bool = False
    write_coordinates: bool = False
    write_transforms: bool = False
    split_long_axis: bool = False
    report_3d: bool = False
    export_lut: tuple[Viewer, ...] = ()
    verbosity: Whole = 0
    ratings: Path | None = None
    leave_out_excluded: bool = False
    as_json: bool = False
    require_complete: bool = False
    launcher: Launcher | None = None

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
    images : tuple of Path
        Images that are given by themselves instead of a dataset; `bids_dir` is then the folder of the first.
    """

    # Of pydantic; the sections inherit it.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    bids_dir: Path
    output_dir: Path
    levels: tuple[Level, ...]
    selection: Selection = field(default_factory=Selection)
    method: Method = field(default_factory=Method)
    resources: Resources = Resources()
    behaviour: Behaviour = Behaviour()
    work_dir: Path | None = None
    hub_dirs: tuple[Path, ...] = ()
    bids_database_dir: Path | None = None
    command: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        self._check_paths()
        if self.images:
            self._check_images()
        self._check_numbers()
        self._check_executor()
        if self.method.reference != Method.reference and not self.method.multispectral:
            raise UsageError(f"--reference {self.method.reference} says nothing without --multispectral")

    def _check_paths(self) -> None:
        """Refuse folders that would be written into though they are not ours to write."""
        for path in (self.bids_dir, self.output_dir, self.work_dir, self.bids_database_dir, *self.hub_dirs):
            if "\0" in str(path):
                raise UsageError(f"A path with a null character: {str(path)!r}")
        if not self.images and self.output_dir.is_relative_to(self.bids_dir):
            inside = self.output_dir.relative_to(self.bids_dir).parts
            example = f"Use for example {self.bids_dir / 'derivatives' / 'bids-hsf'}"
            if not inside:
                raise UsageError(f"The output folder is the BIDS folder itself: {self.bids_dir}", example)
            if inside[0].startswith("sub-"):
                raise UsageError(
                    f"The output folder lies among the raw data of {inside[0]}: {self.output_dir}", example
                )
        if self.work_dir is not None and self.work_dir.is_relative_to(self.bids_dir) and not self._work_in_output():
            raise UsageError(
                f"The work folder {self.work_dir} lies inside the BIDS folder {self.bids_dir}",
                "Choose one outside with --work-dir; raw data stay untouched.",
            )

    def _check_numbers(self) -> None:
        """Refuse numbers that mean nothing."""
        counts = {
            "--nthreads": self.resources.nthreads,
            "--nprocs": self.resources.nprocs,
            "--omp-nthreads": self.resources.omp_nthreads,
            "--mem-mb": self.resources.mem_mb,
        }
        for flag, count in counts.items():
            if count is not None and count < 1:
                raise UsageError(f"{flag} must be at least 1, got {count}")
        n_augmentations, tolerance = self.method.n_augmentations, self.method.volume_tolerance
        if isinstance(n_augmentations, int) and n_augmentations < 0:
            raise UsageError(f"--tta must not be negative, got {n_augmentations}")
        if isinstance(n_augmentations, int) and n_augmentations > MAX_AUGMENTATIONS:
            raise UsageError(
                f"--tta must be at most {MAX_AUGMENTATIONS}, got {n_augmentations}",
                "20 views are what HSF takes; --tta auto takes as many as volumes need.",
            )
        if not MIN_TOLERANCE <= tolerance <= 100:
            raise UsageError(f"--tta-tolerance must be within {MIN_TOLERANCE:g} and 100 per cent, got {tolerance:g}")
        if tolerance != Method.volume_tolerance and n_augmentations != "auto":
            raise UsageError("--tta-tolerance says nothing without --tta auto", "Give --tta auto as well.")
        margin = self.method.box_margin_mm
        if margin is not None and not 0 <= margin <= MAX_MARGIN_MM:
            raise UsageError(f"--box-margin-mm must be within 0 and {MAX_MARGIN_MM:g}, got {margin:g}")

    def _check_executor(self) -> None:
        """Refuse a cluster that is not named, or named twice."""
        named = {"--dask-scheduler": self.resources.dask_scheduler, "--dask-jobqueue": self.resources.dask_jobqueue}
        given = [flag for flag, value in named.items() if value is not None]
        if self.resources.executor == "dask" and len(given) != 1:
            raise UsageError(
                "--executor dask takes its workers from one place",
                "Give --dask-scheduler ADDRESS|FILE.json for a cluster that runs, or --dask-jobqueue FILE.yaml.",
            )
        given += ["--dask-wait"] if self.resources.dask_wait != Resources.dask_wait else []
        if self.resources.executor != "dask" and given:
            raise UsageError(f"{given[0]} says nothing without --executor dask")
        minutes = self.resources.dask_wait
        if not 0 < minutes <= MAX_WAIT_MINUTES:
            raise UsageError(f"--dask-wait must be above 0 and at most {MAX_WAIT_MINUTES} minutes, got {minutes:g}")

    def _check_images(self) -> None:
        """Refuse what needs a dataset around the images."""
        if self.levels != ("participant",):
            raise UsageError(f"Images given by name know no {' '.join(self.levels)} level", "Leave the level out.")
        if self.method.multispectral:
            raise UsageError("--multispectral joins the images of a session, which needs a BIDS dataset")

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
        A setting is unknown, lacks, or is not of its type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Config).validate_python(record)
    except ValidationError as error:
        details = min(error.errors(include_url=False), key=lambda details: details["type"] == "missing")
        raise _usage_error(details) from error


def _usage_error(details: Mapping[str, Any]) -> UsageError:
    """Say in our words what pydantic has against a setting."""
    place = ".".join(map(str, details["loc"]))
    if details["type"] == "missing":
        return UsageError(f"Setting {place} is missing")
    if details["type"] == "unexpected_keyword_argument":
        section: Any = Config(Path("in"), Path("out"), ())
        for name in details["loc"][:-1]:
            section = getattr(section, name)
        known = sorted(section.__dataclass_fields__)
        hint = near(str(details["loc"][-1]), known).strip() or f"Known: {', '.join(known)}"
        return UsageError(f"Unknown setting: {place}", hint)
    shape = {"path_type": "a path", "tuple_type": "a list", "mapping_type": "a section", "dataclass_type": "a section"}
    expected = shape.get(details["type"]) or details["msg"].removeprefix("Input should be ")
    shown = repr(details["input"])
    return UsageError(f"Setting {place}: expected {expected}, got {shown[:200]}{'...' if len(shown) > 200 else ''}")


def _plain(value: Any) -> Any:
    """Paths to strings, tuples to lists, mappings to dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
