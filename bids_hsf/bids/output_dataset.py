"""The output folder as a dataset: its root files, what belongs together, what is left over."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bids_hsf import __version__, files
from bids_hsf.bids.maps import DESCRIPTIONS
from bids_hsf.bids.names import CLAIM_END, FIGURES, FORMER_FIGURES, MULTISPECTRAL, THUMBNAIL, UNFOLDED, ScanOutputs
from bids_hsf.errors import DiskError, OutputError, StorageError
from bids_hsf.files import (
    TEMPORARY_NAME,
    claimed,
    is_stale,
    is_text,
    read_json,
    remove_claim,
    remove_temporary,
    sweep,
    write_if_changed,
)

BIDS_VERSION = "1.11.1"
CODE_URL = "https://github.com/clementpoiret/bids-hsf"
README = Path(__file__).parents[1] / "data" / "templates" / "dataset_README.md"
LOOSE_MARK = ".bids-hsf"  # in the place of a dataset_description.json
ROOT_FILES = ("dataset_description.json", LOOSE_MARK)
STAGING = ".bids-hsf-staging"  # where results are written; in the output folder, so that moving is renaming
BIDSIGNORE = "*.html\nfigures\ngroup_*\nseg-*\n*_xfm.txt\n*_coords.*\n"


def check_mounted(output_dir: Path) -> None:
    """Make sure that the output dataset is still there, and not an empty mount point in its place.

    Raises
    ------
    DiskError
        It is gone.
    """
    if not any((output_dir / name).exists() for name in ROOT_FILES):
        raise DiskError(f"The output folder {output_dir} is gone", "Check the mount; the same command goes on.")


def ignores_case(output_dir: Path) -> bool:
    """Whether upper and lower case are one to the disk of an output dataset that is there."""
    return any(files.ignores_case(output_dir / name) for name in ROOT_FILES)


def own_files(outputs: ScanOutputs) -> tuple[Path, ...]:
    """All files that this app may write beside each other for one label map, and no others; its sidecar first.

    What a user puts there under another name, a label map mended by hand, is none of them.
    """
    maps = [path for name in (None, *DESCRIPTIONS) for path in (outputs.map(name), outputs.map_sidecar(name))]
    transforms = (outputs.transform_to_template, outputs.transform_from_template)
    figures = tuple(outputs.figure(name) for name in (*FIGURES, UNFOLDED, THUMBNAIL, *FORMER_FIGURES))
    return (outputs.sidecar, outputs.dseg, outputs.table, *maps, *transforms, *figures, outputs.turning_page)


def discard(outputs: ScanOutputs) -> None:
    """Remove the results of a scan, its sidecar first: what is half removed is not done.

    Raises
    ------
    StorageError
        A file cannot be removed.
    """
    for path in own_files(outputs):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot remove {path}: {error.strerror}", "Check permissions.") from error


def check_output_dir(output_dir: Path) -> None:
    """Make sure that results may go to a folder that is there, or can be made; nothing is written.

    Raises
    ------
    OutputError
        It cannot be made or written, or holds a dataset that is not this app's.
    """
    standing = next(folder for folder in (output_dir, *output_dir.parents) if folder.exists() or folder.is_symlink())
    if not standing.is_dir():
        raise OutputError(f"Cannot create the output folder {output_dir}: {standing} is not a folder")
    if not os.access(standing, os.W_OK | os.X_OK):
        hint = "In a container, check the mount and the user."
        raise OutputError(f"The output folder {output_dir} cannot be written", hint)
    existing = read_json(output_dir / "dataset_description.json")
    if existing is None:
        return
    hint = "Choose a folder of its own, for example BIDS_DIR/derivatives/bids-hsf."
    if existing.get("DatasetType") != "derivative":
        raise OutputError(f"The output folder {output_dir} holds a raw BIDS dataset", hint)
    makers = existing.get("GeneratedBy")
    names = [maker.get("Name") for maker in makers if isinstance(maker, dict)] if isinstance(makers, list) else []
    if names and "bids-hsf" not in names:
        raise OutputError(f"The output folder {output_dir} holds the derivatives of {names[0]}", hint)


def prepare_output_dir(output_dir: Path, bids_dir: Path, license_text: str) -> None:
    """Create the output dataset's root files, or leave them where they are as they should be.

    Raises
    ------
    OutputError
        The folder cannot be created, or holds a dataset that is not this app's.
    """
    check_output_dir(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot create the output folder {output_dir}: {reason}") from error
    sweep(output_dir / STAGING)
    _write_description(output_dir, bids_dir, license_text)
    write_if_changed(output_dir / ".bidsignore", BIDSIGNORE)
    write_if_changed(output_dir / "README.md", README.read_text(encoding="utf-8"))
    write_if_changed(output_dir / "descriptions.tsv", DESCRIPTIONS_TSV)
    write_if_changed(output_dir / "descriptions.json", json.dumps(DESCRIPTIONS_JSON, indent=2) + "\n")


def _write_description(output_dir: Path, bids_dir: Path, license_text: str) -> None:
    """Write dataset_description.json, unless it is there: most jobs of an array find it so, and wait for none."""
    path = output_dir / "dataset_description.json"

    def wanted() -> str:
        earlier = (read_json(path) or {}).get("License")
        return json.dumps(dataset_description(bids_dir, _all_licenses(earlier, license_text)), indent=2) + "\n"

    if is_text(path, wanted()):
        return
    # Alone: of two runs that begin at once with two models, the later would write what the earlier has not read.
    with claimed(output_dir / "logs" / ".dataset_description.lock"):
        write_if_changed(path, wanted())


def tidy(output_dir: Path, hidden: Iterable[Path] = ()) -> None:
    """Remove what killed runs left long ago in the folders of all scans; to list these takes the longer, the more.

    Of `hidden` files beside the records of scans, where they have been listed, go those not whole, and claims.
    """
    sweep(output_dir, output_dir / "logs")
    for path in filter(is_stale, hidden):
        if TEMPORARY_NAME.fullmatch(path.name):
            remove_temporary(path)
        elif path.name.startswith(".sub-") and path.name.endswith(CLAIM_END):
            remove_claim(path)


def prepare_loose_dir(output_dir: Path) -> None:
    """Create the folder for the results of images that belong to no dataset.

    Raises
    ------
    OutputError
        The folder cannot be created.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot create the output folder {output_dir}: {reason}") from error
    sweep(output_dir / "logs", output_dir / STAGING)
    write_if_changed(output_dir / LOOSE_MARK, "Results of bids-hsf for single images. Do not remove while it runs.\n")


