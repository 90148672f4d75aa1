"""Environments, set up by the lines of the pages from a clone and from pip's index: minutes, `make test-install`.

Only three things are not as the reader has them: the clone comes from this one, the versions are those of
`constraints.txt`, and a wheel that is built here stands for the release that is not on PyPI yet.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented_commands import DOCS, PAGES, REPOSITORY, blocks, way
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


def test_wheels_are_carried_to_a_node_without_any_network(shell: Shell) -> None:
    """What the page of clusters says, the second part where not even this machine answers."""
    cut_off = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*cut_off, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody cut off a network (unshare --net)")
    texts = [block.text for block in blocks(DOCS / "clusters.md") if "wheels" in block.text]
    here, there = [[line[2:] for line in text.splitlines()] for text in texts]
    for line in ("git clone " + ADDRESS, "python3 -m venv carrier", ". carrier/bin/activate", *here, "deactivate"):
        code, said = shell.type(line)
        assert code == 0, f"{line}\n{said[-3000:]}"
    node = shell.folder / "node"
    node.mkdir()
    (shell.folder / "wheels").rename(node / "wheels")
    write_loose_scan(node)
    names = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT")
    scan = "bids-hsf scan_T1w.nii.gz results --model subfields_single_fast"
    typed = " && ".join(["cd node", f"unset {' '.join(names)}", "export PIP_CONFIG_FILE=/dev/null", *there, scan])
    code, said = shell.type(f"{shlex.join(cut_off)} bash -c {shlex.quote(typed)}")
    assert code == 0, said[-3000:]
    assert "1 of 1 scan(s) done" in said
    assert (node / "results/scan_T1w.html").is_file()


def release(shell: Shell) -> None:
    """Put a wheel where pip finds it."""
    folder = shell.doors / "release"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY]
    subprocess.run(command, check=True)
    known = os.environ.get("PIP_FIND_LINKS", "")
    shell.environ["PIP_FIND_LINKS"] = f"{known} {folder}".strip()
