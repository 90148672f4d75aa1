"""One scan of a subject's page: what its table, its sidecar and its figures tell."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.bids.derivatives import Derivative
from bids_hsf.bids.names import described, log_folder
from bids_hsf.bids.provenance import Provenance, read_provenance
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.tables import Structure
from bids_hsf.files import read_text
from bids_hsf.findings import Weight
from bids_hsf.labels import RIGHT_OFFSET
from bids_hsf.reports.canvas import ENTROPY, OUTLINES
from bids_hsf.reports.embedding import Album, Picture
from bids_hsf.reports.pages import UNKNOWN, anchor, link_to, to_text, to_words
from bids_hsf.segmentation.volumes import asymmetry_index

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
    "unfolded": (
        "The sheet of grey matter of each hippocampus laid flat, by its unfolded coordinates: labels, and how unsure "
        "the networks are, from the front (left) to the tail (right). Subfields should be stripes without gaps."
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
        95 % prediction interval of the true volume, else the central 95 % of the passes, mm3.
    reach : tuple of float or None
        The same as `share`.
    is_predicted : bool
        Which of the two it is.
    """

    volume: float
    share: float = 0.0
    entropy: float | None = None
    interval: tuple[float, float] | None = None
    reach: tuple[float, float] | None = None
    is_predicted: bool = False


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
    """A picture: what it shows, as a part of the page, and the address of its file."""

    kind: str
    href: str
    picture: Picture
    caption: str


@dataclass(frozen=True)
class ScanView:
    """One scan and model on a subject's page."""

    title: str
    heading: str
    anchor: str
    session: str
    contrast: str
    model: str
    segmentation: str
    quality: str
    expected_dice: str
    etiv: float | None
    pairs: tuple[Pair, ...]
    total: Pair
    remarks: tuple[Remark, ...]
    figures: tuple[Figure, ...]
    turning_page: str | None
    facts: tuple[tuple[str, Facts], ...]
    links: Facts


def _expected_dice(sidecar: Sidecar | None) -> str:
    """Tell the Dice that is expected of left and right."""
    expected = sidecar.predicted_dice if sidecar is not None else {}
    return ", ".join(f"{side} {value:.2f}" for side, value in expected.items()) or UNKNOWN


def view_scan(output_dir: Path, found: Derivative, album: Album) -> ScanView:
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
        session=next((part for part in scan.split("_") if part.startswith("ses-")), ""),
        contrast=scan.rpartition("_")[2],
        model=model,
        segmentation=segmentation,
        quality=to_text(None if sidecar is None else sidecar.localization.quality),
        expected_dice=_expected_dice(sidecar),
        etiv=None if sidecar is None else sidecar.etiv_mm3,
        pairs=pairs,
        total=total,
        remarks=tuple(remarks) or (Remark("good", "no remarks"),),
        figures=tuple(_figures(output_dir, table, stem, album)),
        turning_page=_turning_page(output_dir, table, stem),
        facts=() if sidecar is None else _facts(sidecar, logged),
        links=tuple(_links(output_dir, table, stem)),
    )


def _pairs(structures: Sequence[Structure]) -> tuple[Pair, ...]:
    """Structures left and right side by side, in the order of their indices."""
    by_index = {structure.index: structure for structure in structures}
    sizes = [size for each in structures for size in (each.volume_mm3, each.predicted_high or each.volume_high)]
    largest = max((size for size in sizes if size is not None), default=0.0) or 1.0
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
    volume = structure.volume_mm3
    is_predicted = structure.predicted_low is not None and structure.predicted_high is not None
    low, high = structure.volume_low, structure.volume_high
    if is_predicted:
        low, high = structure.predicted_low, structure.predicted_high
    interval = None if low is None or high is None else (low, high)
    share, *reach = (round(100 * size / largest, 1) for size in (volume, *(interval or ())))
    whiskers = (reach[0], reach[1]) if reach else None
    return Measure(volume, share, structure.entropy_mean, interval, whiskers, is_predicted)


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


def _figures(output_dir: Path, table: Path, stem: str, album: Album) -> Iterator[Figure]:
    """Find the figures of a scan."""
    for kind, caption in FIGURES.items():
        # Older versions have a file of its own for the entropy; now it is a layer of the segmentation's.
        for source in (kind, "segmentation") if kind == ENTROPY else (kind,):
            relative = _figure_folder(output_dir, table) / f"{described(stem, source)}_dseg.svg"
            is_layer = source != kind
            try:
                text = read_text(output_dir / relative)
            except (OSError, UnicodeDecodeError):
                continue
            picture = album.embed(text, f"picture-{anchor(stem, kind)}", ENTROPY if is_layer else OUTLINES)
            if picture is not None:
                yield Figure(kind, link_to(relative) + (f"#{kind}" if is_layer else ""), picture, caption)
                break


def _figure_folder(output_dir: Path, table: Path) -> Path:
    """Folder of a scan's figures, within the dataset."""
    subject, *below = table.relative_to(output_dir).parts
    return Path(subject) / "figures" if below else Path("figures")


def _turning_page(output_dir: Path, table: Path, stem: str) -> str | None:
    """Address of the page on which the hippocampi can be turned, where there is one."""
    relative = _figure_folder(output_dir, table) / f"{described(stem, '3d')}_dseg.html"
    return link_to(relative) if (output_dir / relative).exists() else None


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
