"""Completion as shells do it."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bids_hsf.cli import app, hub


def printed(main, capsys: pytest.CaptureFixture[str], shell: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["--print-completion", shell])
    assert caught.value.code == 0
    return capsys.readouterr().out


def completed(script: Path, function: str, *words: str) -> set[str]:
    line = (
        f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; {function}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash_completes_options_and_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "bids-hsf.bash"
    script.write_text(printed(app.main, capsys, "bash"))
    assert completed(script, "_shtab_bids_hsf", "bids-hsf", "--mod") == {"--model", "--modalities", "--modality"}
    assert completed(script, "_shtab_bids_hsf", "bids-hsf", "--device", "op") == {"openvino", "openvino-gpu"}
    assert "longaxis_single_fast" in completed(script, "_shtab_bids_hsf", "bids-hsf", "--model", "longaxis_s")


def test_bash_completes_commands_of_the_hub(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "hsf-hub.bash"
    script.write_text(printed(hub.main, capsys, "bash"))
    assert completed(script, "_shtab_hsf_hub", "hsf-hub", "va") == {"validate"}
    assert completed(script, "_shtab_hsf_hub", "hsf-hub", "fetch", "--allo") == {"--allow-http"}


@contextmanager
def terminal_of(command: list[str], folder: Path) -> Iterator[Callable[[str, str], str]]:
    """A shell at a terminal: what is given presses keys, and returns the screen up to a wanted text."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, {**os.environ, "HOME": str(folder), "TERM": "xterm"})

    def press(keys: str, wanted: str) -> str:
        os.write(terminal, keys.encode())
        seen, end = "", time.monotonic() + 60  # against hanging
        while wanted not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 4096).decode(errors="replace")
        return seen

    try:
        yield press
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_are_served(capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str) -> None:
    """Typed into the shell itself, where it is there."""
    for name, main in (("bids-hsf", app.main), ("hsf-hub", hub.main)):
        (tmp_path / name).write_text(printed(main, capsys, shell))
    assert "validate" in (tmp_path / "hsf-hub").read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: what it is given was printed, not typed")
    load = "source ./bids-hsf; source ./hsf-hub"
    if shell == "zsh":
        load = 'autoload -U compinit; compinit -D -u; eval "$(cat bids-hsf)"; eval "$(cat hsf-hub)"'
    with terminal_of([shell, "-f"], tmp_path) as press:
        press(f'{load}; echo "ready"!\n', "ready!")
        assert "longaxis_bagging_fast" in press("bids-hsf a b --model longaxis_bagging_f\t", "longaxis_bagging_fast")
        assert "validate" in press("\x15hsf-hub vali\t", "validate")  # on an empty line


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_nothing_but_the_completion_is_printed(shell: str) -> None:
    command = [sys.executable, "-m", "bids_hsf", "--print-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bids" in done.stdout
    assert not done.stderr
