"""Fine label maps of single hippocampi, all in the protocol of HippUnfold and BigBrain, from what is public.

    python atlas.py HIPPUNFOLD_SUBFIELDS HIPPUNFOLD_WHEEL_RESOURCES OUT.npz [PERSON]

HIPPUNFOLD_SUBFIELDS holds the labels (1 mm) and surfaces (0.5 mm) of HippUnfold on NKI, PNC and OASIS30ANTs; those on
the MNI template are never read. HIPPUNFOLD_WHEEL_RESOURCES is `hippunfold/resources` of the wheel: tpl-upenn, ex vivo,
at 0.2 mm, and BigBrain's borders in unfolded space. PERSON is a folder with HippUnfold's subfields of one person in its
crop's space (0.25 x 0.25 x 0.325 mm), `sub-001_hemi-{L,R}_space-cropT1w_desc-subfields_atlas-bigbrain_dseg.nii.gz`.

Every map is brought to RAS and to the left side (a right one is mirrored), at 0.4 mm. What the surfaces enclose has
the subfield of the nearest vertex; the inside of the fold, which has no surfaces, comes from the volumes, each
indicator interpolated for itself.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.io
from scipy import ndimage
from scipy.spatial import cKDTree

LABELS = ("Sub", "CA1", "CA2", "CA3", "DG", "SRLM")
SUB, CA1, CA2, CA3, DG, SRLM = range(1, 7)
FROM_HIPPUNFOLD = np.array([0, SUB, CA1, CA2, CA3, DG, DG, SRLM, SRLM])  # CA4 joins DG, the cyst SRLM
TEMPLATES = ("NKI", "PNC", "OASIS30ANTs")
VOXEL_MM = 0.4
MARGIN_MM = 8.0
DEPTHS = np.linspace(0.03, 0.97, 9)  # what reaches out from the ends of this range ends at the surfaces
RIBBON_REACH_MM = 0.13  # of a point of the ribbon, where points are about as far apart
SMOOTHING_VOXELS = 0.5
PERSON_BLUR_MM = 0.2


def load_ras(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine of an image, axes in RAS order."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj), image.affine


def load_surface(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) in mm and triangles (m, 3)."""
    surface = nib.load(path)  # the order of the two arrays differs between files
    vertices, faces = surface.agg_data(("pointset", "triangle"))
    return vertices.astype(float), faces.astype(int)


def barycentric_weights(steps: int) -> np.ndarray:
    """Evenly spread points of a triangle, (n, 3) weights of its corners."""
    points = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    return np.array(points, dtype=float) / steps


