"""What else may be wrong with a head: lesions, what lies in view, and what the header says."""

from dataclasses import replace

import numpy as np
from brains import Brain, Change
from numpy.typing import NDArray
from scipy import ndimage


def wrapped(axis: int, share: float) -> Change:
    """Fold-over: what lies beyond a smaller field of view comes in at the other side."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        n = brain.data.shape[axis]
        cut = int(share * n)
        kept = brain.kept(axis, cut, n)
        data = kept.data.copy()
        end = [slice(None)] * 3
        end[axis] = slice(n - 2 * cut, n - cut)
        data[tuple(end)] += np.take(brain.data, np.arange(cut), axis=axis)
        return kept.with_data(data)

    return change


def cut(axis: int, keep_upper: bool, place: float) -> Change:
    """End the field of view inside of the hippocampi, at a share of their extent."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        extent = np.argwhere(brain.truth > 0)[:, axis]
        border = int(extent.min() + place * np.ptp(extent))
        return brain.kept(axis, border, brain.data.shape[axis]) if keep_upper else brain.kept(axis, 0, border)

    return change


def cavity(radius_mm: float, level: float) -> Change:
    """Fill a ball in the right hippocampus with fluid; level as a share between the darkest and brightest tissue."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        near = brain.data[brain.around(12.0)]
        low, high = np.percentile(near, [2, 98])
        inside = np.clip(radius_mm - brain.distance_mm(brain.middle()) + 0.5, 0, 1)
        filling = rng.normal(low + level * (high - low), 0.03 * (high - low), brain.data.shape)
        return brain.with_data((1 - inside) * brain.data + inside * filling)

    return change


def tumour(radius_mm: float, level: float) -> Change:
    """Grow a ball of tissue in place of a part of the right hippocampus, which is none there any more.

    `level` is a share between the darkest and the brightest tissue.
    """

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        low, high = np.percentile(brain.data[brain.around(12.0)], [2, 98])
        inside = np.clip(radius_mm - brain.distance_mm(brain.middle()) + 0.5, 0, 1)
        tissue = rng.normal(low + level * (high - low), 0.04 * (high - low), brain.data.shape)
        truth = np.where(inside > 0.5, 0, brain.truth).astype(np.int16)
        return replace(brain.with_data((1 - inside) * brain.data + inside * tissue), truth=truth)

    return change


def metal(radius_mm: float) -> Change:
    """Loss of signal with a bright rim, as of a clip beside the right hippocampus."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        away = brain.distance_mm(brain.middle() + np.array([6.0, 4.0, -4.0]) / brain.voxel_sizes)
        rim = np.exp(-(((away - radius_mm) / 2.0) ** 2)) * 3 * brain.span
        return brain.with_data(np.where(away < radius_mm, 0, brain.data) + rim)

    return change


def swapped_axes(brain: Brain, rng: np.random.Generator) -> Brain:
    """Voxels in another order than the header says."""
    order = (0, 2, 1)
    return replace(brain, data=brain.data.transpose(order).copy(), truth=brain.truth.transpose(order).copy())


def upside_down(brain: Brain, rng: np.random.Generator) -> Brain:
    return replace(brain, data=brain.data[:, :, ::-1].copy(), truth=brain.truth[:, :, ::-1].copy())


def mirrored(brain: Brain, rng: np.random.Generator) -> Brain:
    """Left for right, as an axis turned in the file but not in its header: the left hippocampus is at the right."""
    return replace(brain, data=brain.data[::-1].copy(), truth=brain.truth[::-1].copy())


def stretched(factor: float, axis: int) -> Change:
    """A wrong voxel size in the header."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        affine = brain.affine.copy()
        affine[:3, axis] *= factor
        return replace(brain, affine=affine)

    return change


def turned(degrees: float, order: int = 1) -> Change:
    """The head turned within the scanner."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        turn = np.radians(degrees)
        matrix = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
        centre = (np.array(brain.data.shape) - 1) / 2
        offset = centre - matrix @ centre
        data = ndimage.affine_transform(brain.data, matrix, offset, order=order)
        return replace(brain, data=data, truth=ndimage.affine_transform(brain.truth, matrix, offset, order=0))

    return change


