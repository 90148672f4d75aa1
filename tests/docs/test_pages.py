"""Whatever the site tells people to type is typed here, page by page, as far as this machine can do it.

What is run, what is parsed only, and what is looked at: `documented_commands`.
"""

import re
import shlex
import subprocess
import tomllib
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from documented_commands import (
    DOCS,
    OURS,
    PAGES,
    REPOSITORY,
    VIEWERS,
    Block,
    blocks,
    everything,
    told_before,
    way,
    words_for_the_program,
)
from fast_app import draw

from bids_hsf.bids.group_table import NAME as GROUP_TABLE
from bids_hsf.cli import hub
from bids_hsf.cli.app import main
from bids_hsf.cli.arguments import parse
from bids_hsf.hub.models import find_card
from bids_hsf.workflow import Seams

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
# Clocks and durations, which no page can foretell.
TIMES = re.compile(r"\d\d:\d\d:\d\d|\d+(\.\d+)? (s|min|h)\b")


def with_something_to_type() -> list[Path]:
    return [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", with_something_to_type(), ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_does_what_it_says(page: Path, desk: Path, seams: Seams) -> None:
    seams = replace(seams, draw=draw)  # pictures are drawn in the run that all pages share
    names: dict[str, Any] = {}
    with chdir(desk):
        for block in blocks(page):
            if block.language == "python":
                exec(compile(block.text, page.name, "exec"), names)
            elif block.language == "r":
                look_at_columns(block, desk)
            else:
                for command, lines in block.commands:
                    if told_before(page, command):
                        continue
                    try_command(command, lines, desk, seams)


def try_command(command: str, lines: list[str], desk: Path, seams: Seams) -> None:
    """Do what can be done with one command, in the working folder."""
    program, how = command.split()[0], way(command)
    if how == "run":
        code, said = run_here(shlex.split(command), seams) if program in OURS else run_by_bash(command)
        assert code == 0, f"{command}\n{said}"
        assert_said(lines, said, command)
    elif program in OURS:
        parse_words(shlex.split(command))
    elif how == "parsed":
        words = words_for_the_program(command)
        if words is not None:
            parse_words(["bids-hsf", *words])
        look_at_files(command, desk)
    elif program in VIEWERS:
        for name in re.findall(r"[\w./*-]+\.(?:nii\.gz|txt|lut|csv|ctbl)", command):
            assert len(list(desk.glob(name))) == 1, f"{command}: {name} is not one file"
    else:
        look_at_set_up(command)


def run_here(words: list[str], seams: Seams) -> tuple[int, str]:
    """Run one of our programs in this process: the imports take longer than the work."""
    told, logged = StringIO(), StringIO()
    target = words.pop() if words[-1].startswith(">") else None
    with redirect_stdout(told), redirect_stderr(logged):
        try:
            code = main(words[1:], seams) if words[0] == "bids-hsf" else hub.main(words[1:])
        except SystemExit as left:  # --version, --device list
            code = int(left.code or 0)
    if target is not None:
        Path(target[1:]).write_text(told.getvalue())
    return code, logged.getvalue() + told.getvalue()


def run_by_bash(command: str) -> tuple[int, str]:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def assert_said(lines: list[str], said: str, command: str) -> None:
    """Each line of the page is found in what was said, in its order; ``...`` stands for anything."""
    rest = [TIMES.sub("T", line.expandtabs(1).rstrip()) for line in said.splitlines()]
    for line in lines:
        wanted = TIMES.sub("T", line.expandtabs(1).rstrip())
        pattern = re.sub(r"[\[\]?*]", "?", wanted).replace("...", "*")
        place = next((i for i, each in enumerate(rest) if fnmatchcase(each, pattern)), None)
        assert place is not None, f"{command} did not say {line!r}, but:\n" + "\n".join(rest)
        rest = rest[place + 1 :]


def parse_words(words: list[str]) -> None:
    """Let the program's own parser take the words, and the hub know the model."""
    if words[0] == "hsf-hub":
        options = vars(hub.build_parser().parse_args(words[1:]))
        models = options.get("models") or [options["model"]]
    elif words[1:] == ["--version"]:
        models = []
    else:
        models = [parse(words[1:]).get("method.model", "bagging_accurate")]
    for name in models:
        assert find_card(name, []).name == name


def look_at_files(command: str, desk: Path) -> None:
    """What an image is built from is there, and has the arguments; scripts for schedulers are, or were just written."""
    recipe = (REPOSITORY / "Dockerfile").read_text()
    for argument in re.findall(r"--build-arg (\w+)=", command):
        assert f"ARG {argument}=" in recipe
    for name in re.findall(r"[\w/]+\.(?:sh|def)\b", command):
        assert (REPOSITORY / name).is_file() or (desk / name).stat().st_size


def look_at_set_up(command: str) -> None:
    """What sets up an environment names this project as it is called, and is a line that bash can read."""
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command
    for address in re.findall(r"https://github\.com/\S+", command):
        assert address in PROJECT["urls"].values()
    if " bids-hsf" in command and command.startswith("pip install"):
        assert PROJECT["name"] == "bids-hsf"
    for target in re.findall(r"^make (\S+)", command):
        assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.M)


def look_at_columns(block: Block, desk: Path) -> None:
    """R is not on every machine: the tables that its code reads are there, and have the columns that it names."""
    columns: set[str] = set()
    for name in re.findall(r'"([\w./-]+\.tsv)"', block.text):
        columns |= set((desk / name).read_text().splitlines()[0].split("\t"))
    code = re.sub(r'"[^"]*/[^"]*"|#.*', "", block.text)
    named = set(re.findall(r"\b(?:[LR]_\w+|\w+_mm3|\w+_id|worst_\w+|qc|status|suffix|age|group|structure)\b", code))
    assert len(named) >= 8
    assert named <= columns
    assert (desk / "study/derivatives/bids-hsf" / GROUP_TABLE).is_file()


def test_everything_is_tried_in_one_of_the_ways() -> None:
    ways = [how for _, how, _ in everything()]
    assert set(ways) == {"run", "parsed", "looked at"}
    assert ways.count("run") >= 35


def test_no_command_hides_in_a_block_that_is_not_tried() -> None:
    """Other blocks hold no lines that call our programs: they belong into a console block."""
    for page in sorted(DOCS.glob("*.md")):
        for language, body in re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", page.read_text(), re.M | re.S):
            if language not in ("console", "python", "r"):
                assert not re.search(r"^ *(\$ )?(bids-hsf|hsf-hub) \S+ ", body, re.M), (page.name, body)
