from pathlib import Path

from bids_hsf.bids.lookup_tables import write_label_files
from bids_hsf.labels import Label

LABELS = (Label(1, "Front", "front", "#ff0000"), Label(2, "Back", "back", "#00ff80"))


def test_each_viewer_has_its_format(tmp_path: Path) -> None:
    paths = write_label_files(tmp_path, "toy", LABELS, ["itksnap", "freesurfer", "fsleyes"])
    names = ["seg-toy_itksnap.txt", "seg-toy_freesurfer.txt", "seg-toy_fsleyes.lut"]
    assert paths == [tmp_path / "logs" / name for name in names]
    itksnap, freesurfer, fsleyes = (path.read_text().splitlines() for path in paths)
    assert itksnap[-1] == '102 0 255 128 1 1 1 "Right Back"'
    assert itksnap[2] == '0 0 0 0 0 0 0 "Clear Label"'
    assert freesurfer == [
        "0 Unknown 0 0 0 0",
        "1 Left-Front 255 0 0 0",
        "2 Left-Back 0 255 128 0",
        "101 Right-Front 255 0 0 0",
        "102 Right-Back 0 255 128 0",
    ]
    assert fsleyes[1] == "2 0.00000 1.00000 0.50196 Left Back"


def test_names_of_a_card_do_not_break_the_lines(tmp_path: Path) -> None:
    hostile = (Label(1, 'a"\n9 1 2 3 1 1 1 "b\x1b', "a", "#ff0000"),)
    for path in write_label_files(tmp_path, "toy", hostile, ["itksnap", "freesurfer", "fsleyes"]):
        text = path.read_text()
        assert "\x1b" not in text
        assert len([line for line in text.splitlines() if line.split()[0] in ("1", "101")]) == 2
        assert not any(line.startswith("9 ") for line in text.splitlines())
    assert text.count("\n") == 2
    assert "\"Left a' 9 1 2 3 1 1 1 'b\"" in (tmp_path / "logs/seg-toy_itksnap.txt").read_text()


def test_no_viewer_no_file(tmp_path: Path) -> None:
    assert write_label_files(tmp_path, "toy", LABELS, []) == []
    assert list(tmp_path.iterdir()) == []
