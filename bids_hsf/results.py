"""One segmented scan, and the files that say what was found."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np

from bids_hsf.bids import sidecars
from bids_hsf.bids.maps import write_image, write_map, write_probabilities
from bids_hsf.bids.names import ScanOutputs
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.tables import write_table
from bids_hsf.findings import Finding, heaviest_first
from bids_hsf.geometry import Matrix, from_canonical
from bids_hsf.hub.cards import ModelCard
from bids_hsf.images import LoadedScan
from bids_hsf.labels import COORDINATES, Merge
from bids_hsf.localization.contrasts import AlignedScan, LocatedScans
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location
from bids_hsf.segmentation.hippocampi import Hippocampi
from bids_hsf.segmentation.model import Options
from bids_hsf.segmentation.quality import Quality, confirmed, judge
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
    scans : sequence of AlignedScan
        The scan in canonical order, and a second contrast that was joined to it.
    location : Location
    hippocampi : Hippocampi
    card : ModelCard
        Of the model that segmented it.
    request : mapping
        All settings that decide the result.
    quality : Quality
        What is thought of it.
    findings : tuple of Finding
        All that a reader should know, of the image, the location and the segmentation, heaviest first.
    """

    key: str
    image: nib.Nifti1Image
    scans: Sequence[AlignedScan]
    location: Location
    hippocampi: Hippocampi
    card: ModelCard
    request: Mapping[str, Any]
    quality: Quality
    findings: tuple[Finding, ...]

    @property
    def segmentation(self) -> str:
        """The ``seg-`` entity: model, and labels that were joined."""
        joined = (merge for merge in self.card.merges if merge.name == self.request["Labels"])
        return segmentation_name(self.card, next(joined, None))

    @property
    def volumes(self) -> Volumes:
        """Every structure, measured."""
        return self.hippocampi.volumes(self.location.etiv_mm3)


def segmentation_name(card: ModelCard, merge: Merge | None) -> str:
    """Name the label maps of a model, and of its merged labels: what several models made lies side by side."""
    return variant_name(card.family, card.name) + (merge.suffix if merge else "")


def variant_name(family: str, model: str) -> str:
    """Put a model of a family into letters and digits, as the ``seg-`` entity has it; what both names say is said once.

    >>> variant_name("longaxis", "longaxis_single_fast"), variant_name("hsf", "bagging_sq"), variant_name("toy", "toy")
    ('longaxisSingleFast', 'hsfBaggingSq', 'toy')
    """
    words = [word for word in re.split(r"[^A-Za-z0-9]+", model) if word]
    own = words[1:] if words[:1] == [family] else words
    return family + "".join(word[0].upper() + word[1:] for word in own)


def judged_result(
    key: str,
    loaded: Sequence[LoadedScan],
    located: LocatedScans,
    hippocampi: Hippocampi,
    card: ModelCard,
    request: Mapping[str, Any],
) -> ScanResult:
    """Put together what was found in a scan, and judge it; `loaded` are its images, the segmented one first."""
    location = located.location
    quality = judge(hippocampi, located.scans, location, card)
    told = [
        finding if each is loaded[0] else replace(finding, text=f"{aligned.key}: {finding.text}")
        for each, aligned in zip(loaded, located.scans, strict=True)
        for finding in each.findings
    ]
    of_place, of_images = (confirmed(each, quality) for each in (location.findings, told))
    findings = heaviest_first([*of_place, *quality.findings, *of_images])
    return ScanResult(key, loaded[0].image, located.scans, location, hippocampi, card, request, quality, findings)


def request_of(card: ModelCard, merge: Merge | None, options: Options) -> dict[str, Any]:
    """All settings that decide a result, as plain values."""
    sampling = options.sampling_of(card)
    return {
        "Model": card.name,
        "ModelVersion": card.version,
        "Members": {member.filename: member.sha256 or member.xxh3_64 for member in card.members},
        "Labels": merge.name if merge else "all",
        "TestTimeAugmentations": "auto" if sampling.tolerance else sampling.most,
        **({"VolumeTolerance": sampling.tolerance} if sampling.tolerance else {}),
        **({"Sampling": card.recipe.sampling} if sampling.most and not card.recipe.mirrors_alone else {}),
        **({"Votes": card.recipe.votes} if sampling.most and card.recipe.votes != "plurality" else {}),
        "Seed": options.seed,
        "BoxMarginMm": options.margin_mm,
        "KeepIslands": options.keep_islands,
    }


def write_maps(result: ScanResult, outputs: ScanOutputs, sources: Sequence[str]) -> None:
    """Write the label map, its table and the soft maps; `sources` are URIs or names of the images behind them."""
    hippocampi, volumes, affine = result.hippocampi, result.volumes, result.image.affine
    write_table(outputs.table, volumes.to_records(result.quality.structure_dice))
    for name, values in hippocampi.maps.items():
        told_by = result.card.coordinates.network.filename if name in COORDINATES and result.card.coordinates else None
        # BIDS labels are letters and digits.
        stem, stored = name.replace("_", ""), from_canonical(values, affine)
        write_map(outputs, stem, stored, result.image, *sources, network=told_by)
    if hippocampi.probabilities is not None:
        stored = from_canonical(hippocampi.probabilities, affine)
        names = [structure.abbreviation for structure in volumes]
        write_probabilities(outputs, stored, names, result.image, *sources)
    write_image(outputs.dseg, from_canonical(hippocampi.label_map, affine), result.image)


def describe(result: ScanResult, outputs: ScanOutputs, sources: Sequence[str]) -> Sidecar:
    """Collect the sidecar of the label map, `sources` as in `write_maps`: only what is equal in equal runs."""
    location, hippocampi = result.location, result.hippocampi
    joined = None
    for scan in result.scans:
        if scan.coregistration is not None:
            joined = sidecars.Coregistration(
                scan=scan.key,
                quality=round(scan.coregistration.quality, 4),
                disagreement_mm=round(scan.coregistration.disagreement_mm, 3),
                reference_from_scan=_rounded_rows(scan.coregistration.reference_from_second),
            )
    return Sidecar(
        scan=result.key,
        segmentation=outputs.segmentation,
        sources=tuple(sources),
        request=result.request,
        model=_describe_model(result.card),
        localization=sidecars.Localization(
            quality=round(location.quality, 4),
            doubtful_below=DOUBTFUL_QUALITY,
            coverage={side: round(share, 4) for side, share in location.coverage.items()},
            scan_from_template=_rounded_rows(location.scan_from_template),
            basis=location.provenance,
        ),
        findings=result.findings,
        predicted_dice=result.quality.predicted_dice,
        passes=hippocampi.n_passes,
        components={side.hemisphere: side.n_components for side in hippocampi.sides},
        coregistration=joined,
        etiv_mm3=None if location.etiv_mm3 is None else round(location.etiv_mm3),
        etiv_reason=location.etiv_reason,
    )


def _describe_model(card: ModelCard) -> sidecars.Model:
    """Collect what a sidecar tells of the model."""
    return sidecars.Model(
        name=card.name,
        version=card.version,
        family=card.family,
        description=card.description,
        license=card.license,
        authors=tuple(card.authors),
        citation=card.citation,
        training_data=card.training_data,
        evaluation=card.evaluation,
        voxel_size_mm=card.voxel_size_mm,
    )


def _rounded_rows(matrix: Matrix) -> tuple[tuple[float, ...], ...]:
    """Rows of a matrix (4, 4) as plain numbers, as many digits as mean anything."""
    return tuple(map(tuple, np.round(matrix, 5).tolist()))