def ribbon_points(
    inner: np.ndarray, outer: np.ndarray, faces: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points between two surfaces of equal vertices, (n, 3) in mm, and the label of each."""
    weights = barycentric_weights(4)
    corner_labels = labels[faces][:, weights.argmax(1)].ravel()
    layers = []
    for depth in DEPTHS:
        vertices = (1 - depth) * inner + depth * outer
        layers.append(np.einsum("pc,tcx->tpx", weights, vertices[faces]).reshape(-1, 3))
    return np.concatenate(layers), np.tile(corner_labels, len(DEPTHS))


def fine_grid(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """World coordinates (n, 3) of a grid around `points`, its origin and shape."""
    low, high = points.min(0) - MARGIN_MM, points.max(0) + MARGIN_MM
    shape = tuple(int(n) for n in np.ceil((high - low) / VOXEL_MM))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    return low + index * VOXEL_MM, low, shape


def interpolated_indicators(
    labels: np.ndarray, affine: np.ndarray, world: np.ndarray, sigma_voxels: float | np.ndarray = SMOOTHING_VOXELS
) -> np.ndarray:
    """Smoothed indicator of each of the labels 0 to 6 at world points, (7, n)."""
    at = nib.affines.apply_affine(np.linalg.inv(affine), world).T
    inside = ndimage.find_objects((labels > 0).astype(int))[0]
    box = tuple(slice(max(0, s.start - 6), s.stop + 6) for s in inside)
    offset = np.array([[s.start] for s in box])
    fields = []
    for label in range(7):
        smooth = ndimage.gaussian_filter((labels[box] == label).astype(np.float32), sigma_voxels)
        fields.append(ndimage.map_coordinates(smooth, at - offset, order=1, mode="nearest"))
    return np.stack(fields)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What HippUnfold has drawn on one side of an average.

    Attributes
    ----------
    volume : array, (x, y, z) int
        LABELS, from 1 on, of voxels of about 1 mm, RAS.
    affine : array, (4, 4)
        Its voxels to mm.
    points, point_labels : array, (n, 3) in mm and (n,) int
        Between the inner and outer surface, and what lies there.
    """

    volume: np.ndarray
    affine: np.ndarray
    points: np.ndarray
    point_labels: np.ndarray


def drawn_by_hippunfold(folder: Path, template: str, side: str) -> Drawn:
    stem = f"tpl-{template}_hemi-{side}"
    volume, affine = load_ras(folder / f"{stem}_desc-subfields_dseg.nii.gz")
    surfaces = [load_surface(folder / f"{stem}_den-0p5mm_label-hipp_{kind}.surf.gii") for kind in ("inner", "outer")]
    labels = nib.load(folder / f"hemi-{side}_den-0p5mm_label-hipp_subfields.label.gii").darrays[0].data.astype(int)
    ribbon = ribbon_points(surfaces[0][0], surfaces[1][0], surfaces[0][1], FROM_HIPPUNFOLD[labels])
    return Drawn(FROM_HIPPUNFOLD[volume.astype(int)], affine, *ribbon)


def labels_at(drawn: Drawn, world: np.ndarray, reach_mm: float = RIBBON_REACH_MM) -> np.ndarray:
    """Labels (n,) at points (n, 3) in mm; `reach_mm` is how far a point of the ribbon reaches."""
    indicators = interpolated_indicators(drawn.volume, drawn.affine, world)
    found = indicators.argmax(0)
    near = indicators[0] < 0.98
    distance, nearest = cKDTree(drawn.points).query(world[near], distance_upper_bound=reach_mm)
    inside = np.isfinite(distance)
    # The fold's inside against its outside is the volume's to say; what is grey matter there, the surfaces'.
    where = np.flatnonzero(near)
    hollow = np.isin(found, (SUB, CA1, CA2, CA3))
    hollow[where[inside]] = False
    found[where[inside]] = drawn.point_labels[nearest[inside]]
    rest = indicators[[0, DG, SRLM]]
    found[hollow] = np.where(
        rest[:, hollow].sum(0) > 0.25, np.array([0, DG, SRLM])[rest[:, hollow].argmax(0)], found[hollow]
    )
    return found


def from_hippunfold(folder: Path, template: str, side: str) -> np.ndarray:
    """Label map (x, y, z) at VOXEL_MM, RAS, left."""
    drawn = drawn_by_hippunfold(folder, template, side)
    world, _, shape = fine_grid(drawn.points)
    labels = labels_at(drawn, world).reshape(shape)
    return labels[::-1] if side == "R" else labels


def person_labels(folder: Path, side: str) -> tuple[np.ndarray, np.ndarray]:
    """World points (n, 3) in mm of a grid at VOXEL_MM, and the fine labels (x, y, z) on it, RAS."""
    name = f"sub-001_hemi-{side}_space-cropT1w_desc-subfields_atlas-bigbrain_dseg.nii.gz"
    volume, affine = load_ras(folder / name)
    volume = FROM_HIPPUNFOLD[np.rint(volume).astype(int)]
    held = nib.affines.apply_affine(affine, np.argwhere(volume > 0))
    world, _, shape = fine_grid(held)
    sigma_voxels = PERSON_BLUR_MM / np.abs(np.diag(affine)[:3])
    return world, interpolated_indicators(volume, affine, world, sigma_voxels).argmax(0).reshape(shape)


def from_person(folder: Path, side: str) -> np.ndarray:
    """Label map (x, y, z) at VOXEL_MM of fine labels, RAS, left."""
    _, labels = person_labels(folder, side)
    return labels[::-1] if side == "R" else labels


def from_upenn(resources: Path) -> np.ndarray:
    """tpl-upenn's tissue with BigBrain's subfields by unfolded coordinates, at VOXEL_MM."""
    folder = resources / "tpl-upenn"
    tissue, affine = load_ras(folder / "tpl-upenn_desc-hipptissue_dseg.nii.gz")
    tissue = np.rint(tissue).astype(int)
    ap, pd = (load_ras(folder / f"tpl-upenn_dir-{name}_coords.nii.gz")[0] for name in ("AP", "PD"))
    unfolded = scipy.io.loadmat(resources / "bigbrain" / "BigBrain_ManualSubfieldsUnfolded.mat")["subfields_avg"]
    row, column = (
        np.clip((c * n).astype(int), 0, n - 1) for c, n in ((ap, unfolded.shape[0]), (pd, unfolded.shape[1]))
    )
    labels = np.zeros(tissue.shape, dtype=int)
    grey = tissue == 1
    labels[grey] = np.array([0, SUB, CA1, CA2, CA3, DG])[unfolded[row, column][grey].astype(int)]
    labels[tissue == 2] = SRLM
    labels[tissue == 8] = DG
    zoom = float(np.linalg.norm(affine[:3, 0])) / VOXEL_MM
    fields = [
        ndimage.zoom(
            ndimage.gaussian_filter((labels == k).astype(np.float32), 0.7),
            zoom,
            order=1,
            grid_mode=True,
            mode="nearest",
        )
        for k in range(7)
    ]
    return np.argmax(fields, axis=0)[::-1]


def tight(labels: np.ndarray) -> np.ndarray:
    """Cut to the label and its margin."""
    margin = round(MARGIN_MM / VOXEL_MM)
    box = ndimage.find_objects((labels > 0).astype(int))[0]
    padded = np.pad(labels, margin)
    return padded[tuple(slice(s.start, s.stop + 2 * margin) for s in box)].astype(np.uint8)


def main() -> None:
    folder, resources, out, *person = (Path(argument) for argument in sys.argv[1:5])
    maps = {f"{t}-{side}": from_hippunfold(folder, t, side) for t in TEMPLATES for side in "LR"}
    maps["upenn"] = from_upenn(resources)
    maps |= {f"SUB001-{side}": from_person(person[0], side) for side in "LR" if person}
    for name, labels in maps.items():
        volumes = np.bincount(labels.ravel(), minlength=7)[1:] * VOXEL_MM**3
        print(name, *(f"{label} {volume:.0f}" for label, volume in zip(LABELS, volumes, strict=True)))
    np.savez_compressed(out, **{name: tight(labels) for name, labels in maps.items()})


if __name__ == "__main__":
    main()
