"""Every file that the app writes: its name, its sidecar, its bytes. Output side of BIDS.

A file appears under its final name only when it is whole: it is written beside it under a name that
begins with a dot (which BIDS validators pass over), then renamed.
"""

import csv
import gzip
import io
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_hsf import __version__
from bids_hsf.claims import claimed
from bids_hsf.errors import OutputError, StorageError
from bids_hsf.labels import SIDE_NAMES

BIDS_VERSION = "1.11.1"
CODE_URL = "https://github.com/clementpoiret/bids-hsf"
MULTISPECTRAL = "multispectral"
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}")
STALE_SECONDS = 3600.0  # no file takes that long to write, and clocks of file servers differ less
SCL_SLOPE_OFFSET = 112  # in bytes, of the NIfTI-1 header
BIDSIGNORE = "*.html\nfigures\ngroup_*\n"

TSV_COLUMNS: dict[str, dict[str, Any]] = {
    "index": {
        "Format": "integer",
        "Description": "Value in the label map: left k, right 100 + k, k the model's own index",
    },
    "name": {"Description": "Structure"},
    "abbreviation": {"Description": "Hemisphere and short name of the structure"},
    "color": {"Description": "Colour for display, hexadecimal RGB"},
    "mapping": {"Format": "integer", "Description": "Index in the BIDS standard label table; 1 is grey matter"},
    "hemisphere": {"Description": "Hemisphere", "Levels": SIDE_NAMES},
    "volume_mm3": {"Description": "Voxels of the label times the voxel's volume", "Units": "mm^3"},
    "volume_per_mille_eTIV": {"Description": "Volume over the estimated total intracranial volume, in thousandths"},
    "voxels": {"Description": "Voxels of the label"},
    "entropy_mean": {"Description": "Mean normalised predictive entropy over the label's voxels, 0 to 1"},
    "volume_mm3_mean": {"Description": "Mean volume over the passes of the ensemble", "Units": "mm^3"},
    "volume_mm3_sd": {"Description": "Standard deviation of the volume over the passes", "Units": "mm^3"},
    "volume_mm3_low": {"Description": "2.5th percentile of the volume over the passes", "Units": "mm^3"},
    "volume_mm3_high": {"Description": "97.5th percentile of the volume over the passes", "Units": "mm^3"},
}

ENTROPY_DESCRIPTION = (
    "Normalised predictive entropy of the mean class probabilities p over all passes, "
    "-sum(p ln p) / ln K for K classes with background: 0 certain, 1 all classes equally likely"
)


@dataclass(frozen=True)
class ScanOutputs:
    """Paths of all that is written for one scan.

    Attributes
    ----------
    output_dir : Path
    stem : str
        Relative path of the outputs without suffix, such as "sub-01/anat/sub-01_space-T1w_seg-hsf"; that of
        two joined contrasts ends with "_desc-multispectral".
    figure_stem : str
        The same of the figures, such as "sub-01/figures/sub-01_space-T1w_seg-hsf".
    """

    output_dir: Path
    stem: str
    figure_stem: str

    @property
    def dseg(self) -> Path:
        """Label map."""
        return self.output_dir / f"{self.stem}_dseg.nii.gz"

    @property
    def sidecar(self) -> Path:
        """Sidecar of the label map; written last, so that a scan with one is complete."""
        return self.output_dir / f"{self.stem}_dseg.json"

    @property
    def table(self) -> Path:
        """Lookup table with volumes."""
        return self.output_dir / f"{self.stem}_dseg.tsv"

    def map(self, description: str | None) -> Path:
        """Soft map: "entropy", "mutualinformation", ...; None for the class probabilities."""
        stem = described(self.stem, description) if description else self.stem
        return self.output_dir / f"{stem}_probseg.nii.gz"

    def map_sidecar(self, description: str | None) -> Path:
        """Sidecar of a soft map."""
        return self.map(description).with_suffix("").with_suffix(".json")

    def figure(self, description: str) -> Path:
        """Report figure, such as "segmentation"."""
        return self.output_dir / f"{described(self.figure_stem, description)}_dseg.svg"

    @property
    def segmentation(self) -> str:
        """The ``seg-`` entity."""
        return Path(self.stem).name.partition("_seg-")[2].partition("_")[0]

    @property
    def provenance(self) -> Path:
        """Provenance with what differs between equal runs: seconds, memory, host, command."""
        return self.output_dir / "logs" / f"{Path(self.stem).name}_provenance.json"

    @property
    def failure(self) -> Path:
        """Why the scan failed, for the status level; removed when it succeeds."""
        return self.output_dir / "logs" / f"{Path(self.stem).name}_failure.json"

    @property
    def claim(self) -> Path:
        """Lock file of the run that works on the scan."""
        return self.output_dir / "logs" / f".{Path(self.stem).name}.lock"


