"""One network: crop in, probabilities out, whatever came before."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_networks import CPU, toy_card, write_model, write_moody, write_network
from twins import centres, write_twin
from voting import vote

from bids_hsf.errors import MemoryLimitError, ModelError
from bids_hsf.geometry import Grid
from bids_hsf.networks.device import choose_device
from bids_hsf.networks.memory import NetworkMemory, resting_bytes
from bids_hsf.networks.onnx_file import examine
from bids_hsf.networks.predictor import OnnxPredictor, normalize
from bids_hsf.networks.sessions import MemberFile


@pytest.fixture
def crop() -> np.ndarray:
    return np.random.default_rng(1).normal(300, 40, (13, 21, 18)).astype(np.float32)


class TestContract:
    def test_normalised_padded_and_cropped_as_hsf_does_it(self, tmp_path, crop):
        path = write_network(tmp_path / "network.onnx", instance_norm=True)
        normal = (crop - crop.mean(dtype=np.float64)) / crop.std(ddof=1, dtype=np.float64)
        padded = np.pad(normal, ((1, 2), (1, 2), (3, 3))).astype(np.float32)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        expected = session.run(None, {"crop": padded[None, None]})[0][0, :, 1:-2, 1:-2, 3:-3]
        found = OnnxPredictor(path, toy_card(3), CPU)(crop)
        assert found.shape == (3, *crop.shape)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_twin_sorts_by_intensity(self, tmp_path, crop):
        path = write_twin(tmp_path / "twin.onnx", n_classes=6)
        probabilities = OnnxPredictor(path, toy_card(6), CPU)(crop)
        distances = np.abs(normalize(crop)[None] - centres(6)[:, None, None, None])
        clear = np.sort(distances, axis=0)[1] - distances.min(axis=0) > 1e-3
        np.testing.assert_array_equal(probabilities.argmax(axis=0)[clear], distances.argmin(axis=0)[clear])
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)

    def test_every_provider_of_this_machine_agrees(self, tmp_path, crop):
        path = write_network(tmp_path / "network.onnx", instance_norm=True)
        best = choose_device("auto", path, 1)
        found = OnnxPredictor(path, toy_card(3), best)(crop)
        np.testing.assert_allclose(found, OnnxPredictor(path, toy_card(3), CPU)(crop), atol=1e-3)

    def test_tensors_are_described(self, tmp_path):
        path = write_twin(tmp_path / "twin.onnx", input_name="image")
        predictor = OnnxPredictor(path, toy_card(6), CPU)
        assert predictor.describe() == "image [batch, 1, x, y, z] -> segmented_hippocampus [batch, 6, x, y, z]"
        assert predictor.open_bytes > path.stat().st_size

    def test_any_name_of_the_only_input(self, tmp_path, crop):
        path = write_twin(tmp_path / "twin.onnx", input_name="whatever:0")
        assert OnnxPredictor(path, toy_card(6), CPU)(crop).shape == (6, *crop.shape)

    def test_constant_crop_is_no_division_by_zero(self, tmp_path):
        path = write_twin(tmp_path / "twin.onnx")
        probabilities = OnnxPredictor(path, toy_card(6), CPU)(np.full((8, 8, 8), 7, np.float32))
        assert np.isfinite(probabilities).all()

    def test_intensity_scale_does_not_matter(self, tmp_path, crop):
        predictor = OnnxPredictor(write_twin(tmp_path / "twin.onnx"), toy_card(6), CPU)
        np.testing.assert_allclose(predictor(crop), predictor(crop * 1e4 - 5e6), atol=2e-3)

    def test_second_pass_leaves_the_first_result_alone(self, tmp_path, crop):
        predictor = OnnxPredictor(write_twin(tmp_path / "twin.onnx"), toy_card(6), CPU)
        first = predictor(crop)
        kept = first.copy()
        predictor(-crop)
        np.testing.assert_array_equal(first, kept)

    def test_normalize_in_double_precision(self):
        values = np.arange(8, dtype=np.float32).reshape(2, 2, 2) + 1e7
        assert normalize(values).std(ddof=1) == pytest.approx(1)
        assert normalize(values).mean() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("unit", [1e-25, 1e-6, 1e6, 1e25])
    def test_normalize_whatever_the_unit(self, unit):
        values = np.random.default_rng(0).normal(3, 1, (8, 8, 8))
        np.testing.assert_allclose(normalize((values * unit).astype(np.float32)), normalize(values), atol=1e-5)


class TestSoftmax:
    def test_logits_get_a_softmax_and_one_line_of_log(self, tmp_path, crop, caplog):
        path = write_twin(tmp_path / "twin.onnx", output="logits")
        with caplog.at_level(logging.INFO):
            predictor = OnnxPredictor(path, toy_card(6, output="logits"), CPU)
            found = predictor(crop)
            predictor(crop)
        expected = OnnxPredictor(write_twin(tmp_path / "same.onnx"), toy_card(6), CPU)(crop)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert caplog.text.count("softmax applied") == 1
        assert not predictor.softmax_forced

    def test_card_that_wrongly_says_probabilities_is_corrected_when_the_network_is_opened(self, tmp_path, crop, caplog):
        path = write_twin(tmp_path / "twin.onnx", output="logits")
        with caplog.at_level(logging.WARNING):
            predictor = OnnxPredictor(path, toy_card(6), CPU)
            assert predictor.softmax_forced
            found = predictor(crop)
            predictor(crop)
        expected = OnnxPredictor(write_twin(tmp_path / "same.onnx"), toy_card(6), CPU)(crop)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert caplog.text.count("twin.onnx: its card says probabilities, but they do not sum to 1; softmax") == 1

    def test_it_is_said_once_however_often_the_file_is_opened(self, tmp_path, caplog):
        file = MemberFile(write_twin(tmp_path / "twin.onnx", output="logits"))
        with caplog.at_level(logging.WARNING):
            assert all(OnnxPredictor(file, toy_card(6), CPU).softmax_forced for _ in range(3))
        assert caplog.text.count("softmax applied") == 1

    def test_card_of_logits_settles_nothing_for_another_card_of_the_file(self, tmp_path, crop):
        file = MemberFile(write_twin(tmp_path / "twin.onnx"))
        OnnxPredictor(file, toy_card(6, output="logits"), CPU)
        plain = OnnxPredictor(file, toy_card(6), CPU)
        assert not plain.softmax_forced
        assert plain(crop).max() > 0.9

    def test_answer_of_the_trial_is_used(self, tmp_path, monkeypatch):
        """The choice of the device has shown the network the same crop."""
        file = MemberFile(write_twin(tmp_path / "twin.onnx"))
        device = choose_device("cpu", file, 1)
        monkeypatch.setattr("bids_hsf.networks.sessions.Network.run", None)
        assert not OnnxPredictor(file, toy_card(6), device).softmax_forced


class TestOrder:
    """A crop on which a network misses its sum of 1 is refused, and changes nothing for the others."""

    @pytest.fixture
    def odd(self, crop):
        odd = crop.copy()
        odd[5, 5, 5] = 1e5
        return odd

    def test_refused_with_what_was_found(self, tmp_path, odd):
        predictor = OnnxPredictor(write_moody(tmp_path / "moody.onnx"), toy_card(2), CPU)
        with pytest.raises(ModelError, match=r"moody.onnx: expected probabilities.*sums of 1 to .*\(16, 24, 24\) vox"):
            predictor(odd)

    def test_results_do_not_depend_on_the_order_of_crops(self, tmp_path, crop, odd):
        path = write_moody(tmp_path / "moody.onnx")
        expected = OnnxPredictor(path, toy_card(2), CPU)(crop)
        file = MemberFile(path)
        predictor = OnnxPredictor(file, toy_card(2), CPU)
        for _ in range(2):
            with pytest.raises(ModelError):
                predictor(odd)
            np.testing.assert_array_equal(predictor(crop), expected)
        assert not predictor.softmax_forced
        np.testing.assert_array_equal(OnnxPredictor(file, toy_card(2), CPU)(crop), expected)


class TestRefusals:
    def test_wrong_number_of_labels(self, tmp_path):
        path = write_twin(tmp_path / "twin.onnx", n_classes=6)
        with pytest.raises(ModelError, match=r"twin.onnx: expected .* 3 channels .*got \['batch', 6"):
            OnnxPredictor(path, toy_card(3), CPU)

    def test_wrong_number_of_labels_that_only_a_pass_shows(self, tmp_path, crop):
        keep = numpy_helper.from_array(np.array([True, True]), "keep")
        nodes = [
            helper.make_node("Concat", ["x", "x"], ["both"], axis=1),
            helper.make_node("Compress", ["both", "keep"], ["y"], axis=1),
        ]
        path = write_model(tmp_path / "dynamic.onnx", nodes, ["b", "c", "i", "j", "k"], tensors=[keep])
        with pytest.raises(ModelError, match=r"dynamic.onnx: expected .* 6 channels .*got \[1, 2, 32, 32, 32\]"):
            OnnxPredictor(path, toy_card(6), CPU)
        predictor = OnnxPredictor(path, toy_card(6, output="logits"), CPU)
        with pytest.raises(ModelError, match=r"dynamic.onnx: expected .* 6 channels .*got \[1, 2, 16, 24, 24\]"):
            predictor(crop)

    def test_two_inputs(self, tmp_path):
        nodes = [helper.make_node("Add", ["x", "other"], ["y"])]
        path = write_model(tmp_path / "two.onnx", nodes, ["b", 1, "i", "j", "k"], more_inputs=["other"])
        with pytest.raises(ModelError, match=r"two.onnx: expected one input .* got x .*, other"):
            OnnxPredictor(path, toy_card(6), CPU)

    @pytest.mark.parametrize(
        "options", [{"in_shape": ["b", 1, "i", "j"]}, {"in_type": TensorProto.DOUBLE}], ids=["rank", "type"]
    )
    def test_input_of_another_kind(self, tmp_path, options):
        shape = options.get("in_shape", ["b", 1, "i", "j", "k"])
        path = write_model(tmp_path / "odd.onnx", [helper.make_node("Identity", ["x"], ["y"])], shape, **options)
        with pytest.raises(ModelError, match=r"odd.onnx: expected one input \(batch, 1, x, y, z\)"):
            OnnxPredictor(path, toy_card(2), CPU)

    def test_output_of_another_size(self, tmp_path, crop):
        nodes = [
            helper.make_node("Concat", ["x", "x"], ["both"], axis=1),
            helper.make_node("MaxPool", ["both"], ["y"], kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
        ]
        path = write_model(tmp_path / "half.onnx", nodes, ["b", 2, "i", "j", "k"])
        with pytest.raises(ModelError, match=r"expected an output of \(16, 24, 24\) voxels, got \(8, 12, 12\)"):
            OnnxPredictor(path, toy_card(2), CPU)(crop)

    def test_values_that_are_not_finite(self, tmp_path, crop):
        nodes = [
            helper.make_node("Log", ["x"], ["log"]),
            helper.make_node("Concat", ["x", "log"], ["y"], axis=1),
        ]
        path = write_model(tmp_path / "log.onnx", nodes, ["b", 2, "i", "j", "k"])
        for output in ("probabilities", "logits"):
            with pytest.raises(ModelError, match=r"log.onnx: the network returned values that are not finite"):
                OnnxPredictor(path, toy_card(2, output=output), CPU)(crop)

    def test_network_that_cannot_take_the_crop(self, tmp_path, crop):
        tensor = numpy_helper.from_array(np.zeros((1, 1, 5, 1, 1), np.float32), "t")
        nodes = [helper.make_node("Add", ["x", "t"], ["y"])]
        path = write_model(tmp_path / "five.onnx", nodes, ["b", 1, "i", "j", "k"], tensors=[tensor])
        with pytest.raises(ModelError, match=r"five.onnx: the network fails on a crop of \(32, 32, 32\) voxels"):
            OnnxPredictor(path, toy_card(1), CPU)
        predictor = OnnxPredictor(path, toy_card(1, output="logits"), CPU)
        with pytest.raises(ModelError, match=r"five.onnx: the network fails on a crop of \(16, 24, 24\) voxels"):
            predictor(crop)


class TestTiles:
    def test_predictor_tiles_when_memory_is_short(self, tmp_path, caplog):
        path = write_network(tmp_path / "network.onnx", width=4, depth=4)
        crop = np.random.default_rng(0).normal(size=(60, 60, 120)).astype(np.float32)
        whole = OnnxPredictor(path, toy_card(3), CPU)(crop)
        memory = memory_of(path)
        enough_for_some = resting_bytes(memory) + 64 * 64 * 120 * memory.vote_bytes_per_voxel
        enough_for_some += 64 * 64 * 88 * memory.pass_bytes_per_voxel
        with caplog.at_level(logging.WARNING):
            predictor = OnnxPredictor(path, toy_card(3), replace(CPU, memory_bytes=enough_for_some))
            tiled = predictor(crop)
            np.testing.assert_array_equal(predictor(crop), tiled)
        assert caplog.text.count("it is run in 2 tiles of (64, 64, 80)") == 1
        assert (tiled.argmax(axis=0) != whole.argmax(axis=0)).mean() <= 0.001
        np.testing.assert_allclose(tiled, whole, atol=1e-5)

    def test_refused_where_no_tile_fits(self, tmp_path, crop):
        path = write_network(tmp_path / "network.onnx")
        scarce = resting_bytes(memory_of(path)) + 1000
        predictor = OnnxPredictor(path, toy_card(3), replace(CPU, memory_bytes=scarce))
        with pytest.raises(MemoryLimitError, match=r"a crop of \(16, 24, 24\) voxels needs about \d+ MB, of which"):
            predictor(crop)

    def test_tiles_stay_within_a_limit_that_one_pass_exceeds(self, tmp_path):
        """Under a limit of the operating system, in a process of its own."""
        path = write_network(tmp_path / "network.onnx", width=16, depth=2)
        script = tmp_path / "limited.py"
        script.write_text(LIMITED)
        command = [sys.executable, str(script), str(path), str(tmp_path / "labels.npy")]
        folders = [
            str(Path(__file__).parent),
            str(Path(__file__).parents[1] / "support"),
            str(Path(__file__).parents[2]),
        ]
        environment = {"PYTHONPATH": ":".join(folders), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        whole, tiled = (
            subprocess.run([*command, mode], capture_output=True, text=True, env=environment, timeout=400, check=False)
            for mode in ("whole", "tiled")
        )
        assert whole.returncode != 0
        assert "bad_alloc" in whole.stderr or "llocate" in whole.stderr
        assert tiled.returncode == 0, tiled.stderr
        assert "it is run in" in tiled.stderr
        expected = winners(OnnxPredictor(path, toy_card(3), CPU), large_crop())
        assert (np.load(tmp_path / "labels.npy") != expected).mean() <= 0.001


LIMIT = 700 << 20  # bytes beyond what is there before the first pass
LIMITED = f"""
import resource, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from test_predictor import *

path, out, mode = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
crop = large_crop()
memory = memory_of(path)
planned = resting_bytes(memory) + memory.vote_bytes_per_voxel * 448 * 32 * 448 + {LIMIT} // 2
predictor = OnnxPredictor(path, toy_card(3), replace(CPU, memory_bytes=planned if mode == "tiled" else 1 << 40))
predictor(crop[:16, :16, :16])
data = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (data + {LIMIT}, data + {LIMIT}))
np.save(out, winners(predictor, crop))
"""


def memory_of(path: Path) -> NetworkMemory:
    return NetworkMemory.of(examine(path.read_bytes(), path), 3, CPU.provider)


def large_crop() -> np.ndarray:
    """Make a hippocampus of 0.125x1.2x0.125 mm voxels, the largest that HSF promises; two times 16 maps take 820 MB."""
    return np.random.default_rng(5).normal(size=(448, 30, 448)).astype(np.float32)


def winners(predictor: OnnxPredictor, crop: np.ndarray) -> np.ndarray:
    """Vote on a crop, without random samples; which class won each voxel."""
    grid = Grid(crop.shape, np.eye(4))
    votes = vote(crop, [predictor], grid)
    return votes.vote_sum.argmax(axis=0).astype(np.uint8)
