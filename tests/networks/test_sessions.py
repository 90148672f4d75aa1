"""Sessions: of the very file that the card names, on the very provider, and kept by somebody."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import xxhash
from toy_networks import CPU, write_network
from twins import write_custom_operator_twin, write_external_data_twin, write_twin

from bids_hsf.errors import DeviceError, FetchError, ModelError
from bids_hsf.networks.sessions import (
    PROBE_SIZE,
    MemberFile,
    SessionSettings,
    member_file,
    open_session,
    session_options,
)

SETTINGS = CPU.session_settings


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "network.onnx")


def checksums_of(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "xxh3_64": xxhash.xxh3_64(content).hexdigest()}


class TestOpening:
    def test_threads_reach_the_session(self, network):
        session = open_session(network, SessionSettings("CPUExecutionProvider", {}, 3)).session
        assert session.get_session_options().intra_op_num_threads == 3

    def test_missing_file(self, tmp_path):
        with pytest.raises(ModelError, match="none.onnx: cannot be read"):
            open_session(tmp_path / "none.onnx", SETTINGS)

    def test_external_data_is_refused(self, tmp_path, monkeypatch):
        """ONNX Runtime itself resolves such a name against the current folder, even for a model in memory."""
        path = write_external_data_twin(tmp_path / "twin.onnx", "weights.bin")
        (tmp_path / "weights.bin").write_bytes(bytes(24))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelError, match="external data"):
            open_session(path, SETTINGS)

    def test_foreign_operator_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match="com.stranger::Steal"):
            open_session(write_custom_operator_twin(tmp_path / "twin.onnx"), SETTINGS)

    def test_file_that_the_cpu_provider_cannot_load(self, tmp_path):
        path = write_twin(tmp_path / "twin.onnx", n_classes=6)
        path.write_bytes(path.read_bytes().replace(b"Softmax", b"Hardmix"))
        with pytest.raises(ModelError, match="CPUExecutionProvider cannot load it"):
            open_session(path, SETTINGS)

    def test_file_that_another_provider_cannot_load(self, network, monkeypatch):
        def session(model, options, providers):
            raise RuntimeError("no kernel\nand many more lines")

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        with pytest.raises(DeviceError, match=r"network.onnx: SomeExecutionProvider cannot load it \(no kernel\)"):
            open_session(network, SessionSettings("SomeExecutionProvider", {}, 1))

    def test_provider_that_onnx_runtime_replaces_in_silence(self, network, monkeypatch):
        take_the_cpu_instead(monkeypatch)
        with pytest.raises(DeviceError, match="expected a session of CUDAExecutionProvider, ONNX Runtime took CPU"):
            open_session(network, SessionSettings("CUDAExecutionProvider", {}, 1))

    def test_format_of_onnx_runtime_itself_is_refused(self, network, tmp_path):
        """Nobody has examined it; by default ONNX Runtime looks at the bytes and takes either."""
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "network.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        content = (tmp_path / "network.ort").read_bytes()
        assert onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        with pytest.raises(ModelError, match="not an ONNX file"):
            open_session(tmp_path / "network.ort", SETTINGS)
        with pytest.raises(Exception, match="(?i)protobuf"):
            onnxruntime.InferenceSession(content, session_options(SETTINGS), providers=["CPUExecutionProvider"])


class TestChecksums:
    def test_of_the_right_file(self, network):
        assert open_session(network, SETTINGS, checksums_of(network)).path == network

    @pytest.mark.parametrize("algorithm", ["sha256", "xxh3_64"])
    def test_of_another_file(self, network, tmp_path, algorithm):
        expected = checksums_of(write_network(tmp_path / "other.onnx", width=5))[algorithm]
        with pytest.raises(FetchError, match=rf"network.onnx: expected {algorithm} {expected}, got [0-9a-f]+ .*card"):
            open_session(network, SETTINGS, {algorithm: expected})

    def test_file_that_is_exchanged_between_two_openings(self, network):
        file = MemberFile(network, checksums_of(network))
        file.open(SETTINGS)
        write_network(network, width=5)
        with pytest.raises(FetchError, match="network.onnx: expected sha256"):
            file.open(SETTINGS)


class TestMemberFile:
    def test_network_that_waits_is_used_once(self, network):
        file = MemberFile(network)
        waiting = file.open(SETTINGS)
        file.keep(waiting, SETTINGS)
        assert file.open(SETTINGS) is waiting
        assert file.open(SETTINGS) is not waiting

    def test_network_of_other_settings_is_not_taken(self, network):
        file = MemberFile(network)
        two = SessionSettings("CPUExecutionProvider", {}, 2)
        waiting = file.open(two)
        file.keep(waiting, two)
        assert file.open(SETTINGS) is not waiting

    def test_network_that_was_let_go(self, network):
        file = MemberFile(network)
        waiting = file.open(SETTINGS)
        file.keep(waiting, SETTINGS)
        file.let_go()
        assert file.open(SETTINGS) is not waiting

    def test_sessions_stay_behind_when_it_travels(self, network):
        file = MemberFile(network, checksums_of(network))
        waiting = file.open(SETTINGS)
        file.keep(waiting, SETTINGS)
        file.in_probabilities = True
        travelled = pickle.loads(pickle.dumps(file))
        assert (travelled.path, travelled.checksums) == (network, checksums_of(network))
        assert travelled.in_probabilities is None
        assert travelled.open(SETTINGS) is not waiting

    def test_of_a_plain_path(self, network):
        file = member_file(network)
        assert (file.path, file.checksums) == (network, {})
        assert member_file(file) is file


class TestNetwork:
    def test_failing_pass_names_file_and_shape(self, network):
        opened = open_session(network, SETTINGS)
        with pytest.raises(ModelError, match=r"network.onnx: the network fails on a crop of \(8, 8\) voxels"):
            opened.run(np.zeros((1, 1, 8, 8), np.float32))

    def test_probe_is_the_same_each_time_and_remembered(self, network):
        opened = open_session(network, SETTINGS)
        answer = opened.probed()
        assert answer.shape == (1, 3, PROBE_SIZE, PROBE_SIZE, PROBE_SIZE)
        assert opened.probed() is answer
        np.testing.assert_array_equal(open_session(network, SETTINGS).probe(), answer)

    def test_probe_has_the_shape_that_a_network_needs(self, network, tmp_path):
        assert open_session(network, SETTINGS).probe(12).shape[2:] == (36, 36, 36)
        fixed = write_network(tmp_path / "fixed.onnx", axes=(8, 16, 24))
        assert open_session(fixed, SETTINGS).probe().shape[2:] == (8, 16, 24)

    def test_passes_of_changing_shapes_give_what_each_gives_alone(self, network):
        opened = open_session(network, SETTINGS)
        crops = [np.random.default_rng(0).normal(size=(1, 1, n, 8, 8)).astype(np.float32) for n in (8, 16, 8)]
        for crop in crops:
            np.testing.assert_array_equal(opened.run(crop), open_session(network, SETTINGS).run(crop))


def take_the_cpu_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime take the CPU provider whatever it is asked for, as it does where a library is missing."""
    true_session = onnxruntime.InferenceSession

    def session(model, options, providers):
        return true_session(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
