"""What is to be done: which scans suit the model, which are done, failed or missing."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from bids_hsf import __version__
from bids_hsf.bids.contrasts import PAIR, contrast_of
from bids_hsf.bids.dataset import Scan
from bids_hsf.bids.label_maps import LabelMap, check_folders, find_label_map
from bids_hsf.bids.names import MULTISPECTRAL, ScanOutputs, scan_outputs
from bids_hsf.bids.provenance import read_provenance
from bids_hsf.bids.sidecars import Sidecar, find_sidecar
from bids_hsf.errors import ModelError, NothingSelectedError, OutputError, UsageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.labels import Label, Merge
from bids_hsf.runs.config import Config, Method
from bids_hsf.runs.provenance import replaced_inputs

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a scan stands in an output folder."""

    DONE = "done"
    FAILED = "failed"
    MISSING = "missing"
    DIFFERENT = "made with other settings"
    REPLACED = "made of another image"


@dataclass(frozen=True)
class Job:
    """A scan, where its results go, and what was asked of it.

    Attributes
    ----------
    scan : Scan
    outputs : ScanOutputs
    request : mapping
        All that decides the result; kept in the sidecar, compared on the next run.
    maps : tuple of str
        Soft maps to be written.
    parts : ScanOutputs
        Where head, body and tail go.
    splits : bool
        Whether they are to be written.
    second : Scan or None
        Other contrast of the session, whose votes are joined on the voxels of `scan`.
    guide : Scan or None
        T1w of the session through which a T2w that cannot be located by itself is.
    label_maps : mapping of str to LabelMap
        Key of a scan to what other software made of it.
    """

    scan: Scan
    outputs: ScanOutputs
    request: Mapping[str, Any]
    maps: tuple[str | None, ...]
    parts: ScanOutputs
    splits: bool = False
    second: Scan | None = None
    guide: Scan | None = None
    label_maps: Mapping[str, LabelMap] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the scan in the log and in tables, such as "sub-01_T2w+T1w" for two contrasts."""
        return self.scan.key if self.second is None else f"{self.scan.key}+{self.second.suffix}"

    @property
    def scans(self) -> tuple[Scan, ...]:
        """The scan and, if it has one, its second contrast."""
        return (self.scan,) if self.second is None else (self.scan, self.second)

    @property
    def inputs(self) -> dict[str, Path]:
        """Relative and full paths of all scans that the result depends on, the guide too."""
        scans = self.scans if self.guide is None else (*self.scans, self.guide)
        return {scan.relative_path: scan.path for scan in scans}

    @property
    def sources(self) -> tuple[str, ...]:
        """Relative paths of `scans`."""
        return tuple(scan.relative_path for scan in self.scans)

    @property
    def expected_files(self) -> tuple[Path, ...]:
        """All files without which the scan is not done; the sidecar is written last."""
        outputs = self.outputs
        maps = tuple(path for name in self.maps for path in (outputs.map(name), outputs.map_sidecar(name)))
        figures = tuple(outputs.figure(name) for name in FIGURES)
        parts = (self.parts.dseg, self.parts.table, self.parts.sidecar) if self.splits else ()
        return (outputs.dseg, outputs.table, *maps, *figures, *parts, outputs.sidecar)


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes
    ----------
    jobs : list of Job
        One a scan that suits the model, done before or not.
    card : ModelCard
    merge : Merge or None
    left_out : list of Scan
        Selected, but of a contrast that the model does not know.
    """

    jobs: list[Job]
    card: ModelCard
    merge: Merge | None
    left_out: list[Scan]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Structures of one hemisphere."""
        return self.merge.labels if self.merge else self.card.labels

    @property
    def segmentation(self) -> str:
        """The ``seg-`` entity of the outputs."""
        return segmentation_name(self.card, self.merge)


PARTS_SUFFIX = "HBT"  # head, body, tail
FIGURES = ("segmentation", "entropy", "localization")

FULL_UNCERTAINTY = ("mutualinformation", "expectedentropy", "voteshare")


def plan_jobs(scans: Sequence[Scan], card: ModelCard, merge: Merge | None, config: Config) -> list[Job]:
    """One job a scan, or a session where two contrasts are joined."""
    behaviour = config.behaviour
    maps: tuple[str | None, ...] = ("entropy",)
    maps += FULL_UNCERTAINTY if behaviour.full_uncertainty else ()
    maps += (None,) if behaviour.write_probabilities else ()
    request = request_of(card, merge, config.method)
    _check_members(request["Members"], config.method)
    segmentation = segmentation_name(card, merge)
    jobs = []
    for scan, second in pair_scans(scans, card, config):
        description = None if second is None else MULTISPECTRAL
        outputs, parts = [
            scan_outputs(config.output_dir, scan.entities, scan.suffix, name, description)
            for name in (segmentation, segmentation + PARTS_SUFFIX)
        ]
        asked = request if second is None else {**request, "SecondContrast": second.relative_path}
        jobs.append(Job(scan, outputs, asked, maps, parts, behaviour.split_long_axis, second))
    return jobs


def pair_scans(scans: Sequence[Scan], card: ModelCard, config: Config) -> list[tuple[Scan, Scan | None]]:
    """Put the T1w and the T2w scan of each session together, the reference first, where that is asked for.

    Of several scans of a contrast the first one is taken; one without its counterpart stays alone.

    Raises
    ------
    UsageError
        The model does not know both contrasts, or only one of them was asked for.
    """
    if not config.method.multispectral:
        return [(scan, None) for scan in scans]
    if not set(PAIR) <= set(card.contrasts):
        message = f"--multispectral: {card.name} is for {' and '.join(card.contrasts)} alone"
        raise UsageError(message, "Choose another --model; see `hsf-hub list`.")
    if not set(PAIR) <= {contrast_of(suffix) for suffix in config.selection.modalities}:
        raise UsageError(
            f"--multispectral joins T1w and T2w, but -m/--modalities is {' '.join(config.selection.modalities)}"
        )
    sessions: dict[tuple[str, str | None], dict[str, list[Scan]]] = {}
    for scan in scans:
        contrasts = sessions.setdefault((scan.subject, scan.session), {})
        contrasts.setdefault(contrast_of(scan.suffix), []).append(scan)
    return [_pair(contrasts, config.method.reference) for contrasts in sessions.values()]


def _pair(contrasts: Mapping[str, Sequence[Scan]], reference: str) -> tuple[Scan, Scan | None]:
    """Pick the two scans of a session."""
    for first, *others in contrasts.values():
        if others:
            left = ", ".join(scan.key for scan in others)
            logger.warning("--multispectral takes %s alone of its contrast; left out: %s", first.key, left)
    other = next(contrast for contrast in PAIR if contrast != reference)
    if len(contrasts) < len(PAIR):
        ((scan, *_),) = contrasts.values()
        missing = other if reference in contrasts else reference
        logger.info("%s is processed alone: there is no %s of its session", scan.key, missing)
        return scan, None
    return contrasts[reference][0], contrasts[other][0]


def with_helpers(jobs: Sequence[Job], t1w_scans: Sequence[Scan], folders: Mapping[str, str]) -> list[Job]:
    """Add what helps to locate: to a T2w alone its session's T1w, and the label maps of other software in `folders`."""
    check_folders(folders)
    guides: dict[tuple[str, str | None], Scan] = {}
    for scan in t1w_scans:
        guides.setdefault((scan.subject, scan.session), scan)
    helped = []
    for job in jobs:
        alone = job.second is None and contrast_of(job.scan.suffix) == "T2w"
        guide = guides.get((job.scan.subject, job.scan.session)) if alone else None
        scans = job.scans if guide is None else (*job.scans, guide)
        maps = {scan.key: found for scan in scans if (found := find_label_map(folders, scan)) is not None}
        helped.append(replace(job, guide=guide, label_maps=maps))
    return helped


