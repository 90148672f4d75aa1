"""Brains spoilt in known ways, and brains changed in ways that do no harm."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Brain:
    """An image with the hippocampi that are true in it.

    Attributes
    ----------
    name : str
    group : str
        Brains of one group are held out together.
    contrast : str
        "T1w" or "T2w".
    data : array, (X, Y, Z) float32
        Canonical (RAS+).
    affine : array, (4, 4)
    truth : array, (X, Y, Z) int16
        Left 1 and more, right 101 and more.
    """

    name: str
    group: str
    contrast: str
    data: Values
    affine: NDArray[np.float64]
    truth: NDArray[np.int16]

    @property
    def voxel_sizes(self) -> NDArray[np.float64]:
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def span(self) -> float:
        """Range of the tissue's intensities around the hippocampi."""
        near = self.data[self.around(12.0)]
        low, high = np.percentile(near, [5, 95])
        return float(high - low)

    def around(self, reach_mm: float) -> tuple[slice, ...]:
        """Box around both hippocampi."""
        corners = np.argwhere(self.truth > 0)
        spare = np.ceil(reach_mm / self.voxel_sizes).astype(int)
        start, stop = np.maximum(corners.min(axis=0) - spare, 0), corners.max(axis=0) + spare + 1
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))

    def middle(self, side: str = "R") -> NDArray[np.float64]:
        """Middle of a hippocampus, in voxels; of the other where there is one alone."""
        mask = self.truth > 100 if side == "R" else (self.truth > 0) & (self.truth < 100)
        mask = mask if mask.any() else self.truth > 0
        return np.argwhere(mask).mean(axis=0)

    def with_data(self, data: Values) -> "Brain":
        return replace(self, data=np.ascontiguousarray(data, dtype=np.float32))

    def distance_mm(self, point: NDArray[np.float64]) -> Values:
        """Of each voxel to a point, in mm."""
        axes = [(np.arange(n) - p) * s for n, p, s in zip(self.data.shape, point, self.voxel_sizes, strict=True)]
        return np.sqrt(sum(np.square(a) for a in np.meshgrid(*axes, indexing="ij", sparse=True))).astype(np.float32)


Change = Callable[[Brain, np.random.Generator], Brain]


@dataclass(frozen=True)
class Spoil:
    """One way to change a brain; `whole_heads` where it makes no sense in a crop."""

    name: str
    change: Change
    whole_heads: bool = False


def noise(sd: float) -> Change:
    """Rician noise, its deviation as a share of the tissue's range."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        real, imaginary = (rng.normal(0, sd * brain.span, brain.data.shape) for _ in range(2))
        return brain.with_data(np.hypot(brain.data - min(0.0, float(brain.data.min())) + real, imaginary))

    return change


def blur(fwhm_mm: float) -> Change:
    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        return brain.with_data(ndimage.gaussian_filter(brain.data, fwhm_mm / 2.355 / brain.voxel_sizes))

    return change


def then(*changes: Change) -> Change:
    """One after the other."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        for each in changes:
            brain = each(brain, rng)
        return brain

    return change


def ghosts(turn_degrees: float, shift_mm: float, share: float) -> Change:
    """Motion: a share of the lines of k-space, in stretches, comes from a head that has moved."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        turn = np.radians(turn_degrees)
        matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        centre = (np.array(brain.data.shape) - 1) / 2
        offset = centre - matrix @ centre + shift_mm / brain.voxel_sizes
        moved = ndimage.affine_transform(brain.data, matrix, offset, order=1)
        lines = np.zeros(brain.data.shape[1], bool)
        while lines.mean() < share:
            start, length = rng.integers(lines.size), rng.integers(2, max(3, lines.size // 16))
            lines[start : start + length] = True
        mixed = np.where(lines[None, :, None], np.fft.fft(moved, axis=1), np.fft.fft(brain.data, axis=1))
        return brain.with_data(np.abs(np.fft.ifft(mixed, axis=1)))

    return change


def bias(strength: float) -> Change:
    """Smooth field of gain, its deviation in natural logarithms."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        coarse = rng.normal(0, 1, (4, 4, 4))
        field = ndimage.zoom(coarse, np.array(brain.data.shape) / 4, order=3)[tuple(map(slice, brain.data.shape))]
        return brain.with_data(brain.data * np.exp(strength * field / field.std()))

    return change


