"""What single options do with their words: sizes, folders by name, lists of labels, texts that are printed at once."""

import argparse
import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bids_hsf.bids.shards import Shard
from bids_hsf.cli.console import show
from bids_hsf.errors import UsageError
from bids_hsf.runs.arrays import shard_of
from bids_hsf.text_table import near

SUFFIXES = {"t1w": "T1w", "t2w": "T2w", "unit1": "UNIT1", "t1": "T1w", "t2": "T2w"}

MEMORY_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}


class PrintSpec(argparse.Action):
    """Print the Boutiques descriptor that ships with the package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and leave."""
        show((Path(__file__).parents[1] / "data" / "bids_hsf.boutiques.json").read_text(encoding="utf-8").rstrip())
        parser.exit()


class Device(argparse.Action):
    """Remember the device, or print the table of devices where it is "list"."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, value: Any, _: str | None = None) -> None:
        """Print and leave, or store."""
        if value == "list":
            from bids_hsf.networks.device import format_devices

            show(format_devices())
            parser.exit()
        setattr(namespace, self.dest, value)


class NamedFolders(argparse.Action):
    """Folders by name, such as freesurfer=/data/derivatives/freesurfer."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, value: Any, flag: str | None = None) -> None:
        """Add to those that were given before."""
        folders = dict(getattr(namespace, self.dest, {}))
        for word in value:
            name, equals, path = word.partition("=")
            if not (name and equals and path):
                parser.error(f"argument {flag}: expected NAME=PATH, for example freesurfer=/data/fs, got {word!r}")
            folders[name] = str(path_of(path))
        setattr(namespace, self.dest, folders)


PERHAPS_GB = 99  # as a number of MB too little for any scan


class Memory(argparse.Action):
    """A size with a suffix to MB."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, value: Any, flag: str | None = None) -> None:
        """Store the number of MB."""
        text = str(value).strip().upper().removesuffix("B")
        default = "G" if flag == "--mem-gb" else "M"
        number, unit = (text[:-1], text[-1]) if text[-1:] in MEMORY_UNITS else (text, default)
        try:
            size = round(float(number) * MEMORY_UNITS[unit])
        except (ValueError, OverflowError):
            parser.error(f"argument {flag}: not a size: {value!r}, expected for example 8000, 8G or 500M")
        if 0 < size <= PERHAPS_GB and number == text:  # of other programs, whose number is one of GB
            parser.error(
                f"argument {flag}: {value} is {size} MB, in which no scan has room; {value}G would be gigabytes"
            )
        setattr(namespace, self.dest, size)


class Words(argparse.Action):
    """A list of words, with spaces or commas between them.

    Parameters
    ----------
    reading : callable
        Turns a word into what is meant, or raises a UsageError.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, reading: Callable[[str], str], **how: Any) -> None:
        super().__init__(option_strings, dest, nargs="+", **how)
        self.reading = reading

    def __call__(self, _parser: argparse.ArgumentParser, namespace: Any, value: Any, flag: str | None = None) -> None:
        """Add to those that were given before."""
        words = [word for text in value for word in re.split(r"[\s,]+", text) if word]
        if not words:  # an empty variable of a script, which does not mean all
            raise UsageError(f"argument {flag}: nothing is named", "Leave it out if all are meant.")
        try:
            words = [self.reading(word) for word in words]
        except UsageError as error:
            raise UsageError(f"argument {flag}: {error.message}", error.hint) from error
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, []), *words])


class PrintCompletion(argparse.Action):
    """Print what lets a shell complete this command."""

    def __call__(self, parser: argparse.ArgumentParser, _namespace: Any, value: Any, _: str | None = None) -> None:
        """Print and leave."""
        import shtab

        logging.getLogger(shtab.__name__).setLevel(logging.WARNING)  # it tells how it works, of tcsh in 150 lines
        choices = _choices()
        for action in actions_of(parser):
            if action.type in (path_of, Path):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.dest in choices:
                action.choices = choices[action.dest]
        show(shtab.complete(parser, value))
        parser.exit()


def _choices() -> dict[str, Sequence[str]]:
    """Words that are known for what an action stores; the parser itself takes others, and says what is near."""
    from bids_hsf.hub.models import list_cards
    from bids_hsf.networks.providers import PROVIDERS
    from bids_hsf.runs.config import LEVELS, VIEWERS

    models = [card.name for card in list_cards()]
    devices = ["auto", "list", *(provider.name for provider in PROVIDERS)]
    suffixes = ["T1w", "T2w", "UNIT1"]
    return {
        "levels": LEVELS,
        "method.model": models,
        "resources.device": devices,
        "selection.modalities": suffixes,
        "behaviour.export_lut": VIEWERS,
        "model": models,
        "models": models,
        "device": devices,
    }


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All actions of a parser and of its commands."""
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                actions += actions_of(command)
    return actions


def path_of(text: str) -> Path:
    """Absolute path, links kept: a mounted dataset keeps the name that the user knows."""
    path = Path(text)
    with suppress(RuntimeError):  # "~" of a user without a home stays as it is
        path = path.expanduser()
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def model_of(text: str) -> str:
    """Name of a model; the path of a card is made absolute: jobs and workers elsewhere are given the same word.

    >>> model_of("bagging_accurate"), model_of("/lab/x/../card.yaml:tiny_fast")
    ('bagging_accurate', '/lab/card.yaml:tiny_fast')
    """
    is_path = os.sep in text or re.search(r"\.ya?ml(:|$)", text)
    return str(path_of(text)) if is_path else text


def label(prefix: str) -> Callable[[str], str]:
    """Reader of labels with or without a prefix."""
    return lambda text: text.removeprefix(prefix)


def number_or_auto(text: str) -> int | str:
    """Read a whole number, or "auto"."""
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or auto, got {text!r}") from None


def suffix_of(text: str) -> str:
    """BIDS suffix of a contrast, in any spelling; one that nobody knows is left as it is."""
    known = SUFFIXES.get(text.lower())
    meant = near(text, ("T1w", "T2w", "UNIT1"))
    if known is None and meant:
        raise UsageError(f"no suffix of anatomical images is called {text!r}", "Expected T1w, T2w or UNIT1")
    return known or text


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Reader of words that must be among some."""

    def read(text: str) -> str:
        if text not in choices:
            raise UsageError(f"invalid choice: {text!r}", f"{near(text, choices)}Choose from {', '.join(choices)}")
        return text

    return read


def shard_here(text: str) -> Shard:
    """Read a shard; "auto" is that of the scheduler's task which this process is."""
    return shard_of(text, os.environ)
