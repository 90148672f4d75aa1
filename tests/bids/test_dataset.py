import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bids_trees import write_tree

from bids_hsf.bids.dataset import Scan, check_dataset, find_scans
from bids_hsf.bids.folders import known_participants
from bids_hsf.bids.selection import Selection
from bids_hsf.errors import InvalidDatasetError, NoInputError, NothingSelectedError, StorageError, UsageError


def keys(root: Path, **selection: object) -> list[str]:
    return [scan.key for scan in find_scans(root, Selection(**selection))]  # type: ignore[arg-type]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two sessions, two runs, both contrasts, and much that is none of the app's business."""
    return write_tree(
        tmp_path / "bids",
        [
            "sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.nii.gz",
            "sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz",
            "sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.json",
            "sub-01/ses-2/anat/sub-01_ses-2_acq-hires_T2w.nii",
            "sub-01/ses-2/func/sub-01_ses-2_task-rest_bold.nii.gz",
            "sub-02/anat/sub-02_T1w.nii.gz",
            "sub-02/anat/sub-02_rec-norm_ce-gd_acq-x_T1w.nii.gz",
            "sub-02/anat/sub-02_FLAIR.nii.gz",
            "sub-02/anat/.sub-02_T1w.nii.gz",
            "sub-03/func/sub-03_task-rest_bold.nii.gz",
            "derivatives/other/sub-01/anat/sub-01_T1w.nii.gz",
            "sourcedata/sub-09/anat/sub-09_T1w.nii.gz",
        ],
    )


def test_finds_every_scan_with_sessions_and_runs_apart(dataset: Path) -> None:
    assert keys(dataset) == [
        "sub-01_ses-1_run-1_T1w",
        "sub-01_ses-1_run-2_T1w",
        "sub-01_ses-2_acq-hires_T2w",
        "sub-02_T1w",
        "sub-02_acq-x_ce-gd_rec-norm_T1w",
    ]


def test_scan_knows_its_place(dataset: Path) -> None:
    first = find_scans(dataset, Selection())[0]
    assert (first.subject, first.session, first.suffix) == ("01", "1", "T1w")
    assert first.relative_path == "sub-01/ses-1/anat/sub-01_ses-1_run-1_T1w.nii.gz"
    assert first.path == dataset / first.relative_path
    assert find_scans(dataset, Selection(participants=("02",)))[0].session is None


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"participants": ("02",), "modalities": ("T1w",)}, ["sub-02_T1w", "sub-02_acq-x_ce-gd_rec-norm_T1w"]),
        ({"excluded_participants": ("02", "nobody"), "modalities": ("T2w",)}, ["sub-01_ses-2_acq-hires_T2w"]),
        ({"sessions": ("2",)}, ["sub-01_ses-2_acq-hires_T2w"]),
        ({"modalities": ("FLAIR",)}, ["sub-02_FLAIR"]),
        ({"runs": ("2",)}, ["sub-01_ses-1_run-2_T1w"]),
        ({"runs": ("01",)}, ["sub-01_ses-1_run-1_T1w"]),
        ({"filters": {"t1w": {"run": 2}, "t2w": {"session": "1"}}}, ["sub-01_ses-1_run-2_T1w"]),
        ({"filters": {"t1w": {"run": ["2", 7]}, "t2w": {"run": 1}}}, ["sub-01_ses-1_run-2_T1w"]),
        (
            {"filters": {"t1w": {"acquisition": None, "session": "*"}}, "modalities": ("T1w",)},
            ["sub-01_ses-1_run-1_T1w", "sub-01_ses-1_run-2_T1w"],
        ),
        (
            {"filters": {"flair": {"run": 9}, "t2w": {"session": None}}, "participants": ("02",)},
            ["sub-02_T1w", "sub-02_acq-x_ce-gd_rec-norm_T1w"],
        ),
        # As nipreps' own filter files have it.
        (
            {
                "filters": {"t1w": {"datatype": "anat", "suffix": "T1w", "reconstruction": "norm"}},
                "modalities": ("T1w",),
            },
            ["sub-02_acq-x_ce-gd_rec-norm_T1w"],
        ),
    ],
)
def test_selection(dataset: Path, selection: dict[str, object], expected: list[str]) -> None:
    assert keys(dataset, **selection) == expected