def wrapped(axis: int, share: float) -> Change:
    """Fold-over: what lies beyond a smaller field of view comes in at the other side."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        n = brain.data.shape[axis]
        cut = int(share * n)
        kept = np.take(brain.data, np.arange(cut, n), axis=axis).copy()
        end = [slice(None)] * 3
        end[axis] = slice(n - 2 * cut, n - cut)
        kept[tuple(end)] += np.take(brain.data, np.arange(cut), axis=axis)
        affine = brain.affine.copy()
        affine[:3, 3] += affine[:3, axis] * cut
        truth = np.take(brain.truth, np.arange(cut, n), axis=axis)
        return replace(brain, data=kept.astype(np.float32), affine=affine, truth=truth)

    return change


def cut(axis: int, keep_upper: bool, place: float) -> Change:
    """End the field of view inside of the hippocampi, at a share of their extent."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        extent = np.argwhere(brain.truth > 0)[:, axis]
        border = int(extent.min() + place * np.ptp(extent))
        kept = np.arange(border, brain.data.shape[axis]) if keep_upper else np.arange(border)
        affine = brain.affine.copy()
        affine[:3, 3] += affine[:3, axis] * kept[0]
        # The truth stays whole: what is missing in the scan counts as missed.
        truth = brain.truth.copy()
        data = np.take(brain.data, kept, axis=axis)
        return replace(brain, data=data, affine=affine, truth=np.take(truth, kept, axis=axis))

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


def metal(radius_mm: float) -> Change:
    """Loss of signal with a bright rim, as of a clip beside the right hippocampus."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        away = brain.distance_mm(brain.middle() + np.array([6.0, 4.0, -4.0]) / brain.voxel_sizes)
        rim = np.exp(-(((away - radius_mm) / 2.0) ** 2)) * 3 * brain.span
        return brain.with_data(np.where(away < radius_mm, 0, brain.data) + rim)

    return change


def stripe(width: int, level: float, axis: int = 2) -> Change:
    """A slab of bright voxels through the hippocampi."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        data = brain.data.copy()
        start = int(brain.middle()[axis])
        where = [slice(None)] * 3
        where[axis] = slice(start, start + width)
        data[tuple(where)] = data.min() + level * brain.span
        return brain.with_data(data)

    return change


def dark_slices(axis: int) -> Change:
    """Every other slice has lost half of its signal."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        factor = np.where(np.arange(brain.data.shape[axis]) % 4 < 2, 1.0, 0.35)
        return brain.with_data(brain.data * factor.reshape([-1 if i == axis else 1 for i in range(3)]))

    return change


def spike(strength: float) -> Change:
    """One wild value in k-space: a herringbone over all."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        x, y, z = np.indices(brain.data.shape, sparse=True)
        return brain.with_data(brain.data + strength * brain.span * np.sin(0.9 * x + 0.7 * y + 0.5 * z))

    return change


def outliers(count: int, factor: float) -> Change:
    """Wild voxels anywhere."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        data = brain.data.copy()
        data.ravel()[rng.integers(0, data.size, count)] = factor * brain.span
        return brain.with_data(data)

    return change


def swapped_axes(brain: Brain, rng: np.random.Generator) -> Brain:
    """Voxels in another order than the header says."""
    order = (0, 2, 1)
    return replace(brain, data=brain.data.transpose(order).copy(), truth=brain.truth.transpose(order).copy())


def upside_down(brain: Brain, rng: np.random.Generator) -> Brain:
    return replace(brain, data=brain.data[:, :, ::-1].copy(), truth=brain.truth[:, :, ::-1].copy())


def stretched(factor: float, axis: int) -> Change:
    """A wrong voxel size in the header."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        affine = brain.affine.copy()
        affine[:3, axis] *= factor
        return replace(brain, affine=affine)

    return change


def inverted(brain: Brain, rng: np.random.Generator) -> Brain:
    """Contrast upside down, air black."""
    top = float(np.percentile(brain.data, 99))
    air = brain.data < 0.08 * top
    return brain.with_data(np.where(air, brain.data, np.clip(top - brain.data, 0, None)))


def mapped(points: tuple[float, ...]) -> Change:
    """Another contrast: intensities of the tissue's range go along a line through `points`."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        low, high = np.percentile(brain.data[brain.around(12.0)], [2, 98])
        places = np.linspace(0, 1, len(points))
        share = np.clip((brain.data - low) / (high - low), 0, 1)
        curved = low + (high - low) * np.interp(share, places, points)
        return brain.with_data(np.where(brain.data < low, brain.data, curved))

    return change


def like_ct(brain: Brain, rng: np.random.Generator) -> Brain:
    """Soft tissue of 20 to 45 HU with noise, what is dark between skin and brain as bright as bone, air -1000."""
    low, high = np.percentile(brain.data[brain.around(12.0)], [2, 98])
    head = ndimage.gaussian_filter((brain.data > low).astype(np.float32), 3) > 0.5
    share = np.clip((brain.data - low) / (high - low), 0, 1)
    depth = ndimage.distance_transform_edt(head, sampling=brain.voxel_sizes)
    units = np.where(head, 20 + 25 * share, -1000.0)
    units = np.where(head & (share < 0.1) & (depth > 2) & (depth < 18), 1000.0, units)
    return brain.with_data(units + rng.normal(0, 8, brain.data.shape))


def slices(thickness_mm: float, axis: int) -> Change:
    """Slices of some thickness, on the same voxels."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        n = max(1, round(thickness_mm / brain.voxel_sizes[axis]))
        size = [1, 1, 1]
        size[axis] = n
        thick = ndimage.uniform_filter(brain.data, size)
        index = np.arange(brain.data.shape[axis]) // n * n + n // 2
        return brain.with_data(np.take(thick, np.minimum(index, brain.data.shape[axis] - 1), axis=axis))

    return change


