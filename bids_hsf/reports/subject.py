"""Reports to look at, from files already on disk alone: one page a subject, one for the group.

The pages are plain HTML and CSS, hold no date, load nothing from elsewhere (their content security
policy forbids it), and link to the figures and files beside them. Equal files give equal pages.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from bids_hsf.bids.names import described
from bids_hsf.bids.tables import read_tsv
from bids_hsf.files import read_json, write_text
from bids_hsf.labels import RIGHT_OFFSET, SIDE_NAMES
from bids_hsf.reports.group import group_page
from bids_hsf.reports.pages import (
    UNKNOWN,
    anchor,
    citation_link,
    find,
    find_mapping,
    find_text,
    link_to,
    natural_order,
    render,
    to_number,
    to_text,
    to_words,
)
from bids_hsf.segmentation.volumes import asymmetry_index

# Healthy hippocampi differ by a few per cent; from here on it is worth a look at the outlines.
NOTABLE_ASYMMETRY = 15.0
FIGURES = {
    "segmentation": (
        "Outlines of the segmented structures, drawn on the scan: each hippocampus along its long axis, both from "
        "above, and coronal slices from head to tail (ticks under the sagittal views)."
    ),
    "entropy": (
        "Where the networks are unsure: normalised entropy of the mean class probabilities, 0 certain, 1 all classes "
        "equally likely. A thin rim along borders is normal; a wide glow is worth a look."
    ),
    "localization": (
        "What was looked at: the template's brain after registration, and the box around each hippocampus that the "
        "networks saw. The outline should follow the brain's surface."
    ),
}

Row = Mapping[str, str]

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Remark:
    """Something that a reader should know; `level` is good, note, warn or bad."""

    level: str
    text: str


@dataclass(frozen=True)
class Measure:
    """One structure of one hemisphere.

    Attributes
    ----------
    volume : float
        mm3.
    share : float
        Length of its bar, per cent of the largest structure's.
    entropy : float or None
        Mean over the structure, 0-1.
    interval : tuple of float or None
        Central 95 % of the passes, mm3.
    """

    volume: float
    share: float = 0.0
    entropy: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Pair:
    """One structure, left and right; `asymmetry` in per cent, positive where the left is larger."""

    name: str
    color: str
    left: Measure | None
    right: Measure | None

    @property
    def asymmetry(self) -> float | None:
        """Left minus right over their mean, per cent."""
        if self.left is None or self.right is None:
            return None
        return asymmetry_index(self.left.volume, self.right.volume)


@dataclass(frozen=True)
class Figure:
    """A picture: its address from the page, its size, and what it shows."""

    kind: str
    href: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class ScanView:
    """One scan and model on a subject's page."""

    title: str
    heading: str
    anchor: str
    model: str
    segmentation: str
    quality: str
    etiv: float | None
    pairs: tuple[Pair, ...]
    total: Pair
    remarks: tuple[Remark, ...]
    figures: tuple[Figure, ...]
    facts: tuple[tuple[str, Facts], ...]
    links: Facts


def write_subject_report(output_dir: Path, subject: str) -> Path:
    """Write ``sub-<subject>.html`` with all scans of a subject, all sessions and runs; returns its path."""
    path = output_dir / f"sub-{subject}.html"
    write_text(path, subject_page(output_dir, subject))
    return path


def write_group_report(output_dir: Path) -> Path:
    """Write ``group_volumes.html`` from ``group_volumes.tsv``; returns its path."""
    path = output_dir / "group_volumes.html"
    write_text(path, group_page(output_dir))
    return path


def subject_page(output_dir: Path, subject: str) -> str:
    """Render the page of a subject.

    Parameters
    ----------
    output_dir : Path
        A derivative dataset of this app. Read are the subject's ``*_dseg.tsv`` and ``.json``, the
        names and sizes of its figures, and ``logs/``; whatever is missing is left out or "n/a".
    subject : str
        Label without ``sub-``.
    """
    tables = (output_dir / f"sub-{subject}").glob("**/anat/*_dseg.tsv")
    scans = [_view_scan(output_dir, table) for table in sorted(tables, key=lambda path: natural_order(path.as_posix()))]
    if len({scan.model for scan in scans}) > 1:
        scans = [replace(scan, heading=f"{scan.title} · {scan.model}") for scan in scans]
    if len({(scan.title, scan.model) for scan in scans}) < len(scans):
        scans = [
            replace(scan, title=f"{scan.title} · {scan.segmentation}", heading=f"{scan.heading} · {scan.segmentation}")
            for scan in scans
        ]
    return render(
        "subject.html.j2",
        title=f"sub-{subject}",
        scans=scans,
        failures=list(_failures(output_dir, subject)),
        has_group=(output_dir / "group_volumes.html").exists(),
        citation=citation_link(output_dir),
    )


