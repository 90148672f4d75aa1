"""Unfolded coordinates: which voxels have some, and which; on toy networks, and on the example head."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_trees import model_card
from fast_app import AFFINE, SHAPE
from twins import write_coordinates_twin, write_twin

import bids_hsf
from bids_hsf.errors import FetchError, ModelError, UsageError
from bids_hsf.files import checksums
from bids_hsf.geometry import Grid
from bids_hsf.hub.cards import Coordinates, Member, ModelCard
from bids_hsf.labels import Label, Merge
from bids_hsf.localization.contrasts import AlignedScan
from bids_hsf.localization.location import Location
from bids_hsf.networks.device import Device
from bids_hsf.segmentation.coordinates import CoordinatesNetwork, SheetPlaces, labels_with_coordinates
from bids_hsf.segmentation.hippocampi import Hippocampi, segment
from bids_hsf.segmentation.model import Model, Options

CPU = Device("cpu", "CPUExecutionProvider", {}, n_threads=1)
EXAMPLE = Path(__file__).parents[1] / "data/bids/sub-icbm152/anat/sub-icbm152_T1w.nii.gz"
LENGTHS_MM = {"AP": 40.0, "PD": 20.0}


def card_with(network: Path, labels: tuple[int, ...] = (1,), **changes: object) -> ModelCard:
    """Toy card, of whose two labels some have coordinates."""
    member = Member(network.name, network.name, None, checksums(network)["sha256"], None)
    coordinates = Coordinates(member, labels)
    return model_card(path=network.parent / "toy.yaml", members=(), coordinates=coordinates, **changes)


def segmented(folder: Path, merge: Merge | None = None, **options: bool) -> Hippocampi:
    card = card_with(write_coordinates_twin(folder / "coordinates.onnx"), n_augmentations=0)
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    scan = AlignedScan("sub-01_T1w", data, Grid(SHAPE, AFFINE))
    with Model(card, [write_twin(folder / "toy.onnx", n_classes=3)], CPU, merge) as model:
        where = Location(np.eye(4), 1.0, {"L": 1.0, "R": 1.0}, 1.5e6)
        return segment([scan], where, model, Options(keep_islands=True, **options))


def test_labels_of_the_sheet_have_coordinates_and_no_other_voxel_has(tmp_path: Path) -> None:
    found = segmented(tmp_path, coordinates=True)
    for name in ("AP", "IO"):
        np.testing.assert_array_equal(found.maps[name] > 0, found.label_map % 100 == 1)
    # Where one label alone is on the sheet, what the toy calls AP is that label's probability.
    on_sheet = found.label_map % 100 == 1
    assert found.maps["AP"][on_sheet].min() > 0.4
    assert set(segmented(tmp_path).maps) == {"entropy"}


def test_of_a_joined_label_the_part_on_the_sheet_has_coordinates(tmp_path: Path) -> None:
    plain = segmented(tmp_path, coordinates=True)
    whole = Merge("whole", "Whole", (Label(1, "All", "all", "#0000ff"),), {1: 1, 2: 1})
    joined = segmented(tmp_path, whole, coordinates=True)
    assert labels_with_coordinates(card_with(tmp_path / "coordinates.onnx"), whole) == {1: True}
    has, had = joined.maps["AP"] > 0, plain.maps["AP"] > 0
    assert (joined.label_map[has] % 100 == 1).all()
    assert has.sum() < (joined.label_map > 0).sum()
    assert (has & had).sum() > 0.95 * had.sum()


def test_two_sides_of_the_fold_are_not_mixed() -> None:
    """A voxel between two limbs has the place of the limb that it lies in, not one in the middle."""
    values = np.zeros((3, 9, 3, 3), np.float32)
    values[:, :4], values[:, 4:] = 0.1, 0.9
    grey = np.zeros((9, 3, 3), np.float32)
    grey[:4], grey[5:] = 1, 1  # a layer of something else lies in between
    places = SheetPlaces(values, grey, 1 - grey)
    crop = Grid((9, 3, 3), np.eye(4))
    finer = Grid((17, 3, 3), np.diag([0.5, 1.0, 1.0, 1.0]))
    found = places.carried(crop, finer, np.ones(finer.shape, np.uint8), {1: False})
    np.testing.assert_allclose(found[0, :, 1, 1], [0.1] * 8 + [0] + [0.9] * 8, rtol=1e-6)


def test_a_network_that_breaks_the_contract_is_told(tmp_path: Path) -> None:
    probabilities = np.full((3, 8, 8, 8), 1 / 3, np.float32)
    beyond = write_coordinates_twin(tmp_path / "beyond.onnx", add=1)
    with pytest.raises(ModelError, match="expected coordinates from 0 to 1"):
        CoordinatesNetwork(card_with(beyond), 1)(probabilities)
    wide = write_coordinates_twin(tmp_path / "wide.onnx", n_labels=4)
    with pytest.raises(ModelError, match="fails on a crop"):
        CoordinatesNetwork(card_with(wide), 1)(probabilities)
    labels = write_twin(tmp_path / "labels.onnx")
    with pytest.raises(ModelError, match="fails on a crop|expected coordinates"):
        CoordinatesNetwork(card_with(labels), 1)(probabilities)
    stated = card_with(beyond)
    beyond.write_bytes(labels.read_bytes())
    with pytest.raises(FetchError, match="it is not the file that the model card names"):
        CoordinatesNetwork(stated, 1)


def test_a_model_without_them_says_so() -> None:
    with pytest.raises(UsageError, match="toy_fast has no network that tells unfolded coordinates"):
        CoordinatesNetwork(replace(model_card(), coordinates=None), 1)


def test_the_packaged_network_unfolds_the_example_head(tmp_path: Path) -> None:
    """Along the head AP runs from front to back and PD from label to label, alike on both contrasts and both sides."""
    with bids_hsf.open_model("subfields_single_fast", device="cpu") as model:
        paths = (EXAMPLE, EXAMPLE.with_name("sub-icbm152_T2w.nii.gz"))
        results = [model.segment(path, options=Options(coordinates=True)) for path in paths]
        indices = {label.abbreviation: label.index for label in model.labels}
    t1w, t2w = (result.scan_result.hippocampi for result in results)
    for offset in (0, 100):
        inside = np.isin(t1w.label_map, [index + offset for name, index in indices.items() if name != "SRLM"])
        y = t1w.grid.to_mm(np.argwhere(inside))[:, 1]
        assert np.corrcoef(t1w.maps["AP"][inside], y)[0, 1] < -0.9
        means = [t1w.maps["PD"][t1w.label_map == indices[name] + offset].mean() for name in indices if name != "SRLM"]
        assert means == sorted(means)
        assert means[0] < 0.25
        assert means[-1] > 0.9
    both = (t1w.maps["AP"] > 0) & (t2w.maps["AP"] > 0)
    for name, length_mm in LENGTHS_MM.items():
        assert np.abs(t1w.maps[name] - t2w.maps[name])[both].mean() * length_mm < 0.3
    (saved,) = (path for path in results[0].save(tmp_path) if path.name.endswith("_desc-AP_coords.nii.gz"))
    np.testing.assert_allclose(nib.load(saved).get_fdata(), results[0].maps["AP"].get_fdata(), atol=1e-4)
    assert json.loads(saved.with_suffix("").with_suffix(".json").read_text())["Network"].startswith("subfields_coord")