def warped(strength_mm: float) -> Change:
    """Nonlinear gradients: what lies 80 mm from the middle is moved by so much; the truth goes with it."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        sizes, middle = (
            each[:, None, None, None] for each in (brain.voxel_sizes, (np.array(brain.data.shape) - 1) / 2)
        )
        away = (np.indices(brain.data.shape) - middle) * sizes
        places = (away + strength_mm * (away**2).sum(axis=0) / 80.0**2 * away / 80.0) / sizes + middle
        data = ndimage.map_coordinates(brain.data, places, order=1)
        return replace(brain, data=data, truth=ndimage.map_coordinates(brain.truth, places, order=0))

    return change


def cut_at_side(margin_mm: float) -> Change:
    """The field of view ends on the right, so far within the right hippocampus."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        extent = np.argwhere(brain.mask("R"))[:, 0]
        return brain.kept(0, 0, int(extent.max() - margin_mm / brain.voxel_sizes[0]))

    return change


def defaced(depth_mm: float) -> Change:
    """All is 0 in front of a plane that goes so deep into the hippocampi."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        data = brain.data.copy()
        data[:, int(np.argwhere(brain.truth > 0)[:, 1].max() - depth_mm / brain.voxel_sizes[1]) :] = 0
        return brain.with_data(data)

    return change


def nearest(degrees: float) -> Change:
    """Half of the voxels left out along two axes, then turned without interpolation: every edge is a staircase."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        coarse = brain.data[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
        whole = replace(brain, data=coarse[: brain.data.shape[0], : brain.data.shape[1]])
        return turned(degrees, order=0)(whole, rng)

    return change


def one_sided(change: Change) -> Change:
    """What another change does, on the right alone."""

    def half(brain: Brain, rng: np.random.Generator) -> Brain:
        middle = round((brain.middle("L")[0] + brain.middle("R")[0]) / 2)
        is_right = (np.arange(brain.data.shape[0]) >= middle)[:, None, None]
        return brain.with_data(np.where(is_right, change(brain, rng).data, brain.data))

    return half


def vessels(brain: Brain, rng: np.random.Generator) -> Brain:
    """Contrast agent: thin bright tubes, none of them within a hippocampus."""
    field = ndimage.gaussian_filter(rng.normal(0, 1, brain.data.shape), 4)
    gradient = ndimage.gaussian_filter(rng.normal(0, 1, brain.data.shape), 4)
    tubes = (np.abs(field) < 0.06 * field.std()) & (np.abs(gradient) < 0.25 * gradient.std())
    tubes &= (brain.data > np.percentile(brain.data, 60)) & (brain.truth == 0)
    bright = ndimage.gaussian_filter(tubes.astype(np.float32), 0.5)
    return brain.with_data(brain.data + 2.0 * brain.span * bright)


def stripped(brain: Brain, rng: np.random.Generator) -> Brain:
    """No skull: what lies beyond the brain's own voxels is 0."""
    top = float(np.percentile(brain.data[brain.around(12.0)], 60))
    tissue = ndimage.binary_erosion(brain.data > 0.45 * top, iterations=3)
    pieces, _ = ndimage.label(tissue)
    inside = pieces == pieces[tuple(np.round(_near_white(brain, pieces)).astype(int))]
    mask = ndimage.binary_closing(ndimage.binary_dilation(inside, iterations=4), iterations=6)
    mask |= ndimage.binary_dilation(brain.truth > 0, iterations=6)
    return brain.with_data(np.where(mask, brain.data, 0))


def _near_white(brain: Brain, pieces: NDArray[np.int32]) -> NDArray[np.float64]:
    """A voxel of the largest piece."""
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.argwhere(pieces == largest)[0].astype(float)
