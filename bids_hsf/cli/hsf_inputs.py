"""The images that a command line of HSF's means: scans of a BIDS dataset, or files beside which the results go."""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bids_hsf.bids.entities import split_name
from bids_hsf.bids.selection import EXTENSIONS, Selection
from bids_hsf.cli.console import complain
from bids_hsf.cli.hydra import Override
from bids_hsf.errors import NoInputError, NothingSelectedError, UsageError

OUTPUT_FOLDER = "hsf_outputs"  # HSF's default

# What HSF and this app write beside images: nobody wants it segmented.
OWN_ENDINGS = ("_seg", "_seg_crop", "_unc_crop", "_hippocampus", "_dseg", "_probseg", "mask")

SUFFIXES = ("T1w", "T2w", "UNIT1")

# Name in a file's name to pybids' name, of what tells scans of one participant and contrast apart.
ENTITIES = {"ses": "session", "acq": "acquisition", "run": "run", "rec": "reconstruction", "ce": "ceagent"}


def find_runs(settings: Mapping[str, Override], options: Sequence[str]) -> list[list[str]]:
    """Find the images, and make the words for ``bids-hsf`` of each run that they take.

    Raises
    ------
    NoInputError
        The folder does not exist.
    NothingSelectedError
        No image matches.
    UsageError
        What is asked for needs a BIDS dataset, or cannot be chosen in one; or there are several folders or patterns.
    """
    for name in ("files.path", "files.pattern"):
        if isinstance(settings[name].value, list | dict):
            raise UsageError(f"{settings[name].word}: expected one text, as HSF does", "One line for each.")
    folder = _absolute(str(settings["files.path"].value))
    if folder.is_file():
        hint = f"files.path={folder.parent} files.pattern={folder.name}, or bids-hsf {folder} OUTPUT_DIR"
        raise NoInputError(f"{settings['files.path'].word} is an image, where a folder was expected", hint)
    if not folder.is_dir():
        raise NoInputError(f"{settings['files.path'].word}: there is no folder {folder}")
    output = str(settings["files.output_dir"].value) if "files.output_dir" in settings else OUTPUT_FOLDER
    images = find_images(folder, settings["files.pattern"], output)
    second = settings.get("multispectrality.pattern")
    joined = second is not None and second.value is not None
    root = dataset_of(folder)
    if root is not None:
        own = [image for image in images if _is_raw(image.relative_to(root))]
        if len(own) < len(images):
            complain(f"warning: {len(images) - len(own)} image(s) that are no raw scans are left out", logging.WARNING)
        contrast = settings.get("roiloc.contrast")
        if contrast is not None and not all(_stem(image).endswith(contrast_of(image, contrast)) for image in own):
            complain(f"warning: {contrast.word} changes nothing: names in a dataset tell the contrast", logging.WARNING)
        if own:
            return [dataset_run(root, own, options, joined=joined)]
    if joined:
        raise UsageError(
            f"{second.word if second else ''}: two contrasts are joined in a BIDS dataset alone",
            "There: bids-hsf BIDS_DIR OUTPUT_DIR participant --multispectral",
        )
    return loose_runs(images, output, options, settings.get("roiloc.contrast"))


def find_images(folder: Path, pattern: Override, output: str) -> list[Path]:
    """Find the NIfTI files that match HSF's pattern, without what HSF or this app has written.

    Raises
    ------
    NothingSelectedError
        There is none.
    UsageError
        It is no pattern.
    """
    try:
        found = sorted(path for path in folder.glob(str(pattern.value)) if path.is_file())
    except (ValueError, NotImplementedError, IndexError) as error:
        raise UsageError(f"{pattern.word}: {error}", 'Such as files.pattern="**/*T2w.nii.gz"') from error
    images = [
        path
        for path in found
        if path.name.endswith(EXTENSIONS) and path.parent.name != output and not _stem(path).endswith(OWN_ENDINGS)
    ]
    if not images:
        raise NothingSelectedError(
            f"No image (.nii, .nii.gz) in {folder} matches {pattern.value}",
            'The pattern counts from files.path; "**/*T2w.nii.gz", in quotes, looks into all folders.',
        )
    return images