# One scan


def _view_scan(output_dir: Path, table: Path) -> ScanView:
    """Collect what is known of a scan from its table and the files beside it."""
    stem = table.name.removesuffix("_dseg.tsv")
    sidecar = read_json(table.with_suffix(".json"))
    logged = read_json(output_dir / "logs" / f"{stem}_provenance.json") or {}
    facts = sidecar or {}
    scan = find_text(facts, "Scan") if "Scan" in facts else stem
    model = find_text(facts, "Model", "Name")
    segmentation = str(facts.get("Segmentation") or "")
    pairs = _pairs(read_tsv(table))
    total = _total(pairs)
    figures = tuple(_figures(output_dir, table, stem))
    remarks = [*_remarks(facts), *_volume_remarks(pairs, total)]
    if sidecar is None:
        remarks.insert(0, Remark("bad", "No sidecar: the scan is not whole; run the participant level again"))
    title = " · ".join(part for part in scan.split("_") if not part.startswith("sub-")) or scan
    return ScanView(
        title=title,
        heading=title,
        anchor=anchor(scan, model, segmentation),
        model=model,
        segmentation=segmentation,
        quality=find_text(facts, "Localization", "Quality"),
        etiv=to_number(facts.get("eTIV_mm3")),
        pairs=pairs,
        total=total,
        remarks=tuple(remarks) or (Remark("good", "no remarks"),),
        figures=figures,
        facts=_facts(facts, logged),
        links=tuple(_links(output_dir, table, stem)),
    )


def _pairs(rows: Sequence[Row]) -> tuple[Pair, ...]:
    """Left and right rows of a ``dseg.tsv`` side by side, in the order of their indices."""
    by_index = {int(row["index"]): row for row in rows if row.get("index", "").isdigit()}
    volumes = [to_number(row.get("volume_mm3")) or 0.0 for row in by_index.values()]
    largest = max(volumes, default=0.0) or 1.0
    pairs = []
    for index in sorted({index % RIGHT_OFFSET for index in by_index}):
        left, right = by_index.get(index), by_index.get(index + RIGHT_OFFSET)
        either = left or right or {}
        name = re.sub(r"^(Left|Right) ", "", either.get("name") or UNKNOWN)
        color = either.get("color") or ""
        # The page puts it into a style; nothing but a colour may get there.
        color = color if re.fullmatch(r"#[0-9a-fA-F]{6}", color) else "#888888"
        pairs.append(Pair(name, color, _measure(left, largest), _measure(right, largest)))
    return tuple(pairs)


def _measure(row: Row | None, largest: float) -> Measure | None:
    volume = None if row is None else to_number(row.get("volume_mm3"))
    if row is None or volume is None:
        return None
    low, high = to_number(row.get("volume_mm3_low")), to_number(row.get("volume_mm3_high"))
    interval = None if low is None or high is None else (low, high)
    return Measure(volume, round(100 * volume / largest, 1), to_number(row.get("entropy_mean")), interval)


def _total(pairs: Sequence[Pair]) -> Pair:
    """Sum of all structures a side."""
    sides = []
    for measures in ([pair.left for pair in pairs], [pair.right for pair in pairs]):
        volumes = [measure.volume for measure in measures if measure is not None]
        sides.append(Measure(round(sum(volumes), 2)) if volumes else None)
    return Pair("All structures", "", *sides)


