"""Fit one label map to another by their fields: an affine, then ever finer free-form deformations; torch.

The map goes from the points of the target to those of the atlas, so that whatever the atlas holds is sampled once, on
the target's grid. Fields are signed distances (clipped, so that what is far off does not count) or soft labels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

KNOTS_MM = (12.0, 6.0, 3.5)
AFFINE_STEPS, DEFORMATION_STEPS = 50, 40
BENDING = 0.03  # weight of the squared gradient of the displacement, in mm per mm
SPACING_MM = 1.25  # at which fields are compared
PART_BLUR_VOXELS, PART_WEIGHT = 1.0, 4.0  # of the indicator of a part, beside a distance in mm


def signed_distance(mask: np.ndarray, voxel_mm: float, clip_mm: float = 4.0) -> np.ndarray:
    """Distance to the border of `mask` in mm, positive inside, clipped."""
    inside = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return np.clip((inside - np.sign(inside) * 0.5) * voxel_mm, -clip_mm, clip_mm).astype(np.float32)


def filled(mask: np.ndarray, voxel_mm: float, radius_mm: float = 1.2) -> np.ndarray:
    """Close gaps narrower than twice the radius, as between the limbs of the fold."""
    padded = np.pad(mask, n := int(np.ceil(radius_mm / voxel_mm)) + 1)
    grown = ndimage.distance_transform_edt(~padded) <= radius_mm / voxel_mm
    closed = ndimage.distance_transform_edt(grown) > radius_mm / voxel_mm
    return closed[(slice(n, -n),) * 3] | mask


def level_for_volume(distance: np.ndarray, voxel_mm: float, volume_mm3: float) -> float:
    """Level of a distance map above which lies `volume_mm3`."""
    n = round(volume_mm3 / voxel_mm**3)
    return float(np.partition(distance.ravel(), -n)[-n])


def grid_points(shape: Sequence[int], voxel_mm: float, spacing_mm: float) -> Tensor:
    """Points (x, y, z, 3) in mm from the middle of a volume, `spacing_mm` apart."""
    axes = []
    for n in shape:
        count = int((n - 1) * voxel_mm / spacing_mm + 1e-6) + 1
        axes.append((torch.arange(count, dtype=torch.float32) - (count - 1) / 2) * spacing_mm)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def sample(fields: Tensor, voxel_mm: float, points: Tensor, padding: str = "border", mode: str = "bilinear") -> Tensor:
    """Fields (c, x, y, z) at points (..., 3) in mm from the volume's middle; (c, ...)."""
    half = torch.tensor([(n - 1) / 2 * voxel_mm for n in fields.shape[1:]])
    flat = (points / half).flip(-1)
    return F.grid_sample(fields[None], flat[None], mode=mode, padding_mode=padding, align_corners=True)[0]


class Map(torch.nn.Module):
    """Points of the target to points of the atlas: affine plus displacement, all in mm."""

    def __init__(self, matrix: Tensor, shift: Tensor, extent_mm: Sequence[float]) -> None:
        super().__init__()
        self.matrix, self.shift = torch.nn.Parameter(matrix), torch.nn.Parameter(shift)
        self.extent = tuple(extent_mm)  # half sizes of the target
        self.knots = torch.nn.ParameterList()

    def add_knots(self, spacing_mm: float) -> None:
        shape = [max(4, round(2 * e / spacing_mm) + 1) for e in self.extent]
        self.knots.append(torch.nn.Parameter(torch.zeros(1, 3, *shape)))

    def displacement(self, points: Tensor) -> Tensor:
        """In mm, (..., 3)."""
        total = torch.zeros_like(points)
        flat = (points / torch.tensor(self.extent)).flip(-1)[None]
        for knots in self.knots:
            moved = F.grid_sample(rounded(knots), flat, padding_mode="border", align_corners=True)
            total = total + moved[0].permute(1, 2, 3, 0)
        return total

    def forward(self, points: Tensor) -> Tensor:
        return points @ self.matrix.T + self.shift + self.displacement(points)


def rounded(knots: Tensor) -> Tensor:
    """Twice averaged, linear pieces become nearly cubic ones."""
    finer = F.interpolate(knots, scale_factor=2.0, mode="trilinear", align_corners=True)
    return F.avg_pool3d(F.pad(finer, [1] * 6, mode="replicate"), 3, 1)


def moments(weights: Tensor, voxel_mm: float) -> tuple[Tensor, Tensor]:
    """Centre and covariance, in mm, of a volume of weights."""
    points = grid_points(weights.shape, voxel_mm, voxel_mm)
    share = weights.flatten()
    share = share / share.sum()
    points = points.reshape(-1, 3)
    centre = share @ points
    return centre, ((points - centre) * share[:, None]).T @ (points - centre)


def roughness(displacement: Tensor, spacing_mm: float) -> Tensor:
    return sum((displacement.diff(dim=axis) / spacing_mm).square().mean() for axis in range(3))