def described(stem: str, description: str) -> str:
    """Add what a file shows to its name.

    >>> described("sub-01_seg-hsf", "entropy"), described("sub-01_seg-hsf_desc-multispectral", "entropy")
    ('sub-01_seg-hsf_desc-entropy', 'sub-01_seg-hsf_desc-multispectralentropy')
    """
    return stem + description if stem.endswith(f"_desc-{MULTISPECTRAL}") else f"{stem}_desc-{description}"


def scan_outputs(
    output_dir: Path,
    entities: Sequence[tuple[str, str]],
    suffix: str,
    segmentation: str,
    description: str | None = None,
) -> ScanOutputs:
    """Name the outputs of a scan with these BIDS entities and suffix, and a ``desc-`` of its own if any.

    >>> scan_outputs(Path("/out"), [("sub", "01"), ("ses", "2")], "T1w", "hsf").dseg.as_posix()
    '/out/sub-01/ses-2/anat/sub-01_ses-2_space-T1w_seg-hsf_dseg.nii.gz'
    """
    labels = dict(entities)
    folder = f"sub-{labels['sub']}" + (f"/ses-{labels['ses']}" if "ses" in labels else "")
    # chunk- stands behind space- in the order of BIDS entities.
    before = [f"{name}-{label}" for name, label in entities if name != "chunk"]
    chunk = [f"chunk-{labels['chunk']}"] if "chunk" in labels else []
    after = [f"desc-{description}"] if description else []
    name = "_".join([*before, f"space-{suffix}", *chunk, f"seg-{segmentation}", *after])
    return ScanOutputs(output_dir, f"{folder}/anat/{name}", f"sub-{labels['sub']}/figures/{name}")


@contextmanager
def together(*scan_outputs: ScanOutputs) -> Iterator[None]:
    """Write the files of one scan: what an earlier attempt left goes first, and on an error all of them go.

    Raises
    ------
    StorageError
        The output folder is gone, or a file cannot be removed.
    """
    check_mounted(scan_outputs[0].output_dir)
    for outputs in scan_outputs:
        discard(outputs)
    try:
        yield
    except BaseException:
        with suppress(StorageError):
            for outputs in scan_outputs:
                discard(outputs)
        raise


def check_mounted(output_dir: Path) -> None:
    """Make sure that the output dataset is still there, and not an empty mount point in its place.

    Raises
    ------
    StorageError
        It is gone.
    """
    if not (output_dir / "dataset_description.json").exists():
        raise StorageError(f"The output folder {output_dir} is gone", "Check the mount; the same command goes on.")


def discard(outputs: ScanOutputs) -> None:
    """Remove what an earlier attempt left of a scan, its sidecar first: what is half removed is not done.

    Raises
    ------
    StorageError
        A file cannot be removed.
    """
    name = Path(outputs.stem).name
    is_joined = name.endswith(MULTISPECTRAL)
    patterns = (f"{name}*", f".{name}*") if is_joined else (f"{name}_*", f".{name}_*")
    folders = (outputs.dseg.parent, outputs.figure("any").parent)
    leftovers = [path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern))]
    # What was made of the scan alone and of two contrasts may lie side by side.
    leftovers = [path for path in leftovers if (f"_desc-{MULTISPECTRAL}" in path.name) == is_joined]
    for path in (outputs.sidecar, *leftovers):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot remove {path}: {error.strerror}", "Check permissions.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it becomes `path`, else it is removed.

    Raises
    ------
    StorageError
        The disk is full, the mount is gone, or writing is not permitted.
    """
    # Process ids are not unique among containers that share a disk. See also TEMPORARY_NAME.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"Cannot write {path}: {reason}", "Check free space, quota and permissions.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with a fixed layout."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a BIDS table; None becomes "n/a"."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["n/a" if row.get(c) is None else row[c] for c in columns] for row in rows)
    write_text(path, stream.getvalue())


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a BIDS table as text; empty where there is none, or where another run has just taken it away."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    except FileNotFoundError:
        return []


def write_image(path: Path, data: NDArray[Any], like: nib.Nifti1Image, slope: float | None = None) -> None:
    """Write a map on a scan's own grid: its shape, affine and both header transforms.

    Parameters
    ----------
    path : Path
        ``.nii.gz``; equal data give equal bytes (no time and no name in the gzip header).
    data : array, (X, Y, Z) or (X, Y, Z, C)
        In the scan's storage order; uint8 or float32.
    like : nibabel.Nifti1Image
        The scan.
    slope : float, optional
        Stored values times this are the real ones.
    """
    header = nib.Nifti1Header()
    source = like.header
    header.set_data_dtype(data.dtype)
    if isinstance(source, nib.Nifti1Header):
        header.set_qform(source.get_qform(), int(source["qform_code"]))
        header.set_sform(source.get_sform(), int(source["sform_code"]))
    image = nib.Nifti1Image(data, like.affine, header)
    # Volumes of structures follow no time, but validators want a unit for the fourth axis.
    image.header.set_xyzt_units("mm", "sec" if data.ndim == 4 else None)
    content = memoryview(image.to_bytes())
    scaling = content[SCL_SLOPE_OFFSET : SCL_SLOPE_OFFSET + 8]
    if slope is not None:
        # nibabel would scale the values itself on writing; here they are scaled already.
        scaling = memoryview(np.array([slope, 0], dtype="<f4").tobytes())
    with (
        replacing(path) as temporary,
        temporary.open("wb") as stream,
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=stream, mtime=0) as packed,
    ):
        # In pieces: a whole copy for each step would be the most memory that a scan takes.
        for piece in (content[:SCL_SLOPE_OFFSET], scaling, content[SCL_SLOPE_OFFSET + 8 :]):
            packed.write(piece)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the lookup table of a label map."""
    write_tsv(path, list(rows[0]), rows)


