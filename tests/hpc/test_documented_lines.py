"""The line of the page of clusters that has Slurm start Dask's workers, with the settings of that page."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from documented_commands import DOCS, everything
from fast_app import write_card, write_dataset
from slurm import Slurm
from toy_runs import Place

pytestmark = pytest.mark.hpc

PAGE = DOCS / "clusters.md"


def test_slurm_starts_the_workers_of_the_page(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the workers need the stand-ins of these tests
    (line,) = [text for _, how, text in everything() if how == "Slurm"]
    (settings,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    told = yaml.safe_load(settings)
    # This cluster has one queue, and two cores.
    told["jobqueue"]["slurm"].update(queue="main", cores=1, processes=1, memory="1500MB", interface="lo")
    told["jobqueue"]["slurm"]["scheduler-options"] = {"dashboard_address": ":0"}
    (tmp_path / "jobqueue.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.chdir(tmp_path)
    place = Place(write_dataset(tmp_path / "bids", 3), write_card(tmp_path), tmp_path / "out")
    words = line.split()[4:]
    assert words[:3] == ["--executor", "dask", "--dask-jobqueue"]
    done = place.run(place.reference, *words)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 scan(s) done" in done.stderr
    assert "Dask" in done.stderr
