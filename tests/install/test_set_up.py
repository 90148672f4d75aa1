"""Environments, set up by the lines of the pages from a clone and from pip's index: minutes, `make test-install`.

Only three things are not as the reader has them: the clone comes from this one, the versions are those of
`constraints.txt`, and a wheel that is built here stands for the release that is not on PyPI yet.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented_commands import PAGES, REPOSITORY, blocks, way
from documented_study import write_loose_scan, write_study
from typing_shell import Shell

pytestmark = pytest.mark.install

ADDRESS = "https://github.com/clementpoiret/bids-hsf"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A bash of somebody who has nothing but an image, git and Python."""
    desk, doors = tmp_path / "desk", tmp_path / "doors"
    desk.mkdir()
    doors.mkdir()
    write_study(desk / "study")
    write_loose_scan(desk)
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{REPOSITORY}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", ADDRESS)
    # A constraint of this machine's own stays.
    limits = [os.environ.get("PIP_CONSTRAINT", ""), str(REPOSITORY / "constraints.txt")]
    monkeypatch.setenv("PIP_CONSTRAINT", " ".join(filter(None, limits)))
    if not _known("download.pytorch.org"):
        monkeypatch.setenv("PIP_RETRIES", "0")  # the extra index is not to be had: pip goes on without
    session = Shell(desk, doors, {})
    # The environment of the tests is not the reader's.
    session.environ["PATH"] = os.pathsep.join(
        folder for folder in session.environ["PATH"].split(os.pathsep) if folder != str(Path(sys.executable).parent)
    )
    yield session
    session.close()


def _known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def lines() -> list[str]:
    """What sets up an environment, and what is typed in it: the page of installation first, its GPU last."""
    found: dict[str, None] = {}
    last: list[str] = []
    for page in sorted(PAGES, key=lambda page: page.stem != "install"):
        for block in [block for block in blocks(page) if block.language == "console"]:
            commands = [command for command, _ in block.commands]
            is_first_scan = page.stem == "first-scan" and commands[0].startswith("bids-hsf scan_T1w.nii.gz")
            if is_first_scan or any(way(command) == "installed" for command in commands):
                typed = [command for command in commands if way(command) in ("installed", "run")]
                last += typed if "pip uninstall" in block.text else []
                found.update({} if "pip uninstall" in block.text else dict.fromkeys(typed))
    return [*found, *last]


def test_the_lines_of_the_pages_set_up_what_they_say(shell: Shell) -> None:
    typed = lines()
    assert sum(way(line) == "installed" for line in typed) >= 12
    for line in typed:
        if re.search(r"pip install .* bids-hsf$", line) and "wheels" not in line:
            release(shell)
        code, said = shell.type(line)
        assert code == 0, f"{line}\n{said[-3000:]}"
    code, said = shell.type("python -c 'import bids_hsf; print(bids_hsf.__file__)'")
    assert str(shell.folder / "hsf-env") in said


def release(shell: Shell) -> None:
    """Put a wheel where pip finds it."""
    folder = shell.doors / "release"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY]
    subprocess.run(command, check=True)
    known = os.environ.get("PIP_FIND_LINKS", "")
    shell.environ["PIP_FIND_LINKS"] = f"{known} {folder}".strip()
