"""What pybids is asked, and that it still has the inner parts that are overridden."""

import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from bids_trees import DATA, write_tree

from bids_hsf.bids.queries import query
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from bids import BIDSLayout, BIDSLayoutIndexer

NAMES = [
    "sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_run-2_T1w.nii.gz",
    "sub-02/anat/sub-02_T1w.nii.gz",
]


def pick(root: Path, filters: dict[str, Any] | None = None) -> list[str]:
    images = [root / name for name in NAMES]
    found = query(root, images, Selection(modalities=("T1w",), filters={"t1w": filters or {}}))
    return [path.relative_to(root).as_posix() for path in found]


ABOVE = ["plain", "ses-9/bids", "func/bids", "sub-x_task-rest/run-7/bids", "acq-a_desc-preproc/bids"]


@pytest.mark.parametrize("above", ABOVE)
def test_folders_above_the_dataset_do_not_matter(tmp_path: Path, above: str) -> None:
    root = write_tree(tmp_path / above, NAMES)

    for filters, expected in (
        ({}, NAMES),
        ({"session": None}, NAMES[2:]),
        ({"session": "1"}, NAMES[:1]),
        ({"session": "9"}, []),
        ({"run": 2, "datatype": "anat"}, NAMES[1:2]),
        ({"task": None, "acquisition": None, "run": "*"}, NAMES[:2]),
        ({"datatype": "func"}, []),
        ({"subject": "02"}, NAMES[2:]),
    ):
        assert pick(root, filters) == expected


def test_without_filters_pybids_is_not_asked_and_would_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [line for line in (DATA / "bids_examples_files.txt").read_text().splitlines() if line.endswith(".nii.gz")]
    names += [
        f"x/sub-01/anat/sub-01_{name}.nii.gz" for name in ("acq-1.5_T1w", "acq-T1w", "T1w_T2w", "T1w.old", "x-T1w")
    ]
    names += ["x/sub-01/anat/sub-01_run.1_T1w.nii", "x/sub-01/anat/sub-01T1w.nii", "x/sub-01/anat/sub-01_T1w+.nii"]
    images = [tmp_path / name for name in names]
    kinds = ("T1w", "T2w", "UNIT1")
    by_pybids = query(
        tmp_path, images, Selection(modalities=kinds, filters={k.lower(): {"subject": "*"} for k in kinds})
    )
    assert len(by_pybids) > 4
    monkeypatch.setitem(sys.modules, "bids", None)  # to import it is an error now
    assert query(tmp_path, images, Selection(modalities=kinds)) == by_pybids


def test_filters_that_pybids_does_not_understand_are_usage_errors(tmp_path: Path) -> None:
    root = write_tree(tmp_path, NAMES)
    for filters in ({"acquisiton": "x"}, {"session": "(", "regex_search": True}, {"filters": {}}):
        with pytest.raises(UsageError, match="--bids-filter-file, t1w") as caught:
            pick(root, filters)
        assert "SELECT" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("_index_dir", ["self", "path", "config", "force"]), ("_index_file", ["self", "abs_fn", "entities"])],
)
def test_pybids_has_the_methods_that_are_overridden(name: str, parameters: list[str]) -> None:
    """bids_hsf.bids.queries overrides private methods of pybids' indexer."""
    method = getattr(BIDSLayoutIndexer, name, None)
    assert method is not None, f"pybids has no BIDSLayoutIndexer.{name} any more: rework bids_hsf/bids/queries.py"
    found = list(inspect.signature(method).parameters)
    assert found == parameters, f"pybids' BIDSLayoutIndexer.{name} takes {found} now: rework bids_hsf/bids/queries.py"


def test_pybids_calls_the_methods_that_are_overridden(tmp_path: Path) -> None:
    calls: list[str] = []

    class Noting(BIDSLayoutIndexer):  # type: ignore[misc]
        def _index_dir(self, *arguments: Any, **options: Any) -> Any:
            calls.append("_index_dir")
            return super()._index_dir(*arguments, **options)

        def _index_file(self, *arguments: Any, **options: Any) -> Any:
            calls.append("_index_file")
            file, tags = super()._index_file(*arguments, **options)
            assert all(tag["file_path"] == file.path for tag in tags), "pybids' tags name their files otherwise now"
            return file, tags

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        BIDSLayout(write_tree(tmp_path, NAMES), validate=False, indexer=Noting(validate=False))
    for name in ("_index_dir", "_index_file"):
        assert name in calls, f"pybids does not call BIDSLayoutIndexer.{name} any more: rework bids_hsf/bids/queries.py"
