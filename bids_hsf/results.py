"""One segmented scan, and the files that say what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from bids_hsf.bids import sidecars
from bids_hsf.bids.maps import write_image, write_map, write_probabilities
from bids_hsf.bids.names import ScanOutputs
from bids_hsf.bids.tables import write_table
from bids_hsf.geometry import from_canonical
from bids_hsf.hub.cards import ModelCard
from bids_hsf.labels import Merge
from bids_hsf.localization.contrasts import AlignedView
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location
from bids_hsf.segmentation.hippocampi import Hippocampi
from bids_hsf.segmentation.model import Options
from bids_hsf.segmentation.volumes import Volumes


@dataclass(frozen=True, eq=False)
class ScanResult:
    """One scan with what was found in it.

    Attributes
    ----------
    key : str
        Name of the scan.
    image : nibabel.Nifti1Image
        The scan as stored: its header and affine are those of the outputs.
    views : sequence of AlignedView
        The scan in canonical order, and a second contrast that was joined to it.
    location : Location
    hippocampi : Hippocampi
    card : ModelCard
        Of the model that segmented it.
    request : mapping
        All settings that decide the result.
    """

    key: str
    image: nib.Nifti1Image
    views: Sequence[AlignedView]
    location: Location
    hippocampi: Hippocampi
    card: ModelCard
    request: Mapping[str, Any]

    @property
    def volumes(self) -> Volumes:
        """Every structure, measured."""
        return self.hippocampi.volumes(self.location.etiv_mm3)


def request_of(card: ModelCard, merge: Merge | None, options: Options) -> dict[str, Any]:
    """All settings that decide a result, as plain values."""
    return {
        "Model": card.name,
        "ModelVersion": card.version,
        "Members": {member.filename: member.sha256 or member.xxh3_64 for member in card.members},
        "Labels": merge.name if merge else "all",
        "TestTimeAugmentations": options.augmentations_of(card),
        "Seed": options.seed,
        "BoxMarginMm": options.margin_mm,
        "KeepIslands": options.keep_islands,
    }


def write_maps(result: ScanResult, outputs: ScanOutputs, sources: Sequence[str]) -> None:
    """Write the label map, its table and the soft maps; `sources` are the images that they were made of."""
    hippocampi, volumes, affine = result.hippocampi, result.volumes, result.image.affine
    write_table(outputs.table, volumes.to_records())
    for name, values in hippocampi.maps.items():
        # BIDS labels are letters and digits.
        write_map(outputs, name.replace("_", ""), from_canonical(values, affine), result.image, *sources)
    if hippocampi.probabilities is not None:
        stored = from_canonical(hippocampi.probabilities, affine)
        names = [structure.abbreviation for structure in volumes]
        write_probabilities(outputs, stored, names, result.image, *sources)
    write_image(outputs.dseg, from_canonical(hippocampi.label_map, affine), result.image)


def describe(result: ScanResult, outputs: ScanOutputs, sources: Sequence[str]) -> dict[str, Any]:
    """Content of the label map's sidecar: only what is equal in equal runs."""
    card, location, hippocampi = result.card, result.location, result.hippocampi
    joined = {}
    for view in result.views:
        if view.coregistration is not None:
            joined = {"Coregistration": {"Scan": view.key, **view.coregistration.as_record()}}
    return sidecars.dseg_sidecar(
        sources,
        {
            "Scan": result.key,
            "Segmentation": outputs.segmentation,
            "Request": dict(result.request),
            "Model": {
                "Name": card.name,
                "Version": card.version,
                "Family": card.family,
                "Description": card.description,
                "License": card.license,
                "Authors": list(card.authors),
                "Citation": card.citation,
                "TrainingData": card.training_data,
                "Evaluation": card.evaluation,
                "VoxelSizeMm": card.voxel_size_mm or "native",
            },
            "Passes": hippocampi.n_passes,
            "Components": {side.hemisphere: side.n_components for side in hippocampi.sides},
            "localization_quality": round(location.quality, 4),
            "Localization": {
                "Quality": round(location.quality, 4),
                "DoubtfulBelow": DOUBTFUL_QUALITY,
                "Coverage": {side: round(share, 4) for side, share in location.coverage.items()},
                "ScanFromTemplate": np.round(location.scan_from_template, 5).tolist(),
                **location.provenance,
                "Warnings": list(location.warnings),
            },
            **joined,
            "eTIV_mm3": None if location.etiv_mm3 is None else round(location.etiv_mm3),
            "eTIVReason": location.etiv_reason,
        },
    )