def write_map(outputs: ScanOutputs, name: str, data: NDArray[Any], like: nib.Nifti1Image, *sources: str) -> None:
    """Write a soft map of uncertainty, (X, Y, Z) float32 in storage order, with its sidecar."""
    # Four decimals are more than the passes carry, and let the file shrink to a quarter.
    write_image(outputs.map(name), np.round(data, 4), like)
    write_json(outputs.map_sidecar(name), {"Description": DESCRIPTIONS[name], **_origin(sources)})


def write_probabilities(
    outputs: ScanOutputs, data: NDArray[Any], names: Sequence[str], like: nib.Nifti1Image, *sources: str
) -> None:
    """Write class probabilities (X, Y, Z, N) in storage order, one volume a structure, without background."""
    write_image(outputs.map(None), np.round(data * 255).astype(np.uint8), like, slope=1 / 255)
    description = "Mean probability over the passes, one volume a structure; background is what is left to 1"
    sidecar = {"Description": description, **_origin(sources), "LabelMap": list(names)}
    write_json(outputs.map_sidecar(None), sidecar)


def dseg_sidecar(sources: Sequence[str], content: Mapping[str, Any]) -> dict[str, Any]:
    """Sidecar of a label map and of the table beside it.

    Parameters
    ----------
    sources : sequence of str
        Paths of the scans, from the root of the raw dataset; the first is the one in whose space the map lies.
    content : mapping
        What the workflow has to say of the result.
    """
    return {
        "Description": "Hippocampal segmentation; left structures have the model's index k, right ones 100 + k",
        "Manual": False,
        **_origin(sources),
        "GeneratedBy": {"Name": "bids-hsf", "Version": __version__},
        **content,
        **TSV_COLUMNS,
    }


def parts_sidecar(sidecar: Mapping[str, Any], outputs: ScanOutputs, parts: ScanOutputs, rule: str) -> dict[str, Any]:
    """Sidecar of a map of head, body and tail, from that of the label map it is made of."""
    label_map = outputs.dseg.relative_to(outputs.output_dir).as_posix()
    return {
        **sidecar,
        "Description": "Hippocampal head (1), body (2) and tail (3); right ones 100 + k",
        "Sources": [*sidecar["Sources"], bids_uri("", label_map)],
        "Segmentation": parts.segmentation,
        "LongAxisRule": rule,
    }


