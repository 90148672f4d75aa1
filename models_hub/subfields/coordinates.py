"""Unfolded coordinates of the atlases: where along and across the sheet of grey matter each voxel lies.

    python coordinates.py HIPPUNFOLD_SUBFIELDS HIPPUNFOLD_WHEEL_RESOURCES OUT.npz PERSON

HippUnfold's surfaces have a vertex for each place of the unfolded hippocampus, the same on all heads, and the wheel
says which (`unfold_template`). So a voxel of a label map of atlas.py has the coordinates of the nearest point of its
own subfield: AP from 0 at the front to 1 at the end of the tail, PD from 0 where subiculum begins to 1 where CA4 ends,
IO from 0 at the inner surface, towards SRLM, to 1 at the outer one. The dentate gyrus is a sheet of its own: voxels of
DG have the coordinates of the nearest CA4. PERSON holds, beside what atlas.py reads,
`sub-001_hemi-{L,R}_space-T1w_den-0p5mm_label-hipp_midthickness.surf.gii`; inner and outer surfaces are not public, so
that person has no IO.

OUT.npz holds `labels/NAME` (x, y, z) uint8 and `coordinates/NAME` (3, x, y, z) float16 at VOXEL_MM, RAS, as a left
side; NaN where nothing is known, as in SRLM and far from the hippocampus.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from atlas import (
    DEPTHS,
    FROM_HIPPUNFOLD,
    MARGIN_MM,
    SRLM,
    TEMPLATES,
    VOXEL_MM,
    barycentric_weights,
    drawn_by_hippunfold,
    fine_grid,
    labels_at,
    load_surface,
    person_labels,
)
from scipy import ndimage
from scipy.spatial import cKDTree

NAMES = ("AP", "PD", "IO")
UNFOLDED_MM = (-40.0, 20.0)  # of the unfolded template: x runs to the front, y from subiculum on, which is at -200
REACH_MM = 0.8  # beyond the grey matter: labels that are found end a little elsewhere


@dataclass(frozen=True, eq=False)
class Sheet:
    """Points of the grey matter of one side.

    Attributes
    ----------
    points : array, (n, 3)
        In mm, RAS.
    coordinates : array, (n, 3)
        NAMES, 0 to 1, or NaN.
    labels : array, (n,) int
        Of atlas.LABELS.
    """

    points: np.ndarray
    coordinates: np.ndarray
    labels: np.ndarray


def unfolded_vertices(resources: Path) -> np.ndarray:
    """AP and PD, (n, 2), of the vertices of all surfaces at 0.5 mm."""
    stem = resources / "unfold_template" / "tpl-avg_space-unfold_den-7k_midthickness.surf.gii"
    x, y, _ = load_surface(stem)[0].T
    return np.stack([x / UNFOLDED_MM[0], y / UNFOLDED_MM[1] + 10], axis=1)


def sheet_between(
    layers: dict[float, np.ndarray], faces: np.ndarray, vertices: np.ndarray, labels: np.ndarray
) -> Sheet:
    """Fill surfaces, each at its depth (NaN where it is unknown), with points."""
    weights = barycentric_weights(4)

    def spread(values: np.ndarray) -> np.ndarray:
        return np.einsum("pc,tcx->tpx", weights, values[faces]).reshape(-1, values.shape[1])

    unfolded = spread(vertices)
    points = [spread(surface) for surface in layers.values()]
    coordinates = [np.column_stack([unfolded, np.full(len(unfolded), depth)]) for depth in layers]
    corners = labels[faces][:, weights.argmax(1)].ravel()
    return Sheet(np.concatenate(points), np.concatenate(coordinates), np.tile(corners, len(layers)))


def sheet_of_average(folder: Path, resources: Path, template: str, side: str) -> Sheet:
    stem = f"tpl-{template}_hemi-{side}_den-0p5mm_label-hipp"
    (inner, faces), (outer, _) = (load_surface(folder / f"{stem}_{kind}.surf.gii") for kind in ("inner", "outer"))
    labels = nib.load(folder / f"hemi-{side}_den-0p5mm_label-hipp_subfields.label.gii").darrays[0].data.astype(int)
    layers = {depth: (1 - depth) * inner + depth * outer for depth in (0.0, *DEPTHS, 1.0)}
    return sheet_between(layers, faces, unfolded_vertices(resources), FROM_HIPPUNFOLD[labels])


def sheet_of_person(folder: Path, labels_folder: Path, resources: Path, side: str) -> Sheet:
    middle, faces = load_surface(folder / f"sub-001_hemi-{side}_space-T1w_den-0p5mm_label-hipp_midthickness.surf.gii")
    name = f"hemi-{side}_den-0p5mm_label-hipp_subfields.label.gii"
    labels = nib.load(labels_folder / name).darrays[0].data.astype(int)
    return sheet_between({np.nan: middle}, faces, unfolded_vertices(resources), FROM_HIPPUNFOLD[labels])


def coordinates_at(sheet: Sheet, world: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Coordinates (3, x, y, z) of a label map, whose voxels lie at `world` (n, 3) in mm."""
    found = np.full((labels.size, 3), np.nan, np.float32)
    for label in range(1, SRLM):
        inside = np.flatnonzero(labels.ravel() == label)
        here = sheet.labels == label
        _, nearest = cKDTree(sheet.points[here]).query(world[inside])
        found[inside] = sheet.coordinates[here][nearest]
    is_grey = (labels > 0) & (labels != SRLM)
    distance, nearest = ndimage.distance_transform_edt(~is_grey, return_indices=True)
    grown = found.reshape(*labels.shape, 3)[tuple(nearest)]
    grown[(distance * VOXEL_MM > REACH_MM) | (labels == SRLM)] = np.nan
    return np.moveaxis(grown, -1, 0)


def tight_box(labels: np.ndarray) -> tuple[slice, ...]:
    """Slices of what is labelled and a margin, as far as the grid reaches."""
    margin = round(MARGIN_MM / VOXEL_MM)
    (box,) = ndimage.find_objects((labels > 0).astype(int))
    return tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)


def of_average(folder: Path, resources: Path, template: str, side: str) -> tuple[np.ndarray, np.ndarray]:
    drawn = drawn_by_hippunfold(folder, template, side)
    world, _, shape = fine_grid(drawn.points)
    labels = labels_at(drawn, world).reshape(shape)
    return labels, coordinates_at(sheet_of_average(folder, resources, template, side), world, labels)


def of_person(folder: Path, labels_folder: Path, resources: Path, side: str) -> tuple[np.ndarray, np.ndarray]:
    world, labels = person_labels(folder, side)
    return labels, coordinates_at(sheet_of_person(folder, labels_folder, resources, side), world, labels)


def main() -> None:
    folder, resources, out, person = (Path(argument) for argument in sys.argv[1:5])
    maps = {f"{t}-{side}": of_average(folder, resources, t, side) for t in TEMPLATES for side in "LR"}
    maps |= {f"SUB001-{side}": of_person(person, folder, resources, side) for side in "LR"}
    stored = {}
    for name, (labels, coordinates) in maps.items():
        flip = -1 if name.endswith("R") else 1
        box = tight_box(labels)
        stored[f"labels/{name}"] = labels[box].astype(np.uint8)[::flip]
        stored[f"coordinates/{name}"] = coordinates[(slice(None), *box)].astype(np.float16)[:, ::flip]
        means = (np.nanmean(coordinates[:2, labels == label], axis=1) for label in range(1, SRLM))
        print(name, *(f"{ap:.2f}/{pd:.2f}" for ap, pd in means))
    np.savez_compressed(out, **stored)


if __name__ == "__main__":
    main()
