"""Datasets as others have them: public ones, and every version of BIDS."""

import json
import re
from pathlib import Path

import pytest
from bids_trees import Example, read_examples, write_tree
from fast_app import write_dataset
from toy_runs import Place, Result, run_here

EXAMPLES = read_examples()
# One of each kind; the others tell the same of other studies.
TYPICAL = {"7t_trt", "asl004", "ds001", "ds000117", "ds113b", "eeg_matchingpennies", "ieeg_visual", "micr_SEM"}
TYPICAL |= {"pheno004", "qmri_mp2rage", "qmri_mpm", "swi"}
REAL = [example for example in EXAMPLES if example.real()]


def end_on(place: Place, tmp_path: Path, paths: list[str]) -> Result:
    return Place(write_tree(tmp_path / "bids", paths), place.card, tmp_path).run(tmp_path / "out", "participant")


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=example.name, marks=[] if example.name in TYPICAL else pytest.mark.slow)
        for example in EXAMPLES
    ],
)
def test_datasets_with_the_content_of_public_ones(example: Example, place: Place, tmp_path: Path) -> None:
    """One subject with the data types and suffixes that the listing of bids-examples gives; names are made up."""
    done = end_on(place, tmp_path, example.rebuilt())
    assert done.returncode == example.code, done.stderr
    assert example.message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", REAL, ids=lambda example: example.name)
def test_file_names_of_public_datasets(example: Example, place: Place, tmp_path: Path) -> None:
    """The names are true, of all files that we know; all images are empty (theirs may hold a header)."""
    done = end_on(place, tmp_path, example.real())
    assert done.returncode == example.code, done.stderr
    assert example.message in done.stderr
    assert "Traceback" not in done.stderr
    # No scan is passed over: each has its line.
    t1w = [path for path in example.real() if path.startswith("sub-") and re.search(r"_T1w\.nii(\.gz)?$", path)]
    failed = [line for line in done.stderr.splitlines() if "_T1w: " in line and "is empty" in line]
    doubled = [line for line in done.stderr.splitlines() if "_T1w.nii is left out: its results would have" in line]
    assert len(failed) + len(doubled) == len(t1w)


# All that were released, what was published before, and what is to come; and a description that does not say.
BIDS_VERSIONS = ["1.0.0", "1.0.1", "1.0.2", "1.1.0", "1.1.1", "1.2.0", "1.2.1", "1.2.2", "1.3.0", "1.4.0", "1.4.1"]
BIDS_VERSIONS += ["1.5.0", "1.6.0", "1.7.0", "1.8.0", "1.9.0", "1.10.0", "1.10.1", "1.11.0", "1.11.1"]
BIDS_VERSIONS += ["1.0.0rc2", "2.0.0", "n/a", None]


def write_version(root: Path, version: str | None) -> Path:
    description = {"Name": "Phantoms", "License": "CC0", **({} if version is None else {"BIDSVersion": version})}
    (write_dataset(root, 1) / "dataset_description.json").write_text(json.dumps(description))
    return root


@pytest.mark.parametrize("version", BIDS_VERSIONS)
def test_every_version_of_bids_is_accepted(version: str | None, place: Place, tmp_path: Path) -> None:
    root = write_version(tmp_path / "bids", version)
    done = Place(root, place.card, tmp_path).run(tmp_path / "out", "participant", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 to do" in done.stdout


@pytest.mark.slow  # the validator takes its time
@pytest.mark.parametrize("version", BIDS_VERSIONS)
def test_every_version_of_bids_is_validated_and_done(version: str | None, place: Place, tmp_path: Path) -> None:
    root = write_version(tmp_path / "bids", version)
    words = Place(root, place.card, tmp_path).words(tmp_path / "out", "participant")
    done = run_here(*(word for word in words if word != "--skip-bids-validation"))
    assert done.returncode == 0, done.stderr
    findings = [line for line in done.stderr.splitlines() if "BIDS validator" in line]
    assert len(findings) == 1
    assert "dataset_description.json" in findings[0] if version is None else "no errors" in findings[0]


def test_only_t2w_for_a_model_of_t1w(place: Place, tmp_path: Path) -> None:
    done = end_on(place, tmp_path, ["sub-01/anat/sub-01_T2w.nii.gz"])
    assert done.returncode == 18, done.stderr
    assert "toy_fast is for T1w" in done.stderr
