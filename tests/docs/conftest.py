"""One run of the app for all tests of the site, shared by the processes that test beside each other."""

import hashlib
import os
import pickle
import shutil
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documented_study import MODEL, write_loose_scan, write_study

from bids_hsf.cli.app import main
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


@pytest.fixture(scope="session")
def documented_run(shared: Path, seams: Seams) -> Path:
    """A folder with what the pages speak of: ``study`` with its derivatives, ``scan_T1w.nii.gz``."""
    folder = shared / "run"
    with claimed(shared / ".run.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            write_study(folder / "study")
            write_loose_scan(folder)
            with chdir(folder):
                code = main(["study", "study/derivatives/bids-hsf", "participant", "group", "--model", MODEL], seams)
            assert code == 0
            (folder / "whole").touch()
    return folder


@pytest.fixture
def desk(documented_run: Path, tmp_path: Path) -> Path:
    """A copy of that folder to work in."""
    folder = tmp_path / "desk"
    write_study(folder / "study")
    write_loose_scan(folder)
    shutil.copytree(documented_run / "study/derivatives", folder / "study/derivatives")
    return folder
