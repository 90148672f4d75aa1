"""Label descriptions in the formats of viewers."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bids_hsf.bids.tables import Structure
from bids_hsf.files import write_if_changed
from bids_hsf.labels import RIGHT_OFFSET, SIDE_NAMES, Label, bilateral

Color = tuple[int, int, int]
Rows = Sequence[tuple[int, str, Color]]


def write_label_files(
    output_dir: Path, segmentation: str, labels: Iterable[Label], viewers: Sequence[str]
) -> list[Path]:
    """Write label descriptions in the formats of some viewers into the root of the dataset; returns their paths.

    Right structures have a darker or lighter shade of the left ones' colours.

    Parameters
    ----------
    output_dir : Path
    segmentation : str
        The ``seg-`` entity of the label maps.
    labels : iterable of Label
        Of one hemisphere.
    viewers : sequence of str
        Out of `config.VIEWERS`.
    """
    rows = colored(labels)
    paths = []
    for viewer in viewers:
        write, extension = FORMATS[viewer]
        path = output_dir / f"seg-{segmentation}_{viewer}.{extension}"
        write_if_changed(path, "".join(f"{line}\n" for line in write(rows)))
        paths.append(path)
    return paths


def colored(labels: Iterable[Label]) -> list[tuple[int, str, Color]]:
    """Index, name and colour of every structure of both sides, from the labels of one hemisphere."""
    rows = []
    for side, label in bilateral(tuple(labels)):
        color = _rgb(label.color)
        name = f"{SIDE_NAMES[side].capitalize()} {_plain(label.name)}"
        rows.append((label.index, name, _shade(color) if side == "R" else color))
    return rows


def labels_of(structures: Iterable[Structure]) -> tuple[Label, ...]:
    """Read the labels of one hemisphere from the table of a scan that was done before; no colour is grey."""
    found: dict[int, Label] = {}
    for structure in sorted(structures, key=lambda each: each.index):
        index = structure.index % RIGHT_OFFSET
        name = re.sub("^(Left|Right) ", "", structure.name)
        color = structure.color if re.fullmatch("#[0-9a-fA-F]{6}", structure.color) else "#888888"
        found.setdefault(index, Label(index, name, structure.abbreviation[2:], color))
    return tuple(found.values())


def _shade(color: Color) -> Color:
    """Darken a bright colour, lighten a dark one: the other side's, which is seen to be its kin.

    The weights are those of the luminance of ITU-R BT.709.
    """
    red, green, blue = color
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 80:
        return round(0.6 * red), round(0.6 * green), round(0.6 * blue)
    return round(255 - 0.5 * (255 - red)), round(255 - 0.5 * (255 - green)), round(255 - 0.5 * (255 - blue))


def _itksnap(rows: Rows) -> list[str]:
    head = ["# ITK-SnAP Label Description File", "# IDX R G B A VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    return head + [f'{index} {r} {g} {b} 1 1 1 "{name}"' for index, name, (r, g, b) in rows]


def _freesurfer(rows: Rows) -> list[str]:
    named = [(index, name.replace(" ", "-"), colour) for index, name, colour in rows]
    return ["0 Unknown 0 0 0 0"] + [f"{index} {name} {r} {g} {b} 0" for index, name, (r, g, b) in named]


def _fsleyes(rows: Rows) -> list[str]:
    return [f"{index} {r / 255:.5f} {g / 255:.5f} {b / 255:.5f} {name}" for index, name, (r, g, b) in rows]


def _slicer(rows: Rows) -> list[str]:
    named = [(index, name.replace(" ", "_"), color) for index, name, color in rows]
    return ["# Color table file", "0 Background 0 0 0 0"] + [
        f"{index} {name} {r} {g} {b} 255" for index, name, (r, g, b) in named
    ]


def _plain(name: str) -> str:
    """Name from a card without what would end its field or its line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split()).replace('"', "'")


def _rgb(color: str) -> Color:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


FORMATS: dict[str, tuple[Callable[[Rows], list[str]], str]] = {
    "itksnap": (_itksnap, "txt"),
    "freesurfer": (_freesurfer, "txt"),
    "fsleyes": (_fsleyes, "lut"),
    "slicer": (_slicer, "ctbl"),
}
