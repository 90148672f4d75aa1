"""The vote, written out plainly: every pass kept, every pass inverted on its own, in float64.

Slow and simple on purpose, and independent of `segmentation.augmentation`: torchio's (ITK's) transforms
are asked point by point, inverses are solved at every voxel, arrays are interpolated by scipy.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage


@dataclass
class ReferenceVotes:
    """Mean over the passes that saw a voxel."""

    mean_probabilities: np.ndarray
    vote_shares: np.ndarray
    entropy: np.ndarray
    expected_entropy: np.ndarray
    seen: np.ndarray
    pass_volumes: np.ndarray


def reference_vote(crop, predictors, samples, voxel_sizes):
    """Vote of `predictors` on the plain crop and on `samples`; volumes in mm3 of what each pass saw."""
    n_seen = np.zeros(crop.shape)
    sums = None
    volumes = []
    for sample in [None, *samples]:
        view, back, seen = reference_view(crop, sample, voxel_sizes)
        for predictor in predictors:
            probabilities = np.asarray(predictor(view.astype(np.float32)), dtype=np.float64)
            carried = np.stack([interpolate(channel, back) for channel in probabilities])
            terms = [x * seen for x in (carried, one_hot(carried), entropy(carried))]
            sums = terms if sums is None else [a + b for a, b in zip(sums, terms, strict=True)]
            n_seen += seen
            volumes.append(terms[1].sum(axis=(1, 2, 3)) * np.prod(voxel_sizes))
    means = [x / n_seen for x in sums]
    return ReferenceVotes(means[0], means[1], entropy(means[0]), means[2], n_seen, np.array(volumes))


def reference_view(crop, sample, voxel_sizes):
    """The crop as the sample shows it, positions of the crop's voxels in it, and which of them it saw."""
    voxels = np.array(list(product(*map(range, crop.shape))), dtype=float).T
    if sample is None:
        return crop, voxels.reshape(3, *crop.shape), np.ones(crop.shape)
    there, back, found = reference_positions(sample, crop.shape, voxel_sizes, voxels)
    view = np.where(inside(there, crop.shape), interpolate(crop, there), crop.min())
    return view, back, (inside(back, crop.shape) & found).astype(float)


def torchio_transform(sample):
    """The transform of torchio's that follows the flip."""
    import torchio

    if sample.control_points is None:
        return torchio.Affine(scales=sample.scales, degrees=sample.degrees, translation=sample.translation_mm)
    furthest = tuple(float(value) for value in np.abs(sample.control_points).max(axis=(0, 1, 2)))
    return torchio.ElasticDeformation(control_points=sample.control_points, max_displacement=furthest)


def reference_positions(sample, shape, voxel_sizes, voxels):
    """Where voxels (3, N) of the view lie in the crop, voxels of the crop in the view, and which have a place."""
    import torchio

    to_mm = np.array([-1, -1, 1]) * voxel_sizes
    image = torchio.ScalarImage(tensor=np.zeros((1, *shape), np.float32), affine=np.diag([*voxel_sizes, 1]))
    transform = torchio_transform(sample)
    if sample.control_points is None:
        transform = transform.get_affine_transform(image)
    else:
        transform = transform.get_bspline_transform(image.as_sitk())

    def forward(points):
        return np.array([transform.TransformPoint(p) for p in (points.T * to_mm).tolist()]).T / to_mm[:, None]

    def mirrored(points):
        return np.array([shape[0] - 1 - points[0], *points[1:]]) if sample.flip else points

    guess, found = solve(forward, mirrored(voxels))
    return mirrored(forward(voxels)).reshape(3, *shape), guess.reshape(3, *shape), found.reshape(shape)


def solve(forward, targets):
    """Points (3, N) that `forward` carries onto `targets`, and whether they were found.

    ITK displaces nothing outside the image: voxels that come from there have no solution.
    """
    guess = targets.copy()
    lost = np.arange(targets.shape[1])
    for _ in range(40):
        away = targets[:, lost] - forward(guess[:, lost])
        guess[:, lost] += away
        lost = lost[np.abs(away).max(axis=0) > 1e-7]
        if not lost.size:
            break
    found = np.ones(targets.shape[1], dtype=bool)
    found[lost] = False
    return guess, found


def interpolate(channel, positions):
    return ndimage.map_coordinates(np.asarray(channel, dtype=float), positions, order=1, mode="nearest")


def inside(positions, shape):
    limits = np.array(shape).reshape(3, 1, 1, 1) - 0.5
    return ((positions >= -0.5) & (positions <= limits)).all(axis=0)


def one_hot(probabilities):
    """One vote a voxel, shared out between classes that tie."""
    winners = (probabilities == probabilities.max(axis=0)).astype(float)
    return winners / winners.sum(axis=0)


def entropy(probabilities):
    safe = np.where(probabilities > 0, probabilities, 1)
    return -(probabilities * np.log(safe)).sum(axis=0)
