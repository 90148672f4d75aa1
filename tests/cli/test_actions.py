"""Completion as shells do it."""

import subprocess
import sys
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


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_are_served(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert "--participant-label" in printed(app.main, capsys, shell) or shell == "tcsh"
    assert "validate" in printed(hub.main, capsys, shell)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_nothing_but_the_completion_is_printed(shell: str) -> None:
    command = [sys.executable, "-m", "bids_hsf", "--print-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bids" in done.stdout
    assert not done.stderr
