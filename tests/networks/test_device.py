"""Which device is chosen, why, and what is told of it."""

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from toy_networks import write_network

from bids_hsf import machine
from bids_hsf.errors import DeviceError, ModelError
from bids_hsf.networks import device, probing
from bids_hsf.networks.device import build_conflict, candidates, choose_device, format_devices, list_devices
from bids_hsf.networks.probing import ProviderTrial
from bids_hsf.networks.providers import PROVIDERS
from bids_hsf.networks.sessions import MemberFile, compiled_providers, open_session

PACKAGED = Path(__file__).parents[2] / "models_hub" / "longaxis"

needs_openvino = pytest.mark.skipif("OpenVINOExecutionProvider" not in compiled_providers(), reason="another build")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "network.onnx")


def play(monkeypatch: pytest.MonkeyPatch, **states: str) -> None:
    """Let providers be in some state ("fails", "not installed", "no hardware"), the others as they are."""
    true_try = probing.Probe.try_provider

    def try_provider(probe, provider):
        if provider.name in states:
            return ProviderTrial(provider.name, provider.ort_name, states[provider.name], "as played"), None
        return true_try(probe, provider)

    monkeypatch.setattr(probing.Probe, "try_provider", try_provider)


class TestChoice:
    def test_auto_takes_what_works_and_keeps_the_decision(self, network):
        chosen = choose_device("auto", network, 1)
        assert chosen.name in ("openvino", "cpu", "cuda")
        assert chosen.trials[-1].name == chosen.name
        assert chosen.trials[-1].state == "works"
        assert chosen.reason.startswith("usually the fastest that works")
        record = chosen.as_record()
        assert record["Provider"] == chosen.provider
        assert [trial["name"] for trial in record["Trials"]] == [trial.name for trial in chosen.trials]

    def test_network_of_the_probe_waits_in_its_file(self, network):
        file = MemberFile(network)
        chosen = choose_device("cpu", file, 1)
        probed = file.open(chosen.session_settings)
        assert file.open(chosen.session_settings) is not probed

    def test_device_is_a_value_that_travels(self, network):
        chosen = choose_device("cpu", network, 2, memory_bytes=123 << 20)
        assert pickle.loads(pickle.dumps(chosen)) == chosen
        assert (chosen.n_threads, chosen.memory_bytes, chosen.reason) == (2, 123 << 20, "asked for")

    def test_options_are_those_of_the_session_that_was_tried(self, network, tmp_path, monkeypatch):
        asked = []
        true_options = probing.provider_options

        def counted(*arguments, **keywords):
            asked.append(arguments[0].name)
            return true_options(*arguments, **keywords)

        monkeypatch.setattr(probing, "provider_options", counted)
        chosen = choose_device("auto", network, 1, cache_dir=tmp_path)
        assert asked.count(chosen.name) == 1

    def test_auto_passes_over_what_does_not_work(self, network, monkeypatch, caplog):
        play(monkeypatch, openvino="fails", cuda="no hardware")
        with caplog.at_level(logging.WARNING):
            chosen = choose_device("auto", network, 1)
        assert chosen.name == "cpu"
        assert "leaves openvino out: fails: as played" in caplog.text
        assert "cuda" not in caplog.text

    @pytest.mark.parametrize("platform", ["linux", "darwin"])
    def test_build_that_could_be_had_is_told_where_it_can(self, network, monkeypatch, caplog, platform):
        play(monkeypatch, openvino="not installed", cuda="no hardware")
        monkeypatch.setattr(device.sys, "platform", platform)
        monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(device, "release_memory", lambda: None)
        with caplog.at_level(logging.WARNING):
            choose_device("auto", network, 1)
        assert ("leaves openvino out" in caplog.text) == (platform == "linux")

    def test_unknown_name(self, network):
        with pytest.raises(DeviceError, match="--device gpu: expected auto, cuda, .*, cpu"):
            choose_device("gpu", network, 1)

    @pytest.mark.parametrize(("word", "meant"), [("gpu", "cuda"), ("NVIDIA", "cuda"), ("mps", "coreml")])
    def test_names_that_people_give_to_devices(self, word, meant):
        with pytest.raises(DeviceError) as caught:
            candidates(word)
        assert caught.value.hint.startswith(f"Did you mean {meant}? ")

    def test_near_name(self):
        with pytest.raises(DeviceError) as caught:
            candidates("openvin")
        assert caught.value.hint.startswith("Did you mean openvino? ")

    def test_candidates_are_told_without_a_network(self, monkeypatch):
        monkeypatch.setattr(probing, "find_gpus", lambda: ())
        assert [provider.name for provider in candidates("auto")][-1] == "cpu"
        assert [provider.name for provider in candidates("cpu")] == ["cpu"]
        with pytest.raises(DeviceError, match="--device tensorrt: no hardware: no NVIDIA GPU is seen"):
            candidates("tensorrt")

    def test_device_that_was_asked_for_and_is_not_there(self, network, monkeypatch):
        monkeypatch.setattr(probing, "find_gpus", lambda: ())
        with pytest.raises(DeviceError, match="--device cuda: no hardware: no NVIDIA GPU is seen"):
            choose_device("cuda", network, 1)

    def test_device_that_was_asked_for_and_fails_for_want_of_a_sound_build(self, network, monkeypatch):
        play(monkeypatch, openvino="fails")
        monkeypatch.setattr(device, "runtime_builds", lambda *_: {"onnxruntime": "1", "onnxruntime-gpu": "2"})
        with pytest.raises(DeviceError, match="--device openvino: fails: as played") as caught:
            choose_device("openvino", network, 1)
        assert "pip uninstall" in caught.value.hint
        assert "--device list" in caught.value.hint

    def test_file_that_is_no_network(self, tmp_path):
        path = tmp_path / "damaged.onnx"
        path.write_bytes(b"not a network")
        with pytest.raises(ModelError, match=r"damaged.onnx: not an ONNX file"):
            choose_device("cpu", path, 1)

    def test_advice_where_the_cpu_gains_by_int8(self, network, monkeypatch, caplog):
        monkeypatch.setattr(device, "int8_feature", lambda: "AMX")
        monkeypatch.setattr(device, "cpu_features", lambda: ("AMX",))
        with caplog.at_level(logging.INFO):
            choose_device("cpu", network, 1)
        assert "AMX: the sq models (int8) run about twice as fast" in caplog.text
        assert "--reduced-precision" in caplog.text


