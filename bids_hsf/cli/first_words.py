"""Answers to those whose words are too few: what is missing, and the line that is likely meant."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bids_hsf.bids.near_misses import FORMATS
from bids_hsf.bids.selection import is_image_name
from bids_hsf.errors import NoInputError, UsageError
from bids_hsf.files import read_json
from bids_hsf.runs.config import LEVELS
from bids_hsf.text_table import near

HELP_WORDS: dict[tuple[str, ...], str] = {
    ("help",): "--help",
    ("-help",): "--help",
    ("-?",): "--help",
    ("version",): "--version",
    ("-version",): "--version",
    ("-V",): "--version",
}

HUB_COMMANDS = ("list", "show", "fetch", "verify", "new", "validate", "evaluate", "quantize", "checksum", "schema")

FREESURFER = (".mgz", ".mgh")


def asked_for_help(arguments: Sequence[str]) -> list[str]:
    """Take `bids-hsf help` for what it means."""
    flag = HELP_WORDS.get(tuple(arguments))
    return list(arguments) if flag is None or Path(arguments[0]).exists() else [flag]


def refuse_other_formats(words: Sequence[Path]) -> None:
    """Say of an image that is no NIfTI one how it becomes one.

    Raises
    ------
    UsageError
        One of the words is its name, wherever it stands.
    """
    for word in words:
        suffix = word.suffix.lower()
        if suffix not in FORMATS or word.is_dir():
            continue
        typed, image = as_typed(word), f"{word.stem}.nii.gz"
        then = f"Then: bids-hsf {shlex.quote(image)} OUTPUT_DIR"
        first = shlex.join(["mri_convert", typed, image]) if suffix in FREESURFER else FORMATS[suffix]
        raise UsageError(f"{typed} is no NIfTI image (.nii or .nii.gz)", f"First: {first}. {then}")


def refuse_images_behind(words: Sequence[Path]) -> None:
    """Say that images come first.

    Raises
    ------
    UsageError
        One of the words behind another one is the name of an image.
    """
    typed = [as_typed(word) for word in words]
    images = [word for word in typed if is_image_name(Path(word))]
    if images:
        before = typed[: typed.index(images[0])]
        raise UsageError(
            f"{' '.join(before)} before {images[0]} is no image; images come first, then the output folder",
            f"For example: {shlex.join(['bids-hsf', *images, 'OUTPUT_DIR'])}",
        )


def no_output_folder(images: Sequence[Path]) -> UsageError:
    """Say that a line of images alone lacks the output folder."""
    typed, last = [as_typed(image) for image in images], images[-1]
    if len(images) > 1 and not last.exists():  # of programs that write one file
        folder = last.name.partition(".")[0]
        line = ["bids-hsf", *typed[:-1], folder if not Path(folder).is_file() else "results"]
        return UsageError(
            f"{typed[-1]} is the name of an image; the output is a folder", f"Such as: {shlex.join(line)}"
        )
    return UsageError("the output folder is missing", f"For example: {shlex.join(['bids-hsf', *typed, 'results'])}")


def refuse_swapped(options: dict[str, Any]) -> None:
    """Say that the dataset comes before the output folder.

    Raises
    ------
    NoInputError
        There is no folder by the first name, and a raw dataset by the second.
    """
    bids_dir, output_dir = options["bids_dir"], options["output_dir"]
    is_swapped = False
    with suppress(OSError, ValueError):  # whatever is wrong there is told later
        if not bids_dir.exists() and (description := read_json(output_dir / "dataset_description.json")) is not None:
            is_swapped = description.get("DatasetType", "raw") == "raw" and any(output_dir.glob("sub-*"))
    if is_swapped:
        line = ["bids-hsf", as_typed(output_dir), as_typed(bids_dir), *options["levels"]]
        raise NoInputError(
            f"The BIDS folder does not exist: {bids_dir}", f"The dataset comes first: {shlex.join(line)}"
        )


def too_few(options: dict[str, Any]) -> UsageError:
    """Say what a line lacks, with the whole of it in the hint.

    Parameters
    ----------
    options : dict
        What was given, by the names of the settings.
    """
    words = [as_typed(options[name]) for name in ("bids_dir", "output_dir") if options.get(name) is not None]
    words += map(str, options.get("levels", ()))
    if not words:
        return UsageError(
            "Neither an image nor a dataset is named",
            "One image: bids-hsf IMAGE.nii.gz OUTPUT_DIR. A BIDS dataset: bids-hsf BIDS_DIR OUTPUT_DIR participant. "
            "All options: bids-hsf --help",
        )
    if words[0] in HUB_COMMANDS and not Path(words[0]).exists():
        return UsageError(f"{words[0]} is a command of hsf-hub", f"For example: hsf-hub {words[0]} --help")
    command = "" if Path(words[0]).exists() else near(words[0], ("compare", "hsf"))
    if command:
        return UsageError(f"{words[0]} is no command, and no folder", f"{command}See bids-hsf --help")
    if len(words) == 1:
        line = ["bids-hsf", words[0], str(Path(words[0]) / "derivatives/bids-hsf"), "participant"]
        return UsageError("the output folder and the level are missing", f"For example: {shlex.join(line)}")
    line = ["bids-hsf", *words[:2], "participant"]
    return UsageError(
        "the level is missing: participant, group or status",
        f"{shlex.join(line)} segments the scans; then group makes the table, and status tells what is done.",
    )


def level_meant(options: dict[str, Any], word: str) -> str:
    """Say what was likely meant by a word that is no level; empty where nothing comes near.

    Parameters
    ----------
    options : dict
        What was given, by the names of the settings.
    word : str
        The first that is no level.
    """
    several = [part for part in word.lower().replace(",", " ").split() if part in LEVELS]
    if "," in word and len(several) > 1:
        return f"Levels are words of their own: {' '.join(several)}. "
    first, second = as_typed(options["bids_dir"]), as_typed(options["output_dir"])
    if first in LEVELS and not options["bids_dir"].exists():
        line = ["bids-hsf", second, word, first]
        return f"The level stands behind the folders: {shlex.join(line)}. "
    return near(word.lower(), LEVELS)


def as_typed(path: Path) -> str:
    """Path as somebody in the working folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)
