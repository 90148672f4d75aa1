"""A bash in which documented lines are typed, word for word.

Programs of ours, and those that stand for others which are not here, answer in the process of the tests: on the path
of this bash each of them is a door, a script that hands over its words, folder and variables, and ends as it is told.
So a line runs with all that bash makes of it, and without the seconds that a fresh Python takes for its imports.
"""

import os
import re
import select
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from unittest import mock

Program = Callable[[list[str]], int]

FAILED = 99  # a stand-in does not agree
DOOR = """#!/bin/bash
at=$DOORS/$BASHPID
mkfifo "$at.code"
printf '%s\\0' "${0##*/}" "$@" >"$at.words"
env -0 >"$at.env"
echo "$at" >"$DOORS/requests"
read -r code <"$at.code"
cat "$at.err" >&2
cat "$at.out"
exit "$code"
"""
# What is exported, or set by a line, is there for the next.
TYPED = """[ ! -f "$DOORS/state" ] || . "$DOORS/state"
set -a
{line}
code=$?
export -p >"$DOORS/state"
exit "$code"
"""


class Shell:
    """One session.

    Parameters
    ----------
    folder : Path
        Where lines are typed.
    doors : Path
        An empty folder for what this class needs.
    programs : mapping of str to callable
        Takes words without the program's name, in the folder and with the variables of whoever calls; gives the exit
        code.
    """

    def __init__(self, folder: Path, doors: Path, programs: Mapping[str, Program]) -> None:
        self.folder, self.doors, self.programs = folder, doors, programs
        self.environ = {**os.environ, "DOORS": str(doors), "PATH": f"{doors / 'bin'}:{os.environ['PATH']}"}
        (doors / "bin").mkdir()
        for name in programs:
            door = doors / "bin" / name
            door.write_text(DOOR)
            door.chmod(0o755)
        os.mkfifo(doors / "requests")
        self.requests = os.open(doors / "requests", os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        """End the session."""
        os.close(self.requests)

    def type(self, line: str) -> tuple[int, str]:
        """Run a line; returns the exit code, and what it has said: errors first, then answers."""
        return self.run(["bash", "-c", TYPED.format(line=line)], self.environ)

    def run(self, words: list[str], environ: Mapping[str, str]) -> tuple[int, str]:
        """Run a program that may call those behind doors."""
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            with subprocess.Popen(words, cwd=self.folder, env=dict(environ), stdout=out, stderr=err) as process:
                while process.poll() is None:
                    if select.select([self.requests], [], [], 0.02)[0]:
                        for at in os.read(self.requests, 4096).decode().split():
                            self._answer(at)
            out.seek(0)
            err.seek(0)
            return process.returncode, err.read() + out.read()

    def _answer(self, at: str) -> None:
        """Do what somebody at a door wants."""
        name, *words = Path(f"{at}.words").read_text().split("\0")[:-1]
        variables = [text.partition("=") for text in Path(f"{at}.env").read_text().split("\0")[:-1]]
        environ = {key: value for key, _, value in variables}
        told, logged = StringIO(), StringIO()
        as_there = mock.patch.dict(os.environ, environ, clear=True)
        with as_there, chdir(environ["PWD"]), redirect_stdout(told), redirect_stderr(logged):
            code = _ended(self.programs[name], words)
        Path(f"{at}.out").write_text(told.getvalue())
        Path(f"{at}.err").write_text(logged.getvalue())
        _hand_over(f"{at}.code", code, int(Path(at).name))


def _hand_over(pipe: str, code: int, pid: int) -> None:
    """Tell who waits at a door how the program ended, unless they have gone: nobody would ever read it."""
    while Path(f"/proc/{pid}").exists():
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # not there yet to read
            time.sleep(0.01)
        else:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(f"{code}\n")
            return


def _ended(program: Program, words: list[str]) -> int:
    """Run to the end, whatever it is: somebody waits at the door."""
    try:
        return program(words)
    except SystemExit as left:  # --version, a parser that refuses
        return int(left.code or 0)
    except Exception:
        traceback.print_exc()
        return FAILED


def readers_folders(line: str, desk: Path) -> str:
    """Let ``/data`` and ``/shared``, as the pages call the reader's own folders, lie on the desk."""
    return re.sub(r"(?<![\w.:/])/(data|shared)(?=/)", rf"{desk}/\1", line)