def _remarks(sidecar: Mapping[str, Any]) -> Iterator[Remark]:
    """Collect what the sidecar says of localization, which the field of view is part of, and of pieces."""
    warnings = find(sidecar, "Localization", "Warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        yield Remark("warn", str(warning))
    for side, name in SIDE_NAMES.items():
        pieces = to_number(find(sidecar, "Components", side))
        if pieces is not None and pieces > 1:
            yield Remark("note", f"{name} side came out in {pieces:.0f} pieces")


def _volume_remarks(pairs: Sequence[Pair], total: Pair) -> Iterator[Remark]:
    """Find empty structures, and an asymmetry that is worth a look."""
    for pair in pairs:
        for name, measure in (("left", pair.left), ("right", pair.right)):
            if measure is None or measure.volume == 0:
                yield Remark("bad", f"{name} {pair.name} is empty")
    difference = total.asymmetry
    if difference is not None and abs(difference) >= NOTABLE_ASYMMETRY:
        larger = "left" if difference > 0 else "right"
        yield Remark("note", f"{larger} side larger by {abs(difference):.0f} %")


def _figures(output_dir: Path, table: Path, stem: str) -> Iterator[Figure]:
    """Find the figures of a scan."""
    folder = Path(table.relative_to(output_dir).parts[0]) / "figures"
    for kind, caption in FIGURES.items():
        relative = folder / f"{described(stem, kind)}_dseg.svg"
        try:
            with (output_dir / relative).open(encoding="utf-8", errors="replace") as stream:
                head = stream.read(400)
        except OSError:
            continue
        size = re.search(r'viewBox="0 0 (\d+)(?:\.\d+)? (\d+)', head)
        width, height = (int(size[1]), int(size[2])) if size else (1200, 700)
        yield Figure(kind, link_to(relative), width, height, caption)


def _facts(sidecar: Mapping[str, Any], logged: Mapping[str, Any]) -> tuple[tuple[str, Facts], ...]:
    """Tables of what was done, with what: of `logged` only what is equal in equal runs on one machine."""
    in_model = ("Model", "ModelVersion", "Members")
    settings = {name: value for name, value in find_mapping(sidecar, "Request").items() if name not in in_model}
    members = [f"{name} ({check})" for name, check in find_mapping(sidecar, "Request", "Members").items()]
    found = {name: value for name, value in find_mapping(sidecar, "Localization").items() if name != "Warnings"}
    joined = find_mapping(sidecar, "Coregistration")
    volume = {name: value for name, value in sidecar.items() if name.startswith("eTIV") and value is not None}
    packages = [f"{name} {version}" for name, version in find_mapping(logged, "Packages").items()]
    computed = {
        "App": f"bids-hsf {find_text(sidecar, 'GeneratedBy', 'Version')}",
        "Provider": find_text(logged, "Device", "Provider"),
        "Chosen because": find_text(logged, "Device", "Reason"),
        "Threads": find_text(logged, "Device", "Threads"),
        "Machine": find_text(logged, "Host", "Machine"),
        "Passes": find_text(sidecar, "Passes"),
        "Packages": ", ".join(packages),
    }
    tables = {
        "Model": dict(find_mapping(sidecar, "Model")) | {"Networks": ", ".join(members)},
        "Settings": settings,
        "Localization": found | volume,
        "Second contrast": joined,
        "Computation": computed,
    }
    if not tables["Second contrast"]:
        del tables["Second contrast"]
    return tuple(
        (name, tuple((to_words(key), to_text(value)) for key, value in table.items())) for name, table in tables.items()
    )


def _links(output_dir: Path, table: Path, stem: str) -> Iterator[tuple[str, str]]:
    """Files of a scan, name and address, as far as they exist."""
    folder = table.parent
    wanted = {
        "label map": folder / f"{stem}_dseg.nii.gz",
        "volumes": table,
        "sidecar": folder / f"{stem}_dseg.json",
        "entropy map": folder / f"{described(stem, 'entropy')}_probseg.nii.gz",
        "provenance": output_dir / "logs" / f"{stem}_provenance.json",
    }
    for name, path in wanted.items():
        if path.exists():
            yield name, link_to(path.relative_to(output_dir))


def _failures(output_dir: Path, subject: str) -> Iterator[tuple[str, str, str]]:
    """Find scans that failed: name, reason, hint."""
    for path in sorted((output_dir / "logs").glob(f"sub-{escape(subject)}_*_failure.json")):
        reason = read_json(path) or {}
        hint = reason.get("Hint")
        yield path.name.removesuffix("_failure.json"), find_text(reason, "Error"), str(hint) if hint else ""
