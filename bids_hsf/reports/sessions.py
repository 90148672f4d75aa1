"""Sessions of a subject side by side: the same structures in each, and how they changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bids_hsf.reports.embedding import Picture
from bids_hsf.reports.scan_view import Measure, Pair, ScanView


@dataclass(frozen=True)
class Visit:
    """One session of a comparison: its heading, the section of its scan, and the picture of the outlines if any."""

    title: str
    anchor: str
    picture: Picture | None


@dataclass(frozen=True)
class Course:
    """One structure of one side over the sessions.

    Attributes
    ----------
    name, color : str
    measures : tuple of Measure or None
        One a session.
    changes : tuple of float or None
        Per cent of the first session's volume.
    """

    name: str
    color: str
    measures: tuple[Measure | None, ...]
    changes: tuple[float | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Sessions that can be compared: of one model and contrast."""

    title: str
    visits: tuple[Visit, ...]
    courses: tuple[Course, ...]


def compare_sessions(scans: Sequence[ScanView]) -> list[Comparison]:
    """Put scans of one model and contrast side by side where they are of several sessions; of runs, all are shown."""
    families: dict[tuple[str, str, str], list[ScanView]] = {}
    for scan in scans:
        families.setdefault((scan.contrast, scan.model, scan.segmentation), []).append(scan)
    several = {names: found for names, found in families.items() if len({scan.session for scan in found}) > 1}
    return [
        Comparison(" · ".join(filter(None, names)), tuple(map(_visit, found)), tuple(_courses(found)))
        for names, found in several.items()
    ]


def _visit(scan: ScanView) -> Visit:
    pictures = [figure.picture for figure in scan.figures if figure.kind == "segmentation"]
    title = scan.title.removesuffix(f" · {scan.contrast}")
    return Visit(title, scan.anchor, pictures[0] if pictures else None)


def _courses(scans: Sequence[ScanView]) -> Iterator[Course]:
    """Follow each structure of each side, then the sums."""
    names = dict.fromkeys((pair.name, pair.color) for scan in scans for pair in scan.pairs)
    rows = [(name, color, [_pair(scan.pairs, name) for scan in scans]) for name, color in names]
    if len(names) > 1:
        rows.append((scans[0].total.name, "", [scan.total for scan in scans]))
    for name, color, pairs in rows:
        for side in ("left", "right"):
            measures = tuple(None if pair is None else getattr(pair, side) for pair in pairs)
            yield Course(f"{name}, {side}", color, measures, tuple(_change(measures[0], each) for each in measures))


def _pair(pairs: Sequence[Pair], name: str) -> Pair | None:
    return next((pair for pair in pairs if pair.name == name), None)


def _change(first: Measure | None, later: Measure | None) -> float | None:
    if first is None or later is None or first is later or not first.volume:
        return None
    return 100 * (later.volume / first.volume - 1)
