"""The core: one scan, and where its hippocampi lie, to labels, uncertainty and volumes on the scan's own voxels.

It knows arrays and grids, an open model and options; no file, no dataset, no configuration. The participant level,
``hsf-hub evaluate`` and the Python functions all come this way.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bids_hsf.errors import ScanError
from bids_hsf.geometry import Grid, covering_box, field_of_view, resample
from bids_hsf.labels import COORDINATES, HEMISPHERES, SIDE_NAMES, Label, hemisphere_offset
from bids_hsf.libraries import release_libraries
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.crops import crop_grid
from bids_hsf.localization.location import Location
from bids_hsf.machine import release_memory
from bids_hsf.outliers import tissue_range, without_outliers
from bids_hsf.segmentation.ballots import BALLOTS
from bids_hsf.segmentation.coordinates import labels_with_coordinates
from bids_hsf.segmentation.decision import Segmentation, decide, remove_islands, volume_spread
from bids_hsf.segmentation.model import DEFAULTS, Model, Options
from bids_hsf.segmentation.sampling import looks, transforms_of
from bids_hsf.segmentation.sampling_error import is_steady, sampling_error
from bids_hsf.segmentation.volumes import Volumes, measure
from bids_hsf.segmentation.votes import Predictor, Tally, Votes
from bids_hsf.threads import spread

FURTHER_MAPS = ("mutual_information", "expected_entropy", "vote_share")
CERTAIN = {"vote_share": 1.0}  # what a map says where nothing is in doubt; 0 for the others


@dataclass(frozen=True, eq=False)
class Crop:
    """One hippocampus in one contrast, as the networks are shown it.

    Attributes
    ----------
    scan : AlignedScan
        Of which it is cut; its key seeds the random views of the crop.
    hemisphere : str
    data : array, (X, Y, Z) float32
    grid : Grid
        Of `data`: the same for all contrasts of a hemisphere.
    """

    scan: AlignedScan
    hemisphere: str
    data: NDArray[np.float32]
    grid: Grid

    def random_state(self, seed: int) -> np.random.Generator:
        """Seed its random views: the same for each network, whatever the order of scans and workers."""
        text = f"{seed}/{self.scan.key}/{self.hemisphere}"
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


@dataclass(frozen=True, eq=False)
class Hippocampus:
    """One segmented hippocampus.

    Attributes
    ----------
    hemisphere : str
    crop : Grid
        What the networks saw.
    slices : tuple of slice
        Where `segmentation` lies in the scan's canonical array.
    segmentation : Segmentation
    probabilities : array, (C, X, Y, Z) float32
        Mean over the passes, background first, on the voxels of `slices`.
    pass_volumes : array, (n_passes, C) float32
        Volume in mm3 that each pass gives each class.
    volume_errors : array, (C,) float64
        Standard error in mm3 of each class's volume that comes of the random views' number; NaN where it is unknown.
    n_components : int
        Separate pieces before islands were removed.
    coordinates : mapping of str to array, (X, Y, Z) float32
        `COORDINATES`, 0 to 1, 0 where there are none; empty where they were not asked for.
    """

    hemisphere: str
    crop: Grid
    slices: tuple[slice, slice, slice]
    segmentation: Segmentation
    probabilities: NDArray[np.float32]
    pass_volumes: NDArray[np.float32]
    volume_errors: NDArray[np.float64]
    n_components: int
    coordinates: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def map(self, name: str) -> NDArray[np.float32]:
        """One of the maps of `Hippocampi`, on the voxels of `slices`."""
        found: NDArray[np.float32] = self.coordinates[name] if name in COORDINATES else getattr(self.segmentation, name)
        return found


@dataclass(frozen=True, eq=False)
class Hippocampi:
    """Both hippocampi on a scan's canonical grid.

    Attributes
    ----------
    grid : Grid
    labels : tuple of Label
        Structures of one hemisphere.
    label_map : array, (X, Y, Z) uint8
        Left k, right 100 + k.
    maps : mapping of str to array, (X, Y, Z) float32
        "entropy" and, where they were asked for, `FURTHER_MAPS` and `COORDINATES`; 0-1.
    probabilities : array, (X, Y, Z, N) float32
        One volume a structure, left ones first; None where they were not asked for.
    spreads : mapping of int to mapping
        Bilateral index to "mean", "sd", "low", "high" of the volume in mm3 over the passes, and "sampling", its
        standard error in mm3 that comes of the random views' number, where that is known.
    sides : tuple of Hippocampus
    """

    grid: Grid
    labels: tuple[Label, ...]
    label_map: NDArray[np.uint8]
    maps: Mapping[str, NDArray[np.float32]]
    probabilities: NDArray[np.float32] | None
    spreads: Mapping[int, Mapping[str, float]]
    sides: tuple[Hippocampus, ...]

    @property
    def n_passes(self) -> int:
        """Votes for each hippocampus."""
        return self.sides[0].segmentation.n_passes

    def volumes(self, etiv_mm3: float | None) -> Volumes:
        """Measure every structure; relative to an estimated total intracranial volume in mm3 where there is one."""
        return measure(self.label_map, self.grid, self.labels, self.maps["entropy"], self.spreads, etiv_mm3)


def segment(scans: Sequence[AlignedScan], location: Location, model: Model, options: Options = DEFAULTS) -> Hippocampi:
    """Crop both hippocampi, let all networks vote on each contrast, and decide on the first scan's own voxels.

    Parameters
    ----------
    scans : sequence of AlignedScan
        The scan, and perhaps a second one of the same head whose votes are joined.
    location : Location
        Where the hippocampi lie in the first scan.
    model : Model
    options : Options

    Raises
    ------
    ScanError
        No voxel of a hippocampus lies in the field of view.
    ModelError
        A network fails on a crop, or answers with anything but probabilities.
    MemoryLimitError
        Not even a part of a crop fits into the memory.
    UsageError
        Coordinates are asked for, and the model's card names no network for them.
    """
    if options.coordinates:
        model.coordinates_network()  # one that is not there is told before any pass
    with spread(model.device.n_threads) as share:
        cut = share(lambda side: list(cut_crops(scans, location, side, model, options)), HEMISPHERES)
        crops = [crop for side in cut for crop in side]
        voted = list(zip(crops, vote_on(crops, model, options), strict=True))
        by_side = ([pair for pair in voted if pair[0].hemisphere == side] for side in HEMISPHERES)
        sides = list(share(lambda pairs: decide_together(pairs, model, options), by_side))
    del voted
    release_memory()
    release_libraries()  # what passes over crops of a new shape were compiled with
    return join_sides(sides, scans[0].grid, model.labels, options)


def segment_crop(scan: AlignedScan, grid: Grid, model: Model, options: Options = DEFAULTS) -> Hippocampus:
    """Segment a ready-made crop around one hippocampus, on its own voxels.

    Parameters
    ----------
    scan : AlignedScan
        The crop; which side it is does not matter, since left and right share the networks.
    grid : Grid
        What the networks are shown: the crop's own grid, or one of the model's voxel size over it.
    model : Model
    options : Options
    """
    crop = show(scan, grid, HEMISPHERES[0])
    (votes,) = vote_on([crop], model, options)
    return decide_on_scan(crop, votes, model, options)


def cut_crops(
    scans: Sequence[AlignedScan], location: Location, side: str, model: Model, options: Options
) -> Iterator[Crop]:
    """Cut one hippocampus out of each contrast that shows any of it, by its place in space."""
    card, grid = model.card, scans[0].grid
    margin_mm = card.margin_mm if options.margin_mm is None else options.margin_mm
    target = crop_grid(location, grid, side, card.voxel_size_mm, margin_mm)
    if 0 in target.shape:
        raise ScanError(
            f"the {SIDE_NAMES[side]} hippocampus lies outside the field of view: there is no voxel to crop",
            "Take a scan that shows both, or a --model with voxels of its own size (see `hsf-hub list`).",
        )
    for scan in scans:
        if scan is scans[0] or field_of_view(scan.grid, target).any():
            yield show(scan, target, side)


def show(scan: AlignedScan, target: Grid, side: str) -> Crop:
    """Carry the part of a scan that the networks are to see to its grid, free of intensities that no tissue has."""
    near, data = scan.data[covering_box(scan.grid, target, side).slices], scan.data
    if near.size:
        tissue = tissue_range(near, is_crop=True)
        # Wild voxels further away do not matter: a scan whose crop is sound is not touched.
        data = data if without_outliers(near, tissue) is near else without_outliers(data, tissue)
    # Splines keep the edges that the networks were trained on; where grids coincide nothing is interpolated.
    return Crop(scan, side, resample(data, scan.grid, target, order=3, fill=float(data.min())), target)


def vote_on(crops: Sequence[Crop], model: Model, options: Options = DEFAULTS) -> list[Votes]:
    """Let the networks vote on all crops: together where all are open, else one after the other."""
    plan = options.sampling_of(model.card)
    merge = model.joined if model.merge else None
    transforms, ballot = transforms_of(model.card.recipe), BALLOTS[model.card.recipe.votes]
    tallies = [Tally(crop.data, crop.grid, transforms, merge, ballot) for crop in crops]
    streams = [looks(model.card.recipe, len(model.members), crop.random_state(options.seed)) for crop in crops]
    n_passes = None if plan.tolerance else len(model.members) * (1 + plan.most) * len(crops)
    # Shown on a terminal alone, and where there is something to wait for.
    silent = None if plan.most else True
    with tqdm(total=n_passes, desc=crops[0].scan.key, unit="pass", leave=False, disable=silent) as bar:
        for n_looks in plan.steps():
            drawn = [list(islice(stream, n_looks)) for stream in streams]
            for networks, predictors in model.groups():
                counted = [CountedPredictor(predictor, bar.update) for predictor in predictors]
                for tally, step in zip(tallies, drawn, strict=True):
                    tally.add(counted, [look.of(networks) for look in step], model.device.n_threads)
                del predictors, counted  # so that the network is closed before the next is opened
            votes = [tally.votes() for tally in tallies]
            if plan.tolerance and all(is_steady(each, plan.tolerance) for each in votes):
                break
    return votes


def decide_together(voted: Sequence[tuple[Crop, Votes]], model: Model, options: Options) -> Hippocampus:
    """Join the votes on one hippocampus in all contrasts, and decide on the voxels of the first."""
    (first, joined), *others = voted
    for crop, votes in others:
        joined += votes.within(field_of_view(crop.scan.grid, crop.grid), joined)
    return decide_on_scan(first, joined, model, options)


def decide_on_scan(crop: Crop, votes: Votes, model: Model, options: Options) -> Hippocampus:
    """Carry the votes on one hippocampus to the scan's own voxels, and decide there."""
    grid = crop.scan.grid
    box = covering_box(grid, crop.grid, crop.hemisphere)
    native = grid.subgrid(box.start, box.stop)
    carried = votes.carried(lambda sums: resample(sums, crop.grid, native))
    decided = decide(carried, model.labels)
    cleaned, n_components = remove_islands(decided.labels, grid.voxel_sizes)
    if not options.keep_islands:
        decided = replace(decided, labels=cleaned)
    probabilities = carried.mean_probabilities()
    coordinates: Mapping[str, NDArray[np.float32]] = {}
    if options.coordinates:
        places = model.coordinates_network()(votes.still_probabilities())
        known = labels_with_coordinates(model.card, model.merge)
        carried_places = places.carried(crop.grid, native, decided.labels, known)
        coordinates = dict(zip(COORDINATES, carried_places, strict=True))
    return Hippocampus(
        crop.hemisphere,
        crop.grid,
        box.slices,
        decided,
        probabilities,
        votes.pass_volumes,
        sampling_error(votes.pass_volumes, votes.pass_looks, votes.plain_weight),
        n_components,
        coordinates,
    )