def segmentation_name(card: ModelCard, merge: Merge | None) -> str:
    """Name the label maps of a family, and of its merged labels."""
    return card.family + (merge.suffix if merge else "")


def request_of(card: ModelCard, merge: Merge | None, method: Method) -> dict[str, Any]:
    """All settings that decide a result, as plain values."""
    return {
        "Model": card.name,
        "ModelVersion": card.version,
        "Members": {member.filename: member.sha256 or member.xxh3_64 for member in card.members},
        "Labels": merge.name if merge else "all",
        "TestTimeAugmentations": number_of_augmentations(card, method),
        "Seed": method.seed,
        "BoxMarginMm": method.box_margin_mm,
        "KeepIslands": method.keep_islands,
        # Absent unless asked for, as in results of older versions.
        **({"ReducedPrecision": True} if method.reduced_precision else {}),
        **({"Derivatives": sorted(method.derivatives)} if method.derivatives else {}),
    }


def _check_members(members: Mapping[str, str], method: Method) -> None:
    """Make sure that a replayed run finds the model's files as they were."""
    if method.members and dict(method.members) != dict(members):
        raise ModelError(
            f"The files of {method.model} are not those of the saved run: expected {_sums(method.members)}, "
            f"found {_sums(members)}",
            "Use the card of that time, or give --model on the command line to take what there is.",
        )


