"""The parser behind the arguments of ``bids-hsf``: words in any order, flags in either spelling, near words."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from bids_hsf.errors import UsageError
from bids_hsf.runs.config import LEVELS


class Parser(argparse.ArgumentParser):
    """An argument parser that takes every flag in either spelling, and positionals in any place."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Put the positionals first before parsing, and ``--participant_label`` as ``--participant-label``."""
        return super().parse_known_args(self.arrange([_hyphens(argument) for argument in args or []]), namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the whole usage, and which flag is likely meant."""
        words = message.partition("unrecognized arguments: ")[2].split()
        flag = words[0].partition("=")[0] if words else ""
        raise UsageError(message, f"{near(flag, self._option_string_actions)}See bids-hsf --help")

    def arrange(self, arguments: Sequence[str]) -> list[str]:
        """Order arguments as positionals, then flags with their values.

        A flag with any number of values takes all words that follow, as argparse has it: of
        ``--participant-label 01 02 BIDS OUT participant`` the last three are given back if they are
        missing elsewhere.
        """
        words, flags = self._split(arguments)
        if len(words) < len(POSITIONALS):
            for flag in reversed([flag for flag in flags if self._takes_many(flag[0])]):
                taken = _swallowed(flag[1:], max(0, 2 - len(words)))
                if taken:
                    words += taken
                    del flag[-len(taken) :]
                    break
        return [*words, *(part for flag in flags for part in flag)]

    def _split(self, arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Tell positionals from flags, each flag with its values."""
        words: list[str] = []
        flags: list[list[str]] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            if argument == "--":
                words += rest
                break
            if not argument.startswith("-") or argument == "-":
                words.append(argument)
                continue
            flags.append([argument])
            if self._takes_many(argument):
                while rest and not rest[0].startswith("-"):
                    flags[-1].append(rest.pop(0))
            elif self._takes_one(argument) and rest:
                flags[-1].append(rest.pop(0))
        return words, flags

    def _takes_many(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs == "+"

    def _takes_one(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs is None


def near(word: str, known: Iterable[str]) -> str:
    """Ask whether another word was meant, where one is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}? " if near else ""


def _hyphens(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _swallowed(values: list[str], n_paths: int) -> list[str]:
    """Positionals at the end of a flag's values: `n_paths` paths, then levels; none unless all of them are there."""
    n_levels = next((i for i, value in enumerate(reversed(values)) if value not in LEVELS), len(values))
    n_taken = n_levels + n_paths
    return values[-n_taken:] if n_levels and n_taken < len(values) else []


POSITIONALS = {"bids_dir": "BIDS_DIR", "output_dir": "OUTPUT_DIR", "levels": "LEVEL"}
