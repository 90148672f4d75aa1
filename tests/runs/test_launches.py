"""What a launcher asks for: of the scans, and of nothing that this machine has."""

from dataclasses import replace
from pathlib import Path

import pytest
from bids_trees import model_card, write_scan, write_tree

from bids_hsf.bids.dataset import find_scans
from bids_hsf.bids.provenance import Provenance
from bids_hsf.files import write_json
from bids_hsf.runs.config import Behaviour, Config, Resources
from bids_hsf.runs.jobs import Plan
from bids_hsf.runs.launches import USUAL_CORES, launcher, needs_of
from bids_hsf.runs.planning import plan_jobs


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Plan, Config]:
    root = write_tree(tmp_path / "bids", [])
    for label in ("01", "02", "03"):
        write_scan(root / f"sub-{label}/anat/sub-{label}_T1w.nii.gz")
    (root / "sub-03/anat/sub-03_T1w.nii.gz").write_bytes(b"no image")
    config = Config(root, tmp_path / "out", ("participant",), behaviour=Behaviour(launcher="slurm"))
    card = model_card()
    return Plan(plan_jobs(find_scans(root, config.selection), card, None, config), card, None, []), config


def test_cores_are_those_that_are_asked_for_and_not_this_machines(planned: tuple[Plan, Config]) -> None:
    plan, config = planned
    assert needs_of(plan, config).cores == USUAL_CORES
    for resources, cores, at_once in (
        (Resources(nthreads=8, nprocs=4), 8, 4),
        (Resources(nprocs=3), 3, 3),
        (Resources(omp_nthreads=4), 4, 1),
    ):
        found = needs_of(plan, replace(config, resources=resources))
        assert (found.cores, found.at_once) == (cores, at_once)
    assert needs_of(plan, replace(config, resources=Resources(mem_mb=9000))).memory_mb == 9000


def test_scans_that_are_done_tell_the_time(planned: tuple[Plan, Config]) -> None:
    plan, config = planned
    guess = needs_of(plan, config)
    assert (guess.n_scans, guess.n_participants, guess.source.startswith("a guess")) == (3, 3, True)
    write_json(plan.jobs[0].outputs.provenance, Provenance(seconds={"segment": 7000.0}).to_json())
    measured = needs_of(plan, config)
    assert (measured.scan_seconds, measured.source) == (7000.0, "as the scans that are done")
    assert measured.n_tasks == 2


def test_the_command_is_that_of_the_run_without_the_flag(planned: tuple[Plan, Config]) -> None:
    plan, config = planned
    text = launcher(plan, replace(config, behaviour=replace(config.behaviour, force=True, dry_run=True)))
    assert "participant --force --shard" in text
    assert "--print-launcher" not in text
    assert "%50" in text