@pytest.mark.parametrize(
    ("selection", "message", "hint"),
    [
        ({"participants": ("01", "7")}, "Unknown participant label: 7", "Known participants: 01, 02, 03"),
        ({"participants": ("1",)}, "Unknown participant label: 1", "Did you mean 01? Known participants: 01, 02, 03"),
        ({"runs": ("7",)}, "Unknown run label: 7", "Known runs: 1, 2"),
        ({"sessions": ("1", "9")}, "Unknown session label: 9", "Known sessions: 1, 2"),
        ({"sessions": ("1",), "participants": ("02",)}, "Unknown session label: 1", "Known sessions: none"),
        ({"participants": ("03",)}, "No T1w or T2w image", "anat"),
        ({"excluded_participants": ("01", "02", "03")}, "No participant is selected", "01, 02, 03"),
        ({"filters": {"t1w": {"run": 7}}, "modalities": ("T1w",)}, "No T1w image", "filters"),
    ],
)
def test_empty_selection_says_what_there_is(
    dataset: Path, selection: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(NothingSelectedError, match=message) as caught:
        keys(dataset, **selection)
    assert hint in (caught.value.hint or "")


def test_misspelt_entity_in_a_filter_file_is_a_usage_error(dataset: Path) -> None:
    for word, meant in (("acquisiton", "acquisition"), ("acq", "acquisition"), ("ses", "session")):
        with pytest.raises(UsageError, match=rf"t1w: '{word}' is not a recognized entity\.$") as caught:
            keys(dataset, filters={"t1w": {word: "x"}})
        assert (caught.value.hint or "").startswith(f"Did you mean {meant}? Use pybids' names")


def test_whom_nobody_knows_cannot_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its name is a mistake, and the participant that was meant is processed."""
    root = write_tree(tmp_path, ["sub-01/anat/sub-01_T1w.nii.gz"])
    assert keys(root, excluded_participants=("1",)) == ["sub-01_T1w"]
    assert "--exclude-participant-label 1: there is no such participant. Did you mean 01?" in caplog.text


def test_labels_are_cut_off_in_a_long_list(tmp_path: Path) -> None:
    root = write_tree(tmp_path, [f"sub-{i:03d}/anat/sub-{i:03d}_T1w.nii.gz" for i in range(50)])
    with pytest.raises(NothingSelectedError) as caught:
        keys(root, participants=("x",))
    assert (caught.value.hint or "").endswith("029, ... (50 in all)")


def test_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    with pytest.raises(NoInputError, match="does not exist") as caught:
        check_dataset(tmp_path / "studyy")
    assert (caught.value.hint or "").startswith("Did you mean study? ")
    with pytest.raises(NoInputError, match="does not exist"):
        check_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_description_must_be_there_and_readable(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "dataset_description.json").write_bytes(content)
    with pytest.raises(InvalidDatasetError, match=r"Not a BIDS dataset.*dataset_description.json"):
        check_dataset(tmp_path)


def test_description_with_a_byte_order_mark_is_readable(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"Name": "x"}).encode())
    check_dataset(tmp_path)


def test_dots_in_labels_are_kept_apart_and_become_legal(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path, [f"sub-01/anat/sub-01_acq-{size}mm_{s}.nii.gz" for size in ("0.8", "0.7") for s in ("T1w", "T2w")]
    )
    assert keys(root, modalities=("T1w",)) == ["sub-01_acq-0p7mm_T1w", "sub-01_acq-0p8mm_T1w"]


def test_of_a_file_and_its_compressed_twin_the_latter_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_tree(tmp_path, ["sub-01/anat/sub-01_T1w.nii", "sub-01/anat/sub-01_T1w.nii.gz"])
    with caplog.at_level(logging.WARNING):
        assert [scan.path.name for scan in find_scans(root, Selection())] == ["sub-01_T1w.nii.gz"]
    assert "sub-01_T1w.nii is left out: its results would have the names of those of " in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_desc-x_T1w.nii", {"extension": ".nii"}),
        ("sub-01_T1w.nii.gz", "sub-01_space-MNI_T1w.nii.gz", {"space": None}),
        ("sub-01_T1w.nii.gz", "sub-01_unknown-1_T1w.nii.gz", None),
        ("sub-01_acq-0.8_T1w.nii.gz", "sub-01_acq-0p8_T1w.nii.gz", {"acquisition": "0p8"}),
    ],
)
def test_two_files_for_one_output_are_an_error_that_names_both(
    tmp_path: Path, first: str, second: str, chosen: dict[str, str] | None
) -> None:
    root = write_tree(tmp_path, [f"sub-01/anat/{name}" for name in (first, second)])
    with pytest.raises(UsageError) as caught:
        keys(root)
    said = str(caught.value)
    assert "would have the same names" in said
    assert f"sub-01/anat/{first} " in said
    assert f"sub-01/anat/{second} " in said
    assert "--bids-filter-file" in (caught.value.hint or "")
    if chosen is not None:
        assert len(keys(root, filters={"t1w": chosen})) == 1


def test_derivatives_with_outputs_of_one_name_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    names = ["desc-brain", "desc-preproc", "space-MNI_desc-preproc", "space-MNI_res-2_desc-preproc"]
    root = write_tree(tmp_path, [f"sub-01/anat/sub-01_{name}_T1w.nii.gz" for name in names])
    message = "sub-01_desc-brain_T1w.nii.gz and of sub-01/anat/sub-01_desc-preproc_T1w.nii.gz would have the same names"
    with pytest.raises(UsageError, match=message) as caught:
        keys(root)
    assert "--bids-filter-file" in (caught.value.hint or "")
    for chosen, name in (({"space": None, "desc": "preproc"}, names[1]), ({"res": "2"}, names[3])):
        (scan,) = find_scans(root, Selection(filters={"t1w": chosen}))
        assert scan.path.name == f"sub-01_{name}_T1w.nii.gz"


def test_participants_without_a_scan_are_told(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        keys(dataset)
        keys(dataset, participants=("01", "03"))
        keys(dataset, participants=("01", "02"))
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    text = "No T1w or T2w image of 1 participant(s): 03"
    assert said == [("INFO", text), ("WARNING", text)]


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("sub-01/ses-2/anat/sub-01_ses-1_T1w.nii.gz", "ses-2", "ses-1"),
        ("sub-01/anat/sub-02_T1w.nii.gz", "sub-01", "sub-02"),
        ("sub-01/anat/sub-011_T1w.nii.gz", "sub-01", "sub-011"),
        ("sub-01/ses-2/anat/sub-02_ses-2_T1w.nii.gz", "sub-01", "sub-02"),
    ],
)
def test_a_name_that_contradicts_its_folder_is_an_error_that_tells_both(
    tmp_path: Path, path: str, folder: str, name: str
) -> None:
    root = write_tree(tmp_path, [path, "sub-03/anat/sub-03_T1w.nii.gz"])
    with pytest.raises(InvalidDatasetError) as caught:
        keys(root)
    assert f"{path} lies in {folder}, but its name says {name}" in str(caught.value)
    assert keys(root, excluded_participants=("01",)) == ["sub-03_T1w"]
    assert keys(root, modalities=("T1w",), filters={"t1w": {"subject": "03"}}) == ["sub-03_T1w"]


def test_a_contradiction_of_what_is_not_asked_for_hinders_nobody(tmp_path: Path) -> None:
    root = write_tree(tmp_path, ["sub-01/anat/sub-02_T2w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz"])
    assert keys(root, modalities=("T1w",)) == ["sub-01_T1w"]


def test_the_folder_tells_the_session_that_a_name_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path, [f"sub-01/ses-{i}/anat/sub-01_T1w.nii.gz" for i in (1, 2)])
    with caplog.at_level(logging.WARNING):
        assert keys(root) == ["sub-01_ses-1_T1w", "sub-01_ses-2_T1w"]
    assert "is taken for ses-2, as its folder says" in caplog.text


def test_a_name_may_tell_a_session_that_has_no_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_tree(tmp_path, ["sub-01/anat/sub-01_ses-1_T1w.nii.gz"])
    assert keys(root) == ["sub-01_ses-1_T1w"]
    assert caplog.text == ""


def test_images_without_a_participant_in_their_names_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_tree(tmp_path, ["sub-01/anat/T1w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz"])
    with caplog.at_level(logging.WARNING):
        assert keys(root) == ["sub-01_T1w"]
    assert "anat/T1w.nii.gz is left out: its name does not begin with sub-01_" in caplog.text


def test_people_whose_labels_bids_forbids_stay_apart(tmp_path: Path) -> None:
    labels = ["张三", "李四", "0.1", "0-1", "é", "ü", "a.b_c", "a.b"]
    root = write_tree(tmp_path, [f"sub-{label}/anat/sub-{label}_T1w.nii.gz" for label in labels])
    found = find_scans(root, Selection())
    assert sorted(scan.participant for scan in found) == sorted(labels)
    assert len({scan.subject for scan in found}) == len(labels)
    assert all(scan.subject.isascii() and scan.subject.isalnum() for scan in found)


@pytest.mark.parametrize("suffixes", [("T1w", "T1w"), ("T1w", "T2w")])
def test_people_who_would_become_one_are_an_error_that_names_both(tmp_path: Path, suffixes: tuple[str, str]) -> None:
    pairs = zip(("0.1", "0p1"), suffixes, strict=True)
    root = write_tree(tmp_path, [f"sub-{label}/anat/sub-{label}_{suffix}.nii.gz" for label, suffix in pairs])
    with pytest.raises(InvalidDatasetError, match=r"Results of sub-0\.1 and of sub-0p1 would have the same names"):
        keys(root)
    assert keys(root, participants=("0p1",)) == [f"sub-0p1_{suffixes[1]}"]


def test_sessions_that_would_become_one_are_an_error_that_names_both(tmp_path: Path) -> None:
    names = [("a.b", "T1w"), ("apb", "T2w")]
    root = write_tree(tmp_path, [f"sub-1/ses-{s}/anat/sub-1_ses-{s}_{suffix}.nii.gz" for s, suffix in names])
    with pytest.raises(InvalidDatasetError, match=r"Results of sub-1/ses-a\.b and of sub-1/ses-apb would"):
        keys(root)


def test_magnitudes_alone_are_segmented(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = ("mag", "phase", "real", "imag")
    root = write_tree(tmp_path, [f"sub-01/anat/sub-01_part-{part}_T1w.nii.gz" for part in parts])
    with caplog.at_level(logging.INFO):
        assert keys(root) == ["sub-01_part-mag_T1w"]
    assert "sub-01_part-phase_T1w.nii.gz is left out: part-phase is no magnitude" in caplog.text
    with pytest.raises(NothingSelectedError):
        keys(root, filters={"t1w": {"part": "phase"}})


def test_links_are_followed_and_broken_ones_listed(tmp_path: Path) -> None:
    elsewhere = write_tree(tmp_path / "annex", ["anat/sub-01_T1w.nii.gz"], None)
    root = write_tree(tmp_path / "bids", ["sub-02/anat/keep"])
    (root / "sub-01").symlink_to(elsewhere)
    (root / "sub-02/anat/sub-02_T1w.nii.gz").symlink_to("../../.git/annex/objects/gone")
    (root / "sub-03").symlink_to("gone")
    (root / "sub-04").symlink_to("sub-04")
    (root / "sub-02/loop").symlink_to("loop")
    assert known_participants(root) == ["01", "02"]
    found = find_scans(root, Selection())
    assert [scan.key for scan in found] == ["sub-01_T1w", "sub-02_T1w"]
    assert found[0].path == root / "sub-01/anat/sub-01_T1w.nii.gz"


def test_spaces_and_unicode_in_the_path(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "données %20 (été)\u200b '1'", ["sub-01/anat/sub-01_T1w.nii.gz"])
    assert keys(root) == ["sub-01_T1w"]


# As root, which tests in containers are, a chmod hinders nobody; see robustness/test_permissions for true ones.
@pytest.mark.parametrize("place", ["sub-02/ses-1/anat", "sub-02/ses-1"])
def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    root = write_tree(tmp_path, [f"sub-0{i}/ses-1/anat/sub-0{i}_ses-1_T1w.nii.gz" for i in (1, 2)])
    reason = errno.EACCES

    def refusing(listing: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(folder: str | Path) -> Any:
            if Path(folder) == root / place:
                raise OSError(reason, os.strerror(reason), str(folder))
            return listing(folder)

        return refuse

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    # One that is closed to us fails like a scan: the others go on.
    found = find_scans(root, Selection(modalities=("T1w",)))
    assert [scan.key for scan in found] == ["sub-01_ses-1_T1w", "sub-02_ses-1_T1w"]
    assert found[1].path.is_dir()
    assert (found[1].participant, found[1].session) == ("02", "1")
    # A mount that fails is another matter.
    reason = errno.EIO
    with pytest.raises(StorageError, match=r"Cannot list .*sub-02/ses-1.*: Input/output error"):
        keys(root)


def test_what_is_not_asked_for_is_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [f"{i:04d}" for i in range(20)]
    root = write_tree(tmp_path, [f"sub-{label}/anat/sub-{label}_T1w.nii.gz" for label in labels])
    walked: list[Path] = []

    def noting(listing: Callable[..., Any]) -> Callable[..., Any]:
        def note(folder: str | Path) -> Any:
            walked.append(Path(folder))
            return listing(folder)

        return note

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    assert len(find_scans(root, Selection(participants=("0007",)))) == 1
    # Libraries that are imported meanwhile look elsewhere.
    assert [path for path in walked if path.is_relative_to(root)] == [root / "sub-0007", root / "sub-0007/anat"]


def test_key_is_in_bids_order() -> None:
    scan = Scan(Path("x"), "x", "T1w", (("sub", "1"), ("acq", "a"), ("run", "2")))
    assert scan.key == "sub-1_acq-a_run-2_T1w"