def turned(degrees: float) -> Change:
    """The head turned within the scanner."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        turn = np.radians(degrees)
        matrix = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
        centre = (np.array(brain.data.shape) - 1) / 2
        offset = centre - matrix @ centre
        data = ndimage.affine_transform(brain.data, matrix, offset, order=1)
        return replace(brain, data=data, truth=ndimage.affine_transform(brain.truth, matrix, offset, order=0))

    return change


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


def scaled(factor: float, offset: float) -> Change:
    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        return brain.with_data(brain.data * factor + offset)

    return change


def unchanged(brain: Brain, rng: np.random.Generator) -> Brain:
    return brain


SPOILS = (
    Spoil("clean", unchanged),
    Spoil("noise 5 %", noise(0.05)),
    Spoil("noise 10 %", noise(0.10)),
    Spoil("noise 20 %", noise(0.20)),
    Spoil("noise 35 %", noise(0.35)),
    Spoil("noise 60 %", noise(0.60)),
    Spoil("blur 1.5 mm", blur(1.5)),
    Spoil("blur 3 mm", blur(3.0)),
    Spoil("blur 5 mm", blur(5.0)),
    Spoil("blur 8 mm", blur(8.0)),
    Spoil("blur 4 mm, noise 20 %", then(blur(4.0), noise(0.20))),
    Spoil("blur 6 mm, noise 30 %", then(blur(6.0), noise(0.30))),
    Spoil("ghosts, mild", ghosts(1.0, 1.0, 0.10)),
    Spoil("ghosts, moderate", ghosts(3.0, 3.0, 0.25)),
    Spoil("ghosts, severe", ghosts(6.0, 8.0, 0.45)),
    Spoil("bias 20 %", bias(0.2)),
    Spoil("bias 50 %", bias(0.5)),
    Spoil("bias 90 %", bias(0.9)),
    Spoil("wrapped from behind", wrapped(1, 0.25), whole_heads=True),
    Spoil("wrapped from the side", wrapped(0, 0.2), whole_heads=True),
    Spoil("cut below, 50 %", cut(2, True, 0.5), whole_heads=True),
    Spoil("cut in front, 40 %", cut(1, False, 0.6), whole_heads=True),
    Spoil("cavity 6 mm, dark", cavity(6.0, 0.0)),
    Spoil("cavity 12 mm, dark", cavity(12.0, 0.0)),
    Spoil("cavity 14 mm, bright", cavity(14.0, 1.0)),
    Spoil("metal 12 mm", metal(12.0)),
    Spoil("metal 20 mm", metal(20.0)),
    Spoil("stripe of 3, bright", stripe(3, 3.0)),
    Spoil("stripe of 6, bright", stripe(6, 1.5, 1)),
    Spoil("dark slices", dark_slices(1)),
    Spoil("spike 40 %", spike(0.4)),
    Spoil("spike 100 %", spike(1.0)),
    Spoil("300 wild voxels", outliers(300, 100.0)),
    Spoil("5 % wild voxels", lambda brain, rng: outliers(brain.data.size // 20, 5.0)(brain, rng)),
    Spoil("swapped axes", swapped_axes, whole_heads=True),
    Spoil("upside down", upside_down, whole_heads=True),
    Spoil("stretched 1.5", stretched(1.5, 2), whole_heads=True),
    Spoil("inverted", inverted),
    Spoil("flat contrast", mapped((0.0, 0.4, 0.5, 0.6, 1.0))),
    Spoil("folded contrast", mapped((0.0, 1.0, 0.0))),
    Spoil("like CT", like_ct, whole_heads=True),
    Spoil("slices of 3 mm", slices(3.0, 1)),
    Spoil("slices of 6 mm", slices(6.0, 2)),
    Spoil("turned by 15 degrees", turned(15.0), whole_heads=True),
    Spoil("vessels", vessels),
    Spoil("stripped", stripped, whole_heads=True),
    Spoil("scaled", scaled(37.0, 100.0)),
)  # fmt: skip


def spoilt(brain: Brain, spoils: tuple[Spoil, ...] = SPOILS, *, is_crop: bool = False) -> Iterator[tuple[str, Brain]]:
    """Name and image of each changed copy."""
    for number, spoil in enumerate(spoils):
        if is_crop and spoil.whole_heads:
            continue
        rng = np.random.default_rng([number, *brain.name.encode()])
        yield spoil.name, spoil.change(brain, rng)
