"""What a run tells of itself: before it begins, with which model on what; at its end, where all is and what is next."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bids_hsf.errors import DeviceError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import is_packaged, member_path
from bids_hsf.networks.device import candidates, wanted_providers
from bids_hsf.runs.command_line import FLAGS
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import Job, Plan
from bids_hsf.runs.planning import number_of_augmentations

logger = logging.getLogger(__name__)


def check_wishes(plan: Plan, config: Config) -> None:
    """Refuse a device that cannot be had before anything is begun, and say which wish is not fulfilled in full.

    Raises
    ------
    DeviceError
    """
    wanted_providers(config.resources.device)
    if not (config.behaviour.dry_run or config.resources.executor == "dask"):  # what is here will not be there
        candidates(config.resources.device)
    asked, given = config.method.n_augmentations, number_of_augmentations(plan.card, config.method)
    if isinstance(asked, int) and isinstance(given, int) and given < asked:
        logger.warning(
            "%s %d is taken for %d: each sample of %s is the mirrored crop, and a second one would tell nothing new",
            FLAGS["method.n_augmentations"][0],
            asked,
            given,
            plan.card.name,
        )


def of_model(card: ModelCard, n_augmentations: int) -> list[str]:
    """Two lines on a model: what it is, and where its files are or will come from."""
    labels = ", ".join(label.abbreviation for label in card.labels)
    passes = f"{len(card.members)} network(s) x {1 + n_augmentations} pass(es) a hippocampus"
    return [f"Model: {card.name} {card.version}: {labels}; {passes}", f"Files: {_files(card)}"]


def _files(card: ModelCard) -> str:
    """Tell where the files of a model are, or are not."""
    paths = {member: member_path(member, card) for member in card.files}
    missing = [member for member, path in paths.items() if not path.is_file()]
    folders = ", ".join(map(str, dict.fromkeys(path.parent for path in paths.values())))
    if not missing:
        shipped = "packaged" if all(map(is_packaged, card.files)) else "downloaded before"
        return f"here ({shipped}), in {folders}"
    if any(map(is_packaged, missing)):
        return f"{len(missing)} of {len(paths)} missing in {folders}, where they ship with the card"
    hosts = ", ".join(dict.fromkeys(urlsplit(member.source).hostname or "this machine" for member in missing))
    sizes = [member.size for member in missing]
    size = f" ({sum(filter(None, sizes)) / 1e6:.0f} MB)" if all(sizes) else ""
    return (
        f"{len(missing)} of {len(paths)} not here: the run downloads them from {hosts}{size} into {folders}; "
        f"`hsf-hub fetch {card.name}` does so ahead"
    )


def of_device(config: Config) -> str:
    """One line on what the networks will run on; the choice itself needs the networks."""
    request = config.resources.device
    if config.resources.executor == "dask":
        return f"Device: {request}, as each of Dask's workers has it"
    try:
        names = [provider.name for provider in candidates(request)]
    except DeviceError as error:
        return f"Device: none here: {error.message}"
    if len(names) == 1:
        return f"Device: {names[0]}"
    return f"Device: {request}: the first of {', '.join(names)} that agrees with the CPU provider on the model"


def tell_names_at_fault(plan: Plan) -> None:
    """Say which scans cannot have results, by their names alone."""
    for job in plan.jobs:
        if job.name_fault is not None:
            logger.warning("%s will have no results: %s", job.key, job.name_fault)


def at_the_end(plan: Plan, config: Config, log: Path, code: int) -> None:
    """Tell where reports, tables and log of a run are, and what to type next."""
    done = [job for job in plan.jobs if job.outputs.table.exists()]
    for name, path in (*_places(done, config), ("Log", log)):
        logger.info("%s: %s", name, path)
    words = ["bids-hsf", str(config.bids_dir), str(config.output_dir)]
    if code and config.images:
        logger.info("Next: mend what is told above; the same command does the rest")
    elif code:
        logger.info("Next: %s   (what failed, and how to run the rest)", shlex.join([*words, "status"]))
    elif config.images and done:
        look = shlex.join(["fsleyes", str(done[0].scan.path), str(done[0].outputs.dseg), "-ot", "label"])
        logger.info("Next: open the report in a browser; %s shows the labels on the image", look)
    elif "group" not in config.levels[config.levels.index("participant") :]:
        logger.info("Next: %s   (one table and one page of all scans)", shlex.join([*words, "group"]))


def _places(done: Sequence[Job], config: Config) -> Iterator[tuple[str, Path]]:
    """Name what there is to be read with its place; of many files, with the pattern of their names."""
    pages = {f"{job.key}.html" if config.images else f"sub-{job.scan.subject}.html" for job in done}
    if len(pages) == 1:
        yield "Report", config.output_dir / min(pages)
    elif pages:
        yield f"{len(pages)} reports", config.output_dir / ("*.html" if config.images else "sub-*.html")
    if len(done) == 1:
        yield "Volumes", done[0].outputs.table
    elif done:
        pattern = "*_dseg.tsv" if config.images else "sub-*/**/*_dseg.tsv"
        yield f"{len(done)} tables of volumes", config.output_dir / pattern


def after_group(page: Path, review: Path) -> None:
    """Tell where the pages of all scans are, and what reads their table."""
    logger.info("Report: %s", page)
    logger.info("Scans side by side, to be rated: %s", review)
    logger.info("Next: open these two in a browser; pandas.read_table or R's read.delim reads the table")