def identity_columns(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """First columns of a scan's row in ``group_volumes.tsv``, from the sidecar of its label map."""
    scan = str(sidecar["Scan"])
    entities = dict(part.split("-", 1) for part in scan.split("_") if "-" in part)
    localization, joined = sidecar["Localization"], sidecar.get("Coregistration", {})
    return {
        "participant_id": f"sub-{entities['sub']}",
        "session_id": f"ses-{entities['ses']}" if "ses" in entities else None,
        "scan": scan,
        "model": sidecar["Model"]["Name"],
        "segmentation": sidecar.get("Segmentation"),
        "localization_quality": localization["Quality"],
        "L_coverage": localization["Coverage"]["L"],
        "R_coverage": localization["Coverage"]["R"],
        "L_n_components": sidecar["Components"]["L"],
        "R_n_components": sidecar["Components"]["R"],
        "warnings": "; ".join([*localization["Warnings"], *joined.get("Warnings", ())]) or None,
    }


def _origin(sources: Sequence[str]) -> dict[str, Any]:
    """Where a map comes from and in which space it lies, that of the first source."""
    uris = [bids_uri("raw", source) for source in sources]
    return {"SpatialReference": uris[0], "Sources": uris}


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """Content of a sidecar, or None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def bids_uri(dataset: str, relative_path: str) -> str:
    """BIDS URI of a file, such as "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"."""
    return f"bids:{dataset}:{relative_path}"


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
    existing = read_sidecar(output_dir / "dataset_description.json")
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
    _sweep(output_dir, output_dir / "logs")
    # Alone: of two runs that begin at once with two models, the later would write what the earlier has not read.
    with claimed(output_dir / "logs" / ".dataset_description.lock"):
        earlier = (read_sidecar(output_dir / "dataset_description.json") or {}).get("License")
        description = dataset_description(bids_dir, _all_licenses(earlier, license_text))
        _write_if_changed(output_dir / "dataset_description.json", json.dumps(description, indent=2) + "\n")
    _write_if_changed(output_dir / ".bidsignore", BIDSIGNORE)
    _write_if_changed(output_dir / "README.md", README)
    _write_if_changed(output_dir / "descriptions.tsv", DESCRIPTIONS_TSV)
    _write_if_changed(output_dir / "descriptions.json", json.dumps(DESCRIPTIONS_JSON, indent=2) + "\n")


def _sweep(*folders: Path) -> None:
    """Remove temporary files that killed runs left long ago; what lies beside a scan's outputs goes with `discard`."""
    for path in (path for folder in folders for path in folder.glob(".*")):
        with suppress(OSError):
            if TEMPORARY_NAME.fullmatch(path.name) and path.stat().st_mtime < time.time() - STALE_SECONDS:
                path.unlink()


def _all_licenses(earlier: Any, license_text: str) -> str:
    """Join the licence of a model to those of others whose results lie in the folder.

    >>> _all_licenses("MIT", "CC0-1.0"), _all_licenses("CC0-1.0; MIT", "MIT"), _all_licenses(None, "MIT")
    ('CC0-1.0; MIT', 'CC0-1.0; MIT', 'MIT')
    """
    known = earlier.split("; ") if isinstance(earlier, str) and earlier else []
    return "; ".join(sorted({*known, license_text}))


def _write_if_changed(path: Path, text: str) -> None:
    """Leave an equal file alone: parallel jobs then never touch each other's root files."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    write_text(path, text)


def dataset_description(bids_dir: Path, license_text: str) -> dict[str, Any]:
    """Content of dataset_description.json."""
    generated_by: dict[str, Any] = {"Name": "bids-hsf", "Version": __version__, "CodeURL": CODE_URL}
    container = os.environ.get("BIDS_HSF_CONTAINER")
    if container:
        generated_by["Container"] = {"Type": "docker", "Tag": container}
    raw = read_sidecar(bids_dir / "dataset_description.json") or {}
    source = {"URL": bids_dir.as_uri()} | ({"DOI": raw["DatasetDOI"]} if "DatasetDOI" in raw else {})
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


README = """# Hippocampal segmentation by bids-hsf

Each scan has one label map on its own voxel grid (`*_dseg.nii.gz`; left structures have the model's
index k, right ones 100 + k), a table of its structures with volumes in mm3 (`*_dseg.tsv`), a sidecar
with the model, the settings and the localization (`*_dseg.json`) and a map of the normalised predictive
entropy (`*_desc-entropy_probseg.nii.gz`; 0 certain, 1 all classes equally likely). Where the votes of a T1w
and a T2w scan were joined, `desc-multispectral` says so. `seg-*HBT` are maps of head, body and tail.

`sub-*.html` are the reports to look at, `group_volumes.tsv` collects the volumes of all scans once the
group level has run, `logs/` keeps what differs between equal runs: seconds, memory, commands.

For research use only; not for clinical use.
"""

DESCRIPTIONS: dict[str, str] = {
    "entropy": ENTROPY_DESCRIPTION,
    "mutualinformation": "Predictive entropy minus the mean entropy of the single passes, over ln K",
    "expectedentropy": "Mean entropy of the single passes, over ln K",
    "voteshare": "Share of the passes that voted for the label that won",
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
