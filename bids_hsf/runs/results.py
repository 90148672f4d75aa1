"""What is written of one scan: maps, tables, pictures, sidecars."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from bids_hsf.bids import sidecars
from bids_hsf.bids.maps import write_image, write_map, write_probabilities
from bids_hsf.bids.tables import write_table
from bids_hsf.files import write_json, write_text
from bids_hsf.geometry import Grid, from_canonical
from bids_hsf.hub.cards import ModelCard
from bids_hsf.localization.location import DOUBTFUL_QUALITY, Location, head_axes
from bids_hsf.localization.template import load_template
from bids_hsf.reports import figures
from bids_hsf.runs.jobs import Job
from bids_hsf.segmentation.hippocampi import Contrast, Hippocampi
from bids_hsf.segmentation.long_axis import PARTS, split_long_axis
from bids_hsf.segmentation.volumes import measure

UNCAL_LABEL = "anterior"


@dataclass(frozen=True, eq=False)
class ScanResult:
    """One scan with what was found in it.

    Attributes
    ----------
    image : nibabel.Nifti1Image
        The scan as stored: its header and affine are those of the outputs.
    contrasts : sequence of Contrast
        The scan in canonical order, and a second one that was joined to it.
    location : Location
    hippocampi : Hippocampi
    card : ModelCard
        Of the model that segmented it.
    """

    image: nib.Nifti1Image
    contrasts: Sequence[Contrast]
    location: Location
    hippocampi: Hippocampi
    card: ModelCard


Draw = Callable[[ScanResult, int], Mapping[str, str]]


def write_result(job: Job, result: ScanResult, draw: Draw, n_threads: int) -> dict[str, Any]:
    """Write everything of one scan but its sidecar, which is returned: it goes last of all."""
    outputs, hippocampi, affine = job.outputs, result.hippocampi, result.image.affine
    volumes = hippocampi.volumes(result.location.etiv_mm3)
    for name, picture in draw(result, n_threads).items():
        write_text(outputs.figure(name), picture)
    write_table(outputs.table, volumes.to_records())
    for name, values in hippocampi.maps.items():
        # BIDS labels are letters and digits.
        write_map(outputs, name.replace("_", ""), from_canonical(values, affine), result.image, *job.sources)
    if hippocampi.probabilities is not None:
        stored = from_canonical(hippocampi.probabilities, affine)
        names = [structure.abbreviation for structure in volumes]
        write_probabilities(outputs, stored, names, result.image, *job.sources)
    write_image(outputs.dseg, from_canonical(hippocampi.label_map, affine), result.image)
    sidecar = describe(job, result)
    if job.splits:
        write_parts(job, result, sidecar)
    return sidecar


def write_parts(job: Job, result: ScanResult, sidecar: Mapping[str, Any]) -> None:
    """Write the map of head, body and tail that the label map gives; `sidecar` is the label map's."""
    outputs, hippocampi, location = job.parts, result.hippocampi, result.location
    # Labels of the left that make up the head as far as the uncal apex; none where the model has no such.
    head = tuple(label.index for label in hippocampi.labels if label.abbreviation == UNCAL_LABEL)
    grid = hippocampi.grid
    split = split_long_axis(hippocampi.label_map, grid, head_axes(location)[:, 1], head)
    volumes = measure(split.label_map, grid, PARTS, hippocampi.maps["entropy"], {}, location.etiv_mm3)
    mosaic = figures.cut_mosaic(result.contrasts[0].data, split.label_map, grid)
    write_text(outputs.figure("segmentation"), figures.draw_segmentation(mosaic, PARTS))
    write_table(outputs.table, volumes.to_records())
    write_image(outputs.dseg, from_canonical(split.label_map, result.image.affine), result.image)
    write_json(outputs.sidecar, sidecars.parts_sidecar(sidecar, job.outputs, outputs, split.rule))


def draw_figures(result: ScanResult, n_threads: int) -> Mapping[str, str]:
    """Draw the pictures of the report, SVG by name: later levels never need the scan again."""
    scan, hippocampi, location = result.contrasts[0], result.hippocampi, result.location
    template = load_template()
    brain_grid = Grid(template.grid.shape, location.scan_from_template @ template.grid.affine)
    boxes = {side.hemisphere: side.crop for side in hippocampi.sides}
    with ThreadPoolExecutor(n_threads) as pool:
        whole = pool.submit(figures.draw_localization, scan.data, scan.grid, template.brain, brain_grid, boxes)
        mosaic = figures.cut_mosaic(scan.data, hippocampi.label_map, scan.grid, pool)
        pictures = {
            "segmentation": pool.submit(figures.draw_segmentation, mosaic, hippocampi.labels),
            "entropy": pool.submit(figures.draw_entropy, mosaic, hippocampi.maps["entropy"], scan.grid),
            "localization": whole,
        }
    return {name: picture.result() for name, picture in pictures.items()}


def describe(job: Job, result: ScanResult) -> dict[str, Any]:
    """Content of the label map's sidecar: only what is equal in equal runs."""
    card, location, hippocampi = result.card, result.location, result.hippocampi
    joined = {}
    for contrast in result.contrasts:
        if contrast.coregistration is not None:
            joined = {"Coregistration": {"Scan": contrast.key, **contrast.coregistration.as_record()}}
    return sidecars.dseg_sidecar(
        job.sources,
        {
            "Scan": job.key,
            "Segmentation": job.outputs.segmentation,
            "Request": dict(job.request),
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
