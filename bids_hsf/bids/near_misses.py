"""Where nothing was found: the layout that was expected, and what lies there that looks like it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bids_hsf.bids.selection import EXTENSIONS
from bids_hsf.text_table import near

LAYOUT = (
    "Expected layout: BIDS_DIR/dataset_description.json and BIDS_DIR/sub-LABEL/[ses-LABEL/]anat/"
    "sub-LABEL_[ses-LABEL_]T1w.nii.gz (or T2w, UNIT1)."
)

# Folders in which nobody looks for raw images.
OTHER_FOLDERS = frozenset({"derivatives", "sourcedata", "code", "stimuli", "logs"})
OTHER_DATATYPES = frozenset({"func", "dwi", "fmap", "perf", "pet", "meg", "eeg", "ieeg", "beh", "micr", "nirs", "swi"})
FORMATS = {
    ".dcm": "DICOM: convert it with dcm2niix, dcm2bids or heudiconv",
    ".ima": "DICOM: convert it with dcm2niix, dcm2bids or heudiconv",
    ".mgz": "FreeSurfer's format: convert it with mri_convert",
    ".mgh": "FreeSurfer's format: convert it with mri_convert",
    ".img": "ANALYZE or a NIfTI pair: convert it to one .nii.gz",
    ".nrrd": "NRRD: convert it to .nii.gz",
    ".mnc": "MINC: convert it with mnc2nii",
    ".mha": "MetaImage: convert it to .nii.gz",
}
ANATOMICAL = ("t1", "t2", "mprage", "unit1", "uni", "tse", "space", "anat")

MOST_ENTRIES = 3000  # that are looked at: a hint must not take minutes
DEEPEST = 4
MOST_SHOWN = 4


def near_folder(path: Path) -> str:
    """Ask whether another folder beside a missing one was meant, where one has nearly its name."""
    try:
        return near(path.name, [entry.name for entry in os.scandir(path.parent) if entry.is_dir()])
    except OSError:
        return ""


def near_misses(bids_dir: Path) -> str:
    """Sentences on what looks like scans in a folder, and what keeps it from being taken for them; "" for nothing."""
    found: dict[str, tuple[str, int]] = {}
    with suppress(OSError):
        for kind, text in _misses(bids_dir):
            first, number = found.get(kind, (text, 0))
            found[kind] = (first, number + 1)
    texts = [text + (f" ({number} such)" if number > 1 else "") for text, number in found.values()]
    more = "; ..." if len(texts) > MOST_SHOWN else ""
    return f"Found: {'; '.join(texts[:MOST_SHOWN])}{more}." if texts else ""


def _misses(bids_dir: Path) -> Iterator[tuple[str, str]]:
    """Kind and description of everything that is near."""
    parent = bids_dir.parent
    if bids_dir.name.startswith("sub-") and (parent / "dataset_description.json").is_file():
        label = bids_dir.name.removeprefix("sub-")
        yield "above", f"{parent} is a dataset: bids-hsf {parent} OUTPUT_DIR participant --participant-label {label}"
    for parts, is_folder in _walk(bids_dir):
        place = "/".join(parts)
        if is_folder:
            if len(parts) == 1 and (bids_dir / place / "dataset_description.json").is_file():
                yield "below", f"{bids_dir / place} is a dataset: give it as BIDS_DIR"
            continue
        name = parts[-1].lower()
        if name.endswith(EXTENSIONS):
            miss = _miss_of_image(parts, bids_dir)
            if miss is not None:
                yield miss
        elif Path(name).suffix in FORMATS:
            yield Path(name).suffix, f"{place} is {FORMATS[Path(name).suffix]}"


def _miss_of_image(parts: tuple[str, ...], bids_dir: Path) -> tuple[str, str] | None:
    """Say what keeps a NIfTI file from being a scan; None where nothing does, or it is no anatomical image."""
    place, first, name = "/".join(parts), parts[0], parts[-1]
    if len(parts) == 1:
        return "top", f"{name} at top level: bids-hsf {bids_dir / name} OUTPUT_DIR segments it as it is"
    if not first.startswith("sub-"):
        return "subject", f"{place}, whose folder {first} is not called sub-LABEL"
    folders = [folder for folder in parts[1:-1] if not folder.startswith("ses-")]
    if not folders:
        return "anat", f"{place}, which lies in no anat folder"
    if folders[0] != "anat":
        other = folders[0] in OTHER_DATATYPES
        return None if other else ("anat", f"{place}, whose folder {folders[0]} is not called anat")
    if not name.startswith(f"{first}_"):
        return "name", f"{place}, whose name does not begin with {first}_"
    stem = name[: name.lower().index(".nii")]
    suffix = stem.rpartition("_")[2]
    if suffix in ("T1w", "T2w", "UNIT1") or not any(word in suffix.lower() for word in ANATOMICAL):
        return None
    return "suffix", f"{place}, whose name does not end with _T1w, _T2w or _UNIT1"


def _walk(root: Path) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Relative parts of what lies in a folder, level by level, and whether it is a folder; no link is followed."""
    waiting: list[tuple[str, ...]] = [()]
    seen = 0
    while waiting:
        parts = waiting.pop(0)
        try:
            entries = sorted(os.scandir(root.joinpath(*parts)), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > MOST_ENTRIES:
                return
            if entry.name.startswith(".") or (not parts and entry.name in OTHER_FOLDERS):
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            yield (*parts, entry.name), is_folder
            if is_folder and len(parts) + 1 < DEEPEST:
                waiting.append((*parts, entry.name))
