"""Parsers of both commands: near words; and for ``bids-hsf`` words in any order, flags in either spelling."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from bids_hsf.cli.actions import actions_of
from bids_hsf.cli.elsewhere import ELSEWHERE, answers
from bids_hsf.errors import UsageError
from bids_hsf.runs.config import LEVELS
from bids_hsf.text_table import near


class Parser(argparse.ArgumentParser):
    """An argument parser that takes every flag in either spelling, and positionals in any place."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Put the positionals first before parsing, and ``--participant_label`` as ``--participant-label``."""
        words = [_hyphens(argument) for argument in args or []]
        strange = [name for name in _flag_names(words) if name not in self._option_string_actions]
        strange = [name for name in strange if name.startswith("--") or name in ELSEWHERE]
        if strange:  # all at once; and argparse would take -hires for -h
            self.error(f"unrecognized arguments: {' '.join(strange)}")
        return super().parse_known_args(self.arrange(words), namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the whole usage, and what is likely meant or to be done instead."""
        message = message.replace("ignored explicit argument", "takes no value, got")
        unknown = _unknown_flags(message)
        known = self._option_string_actions
        hint = answers(unknown, known) if unknown else meant(message, known)
        raise UsageError(message, f"{hint}See bids-hsf --help")

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
                words += [
                    f"./{word}" if word.startswith("-") else word for word in rest
                ]  # a path; argparse sees no flag
                break
            if not argument.startswith("-") or argument == "-":
                words.append(argument)
                continue
            flags.append([argument])
            if self._takes_many(argument):
                while rest and not rest[0].startswith("-"):
                    flags[-1].append(rest.pop(0))
            elif self._takes_some(argument):
                while rest and rest[0] in (self._option_string_actions[argument].choices or ()):
                    flags[-1].append(rest.pop(0))
            elif self._takes_one(argument) and rest:
                flags[-1].append(rest.pop(0))
        return words, flags

    def _takes_many(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs == "+"

    def _takes_some(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs == "*"

    def _takes_one(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs is None


class HubParser(argparse.ArgumentParser):
    """A parser with commands that tells which word is likely meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Tell of a flag that is not known even where no command is there, of which argparse would tell first."""
        words = list(sys.argv[1:] if args is None else args)
        strange = [name for name in _flag_names(words) if name not in self._option_string_actions]
        if strange and all(word.startswith("-") for word in words):
            self.error(f"unrecognized arguments: {' '.join(strange)}")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and which flag or command is likely meant; leave with 2."""
        flags = [flag for action in actions_of(self) for flag in action.option_strings]
        hint = meant(message, flags).strip()
        if message.endswith("required: COMMAND"):
            (commands,) = [each.choices for each in self._actions if isinstance(each, argparse._SubParsersAction)]
            hint = f"{self.prog} COMMAND, one of {', '.join(commands)}; {self.prog} --help explains them"
        super().error(f"{message}\nhint: {hint}" if hint else message)


def meant(message: str, flags: Iterable[str]) -> str:
    """Ask whether another word was meant than the one that argparse complains of.

    >>> meant("unrecognized arguments: --modle=x", ["--model"])
    'Did you mean --model? '
    >>> meant("argument --uncertainty: invalid choice: 'ful' (choose from 'entropy', 'full')", [])
    'Did you mean full? '
    """
    unknown = _unknown_flags(message)
    if unknown:
        return near(unknown[0], flags)
    choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    return near(choice[1], [word.strip("' ") for word in choice[2].split(",")]) if choice else ""


def _unknown_flags(message: str) -> list[str]:
    """List flags that are not recognised, without their values."""
    return _flag_names(message.partition("unrecognized arguments: ")[2].split())


def _flag_names(words: Iterable[str]) -> list[str]:
    """List flags among words, without what stands behind "="; behind "--" are none."""
    return [word.partition("=")[0] for word in takewhile(lambda word: word != "--", words) if word.startswith("-")]


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
