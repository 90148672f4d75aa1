"""One run of the app for all tests of the site, shared by the processes that test beside each other."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documented_commands import DOCS
from documented_study import MODEL, write_loose_scan, write_readers_folders, write_study
from fast_app import draw
from local_server import serving
from served_cards import write_hsf_twins
from stand_ins import VIEWERS, Engines, Scheduler
from typing_shell import Shell

from bids_hsf.cli import hub
from bids_hsf.cli.app import hsf_main, main
from bids_hsf.files import claimed
from bids_hsf.localization.locate import locate
from bids_hsf.localization.location import Location
from bids_hsf.workflow import Seams


@dataclass(frozen=True)
class Remembering:
    """The app's own localization; what it has found once in an image it does not search again."""

    folder: Path

    def __call__(self, data: Any, grid: Any, /, **asked: Any) -> Location:
        seen = hashlib.sha256(np.ascontiguousarray(data).tobytes())
        seen.update(repr((grid.affine, asked)).encode())
        path = self.folder / seen.hexdigest()
        if not path.exists():
            aside = path.with_suffix(f".{os.getpid()}")
            aside.write_bytes(pickle.dumps(locate(data, grid, **asked)))
            aside.rename(path)
        return pickle.loads(path.read_bytes())


def two_cores() -> int:
    """One scan at once, in this process, on any machine."""
    return 2


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    (folder / "locations").mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def seams(shared: Path) -> Seams:
    return Seams(locate=Remembering(shared / "locations"), allowed_cores=two_cores)


@contextmanager
def made_once(folder: Path) -> Iterator[bool]:
    """Tell whether a folder is to be made here; the other processes of this test run wait, and find it whole."""
    with claimed(folder.with_name(f".{folder.name}.lock")):
        is_to_be_made = not (folder / "whole").exists()
        if is_to_be_made:
            shutil.rmtree(folder, ignore_errors=True)
        yield is_to_be_made
        (folder / "whole").touch()


@pytest.fixture(scope="session")
def documented_run(shared: Path, seams: Seams) -> Path:
    """A folder with what the pages speak of: ``study`` with its derivatives, ``scan_T1w.nii.gz``."""
    folder = shared / "run"
    with made_once(folder) as is_to_be_made:
        if is_to_be_made:
            write_study(folder / "study")
            write_loose_scan(folder)
            with chdir(folder):
                code = main(["study", "study/derivatives/bids-hsf", "participant", "group", "--model", MODEL], seams)
            assert code == 0
    return folder


@pytest.fixture(scope="session")
def site(shared: Path, documented_run: Path) -> Path:
    """The site, built without a warning: once, by whichever process of this test run needs it first."""
    folder = shared / "built"
    with made_once(folder) as is_to_be_made:
        if is_to_be_made:
            settings = ["-D", f"example_run={documented_run}", "-d", str(folder / "doctrees")]
            command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", *settings]
            done = subprocess.run([*command, DOCS, folder / "html"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert not done.stderr
    return folder / "html"


@pytest.fixture(scope="session")
def hsf_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hub whose HSF models are small networks of a server on this machine, each of which looks once."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "served").mkdir()
    with serving(folder / "served") as server:
        write_hsf_twins(server, folder / "cards", views=0)
        yield folder / "cards"


@pytest.fixture
def desk(documented_run: Path, tmp_path: Path) -> Path:
    """A copy of that folder to work in, beside the clone; what the pages call /data and /shared is in it."""
    folder = tmp_path / "desk"
    write_study(folder / "study")
    write_loose_scan(folder)
    shutil.copytree(documented_run / "study/derivatives", folder / "study/derivatives")
    write_readers_folders(folder)
    return folder


@pytest.fixture
def shell(desk: Path, tmp_path: Path, seams: Seams, hsf_hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A bash at that desk, with our programs, and with stand-ins for those that are on few machines."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BIDS_HSF_HUB", str(hsf_hub))
    monkeypatch.setenv("BIDS_HSF_ALLOW_HTTP", "1")
    monkeypatch.setenv("BIDS_HSF_CACHE", str(tmp_path / "cache"))
    quick = replace(seams, draw=draw)  # pictures are drawn in the run that all pages share

    def app(words: list[str]) -> int:
        # BIDS's validator, of seconds, has looked at the dataset in the run that all pages share.
        return main([*words, "--skip-bids-validation"] if "participant" in words else words, quick)

    engines, scheduler = Engines(app), Scheduler(lambda: session)
    ours = {"bids-hsf": app, "hsf-hub": hub.main, "hsf-compat": lambda words: hsf_main(words, quick)}
    others = {"docker": engines.docker, "apptainer": engines.apptainer, "sbatch": scheduler.sbatch, **VIEWERS}
    (tmp_path / "doors").mkdir()
    session = Shell(desk, tmp_path / "doors", {**ours, **others})
    (tmp_path / "doors/bin/python").symlink_to(sys.executable)  # the reader's environment has it by this name
    yield session
    session.close()