class TestList:
    def test_every_provider_is_tried(self):
        trials = list_devices()
        assert {trial.name for trial in trials} == {provider.name for provider in PROVIDERS}
        assert next(trial for trial in trials if trial.name == "cpu").state == "works"

    def test_table_says_what_is_there(self, monkeypatch):
        monkeypatch.setattr(device, "int8_feature", lambda: None)
        lines = format_devices().splitlines()
        assert lines[0].split() == ["device", "state", "probe", "reason"]
        assert any(line.startswith("cpu ") and " works " in line and " ms" in line for line in lines)
        assert lines[-1].startswith("ONNX Runtime: onnxruntime")

    def test_table_tells_plugins_advice_and_conflict(self, monkeypatch):
        monkeypatch.setattr(device, "int8_feature", lambda: "AVX-VNNI")
        monkeypatch.setattr(device, "runtime_builds", lambda *_: {"onnxruntime": "1", "onnxruntime-gpu": "2"})
        table = format_devices()
        assert "Plugin libraries, not used: onnxruntime, onnxruntime-gpu" in table
        assert "AVX-VNNI: the sq models" in table
        assert table.splitlines()[-1].startswith("2 builds of ONNX Runtime overwrite each other")


class TestBuilds:
    def test_one_build_is_no_conflict(self):
        assert build_conflict() == ""

    def test_two_builds_are_told_with_the_cure(self, network, monkeypatch, caplog):
        monkeypatch.setattr(device, "runtime_builds", lambda: {"onnxruntime": "1", "onnxruntime-gpu": "2"})
        with caplog.at_level(logging.WARNING):
            choose_device("cpu", network, 1)
        assert "onnxruntime, onnxruntime-gpu" in caplog.text
        assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in caplog.text


@needs_openvino
def test_reduced_precision_runs_on_openvino_and_hardly_changes_the_labels() -> None:
    path = PACKAGED / "single.onnx"
    crop = np.random.default_rng(1).standard_normal((1, 1, 32, 40, 32), dtype=np.float32)
    full, reduced = (
        open_session(path, choose_device("openvino", path, 2, reduced_precision=wish).session_settings).run(crop)
        for wish in (False, True)
    )
    assert (full.argmax(1) != reduced.argmax(1)).mean() < 0.01
    # Where the CPU has no bfloat16, the outputs are the same.
    assert (np.abs(full - reduced).max() > 1e-4) == ("AMX" in machine.cpu_features())


@needs_openvino
def test_packaged_int8_network_runs_on_openvino() -> None:
    assert choose_device("auto", PACKAGED / "single_sq.onnx", 1).name == "openvino"


@needs_openvino
def test_openvino_binds_no_thread_to_a_core() -> None:
    """Else all scans that run at once would run on the same first cores."""
    path = PACKAGED / "single.onnx"
    network = open_session(path, choose_device("openvino", path, 2).session_settings)
    network.run(np.zeros((1, 1, 32, 40, 32), dtype=np.float32))
    allowed = os.sched_getaffinity(0)
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    assert all(os.sched_getaffinity(thread) == allowed for thread in threads)
