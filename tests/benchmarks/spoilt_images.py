"""What scanners, movement and other contrasts do to an image: the head stays where it is."""

from dataclasses import replace

import numpy as np
from brains import Brain, Change
from numpy.typing import NDArray
from scipy import ndimage


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


def coarse(sizes_mm: tuple[float, float, float]) -> Change:
    """Voxels of about these sizes, each the mean of those within it; the truth is what fills most of one."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        steps = [max(1, round(size / own)) for size, own in zip(sizes_mm, brain.voxel_sizes, strict=True)]
        affine = brain.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ ((np.array(steps) - 1) / 2)
        affine[:3, :3] *= steps
        truth = np.zeros([n // step for n, step in zip(brain.data.shape, steps, strict=True)], np.int16)
        for side in "LR":
            mask = brain.mask(side)
            values = np.unique(brain.truth[mask])
            if values.size:
                shares = np.stack([_blocks((brain.truth == value).astype(np.float32), steps) for value in values])
                inside = shares.sum(axis=0) > 0.5
                truth[inside] = values[shares.argmax(axis=0)][inside]
        return replace(brain, data=_blocks(brain.data, steps), affine=affine, truth=truth)

    return change


def _blocks(values: NDArray[np.float32], steps: list[int]) -> NDArray[np.float32]:
    """Mean of each block of voxels; what is left over at the ends is dropped."""
    x, y, z = (n // step for n, step in zip(values.shape, steps, strict=True))
    a, b, c = steps
    whole = values[: x * a, : y * b, : z * c].reshape(x, a, y, b, z, c)
    return np.asarray(whole.mean(axis=(1, 3, 5)), dtype=np.float32)


def zipper(strength: float) -> Change:
    """Lines of radio interference through the hippocampi: bright and dark voxels, drawn by lot."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        data = brain.data.copy()
        y, z = (int(place) for place in brain.middle()[1:])
        for row in (y, y + 3):
            signs = rng.choice([-1.0, 1.0], (data.shape[0], 5))
            data[:, row, z - 2 : z + 3] += strength * brain.span * signs
        return brain.with_data(data)

    return change


def ringing(share: float) -> Change:
    """Gibbs: of k-space only this share was measured along each axis."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        space = np.fft.fftshift(np.fft.fftn(brain.data))
        for axis, n in enumerate(brain.data.shape):
            inner = np.abs(np.arange(n) - n // 2) <= share * n / 2
            space *= inner.reshape([-1 if i == axis else 1 for i in range(3)])
        return brain.with_data(np.abs(np.fft.ifftn(np.fft.ifftshift(space))))

    return change


def lost_slices(axis: int, every: int, way: str) -> Change:
    """Slices are "black", "doubled" (the one before once more), or "moved" by 4 mm, as between two interleaves."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        data = brain.data.copy()
        for index in range(every, data.shape[axis], every):
            where = tuple(index if i == axis else slice(None) for i in range(3))
            before = tuple(index - 1 if i == axis else slice(None) for i in range(3))
            if way == "moved":
                data[where] = ndimage.shift(data[where], 4.0 / np.delete(brain.voxel_sizes, axis), order=1)
            else:
                data[where] = data[before] if way == "doubled" else 0
        return brain.with_data(data)

    return change


def quantised(levels: int) -> Change:
    """As few grey levels as a screenshot has, or fewer."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        low, high = float(brain.data.min()), float(np.percentile(brain.data, 99.9))
        steps = np.round(np.clip((brain.data - low) / (high - low), 0, 1) * (levels - 1))
        return brain.with_data(steps / (levels - 1) * 255)

    return change


def saturated(share: float) -> Change:
    """All that is brighter than a share of the tissue's range is equally bright."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        low, high = np.percentile(brain.data[brain.around(12.0)], [2, 98])
        return brain.with_data(np.minimum(brain.data, low + share * (high - low)))

    return change


def negative(brain: Brain, rng: np.random.Generator) -> Brain:
    """Every intensity with the wrong sign, as a wrong slope makes it."""
    return brain.with_data(-brain.data)


def fat_shift(shift_mm: float) -> Change:
    """Chemical shift: the brightest tissue lies beside itself."""

    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        fat = np.where(brain.data > np.percentile(brain.data, 97), brain.data, 0)
        moved = ndimage.shift(fat, [0, shift_mm / brain.voxel_sizes[1], 0], order=1)
        return brain.with_data(brain.data - fat + moved)

    return change


def scaled(factor: float, offset: float) -> Change:
    def change(brain: Brain, rng: np.random.Generator) -> Brain:
        return brain.with_data(brain.data * factor + offset)

    return change


def unchanged(brain: Brain, rng: np.random.Generator) -> Brain:
    return brain
