"""Label descriptions in the formats of viewers."""

from collections.abc import Sequence
from pathlib import Path

from bids_hsf.files import write_text
from bids_hsf.labels import SIDE_NAMES, Label, bilateral


def write_label_files(
    output_dir: Path, segmentation: str, labels: tuple[Label, ...], viewers: Sequence[str]
) -> list[Path]:
    """Write label descriptions in the formats of some viewers, beside the logs; returns their paths.

    Parameters
    ----------
    output_dir : Path
    segmentation : str
        The ``seg-`` entity of the label maps.
    labels : tuple of Label
        Of one hemisphere.
    viewers : sequence of str
        Out of `config.VIEWERS`.
    """
    formats = {"itksnap": (_itksnap, "txt"), "freesurfer": (_freesurfer, "txt"), "fsleyes": (_fsleyes, "lut")}
    sides = {side: name.capitalize() for side, name in SIDE_NAMES.items()}
    rows = [
        (label.index, f"{sides[side]} {_plain(label.name)}", _rgb(label.color)) for side, label in bilateral(labels)
    ]
    paths = []
    for viewer in viewers:
        write, extension = formats[viewer]
        path = output_dir / "logs" / f"seg-{segmentation}_{viewer}.{extension}"
        write_text(path, "".join(f"{line}\n" for line in write(rows)))
        paths.append(path)
    return paths


Rows = Sequence[tuple[int, str, tuple[int, int, int]]]


def _itksnap(rows: Rows) -> list[str]:
    head = ["# ITK-SnAP Label Description File", "# IDX R G B A VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    return head + [f'{index} {r} {g} {b} 1 1 1 "{name}"' for index, name, (r, g, b) in rows]


def _freesurfer(rows: Rows) -> list[str]:
    named = [(index, name.replace(" ", "-"), colour) for index, name, colour in rows]
    return ["0 Unknown 0 0 0 0"] + [f"{index} {name} {r} {g} {b} 0" for index, name, (r, g, b) in named]


def _fsleyes(rows: Rows) -> list[str]:
    return [f"{index} {r / 255:.5f} {g / 255:.5f} {b / 255:.5f} {name}" for index, name, (r, g, b) in rows]


def _plain(name: str) -> str:
    """Name from a card without what would end its field or its line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()).replace('"', "'")


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
