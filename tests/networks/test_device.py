import json
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from toy_networks import write_network
from twins import write_custom_operator_twin, write_external_data_twin

from bids_hsf import machine
from bids_hsf.errors import DeviceError, ModelError
from bids_hsf.networks import device, providers, sessions
from bids_hsf.networks.device import choose_device, difference_between, format_devices, list_devices, open_network
from bids_hsf.networks.onnx_file import NetworkFacts


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "network.onnx")


class TestBuilds:
    def test_two_builds_are_told_with_the_cure(self, monkeypatch):
        monkeypatch.setattr(device, "runtime_builds", lambda: {"onnxruntime": "1", "onnxruntime-gpu": "2"})
        assert "onnxruntime, onnxruntime-gpu" in device.build_conflict()
        assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in device.build_conflict()


class TestChooseDevice:
    def test_auto_takes_what_works_and_keeps_the_decision(self, network):
        device = choose_device("auto", network, 1)
        assert device.name in ("openvino", "cpu", "cuda")
        assert device.trials[-1].name == device.name
        assert device.trials[-1].state == "works"
        record = device.as_record()
        assert record["Provider"] == device.provider
        assert [trial["name"] for trial in record["Trials"]] == [trial.name for trial in device.trials]

    def test_session_of_the_probe_is_used_once(self, network):
        device = choose_device("cpu", network, 1)
        probed = device.spare_networks[network]
        assert open_network(network, device) is probed
        assert open_network(network, device) is not probed

    def test_sessions_stay_behind_when_a_device_travels(self, network):
        device = choose_device("cpu", network, 1)
        travelled = pickle.loads(pickle.dumps(device))
        assert travelled == device
        assert not travelled.spare_networks

    def test_threads_reach_the_session(self, network):
        device = choose_device("cpu", network, 1)
        options = open_network(network, device).session.get_session_options()
        assert options.intra_op_num_threads == 1

    def test_what_takes_long_to_compile_is_kept_in_the_work_folder(self, tmp_path):
        for provider in providers.PROVIDERS:
            folder = tmp_path / provider.name
            options = providers.provider_options(provider, 2, folder)
            slow = provider.name in ("tensorrt", "migraphx", "openvino-gpu", "coreml")
            assert (str(folder) in options.values()) == folder.is_dir() == slow
            without = providers.provider_options(provider, 2)
            assert {name: options[name] for name in without} == without

    def test_unknown_name(self, network):
        with pytest.raises(DeviceError, match="expected auto, cuda, .*got|expected auto, cuda"):
            choose_device("gpu", network, 1)

    def test_explicit_device_that_is_not_there_fails(self, network, monkeypatch):
        monkeypatch.setattr(device, "find_gpus", lambda: ())
        with pytest.raises(DeviceError, match="--device cuda: no hardware: no NVIDIA GPU is seen"):
            choose_device("cuda", network, 1)

    def test_explicit_device_without_its_build_names_the_package(self, network, monkeypatch):
        monkeypatch.setattr(device, "find_gpus", lambda: ("NVIDIA",))
        monkeypatch.setattr(device, "compiled_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(DeviceError, match="needs the package onnxruntime-gpu"):
            choose_device("cuda", network, 1)

    def test_auto_passes_over_a_provider_that_computes_wrongly(self, network, monkeypatch, caplog):
        wrong_answers(monkeypatch, of="OpenVINOExecutionProvider")
        with caplog.at_level(logging.WARNING):
            device = choose_device("auto", network, 1)
        assert device.name == "cpu"
        assert "leaves openvino out: fails: differs from the CPU provider by 0.5" in caplog.text

    def test_explicit_provider_that_computes_wrongly_fails(self, network, monkeypatch):
        wrong_answers(monkeypatch, of="OpenVINOExecutionProvider")
        with pytest.raises(DeviceError, match="differs from the CPU provider"):
            choose_device("openvino", network, 1)

    def test_provider_that_onnx_runtime_replaces_in_silence_is_not_trusted(self, network, monkeypatch):
        monkeypatch.setattr(device, "compiled_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        monkeypatch.setattr(device, "find_gpus", lambda: ("NVIDIA",))
        fall_back(monkeypatch)
        with pytest.raises(DeviceError, match="expected a session of CUDAExecutionProvider, ONNX Runtime took CPU"):
            choose_device("cuda", network, 1)

    def test_list_tries_every_provider(self):
        trials = list_devices()
        assert {trial.name for trial in trials} == {provider.name for provider in providers.PROVIDERS}
        assert next(trial for trial in trials if trial.name == "cpu").state == "works"

    def test_table_says_what_is_there(self):
        table = format_devices()
        assert "cpu" in table
        assert "ONNX Runtime: onnxruntime" in table


class TestUnsafeFiles:
    @pytest.mark.parametrize("location", ["weights.bin", "../weights.bin"])
    def test_external_data_is_refused(self, tmp_path, location, monkeypatch):
        """ONNX Runtime itself resolves such a name against the current folder, even for a model in memory."""
        folder = tmp_path / "here"
        path = write_external_data_twin(folder / "twin.onnx", location)
        (folder / location).resolve().write_bytes(bytes(24))
        monkeypatch.chdir(folder)
        with pytest.raises(ModelError, match=r"twin.onnx: expected all weights inside the file, got external data"):
            choose_device("cpu", path, 1)

    def test_foreign_operator_is_refused(self, tmp_path):
        path = write_custom_operator_twin(tmp_path / "twin.onnx")
        with pytest.raises(ModelError, match="expected ONNX's own operators, got com.stranger::Steal"):
            choose_device("cpu", path, 1)

    @pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08", bytes(range(256))])
    def test_damaged_file(self, tmp_path, content):
        path = tmp_path / "damaged.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"damaged.onnx"):
            choose_device("cpu", path, 1)

    def test_truncated_file(self, network):
        network.write_bytes(network.read_bytes()[:-100])
        with pytest.raises(ModelError, match="not an ONNX file"):
            choose_device("cpu", network, 1)

    def test_missing_file(self, tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            choose_device("cpu", tmp_path / "none.onnx", 1)


def wrong_answers(monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    """Let a provider (played by the CPU's, so that the test runs on every build) answer 0.5 too much."""
    true_open = sessions.open_session

    class Wrong(sessions.Network):
        def run(self, tensor):
            return super().run(tensor) + np.float32(0.5)

    def open_session(path, provider, options, n_threads):
        network = true_open(path, "CPUExecutionProvider", {}, n_threads)
        return Wrong(network.path, network.session, network.facts) if provider == of else network

    monkeypatch.setattr(device, "compiled_providers", lambda: [of, "CPUExecutionProvider"])
    monkeypatch.setattr(device, "open_session", open_session)


def fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime take the CPU provider whatever it is asked for, as it does where a library is missing."""
    import onnxruntime

    true_session = onnxruntime.InferenceSession

    def session(model, options, providers):
        return true_session(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.delattr(onnxruntime, "preload_dlls", raising=False)


@pytest.mark.parametrize(
    ("operators", "reduced", "difference"),
    [({"Conv"}, False, 0.5), ({"Conv", "QuantizeLinear"}, False, 0.5 / 8), ({"Conv"}, True, 0.5 / 8)],
)
def test_int8_and_reduced_precision_are_compared_in_the_mean(operators, reduced, difference) -> None:
    expected = np.zeros((2, 2, 2), dtype=np.float32)
    found = expected.copy()
    found[0, 0, 0] = 0.5
    facts = NetworkFacts(size=1, width=1, operators=frozenset(operators), has_external_data=False)
    assert difference_between(found, expected, facts, reduced_precision=reduced) == difference
    assert difference_between(found[0], expected, facts, reduced_precision=reduced) == float("inf")
    assert not difference_between(np.full_like(found, np.nan), expected, facts, reduced_precision=reduced) <= 1e-2


@pytest.mark.parametrize(("features", "hint"), [(("AMX", "AVX512"), "bf16"), (("AVX512", "AVX2"), "f32")])
def test_bfloat16_only_where_the_cpu_has_units_for_it(monkeypatch, features, hint) -> None:
    monkeypatch.setattr(providers, "cpu_features", lambda: features)
    openvino = next(provider for provider in providers.PROVIDERS if provider.name == "openvino")
    options = providers.provider_options(openvino, 2, reduced_precision=True)
    assert json.loads(options["load_config"])["CPU"]["INFERENCE_PRECISION_HINT"] == hint


def test_fewer_bits_than_float32_only_if_asked_for() -> None:
    for provider in providers.PROVIDERS:
        full = providers.provider_options(provider, 2)
        reduced = providers.provider_options(provider, 2, reduced_precision=True)
        if provider.name in ("openvino", "openvino-gpu"):
            assert "f32" in full["load_config"]
            assert '"f16"' in reduced["load_config"] or provider.name == "openvino"
        elif provider.name == "cuda":
            assert (full["use_tf32"], reduced["use_tf32"]) == ("0", "1")
        else:
            assert reduced == full


@pytest.mark.skipif("OpenVINOExecutionProvider" not in sessions.compiled_providers(), reason="another build")
def test_reduced_precision_runs_on_openvino_and_hardly_changes_the_labels() -> None:
    path = Path(__file__).parents[2] / "models_hub" / "longaxis" / "single.onnx"
    crop = np.random.default_rng(1).standard_normal((1, 1, 32, 40, 32), dtype=np.float32)
    full, reduced = (
        open_network(path, choose_device("openvino", path, 2, reduced_precision=wish)).run(crop)
        for wish in (False, True)
    )
    assert (full.argmax(1) != reduced.argmax(1)).mean() < 0.01
    # Where the CPU has no bfloat16, the outputs are the same.
    assert (np.abs(full - reduced).max() > 1e-4) == ("AMX" in machine.cpu_features())


@pytest.mark.skipif("OpenVINOExecutionProvider" not in sessions.compiled_providers(), reason="another build")
def test_packaged_int8_network_runs_on_openvino() -> None:
    path = Path(__file__).parents[2] / "models_hub" / "longaxis" / "single_sq.onnx"
    assert choose_device("auto", path, 1).name == "openvino"


@pytest.mark.skipif("OpenVINOExecutionProvider" not in sessions.compiled_providers(), reason="another build")
def test_openvino_binds_no_thread_to_a_core() -> None:
    """Else all scans that run at once would run on the same first cores."""
    path = Path(__file__).parents[2] / "models_hub" / "longaxis" / "single.onnx"
    network = open_network(path, choose_device("openvino", path, 2))
    network.run(np.zeros((1, 1, 32, 40, 32), dtype=np.float32))
    allowed = os.sched_getaffinity(0)
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    assert all(os.sched_getaffinity(thread) == allowed for thread in threads)
