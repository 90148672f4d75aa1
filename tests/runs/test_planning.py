import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bids_trees import model_card, write_tree

from bids_hsf.bids.dataset import Scan, find_scans
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import NothingSelectedError, UsageError
from bids_hsf.hub.cards import AugmentationRecipe, Coordinates
from bids_hsf.runs.config import Behaviour, Config, Method
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.planning import find_merge, number_of_augmentations, plan_jobs, request_of, suitable_scans, t1w_scans


def scan(name: str) -> Scan:
    *pairs, suffix = name.split("_")
    entities = tuple((pair.split("-")[0], pair.split("-")[1]) for pair in pairs)
    return Scan(Path("/bids") / f"{name}.nii.gz", f"{name}.nii.gz", suffix, entities)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(Path("/bids"), tmp_path, ("participant",))


def plan(config: Config, *names: str) -> list[Job]:
    return plan_jobs([scan(name) for name in names or ("sub-01_T1w",)], model_card(), None, config)


def test_one_job_a_scan_with_its_own_names(config: Config) -> None:
    jobs = plan(config, "sub-01_T1w", "sub-01_ses-2_run-1_T1w")
    assert [job.key for job in jobs] == ["sub-01_T1w", "sub-01_ses-2_run-1_T1w"]
    stem = config.output_dir / "sub-01/ses-2/anat/sub-01_ses-2_run-1_space-T1w_seg-toyFast"
    assert jobs[1].outputs.dseg == Path(f"{stem}_dseg.nii.gz")
    assert len({path for job in jobs for path in job.expected_files}) == 2 * len(jobs[0].expected_files)


def test_further_outputs_are_expected_when_asked_for(config: Config) -> None:
    more = replace(config, behaviour=Behaviour(uncertainty="full", write_probabilities=True))
    names = {path.name for path in plan(more)[0].expected_files} - {
        path.name for path in plan(config)[0].expected_files
    }
    stem = "sub-01_space-T1w_seg-toyFast"
    assert names == {
        f"{stem}_desc-mutualinformation_probseg.nii.gz",
        f"{stem}_desc-expectedentropy_probseg.nii.gz",
        f"{stem}_desc-voteshare_probseg.nii.gz",
        f"{stem}_probseg.nii.gz",
        f"{stem}_desc-mutualinformation_probseg.json",
        f"{stem}_desc-expectedentropy_probseg.json",
        f"{stem}_desc-voteshare_probseg.json",
        f"{stem}_probseg.json",
    }


def test_maps_of_coordinates_are_expected_when_asked_for(config: Config) -> None:
    more = replace(config, behaviour=Behaviour(write_coordinates=True))
    with pytest.raises(UsageError, match="toy_fast has no network that tells unfolded coordinates"):
        plan(more)
    card = model_card(coordinates=Coordinates(model_card().members[0], (1,)))
    (job,) = plan_jobs([scan("sub-01_T1w")], card, None, more)
    names = {path.name.partition("_desc-")[2] for path in set(job.expected_files) - set(plan(config)[0].expected_files)}
    maps = {f"{name}_coords.{ending}" for name in ("AP", "PD", "IO") for ending in ("nii.gz", "json")}
    assert names == maps | {"unfolded_dseg.svg"}


def test_sidecar_is_the_last_of_the_expected_files(config: Config) -> None:
    (job,) = plan(config)
    assert job.expected_files[-1] == job.outputs.sidecar


def test_merged_labels_have_their_own_name() -> None:
    card = model_card()
    merge = find_merge(card, "whole")
    assert merge is not None
    config = Config(Path("/bids"), Path("/out"), ("participant",))
    (job,) = plan_jobs([scan("sub-01_T1w")], card, merge, config)
    assert job.outputs.dseg.name == "sub-01_space-T1w_seg-toyFastWhole_dseg.nii.gz"
    assert find_merge(card, None) is None
    assert find_merge(card, "plain") is None
    with pytest.raises(UsageError, match="--ca-mode 1/23 is not offered by toy_fast") as caught:
        find_merge(card, "1/23")
    assert "whole, plain" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"n_augmentations": 0}, {"box_margin_mm": 3.0}, {"keep_islands": True}, {"reduced_precision": True}],
)
def test_request_tells_apart_whatever_changes_the_result(change: dict[str, Any]) -> None:
    card = model_card()
    assert request_of(card, None, Method(**change)) != request_of(card, None, Method())


def test_equal_samples_are_taken_once() -> None:
    mirror = AugmentationRecipe(1.0, 1.0, scales=(1, 1), rotation_degrees=0, translation_mm=0)
    card = replace(model_card(), recipe=mirror, n_augmentations=1)
    assert number_of_augmentations(card, Method(n_augmentations=20)) == 1
    assert number_of_augmentations(card, Method(n_augmentations=0)) == 0
    assert number_of_augmentations(replace(card, recipe=AugmentationRecipe()), Method(n_augmentations=20)) == 20


def test_request_tells_apart_other_models_and_files() -> None:
    card = model_card()
    plain = request_of(card, None, Method())
    assert request_of(replace(card, name="toy_accurate"), None, Method()) != plain
    assert request_of(replace(card, members=(replace(card.members[0], sha256="cd" * 32),)), None, Method()) != plain
    assert request_of(card, find_merge(card, "whole"), Method()) != plain
    assert json.loads(json.dumps(plain)) == plain


def test_contrasts_that_the_model_does_not_know_are_left_out(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    scans = [scan("sub-01_T1w"), scan("sub-01_T2w")]
    with caplog.at_level(logging.INFO):
        assert suitable_scans(scans, model_card(), config) == scans[:1]
    assert "sub-01_T2w is left out: toy_fast is for T1w" in caplog.text
    with pytest.raises(NothingSelectedError, match="No scan suits the model"):
        suitable_scans(scans[1:], model_card(), config)
    asked = replace(config, selection=Selection(modalities=("T2w",), modalities_asked=True))
    with pytest.raises(UsageError, match="-m/--modalities T2w"):
        suitable_scans(scans[1:], model_card(), asked)


def test_mp2rage_counts_as_t1w(config: Config) -> None:
    uniform = [scan("sub-01_UNIT1")]
    assert suitable_scans(uniform, model_card(), config) == uniform
    with pytest.raises(NothingSelectedError):
        suitable_scans(uniform, model_card(contrasts=("T2w",)), config)


@pytest.mark.parametrize(
    "names",
    [("sub-01_ses-2_T1w", "sub-01_ses-2_desc-x_T1w"), ("sub-01_ses-2_T1w", "sub-01_ses-1_T1w")],
    ids=["collision", "contradiction"],
)
def test_t1w_that_nobody_asked_for_end_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, str]
) -> None:
    files = [f"sub-01/ses-2/anat/{name}.nii.gz" for name in (*names, "sub-01_ses-2_T2w")]
    bids_dir = write_tree(tmp_path / "bids", files)
    selection = Selection(modalities=("T2w",), modalities_asked=True)
    config = Config(bids_dir, tmp_path / "out", ("participant",), selection=selection)
    scans = find_scans(bids_dir, selection)
    assert [found.suffix for found in scans] == ["T2w"]
    assert t1w_scans(scans, config) == []
    assert "No T1w helps to find the hippocampi of a T2w" in caplog.text
