"""Names of the files that the app writes for a scan."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.bids.contrasts import PAIR
from bids_hsf.bids.entities import in_order, split_name
from bids_hsf.labels import COORDINATES

MULTISPECTRAL = "multispectral"
TEMPLATE = "MNI152NLin2009cSym"
FIGURES = ("segmentation", "localization")
UNFOLDED = "unfolded"  # figure of scans whose coordinates are written
FORMER_FIGURES = ("entropy",)  # of older versions; now a layer of the segmentation's
FAILURE_END, STARTED_END = "_failure.json", "_started.json"  # of records in logs/
CLAIM_END = ".lock"  # of hidden files beside them
THUMBNAIL = "thumbnail"  # of the segmentation; made of its figure where it is not there


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
        """Soft map: "entropy", "AP", ...; None for the class probabilities."""
        stem = described(self.stem, description) if description else self.stem
        # BIDS has no suffix for coordinates; HippUnfold's is taken.
        return self.output_dir / f"{stem}_{'coords' if description in COORDINATES else 'probseg'}.nii.gz"

    def map_sidecar(self, description: str | None) -> Path:
        """Sidecar of a soft map."""
        return self.map(description).with_suffix("").with_suffix(".json")

    @property
    def transform_to_template(self) -> Path:
        """Transform that carries images of the scan to the template."""
        return self._transform(self._space, TEMPLATE)

    @property
    def transform_from_template(self) -> Path:
        """Transform that carries images of the template to the scan."""
        return self._transform(TEMPLATE, self._space)

    @property
    def _space(self) -> str:
        """Label of ``space-``, which says of which scan; an image of no dataset has none."""
        found = re.search("_space-([A-Za-z0-9]+)", self.stem)
        return found[1] if found else "scan"

    def _transform(self, source: str, target: str) -> Path:
        stem = self.stem.replace(f"_space-{self._space}", "")
        return self.output_dir / f"{stem}_from-{source}_to-{target}_mode-image_xfm.txt"

    def figure(self, description: str) -> Path:
        """Report figure, such as "segmentation"."""
        return self.output_dir / f"{described(self.figure_stem, description)}_dseg.svg"

    @property
    def turning_page(self) -> Path:
        """Page on which the hippocampi can be turned."""
        return self.figure("3d").with_suffix(".html")

    @property
    def segmentation(self) -> str:
        """The ``seg-`` entity."""
        return Path(self.stem).name.partition("_seg-")[2].partition("_")[0]

    @property
    def provenance(self) -> Path:
        """Provenance with what differs between equal runs: seconds, memory, host, command."""
        return self._record("_provenance.json")

    @property
    def failure(self) -> Path:
        """Why the scan failed, for the status level; removed when it succeeds."""
        return self._record(FAILURE_END)

    @property
    def started(self) -> Path:
        """Who began with the scan, and when; it goes at the end, and stays of a run that was killed."""
        return self._record(STARTED_END)

    @property
    def claim(self) -> Path:
        """Lock file of the run that works on the scan."""
        return claim_beside(self.started)

    def _record(self, ending: str) -> Path:
        name = Path(self.stem).name
        return log_folder(self.output_dir, name) / f"{name}{ending}"


def claim_beside(started: Path) -> Path:
    """Lock file that goes with the record of a beginning.

    >>> claim_beside(Path("logs/sub-01/sub-01_T1w_seg-hsf_started.json")).as_posix()
    'logs/sub-01/.sub-01_T1w_seg-hsf.lock'
    """
    return started.with_name(f".{started.name.removesuffix(STARTED_END)}{CLAIM_END}")


def log_folder(output_dir: Path, name: str) -> Path:
    """Folder of what is recorded of a scan, one a subject: a folder of all would be the slower, the more there are.

    >>> log_folder(Path("/out"), "sub-01_space-T1w_seg-hsf").as_posix(), log_folder(Path("/out"), "scan").as_posix()
    ('/out/logs/sub-01', '/out/logs')
    """
    logs = output_dir / "logs"
    return logs / name.partition("_")[0] if name.startswith("sub-") else logs


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


def outputs_of_key(output_dir: Path, key: str, segmentation: str) -> ScanOutputs:
    """Name the outputs of a scan that a table tells of by its key.

    >>> outputs_of_key(Path("/out"), "sub-01_run-2_T2w+T1w", "hsf").figure_stem
    'sub-01/figures/sub-01_run-2_space-T2w_seg-hsf_desc-multispectral'
    """
    *parts, suffixes = key.split("_")
    entities = [(name, label) for name, _, label in (part.partition("-") for part in parts)]
    suffix, _, second = suffixes.partition("+")
    return scan_outputs(output_dir, entities, suffix, segmentation, MULTISPECTRAL if second else None)


@dataclass(frozen=True)
class ScanName:
    """What the name of a scan's outputs tells of it.

    Attributes
    ----------
    participant : str
        With ``sub-``.
    session : str or None
        With ``ses-``.
    scan : str
        Key.
    segmentation : str
        The ``seg-`` entity.
    """

    participant: str
    session: str | None
    scan: str
    segmentation: str


def parse_stem(stem: str) -> ScanName | None:
    """Read the name of a scan's outputs, without folder and suffix; None for what is not named like those of any.

    >>> parse_stem("sub-01_ses-2_space-T1w_seg-hsf").scan, parse_stem("sub-01_space-T1w_seg-hsf_desc-mended")
    ('sub-01_ses-2_T1w', None)
    """
    labels, _ = split_name(f"{stem}_")
    description = labels.get("desc")
    if not {"sub", "space", "seg"} <= set(labels) or description not in (None, MULTISPECTRAL):
        return None
    suffix = labels["space"]
    if description is not None:
        suffix += "+" + next(contrast for contrast in PAIR if contrast != suffix)
    session = f"ses-{labels['ses']}" if "ses" in labels else None
    scan = "_".join([*(f"{name}-{label}" for name, label in in_order(labels)), suffix])
    return ScanName(f"sub-{labels['sub']}", session, scan, labels["seg"])


def bids_uri(dataset: str, relative_path: str) -> str:
    """BIDS URI of a file, such as "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"."""
    return f"bids:{dataset}:{relative_path}"


def loose_outputs(folder: Path, name: str, segmentation: str) -> ScanOutputs:
    """Name the outputs of an image that belongs to no dataset: all beside each other.

    >>> loose_outputs(Path("/out"), "scan", "hsf").dseg.as_posix()
    '/out/scan_seg-hsf_dseg.nii.gz'
    """
    return ScanOutputs(folder, f"{name}_seg-{segmentation}", f"figures/{name}_seg-{segmentation}")