def _all_licenses(earlier: Any, license_text: str) -> str:
    """Join the licence of a model to those of others whose results lie in the folder.

    >>> _all_licenses("MIT", "CC0-1.0"), _all_licenses("CC0-1.0; MIT", "MIT"), _all_licenses(None, "MIT")
    ('CC0-1.0; MIT', 'CC0-1.0; MIT', 'MIT')
    """
    known = earlier.split("; ") if isinstance(earlier, str) and earlier else []
    return "; ".join(sorted({*known, license_text}))


def dataset_description(bids_dir: Path, license_text: str) -> dict[str, Any]:
    """Content of dataset_description.json."""
    generated_by: dict[str, Any] = {"Name": "bids-hsf", "Version": __version__, "CodeURL": CODE_URL}
    container = os.environ.get("BIDS_HSF_CONTAINER")
    if container:
        generated_by["Container"] = {"Type": "docker", "Tag": container}
    doi = (read_json(bids_dir / "dataset_description.json") or {}).get("DatasetDOI")
    source = {"URL": bids_dir.as_uri()} | ({"DOI": doi} if isinstance(doi, str) and doi else {})
    return {
        "Name": "Hippocampal subfields by bids-hsf",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": license_text,
        "Authors": ["bids-hsf developers", "Clement Poiret"],
        "HEDVersion": "8.3.0",
        "GeneratedBy": [generated_by],
        "SourceDatasets": [source],
        "DatasetLinks": {"raw": bids_dir.as_uri()},
        "HowToAcknowledge": "See logs/CITATION.md",
    }


JOINED = "The votes of a T1w and a T2w scan of one session, joined"
ALL_DESCRIPTIONS = {
    **DESCRIPTIONS,
    MULTISPECTRAL: JOINED,
    **{MULTISPECTRAL + name: f"{JOINED}: {text}" for name, text in DESCRIPTIONS.items()},
}

DESCRIPTIONS_TSV = "desc_id\tdescription\n" + "".join(f"desc-{k}\t{v}\n" for k, v in ALL_DESCRIPTIONS.items())

DESCRIPTIONS_JSON = {
    "Description": "What the desc- labels of this dataset mean",
    "desc_id": {"Description": "Value of the desc entity"},
    "description": {"Description": "What it stands for"},
}
