"""A subject's page: all its scans, from files already on disk alone.

Pages are plain HTML and CSS, hold no date, load nothing from elsewhere (their content security
policy forbids it), and link to the figures and files beside them. Equal files give equal pages.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bids_hsf import __version__
from bids_hsf.bids.derivatives import Derivative, find_derivatives, read_derivative, result_files
from bids_hsf.bids.names import described, log_folder
from bids_hsf.bids.provenance import Provenance, read_failure, read_provenance
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.tables import Structure
from bids_hsf.files import read_text, write_text
from bids_hsf.findings import Weight
from bids_hsf.labels import RIGHT_OFFSET
from bids_hsf.reports.pages import (
    UNKNOWN,
    anchor,
    citation_link,
    link_to,
    render,
    to_text,
    to_words,
)
from bids_hsf.segmentation.volumes import asymmetry_index
from bids_hsf.text_table import natural_order

LEVELS = {Weight.NOTE: "note", Weight.CHECK: "warn", Weight.FAIL: "bad"}
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


def is_up_to_date(output_dir: Path, subject: str) -> bool:
    """Whether the page of a subject was made of the files that are there; clocks say nothing of that."""
    try:
        page = read_text(output_dir / f"sub-{subject}.html")
    except (OSError, UnicodeDecodeError):
        return False
    return f'content="{_fingerprint(output_dir, subject)}"' in page


def _fingerprint(output_dir: Path, subject: str) -> str:
    """Checksum of what a page tells: sidecars, tables and failures of a subject, by name and content."""
    digest = hashlib.sha256(__version__.encode())
    for path in (*result_files(output_dir, subject), *_failure_records(output_dir, subject)):
        try:
            content = read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            content = str(error)
        digest.update(f"{path.name}\0{content}\0".encode(errors="backslashreplace"))
    return digest.hexdigest()[:16]


def write_image_report(output_dir: Path, table: Path, key: str) -> Path:
    """Write the page of an image that belongs to no dataset, ``<key>.html``; returns its path."""
    path = output_dir / f"{key}.html"
    found = read_derivative(table, output_dir)
    scans = [] if found is None else [_view_scan(output_dir, found)]
    page = render(
        "subject.html.j2", title=key, scans=scans, failures=[], has_group=False, citation=citation_link(output_dir)
    )
    write_text(path, page)
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
    found = find_derivatives(output_dir, subject)
    found.sort(key=lambda derivative: natural_order(derivative.table.as_posix()))
    scans = [_view_scan(output_dir, derivative) for derivative in found]
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
        fingerprint=_fingerprint(output_dir, subject),
        scans=scans,
        failures=list(_failures(output_dir, subject)),
        has_group=(output_dir / "group_volumes.html").exists(),
        citation=citation_link(output_dir),
    )


def _view_scan(output_dir: Path, found: Derivative) -> ScanView:
    """Collect what is known of a scan from its table and the files beside it."""
    table, stem, sidecar = found.table, found.stem, found.sidecar
    logged = read_provenance(log_folder(output_dir, stem) / f"{stem}_provenance.json")
    scan, model, segmentation = stem, UNKNOWN, ""
    if sidecar is not None:
        scan, model, segmentation = sidecar.scan, sidecar.model.name, sidecar.segmentation
    pairs = _pairs(found.structures)
    total = _total(pairs)
    remarks = [*_remarks(sidecar), *_volume_remarks(pairs)]
    if found.fault is not None:
        remarks.insert(0, Remark("bad", f"Not done: {found.fault}"))
    title = " · ".join(part for part in scan.split("_") if not part.startswith("sub-")) or scan
    return ScanView(
        title=title,
        heading=title,
        anchor=anchor(scan, model, segmentation),
        model=model,
        segmentation=segmentation,
        quality=to_text(None if sidecar is None else sidecar.localization.quality),
        etiv=None if sidecar is None else sidecar.etiv_mm3,
        pairs=pairs,
        total=total,
        remarks=tuple(remarks) or (Remark("good", "no remarks"),),
        figures=tuple(_figures(output_dir, table, stem)),
        facts=() if sidecar is None else _facts(sidecar, logged),
        links=tuple(_links(output_dir, table, stem)),
    )


def _pairs(structures: Sequence[Structure]) -> tuple[Pair, ...]:
    """Structures left and right side by side, in the order of their indices."""
    by_index = {structure.index: structure for structure in structures}
    largest = max((structure.volume_mm3 or 0.0 for structure in structures), default=0.0) or 1.0
    pairs = []
    for index in sorted({index % RIGHT_OFFSET for index in by_index}):
        left, right = by_index.get(index), by_index.get(index + RIGHT_OFFSET)
        either = left or right
        if either is None:
            continue
        name = re.sub(r"^(Left|Right) ", "", either.name)
        # The page puts it into a style; nothing but a colour may get there.
        color = either.color if re.fullmatch(r"#[0-9a-fA-F]{6}", either.color) else "#888888"
        pairs.append(Pair(name, color, _measure(left, largest), _measure(right, largest)))
    return tuple(pairs)


def _measure(structure: Structure | None, largest: float) -> Measure | None:
    if structure is None or structure.volume_mm3 is None:
        return None
    volume, low, high = structure.volume_mm3, structure.volume_low, structure.volume_high
    interval = None if low is None or high is None else (low, high)
    return Measure(volume, round(100 * volume / largest, 1), structure.entropy_mean, interval)


def _total(pairs: Sequence[Pair]) -> Pair:
    """Sum of all structures a side."""
    sides = []
    for measures in ([pair.left for pair in pairs], [pair.right for pair in pairs]):
        volumes = [measure.volume for measure in measures if measure is not None]
        sides.append(Measure(round(sum(volumes), 2)) if volumes else None)
    return Pair("All structures", "", *sides)


def _remarks(sidecar: Sidecar | None) -> Iterator[Remark]:
    """Show the findings of a scan."""
    for finding in () if sidecar is None else sidecar.findings:
        yield Remark(LEVELS[finding.weight], finding.text)


def _volume_remarks(pairs: Sequence[Pair]) -> Iterator[Remark]:
    """Find volumes that the table does not tell."""
    for pair in pairs:
        for name, measure in (("left", pair.left), ("right", pair.right)):
            if measure is None:
                yield Remark("bad", f"the volume of {name} {pair.name} is not known")


def _figures(output_dir: Path, table: Path, stem: str) -> Iterator[Figure]:
    """Find the figures of a scan."""
    subject, *below = table.relative_to(output_dir).parts
    folder = Path(subject) / "figures" if below else Path("figures")
    for kind, caption in FIGURES.items():
        relative = folder / f"{described(stem, kind)}_dseg.svg"
        try:
            head = read_text(output_dir / relative)[:400]
        except (OSError, UnicodeDecodeError):
            continue
        size = re.search(r'viewBox="0 0 (\d+)(?:\.\d+)? (\d+)', head)
        width, height = (int(size[1]), int(size[2])) if size else (1200, 700)
        yield Figure(kind, link_to(relative), width, height, caption)


def _facts(sidecar: Sidecar, logged: Provenance) -> tuple[tuple[str, Facts], ...]:
    """Tables of what was done, with what: of `logged` only what is equal in equal runs on one machine."""
    in_model = ("Model", "ModelVersion", "Members")
    members = sidecar.request.get("Members")
    networks = [f"{name} ({check})" for name, check in members.items()] if isinstance(members, dict) else []
    found = sidecar.localization.to_json()
    volume = {"eTIV_mm3": sidecar.etiv_mm3, "eTIVReason": sidecar.etiv_reason}
    tables = {
        "Model": {**sidecar.model.to_json(), "Networks": ", ".join(networks)},
        "Settings": {name: value for name, value in sidecar.request.items() if name not in in_model},
        "Localization": found | {name: value for name, value in volume.items() if value is not None},
        "Second contrast": {} if sidecar.coregistration is None else sidecar.coregistration.to_json(),
        "Computation": {
            "App": f"bids-hsf {sidecar.app_version}",
            "Provider": logged.device.get("Provider"),
            "Threads": logged.device.get("Threads"),
            "Machine": logged.host.get("Machine"),
            "Passes": sidecar.passes,
            "Packages": ", ".join(f"{name} {version}" for name, version in logged.packages.items()),
        },
    }
    if sidecar.coregistration is None:
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
        "provenance": log_folder(output_dir, stem) / f"{stem}_provenance.json",
    }
    for name, path in wanted.items():
        if path.exists():
            yield name, link_to(path.relative_to(output_dir))


def _failure_records(output_dir: Path, subject: str) -> list[Path]:
    return sorted(log_folder(output_dir, f"sub-{subject}").glob("*_failure.json"))


def _failures(output_dir: Path, subject: str) -> Iterator[tuple[str, str, str]]:
    """Find scans that failed: name, reason, hint."""
    for path in _failure_records(output_dir, subject):
        failure = read_failure(path)
        yield path.name.removesuffix("_failure.json"), failure.error or UNKNOWN, failure.hint or ""
