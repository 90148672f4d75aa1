"""What many tests share: the example dataset with a disturbed subject, segmented once a session."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from chromium import launched
from example_data import DisturbedSubject, write_disturbed_subject
from segmented_example import MODEL, Segmented

from bids_hsf.cli.app import main


@pytest.fixture(autouse=True)
def _heed_signals() -> None:
    """Undo what ignores SIGHUP and SIGINT: nohup, a shell that runs us beside it, a run stopped here before."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _work_in_tmp(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what matplotlib, the validator and the app itself put aside out of the clone and the home."""
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("work"))
    os.environ["BIDS_HSF_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser for the whole session, of which Playwright bears one."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> DisturbedSubject:
    """The example dataset with ``sub-rotated``."""
    return write_disturbed_subject(out_dir=tmp_path_factory.mktemp("example") / "bids")


@pytest.fixture(scope="session")
def segmented(example: DisturbedSubject, tmp_path_factory: pytest.TempPathFactory) -> Segmented:
    """Participant and group level of the example dataset, with the packaged network."""
    output_dir = tmp_path_factory.mktemp("derivatives") / "bids-hsf"
    arguments = [str(example.bids_dir), str(output_dir), "participant", "group", "--model", MODEL]
    return Segmented(example, example.bids_dir, output_dir, main(arguments))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Spell out what is no text in captured output, such as names in Latin-1: xdist could not send it home."""
    outcome = yield
    report = outcome.get_result()
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