def descend(groups: list[dict], steps: int, loss: Callable[[], Tensor]) -> None:
    """Adam, whose rate falls to nothing over the second half."""
    optimizer = torch.optim.Adam(groups, betas=(0.8, 0.95))
    rates = [group["lr"] for group in groups]
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, 2 * (1 - step / steps))
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def laid_upon(atlas: Tensor, atlas_mm: float, target: Tensor, target_mm: float, points: Tensor) -> Map:
    """Lay one mask upon the other by centre and size; `points` are those of the target."""
    centre, covariance = moments(target.float(), target_mm)
    atlas_centre, atlas_covariance = moments(atlas.float(), atlas_mm)
    zoom = (torch.det(atlas_covariance) / torch.det(covariance)) ** (1 / 6)
    matrix = torch.eye(3) * zoom
    return Map(matrix, atlas_centre - matrix @ centre, [float(e) for e in points[-1, -1, -1]])


def bend(start: Map, knots_mm: float, points: Tensor, misfit: Callable[[Tensor], Tensor]) -> None:
    """Add knots to a map, and move them to where what it maps `points` to fits best."""
    base = start(points).detach()
    start.add_knots(knots_mm)
    knots = start.knots[-1]

    def loss() -> Tensor:
        moved = F.interpolate(rounded(knots), points.shape[:3], mode="trilinear", align_corners=True)[0]
        moved = moved.permute(1, 2, 3, 0)
        return misfit(base + moved) + BENDING * roughness(base + moved - points, SPACING_MM)

    descend([{"params": [knots], "lr": 0.15}], DEFORMATION_STEPS, loss)


def fit(
    atlas: Tensor,
    atlas_mm: float,
    target: Tensor,
    target_mm: float,
    spacings_mm: Sequence[float] = KNOTS_MM,
) -> tuple[Map, float]:
    """Fit an atlas's fields to a target's.

    Parameters
    ----------
    atlas, target : Tensor
        (c, x, y, z) of voxels of atlas_mm and target_mm; the first is a signed distance in mm.
    spacings_mm : sequence of float
        Of knots, after the affine one; none leaves it at that.

    Returns
    -------
    Map, float
        From points of the target to points of the atlas, in mm from the middle of each volume; root mean square
        difference of the first field around the border.
    """
    points = grid_points(target.shape[1:], target_mm, SPACING_MM)
    wanted = sample(target, target_mm, points)

    def misfit(at: Tensor) -> tuple[Tensor, Tensor]:
        found = sample(atlas, atlas_mm, at)
        return (found - wanted).square().mean((1, 2, 3)).sum(), found

    start = laid_upon(atlas[0] > 0, atlas_mm, target[0] > 0, target_mm, points)
    groups = [{"params": [start.matrix], "lr": 0.02}, {"params": [start.shift], "lr": 0.4}]
    descend(groups, AFFINE_STEPS, lambda: misfit(points @ start.matrix.T + start.shift)[0])
    for knots_mm in spacings_mm:
        bend(start, knots_mm, points, lambda at: misfit(at)[0])
    with torch.no_grad():
        found = misfit(start(points))[1]
    near = wanted[0].abs() < 2
    return start, float((found[0] - wanted[0])[near].square().mean().sqrt())


@torch.no_grad()
def carried(
    labels: np.ndarray, atlas_mm: float, mapping: Callable[[Tensor], Tensor], points: Tensor, n_labels: int = 7
) -> np.ndarray:
    """Soft labels of an atlas at points of the target, (n_labels, x, y, z), summing to 1."""
    one_hot = F.one_hot(torch.from_numpy(labels.astype(np.int64)), n_labels).permute(3, 0, 1, 2)[1:].float()
    soft = sample(one_hot, atlas_mm, mapping(points), padding="zeros")
    return torch.cat([1 - soft.sum(0, keepdim=True), soft]).numpy()


def fields_of(labels: np.ndarray, voxel_mm: float, parts: Sequence[Sequence[int]] = ()) -> Tensor:
    """Make fields (1 + parts, x, y, z) of a label map: its outline, and parts of what is inside, each some labels."""
    outline = signed_distance(filled(labels > 0, voxel_mm), voxel_mm)
    indicators = [np.isin(labels, part).astype(np.float32) for part in parts]
    inside = [PART_WEIGHT * ndimage.gaussian_filter(indicator, PART_BLUR_VOXELS) for indicator in indicators]
    return torch.from_numpy(np.stack([outline, *inside]))


def carried_upon(
    labels: np.ndarray,
    target: np.ndarray,
    voxel_mm: float,
    spacings_mm: Sequence[float] = KNOTS_MM,
    parts: Sequence[Sequence[int]] = (),
) -> np.ndarray:
    """Soft labels (7, x, y, z) of one label map on the grid of another, to which its fields are fitted."""
    mapping, _ = fit(
        fields_of(labels, voxel_mm, parts), voxel_mm, fields_of(target, voxel_mm, parts), voxel_mm, spacings_mm
    )
    return carried(labels, voxel_mm, mapping, grid_points(target.shape, voxel_mm, voxel_mm))