def _sums(members: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {checksum[:8]}" for name, checksum in members.items())


def number_of_augmentations(card: ModelCard, method: Method) -> int:
    """Random test-time samples beside the plain pass: the user's number, else the card's; of equal ones, one."""
    number = card.n_augmentations if method.n_augmentations is None else method.n_augmentations
    return min(number, 1) if card.recipe.mirrors_alone else number


def find_merge(card: ModelCard, ca_mode: str | None) -> Merge | None:
    """Find the card's label set of a name; None stands for the labels as the network has them."""
    if ca_mode is None:
        return None
    for merge in card.merges:
        if merge.name == ca_mode:
            return merge if merge.parts else None
    offered = ", ".join(merge.name for merge in card.merges) or "none"
    raise UsageError(f"--ca-mode {ca_mode} is not offered by {card.name}", f"It offers: {offered}")


def suitable_scans(scans: Sequence[Scan], card: ModelCard, config: Config) -> list[Scan]:
    """Leave out the scans whose contrast the model does not know.

    Raises
    ------
    UsageError
        The user asked for such a contrast by name.
    NothingSelectedError
        Nothing is left.
    """
    contrasts = {*card.contrasts, *(("UNIT1",) if "T1w" in card.contrasts else ())}
    unsuited = [scan for scan in scans if scan.suffix not in contrasts]
    offered = f"{card.name} is for {' and '.join(card.contrasts)}"
    if config.selection.modalities_asked and unsuited:
        raise UsageError(
            f"-m/--modalities {unsuited[0].suffix}: {offered}", "Choose another --model; see `hsf-hub list`."
        )
    for scan in unsuited:
        logger.info("%s is left out: %s", scan.key, offered)
    suited = [scan for scan in scans if scan.suffix in contrasts]
    if not suited:
        raise NothingSelectedError(f"No scan suits the model: {offered}", "See `hsf-hub list` for other models.")
    return suited


def state_of(job: Job) -> State:
    """Compare what is on disk with what is asked for."""
    return _judge(job, find_sidecar(job.outputs.sidecar))


def _judge(job: Job, sidecar: Sidecar | None) -> State:
    if sidecar is None:
        return State.FAILED if job.outputs.failure.exists() else State.MISSING
    if sidecar.request != dict(job.request):
        return State.DIFFERENT
    if not all(path.exists() for path in job.expected_files):
        return State.MISSING
    return State.REPLACED if replaced(job) else State.DONE


def replaced(job: Job) -> list[str]:
    """Relative paths of the images that are not those which the result was made of."""
    inputs = read_provenance(job.outputs.provenance).inputs
    others = replaced_inputs(inputs, job.inputs)
    # Derivatives that differ in space- alone have outputs of one name; a file that was compressed since is the same.
    known = {image.path.removesuffix(".gz") for image in inputs}
    if known and job.scan.relative_path.removesuffix(".gz") not in known:
        others.insert(0, job.scan.relative_path)
    return others


def unfinished(jobs: Sequence[Job], force: bool) -> list[Job]:
    """Jobs that are still to be done; with `force` all of them. What is odd about the finished ones is logged.

    Raises
    ------
    OutputError
        Results that were made with another variant or other settings lie under the same names.
    """
    if force:
        return list(jobs)
    sidecars = [find_sidecar(job.outputs.sidecar) for job in jobs]
    states = [_judge(job, sidecar) for job, sidecar in zip(jobs, sidecars, strict=True)]
    different = [job for job, state in zip(jobs, states, strict=True) if state is State.DIFFERENT]
    if different:
        raise _refusal(different)
    for job, state in zip(jobs, states, strict=True):
        if state is State.REPLACED:
            logger.warning("%s is done again: %s is not the image of last time", job.key, ", ".join(replaced(job)))
    pairs = zip(sidecars, states, strict=True)
    versions = {sidecar.app_version for sidecar, state in pairs if sidecar and state is State.DONE}
    for version in sorted(versions - {__version__}):
        logger.warning(
            "Some finished scans were made by bids-hsf %s; this is %s. --force redoes them", version, __version__
        )
    return [job for job, state in zip(jobs, states, strict=True) if state is not State.DONE]


def is_done_by_now(job: Job) -> bool:
    """Whether another run has done what was unfinished.

    Raises
    ------
    OutputError
        It has done so with other settings.
    """
    state = state_of(job)
    if state is State.DIFFERENT:
        raise _refusal([job])
    return state is State.DONE


def _refusal(different: Sequence[Job]) -> OutputError:
    job = different[0]
    what = difference(job)
    return OutputError(
        f"{len(different)} scan(s), first {job.key}, were made with other settings: {what}",
        "Use another output folder, or --force to replace them.",
    )


def difference(job: Job) -> str:
    """Name the settings in which an existing result differs from the request."""
    sidecar = find_sidecar(job.outputs.sidecar)
    found = {} if sidecar is None else sidecar.request
    names = [name for name in job.request if name != "Members" and found.get(name) != job.request[name]]
    return "; ".join(f"{name} was {found.get(name)}, now {job.request[name]}" for name in names) or "other model files"
