"""Options of the programs, from their own parsers: no page can fall behind them."""

import argparse
import re

from bids_hsf.cli.arguments import build_parser
from bids_hsf.cli.comparing import build_parser as build_compare_parser
from bids_hsf.cli.elsewhere import GROUPS
from bids_hsf.cli.hsf import PASSED_OVER
from bids_hsf.cli.hub import build_parser as build_hub_parser
from extension.markdown import code, from_docstring, plain, table

OWN_GROUPS = {"positional arguments": "What comes first", "options": "About the program"}


def options(name: str) -> str:
    """All options of ``bids-hsf``, or those of one group of its help."""
    groups = [group for group in build_parser()._action_groups if group._group_actions]
    if name:
        return _rows(next(group for group in groups if group.title == name)._group_actions)
    parts = []
    for group in [*groups[2:], *groups[:2]]:
        title = OWN_GROUPS.get(group.title or "", (group.title or "").capitalize())
        parts.append(f"## {title}\n\n{_rows(group._group_actions)}\n")
    return "\n".join(parts)


def usage(_: str) -> str:
    """How a line of ``bids-hsf`` is built."""
    text = build_parser().format_usage().removeprefix("usage: ")
    return f"```text\n{re.sub(r'^ {7}', '', text, flags=re.MULTILINE).rstrip()}\n```\n"


def compare(_: str) -> str:
    """All arguments of ``bids-hsf compare``."""
    return _rows(build_compare_parser()._actions)


def hub_commands(_: str) -> str:
    """Every command of ``hsf-hub`` with its options; those that all have come last, once."""
    parser = build_hub_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    shared = set.intersection(*[{a.dest for a in command._actions} for command in commands.values()])
    parts = []
    for name, command in commands.items():
        own = [action for action in command._actions if action.dest not in shared]
        parts.append(f"## hsf-hub {name}\n\n{_sentence(command.description or '')}\n")
        parts += [_rows(own)] if own else []
    common = [a for a in next(iter(commands.values()))._actions if a.dest in shared]
    parts.append(f"## Options of all commands\n\n{_rows(common)}")
    return "\n".join(parts)


def hsf_answers(_: str) -> str:
    """List settings of HSF that change nothing here, with what is answered."""
    return table(
        ["setting of HSF", "answer"], [(code(f"{k}=..."), plain(text)) for k, text in PASSED_OVER.items() if text]
    )


def elsewhere(_: str) -> str:
    """List options of other programs that are not taken here, with what is answered."""
    rows = []
    for answer, flags in GROUPS.items():
        parts = re.split(r"(--[a-z-]+)", answer.replace("`", ""))  # options stay whole on a line
        told = "".join(code(part) if part.startswith("--") else plain(part) for part in parts)
        rows.append((", ".join(code(flag) for flag in flags.split()), told))
    return table(["option of another program", "answer"], rows)


def _rows(actions: list[argparse.Action]) -> str:
    return table(["option", "meaning"], [(_spelling(action), _help(action)) for action in actions])


def _spelling(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_metavar(action)}"
    if not action.option_strings:
        return code(value.strip())
    return ", ".join(code(flag) for flag in action.option_strings[:-1]) + (
        (", " if action.option_strings[1:] else "") + code(action.option_strings[-1] + value)
    )


def _metavar(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = str(action.metavar or action.dest.upper())
    return f"{name} ..." if action.nargs in ("+", "*") else name


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "bids-hsf"} if "%(" in (action.help or "") else action.help
    return from_docstring(text or "")


def _sentence(text: str) -> str:
    return plain(text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")


MAKERS = {
    "compare": compare,
    "options": options,
    "usage": usage,
    "hub-commands": hub_commands,
    "hsf-answers": hsf_answers,
    "elsewhere": elsewhere,
}