def dataset_of(folder: Path) -> Path | None:
    """Find the BIDS dataset that a folder is, or lies in."""
    for candidate in (folder, *folder.parents):
        try:
            description = json.loads((candidate / "dataset_description.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        raw = isinstance(description, dict) and description.get("DatasetType", "raw") == "raw"
        return candidate if raw else None
    return None


def dataset_run(root: Path, images: Sequence[Path], options: Sequence[str], *, joined: bool) -> list[str]:
    """Words that process these scans of a dataset, and no others.

    Raises
    ------
    UsageError
        The selection cannot tell them from others.
    """
    from bids_hsf.bids.dataset import find_scans
    from bids_hsf.bids.folders import known_participants

    named = {image: split_name(_stem(image)) for image in images}
    participants = sorted({image.relative_to(root).parts[0].removeprefix("sub-") for image in images})
    if participants == known_participants(root):
        participants = []
    suffixes = tuple(suffix for suffix in SUFFIXES if any(own == suffix for _, own in named.values()))
    filters = _filters(named.values(), suffixes)
    selection = Selection(participants=tuple(participants), modalities=suffixes)
    for tried in ({}, filters):
        selection = Selection(participants=tuple(participants), modalities=suffixes, filters=tried)
        found = {scan.path for scan in find_scans(root, selection)}
        if found == set(images):
            break
    else:
        other = sorted(found ^ set(images))[0]
        raise UsageError(
            f"files.pattern takes {len(images)} scan(s) of the dataset {root}, which cannot be told from others, "
            f"such as {other.relative_to(root)}",
            f"bids-hsf {root} {root / 'derivatives' / 'bids-hsf'} participant -m {' '.join(suffixes)} "
            "--bids-filter-file FILE",
        )
    words = [str(root), str(root / "derivatives" / "bids-hsf"), "participant"]
    words += ["--participant-label", *participants] if participants else []
    words += ["--bids-filter-file", json.dumps(selection.filters)] if selection.filters else []
    if joined:
        return [*words, "--multispectral", "--reference", "T1w" if suffixes == ("T1w",) else "T2w", *options]
    return [*words, "-m", *suffixes, *options]


def _filters(named: Iterable[tuple[Mapping[str, str], str]], suffixes: Sequence[str]) -> dict[str, dict[str, object]]:
    """Filter of each contrast: the labels that all of its wanted images have."""
    filters: dict[str, dict[str, object]] = {}
    pairs = list(named)
    for suffix in suffixes:
        labels = [entities for entities, own in pairs if own == suffix]
        shared: dict[str, object] = {}
        for name, long in ENTITIES.items():
            values = sorted({entities[name] for entities in labels if name in entities})
            if values and all(name in entities for entities in labels):
                shared[long] = values if len(values) > 1 else values[0]
            elif not values:
                shared[long] = None
        filters[suffix.lower()] = shared
    return filters


def loose_runs(
    images: Sequence[Path], output: str, options: Sequence[str], contrast: Override | None
) -> list[list[str]]:
    """Words for images that belong to no dataset: a run for each folder and contrast, as their results lie there."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for image in images:
        groups.setdefault((image.parent / output, contrast_of(image, contrast)), []).append(image)
    return [
        [*map(str, paths), str(folder), "-m", suffix, *options] for (folder, suffix), paths in sorted(groups.items())
    ]


def contrast_of(image: Path, contrast: Override | None) -> str:
    """Contrast of an image: the one that was asked for, else T1w if its name says so, else HSF's default.

    Raises
    ------
    UsageError
        HSF has no such contrast.
    """
    if contrast is not None:
        found = {"t1": "T1w", "t2": "T2w"}.get(str(contrast.value).lower().removesuffix("w"))
        if found is None:
            raise UsageError(f"{contrast.word}: expected t1 or t2")
        return found
    stem = _stem(image).lower()
    return "T1w" if stem.endswith(("t1", "t1w")) or "mprage" in stem else "T2w"


def _is_raw(path: Path) -> bool:
    """Whether a path from the root of a dataset is that of an anatomical scan."""
    return path.parts[0].startswith("sub-") and path.parent.name == "anat" and _stem(path).endswith(SUFFIXES)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - links keep their names
