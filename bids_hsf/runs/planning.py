"""What is to be done: which scans suit the model, which are done, failed or missing."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bids_hsf import results
from bids_hsf.bids import output_dataset
from bids_hsf.bids.contrasts import PAIR, contrast_of
from bids_hsf.bids.dataset import Scan, check_dataset, find_scans
from bids_hsf.bids.label_maps import check_folders, find_label_map, places_of
from bids_hsf.bids.loose_images import loose_scans
from bids_hsf.bids.names import MULTISPECTRAL, ScanOutputs, loose_outputs, scan_outputs
from bids_hsf.bids.sidecars import find_sidecar
from bids_hsf.errors import EmptyShardError, InvalidDatasetError, ModelError, NothingSelectedError, UsageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import find_card
from bids_hsf.labels import COORDINATES, Merge
from bids_hsf.runs.config import Config, Method
from bids_hsf.runs.jobs import FULL_UNCERTAINTY, PARTS_SUFFIX, Job, Plan
from bids_hsf.segmentation.coordinates import coordinates_of
from bids_hsf.segmentation.model import Options, find_merge

logger = logging.getLogger(__name__)

# Paths of label maps in a message.
SHOWN_PLACES = 8


def make_plan(config: Config) -> Plan:
    """Find the scans and the model, and what is to become of each; nothing is written."""
    if config.images:
        scans = loose_scans(config.images, config.selection)
    else:
        check_dataset(config.bids_dir)
        if config.bids_database_dir is not None:
            logger.warning(
                "--bids-database-dir is not used any more: to list the folders takes less time than an index"
            )
        scans = find_scans(config.bids_dir, config.selection)
    output_dataset.check_output_dir(config.output_dir)
    card = find_card(config.method.model, config.hub_dirs)
    merge = find_merge(card, config.method.ca_mode)
    suited = suitable_scans(scans, card, config)
    suited_keys = {scan.key for scan in suited}
    left_out = [scan for scan in scans if scan.key not in suited_keys]
    jobs = plan_jobs(suited, card, merge, config)
    return Plan(with_helpers(jobs, t1w_scans(scans, config), config.method.derivatives), card, merge, left_out)


def t1w_scans(scans: Sequence[Scan], config: Config) -> list[Scan]:
    """T1w scans through which T2w ones may be located; they need not be asked for."""
    selection = config.selection
    if config.images or not any(contrast_of(scan.suffix) == "T2w" for scan in scans):
        return []
    if selection.runs or not {"T1w", "UNIT1"} & set(selection.modalities):
        known = tuple(dict.fromkeys(scan.participant for scan in scans))
        # Runs are counted for each contrast by itself.
        wanted = replace(selection, modalities=("T1w",), runs=(), participants=known, shard=None)
        try:
            scans = find_scans(config.bids_dir, wanted, waited_for=False)
        except NothingSelectedError:
            return []
        except (UsageError, InvalidDatasetError) as error:  # of images that nobody asked for
            logger.warning("No T1w helps to find the hippocampi of a T2w: %s", error.message)
            return []
    return [scan for scan in scans if contrast_of(scan.suffix) == "T1w"]


def plan_jobs(scans: Sequence[Scan], card: ModelCard, merge: Merge | None, config: Config) -> list[Job]:
    """One job a scan, or a session where two contrasts are joined."""
    behaviour = config.behaviour
    maps: tuple[str | None, ...] = ("entropy",)
    maps += FULL_UNCERTAINTY if behaviour.full_uncertainty else ()
    maps += (None,) if behaviour.write_probabilities else ()
    if behaviour.write_coordinates:
        coordinates_of(card)  # or an error, before anything is begun
        maps += COORDINATES
    request = request_of(card, merge, config.method)
    _check_members(request["Members"], config.method)
    segmentation = results.segmentation_name(card, merge)
    # Before a folder could hold several models of a family, the family alone stood there.
    earlier = card.family + (merge.suffix if merge else "")
    jobs = []
    for scan, second in pair_scans(scans, card, config):
        named = partial(_outputs, config.output_dir, scan, None if second is None else MULTISPECTRAL)
        name = earlier if _is_of(card, named(earlier)) else segmentation
        outputs, parts = named(name), named(name + PARTS_SUFFIX)
        asked = request if second is None else {**request, "SecondContrast": second.relative_path}
        switches = (behaviour.split_long_axis, behaviour.write_transforms, behaviour.report_3d)
        jobs.append(Job(scan, outputs, asked, maps, parts, *switches, second))
    return jobs


def _outputs(output_dir: Path, scan: Scan, description: str | None, segmentation: str) -> ScanOutputs:
    """Name the outputs of a scan."""
    if scan.is_loose:
        return loose_outputs(output_dir, scan.key, segmentation)
    return scan_outputs(output_dir, scan.entities, scan.suffix, segmentation, description)


def _is_of(card: ModelCard, outputs: ScanOutputs) -> bool:
    """Whether results under a name are a model's: they keep it."""
    sidecar = find_sidecar(outputs.sidecar)
    return sidecar is not None and sidecar.model.name == card.name


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
    _tell_of_label_maps(helped, folders)
    return helped


def _tell_of_label_maps(jobs: Sequence[Job], folders: Mapping[str, str]) -> None:
    """Say how many scans have a label map, and which folders have none: a wrong path looks like an empty one."""
    found = {
        name: {key for job in jobs for key, label_map in job.label_maps.items() if label_map.name == name}
        for name in folders
    }
    n_helped = sum(1 for job in jobs if job.label_maps)
    for name, keys in found.items():
        if not keys and jobs:
            scan = jobs[0].guide or jobs[0].scan
            looked_for = places_of(scan)
            shown = ", ".join([*looked_for[:SHOWN_PLACES], "..."] if len(looked_for) > SHOWN_PLACES else looked_for)
            logger.warning(
                "--derivatives %s: %s has no label map of any of %d scan(s); for %s was looked for %s",
                name,
                folders[name],
                len(jobs),
                scan.key,
                shown,
            )
    if folders:
        logger.info("--derivatives: %d of %d scan(s) have a label map", n_helped, len(jobs))


def request_of(card: ModelCard, merge: Merge | None, method: Method) -> dict[str, Any]:
    """All settings that decide a result, as plain values."""
    return {
        **results.request_of(card, merge, _options_of_method(method)),
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
    return _options_of_method(method).augmentations_of(card)


def options_of(config: Config) -> Options:
    """Tell what a run asks of its model."""
    behaviour = config.behaviour
    return replace(
        _options_of_method(config.method),
        full_uncertainty=behaviour.full_uncertainty,
        probabilities=behaviour.write_probabilities,
        coordinates=behaviour.write_coordinates,
    )


def _options_of_method(method: Method) -> Options:
    """Tell what decides the result."""
    asked = method.n_augmentations
    return Options(
        n_augmentations=None if asked == "auto" else asked,
        tolerance=method.volume_tolerance / 100 if asked == "auto" else None,
        seed=method.seed,
        margin_mm=method.box_margin_mm,
        keep_islands=method.keep_islands,
    )


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
        error = NothingSelectedError if config.selection.shard is None else EmptyShardError
        raise error(f"No scan suits the model: {offered}", "See `hsf-hub list` for other models.")
    return suited
