"""What is written of one scan of a run: maps, tables, pictures, the map of head, body and tail."""

from collections.abc import Callable, Mapping

from bids_hsf.bids.maps import write_image
from bids_hsf.bids.names import THUMBNAIL, UNFOLDED
from bids_hsf.bids.sidecars import Sidecar
from bids_hsf.bids.tables import write_table
from bids_hsf.bids.transforms import write_transforms
from bids_hsf.files import write_json, write_text
from bids_hsf.geometry import Grid, from_canonical
from bids_hsf.labels import COORDINATES
from bids_hsf.localization.location import head_axes
from bids_hsf.localization.template import load_template
from bids_hsf.reports import figures
from bids_hsf.reports.thumbnails import write_thumbnail
from bids_hsf.reports.turning import turning_page
from bids_hsf.reports.unfolded import draw_unfolded
from bids_hsf.results import ScanResult, describe, write_maps
from bids_hsf.runs.jobs import Job
from bids_hsf.segmentation.long_axis import PARTS, split_long_axis
from bids_hsf.segmentation.volumes import measure
from bids_hsf.threads import executor_of

UNCAL_LABEL = "anterior"

Draw = Callable[[ScanResult, int], Mapping[str, str]]


def write_result(job: Job, result: ScanResult, draw: Draw, n_threads: int) -> Sidecar:
    """Write everything of one scan but its sidecar, which is returned: it goes last of all."""
    pictures = draw(result, n_threads)
    for name, picture in pictures.items():
        write_text(job.outputs.figure(name), picture)
    write_thumbnail(job.outputs.figure(THUMBNAIL), pictures["segmentation"])
    write_maps(result, job.outputs, job.sources)
    sidecar = describe(result, job.outputs, job.sources)
    if job.transforms:
        write_transforms(job.outputs, result.location.scan_from_template)
    if job.turns:
        image = result.scans[0].data
        back = f"../{job.key}.html" if job.scan.is_loose else f"../../sub-{job.scan.subject}.html"
        write_text(job.outputs.turning_page, turning_page(result.key, image, result.hippocampi, back))
    if job.splits:
        write_parts(job, result, sidecar)
    return sidecar


def write_parts(job: Job, result: ScanResult, sidecar: Sidecar) -> None:
    """Write the map of head, body and tail that the label map gives; `sidecar` is the label map's."""
    outputs, hippocampi, location = job.parts, result.hippocampi, result.location
    # Labels of the left that make up the head as far as the uncal apex; none where the model has no such.
    head = tuple(label.index for label in hippocampi.labels if label.abbreviation == UNCAL_LABEL)
    grid = hippocampi.grid
    split = split_long_axis(hippocampi.label_map, grid, head_axes(location)[:, 1], head)
    volumes = measure(split.label_map, grid, PARTS, hippocampi.maps["entropy"], {}, location.etiv_mm3)
    mosaic = figures.cut_mosaic(result.scans[0].data, split.label_map, grid)
    write_text(outputs.figure("segmentation"), figures.draw_segmentation(mosaic, PARTS))
    write_table(outputs.table, volumes.to_records())
    write_image(outputs.dseg, from_canonical(split.label_map, result.image.affine), result.image)
    write_json(outputs.sidecar, sidecar.of_parts(job.outputs, outputs, split.rule).to_json())


def draw_figures(result: ScanResult, n_threads: int) -> Mapping[str, str]:
    """Draw the pictures of the report, SVG by name: later levels never need the scan again."""
    scan, hippocampi, location = result.scans[0], result.hippocampi, result.location
    template = load_template()
    brain_grid = Grid(template.grid.shape, location.scan_from_template @ template.grid.affine)
    boxes = {side.hemisphere: side.crop for side in hippocampi.sides}
    with executor_of(n_threads, "draw") as pool:
        whole = pool.submit(figures.draw_localization, scan.data, scan.grid, template.brain, brain_grid, boxes)
        mosaic = figures.cut_mosaic(scan.data, hippocampi.label_map, scan.grid, pool)
        pictures = {
            "segmentation": pool.submit(
                figures.draw_segmentation, mosaic, hippocampi.labels, hippocampi.maps["entropy"], scan.grid
            ),
            "localization": whole,
        }
        if set(COORDINATES) <= set(hippocampi.maps):
            pictures[UNFOLDED] = pool.submit(draw_unfolded, hippocampi.label_map, hippocampi.maps, hippocampi.labels)
    return {name: picture.result() for name, picture in pictures.items()}