@dataclass(frozen=True)
class CountedPredictor:
    """A network that tells when it has done a pass.

    Attributes
    ----------
    predictor : Predictor
    done : callable
    """

    predictor: Predictor
    done: Callable[[], object]

    def __call__(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict, then tell."""
        probabilities = self.predictor(crop)
        self.done()
        return probabilities


def join_sides(sides: Sequence[Hippocampus], grid: Grid, labels: tuple[Label, ...], options: Options) -> Hippocampi:
    """Put both hippocampi into arrays of the scan's canonical shape."""
    names = ("entropy", *(FURTHER_MAPS if options.full_uncertainty else ()))
    names += COORDINATES if options.coordinates else ()
    # Zeros that nobody has written take no memory.
    maps = {name: np.zeros(grid.shape, dtype=np.float32) for name in names}
    for name in set(names) & set(CERTAIN):
        maps[name].fill(CERTAIN[name])
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    probabilities = np.zeros((*grid.shape, 2 * len(labels)), dtype=np.float32) if options.probabilities else None
    spreads: dict[int, Mapping[str, float]] = {}
    for place, side in enumerate(sides):
        found = side.segmentation.labels
        part = label_map[side.slices]
        part[found > 0] = found[found > 0] + hemisphere_offset(side.hemisphere)
        for name in names:
            # Where two boxes overlap, the more uncertain side is shown.
            worse = np.minimum if name in CERTAIN else np.maximum
            maps[name][side.slices] = worse(maps[name][side.slices], side.map(name))
        if probabilities is not None:
            channels = slice(place * len(labels), (place + 1) * len(labels))
            probabilities[(*side.slices, channels)] = np.moveaxis(side.probabilities[1:], 0, -1)
        spreads |= _spreads(side, labels)
    return Hippocampi(grid, labels, label_map, maps, probabilities, spreads, tuple(sides))


def _spreads(side: Hippocampus, labels: tuple[Label, ...]) -> dict[int, Mapping[str, Any]]:
    """Mean, deviation and interval of each structure's volume over the passes; empty where there was one."""
    if len(side.pass_volumes) < 2:
        return {}
    spread = volume_spread(side.pass_volumes)
    measures = {name: getattr(spread, name) for name in ("mean", "sd", "low", "high")}
    if np.isfinite(side.volume_errors).all():
        measures["sampling"] = side.volume_errors
    return {
        label.index + hemisphere_offset(side.hemisphere): {
            name: float(values[channel]) for name, values in measures.items()
        }
        for channel, label in enumerate(labels, start=1)
    }
