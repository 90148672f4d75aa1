from pathlib import Path

from bids_hsf.bids.lookup_tables import labels_of, write_label_files
from bids_hsf.bids.tables import Structure
from bids_hsf.labels import Label

LABELS = (Label(1, "Front", "front", "#ff0000"), Label(2, "Back", "back", "#00ff80"))


def test_each_viewer_has_its_format(tmp_path: Path) -> None:
    paths = write_label_files(tmp_path, "toy", LABELS, ["itksnap", "freesurfer", "fsleyes", "slicer"])
    names = ["seg-toy_itksnap.txt", "seg-toy_freesurfer.txt", "seg-toy_fsleyes.lut", "seg-toy_slicer.ctbl"]
    assert paths == [tmp_path / name for name in names]
    itksnap, freesurfer, fsleyes, slicer = (path.read_text().splitlines() for path in paths)
    assert itksnap[-1] == '102 0 153 77 1 1 1 "Right Back"'
    assert itksnap[2] == '0 0 0 0 0 0 0 "Clear Label"'
    assert freesurfer == [
        "0 Unknown 0 0 0 0",
        "1 Left-Front 255 0 0 0",
        "2 Left-Back 0 255 128 0",
        "101 Right-Front 255 128 128 0",
        "102 Right-Back 0 153 77 0",
    ]
    assert slicer == [
        "# Color table file",
        "0 Background 0 0 0 0",
        "1 Left_Front 255 0 0 255",
        "2 Left_Back 0 255 128 255",
        "101 Right_Front 255 128 128 255",
        "102 Right_Back 0 153 77 255",
    ]
    assert fsleyes[1] == "2 0.00000 1.00000 0.50196 Left Back"


def test_names_of_a_card_do_not_break_the_lines(tmp_path: Path) -> None:
    hostile = (Label(1, 'a"\n9 1 2 3 1 1 1 "b\x1b', "a", "#ff0000"),)
    for path in write_label_files(tmp_path, "toy", hostile, ["itksnap", "freesurfer", "fsleyes", "slicer"]):
        text = path.read_text()
        assert "\x1b" not in text
        assert len([line for line in text.splitlines() if line.split()[0] in ("1", "101")]) == 2
        assert not any(line.startswith("9 ") for line in text.splitlines())
    assert text.count("\n") == 4
    assert "\"Left a' 9 1 2 3 1 1 1 'b\"" in (tmp_path / "seg-toy_itksnap.txt").read_text()


def test_no_viewer_no_file(tmp_path: Path) -> None:
    assert write_label_files(tmp_path, "toy", LABELS, []) == []
    assert list(tmp_path.iterdir()) == []


def test_sides_can_be_told_apart_whatever_the_colour(tmp_path: Path) -> None:
    colors = ("#ff0000", "#ffffff", "#000000", "#0000ff", "#808080", "#2ca02c", "#ffff00")
    labels = [Label(i, f"s{i}", f"s{i}", color) for i, color in enumerate(colors, start=1)]
    (path,) = write_label_files(tmp_path, "toy", labels, ["freesurfer"])
    found = {line.split()[0]: [int(value) for value in line.split()[2:5]] for line in path.read_text().splitlines()}
    for i in range(1, len(colors) + 1):
        assert sum(abs(a - b) for a, b in zip(found[str(i)], found[str(100 + i)], strict=True)) > 70


def test_labels_are_known_from_a_scan_that_is_done() -> None:
    structures = [
        Structure(101, "Right Front", "R_front", "#ff0000", "R", 1.0),
        Structure(1, "Left Front", "L_front", "#ff0000", "L", 1.0),
        Structure(2, "Left Back", "L_back", "green", "L", 1.0),
    ]
    assert labels_of(structures) == (LABELS[0], Label(2, "Back", "back", "#888888"))
