"""What a stranger's network takes of time and memory ends somewhere, and Ctrl-C ends it at once."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from peak_memory import PEAK_MB
from toy_networks import CPU, write_model, write_network

from bids_hsf.errors import ModelError
from bids_hsf.networks import sessions
from bids_hsf.networks.bounds import OverdueError, endable, limited_memory
from bids_hsf.networks.onnx_file import examine
from bids_hsf.networks.sessions import Network, open_session, session_options

SETTINGS = CPU.session_settings
CROP = np.zeros((1, 1, 8, 8, 8), np.float32)


def write_endless(path: Path) -> Path:
    """Write a network that goes round for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    tensors = [numpy_helper.from_array(np.array(True), "yes")]
    return write_model(
        path, [helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)], [*"bcijk"], tensors=tensors
    )


def endless_network(path: Path) -> Network:
    """Open what `open_session` refuses."""
    write_endless(path)
    session = onnxruntime.InferenceSession(
        path.read_bytes(), session_options(SETTINGS), providers=["CPUExecutionProvider"]
    )
    return Network(path, session, examine(path.read_bytes(), path))


def test_endless_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without loops, got Loop"):
        open_session(write_endless(tmp_path / "loop.onnx"), SETTINGS)


def test_pass_ends_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PASS_SECONDS", 0.2)
    monkeypatch.setattr(sessions, "PASS_SECONDS_A_VOXEL", 0.0)
    network = endless_network(tmp_path / "loop.onnx")
    before = threading.active_count()
    with pytest.raises(ModelError, match=r"loop.onnx: the network fails on a crop .* \(no end after 0 s\)"):
        network.run(CROP)
    assert threading.active_count() == before  # the operator has ended, too


def test_signal_ends_a_pass(tmp_path: Path) -> None:
    network = endless_network(tmp_path / "loop.onnx")
    before = threading.active_count()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        network.run(CROP)
    assert threading.active_count() == before


def test_work_beside_gives_its_answer_or_its_error() -> None:
    assert endable(lambda: 3, lambda: None, 60) == 3
    with pytest.raises(KeyError):
        endable(lambda: {}["x"], lambda: None, 60)
    ended = threading.Event()
    with pytest.raises(OverdueError):
        endable(ended.wait, ended.set, 0.05)


def limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_DATA)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
class TestMemory:
    def test_limit_holds_within_and_goes_with_the_last_block(self) -> None:
        before = limits()
        with limited_memory(64 << 20):
            within = limits()
            assert within != before
            with limited_memory(1 << 40):
                assert limits() == within
            assert limits() == within
        assert limits() == before

    def test_limit_beyond_another_is_none(self) -> None:
        before = limits()
        with limited_memory(1 << 62):
            assert limits() == before

    @pytest.mark.parametrize("node", ["folded", "of the input"])
    def test_static_shape_of_gigabytes(self, tmp_path: Path, node: str) -> None:
        """8 GB of zeros that are added to the crop, when the network is opened or in its pass."""
        shape = [2**31] if node == "folded" else [1, 1, 2048, 1024, 1024]
        sizes = numpy_helper.from_array(np.array(shape, np.int64), "sizes")
        nodes = (
            [helper.make_node("ConstantOfShape", ["sizes"], ["much"]), helper.make_node("ReduceSum", ["much"], ["m"])]
            if node == "folded"
            else [
                helper.make_node("ReduceMean", ["x"], ["one"]),
                helper.make_node("Expand", ["one", "sizes"], ["much"]),
                helper.make_node("ReduceMax", ["much"], ["m"]),
            ]
        )
        path = write_model(
            tmp_path / "wide.onnx", [*nodes, helper.make_node("Add", ["x", "m"], ["y"])], [*"bcijk"], tensors=[sizes]
        )
        script = f"""if 1:
            import sys
            from pathlib import Path
            from bids_hsf.errors import ModelError
            from bids_hsf.networks.sessions import SessionSettings, open_session
            try:
                open_session(Path(sys.argv[1]), SessionSettings("CPUExecutionProvider", dict(), 1)).probe()
            except ModelError as error:
                print({PEAK_MB}, error.message)
        """
        told = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout
        megabytes, _, message = told.partition(" ")
        assert "wide.onnx" in message
        assert int(megabytes) < 1000

    def test_declared_crop_of_gigabytes(self, tmp_path: Path) -> None:
        path = write_network(tmp_path / "wide.onnx", axes=(1024, 1024, 1024))
        with pytest.raises(ModelError, match="expected crops of at most 16777216 voxels"):
            open_session(path, SETTINGS).probe()


class TestFiles:
    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.onnx")
        with pytest.raises(ModelError, match="no regular file"):
            open_session(tmp_path / "pipe.onnx", SETTINGS)

    @pytest.mark.parametrize("size", [1 << 30, 1 << 40])
    def test_hole(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "hole.onnx"
        with path.open("wb") as file:
            file.truncate(size)
        with pytest.raises(ModelError, match="begin with zeros|at most 2147483648 bytes"):
            open_session(path, SETTINGS)

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        path = write_network(tmp_path / "network.onnx")
        path.write_bytes(path.read_bytes().replace(b"\n\x03\x12\x01x", b"\n\x03\x12\x01\xdf"))
        with pytest.raises(ModelError, match="no text"):
            open_session(path, SETTINGS)

    def test_functions_are_loaded_as_they_were_read(self, tmp_path: Path) -> None:
        """What passes the check has no byte that the check does not know; the same bytes are loaded."""
        model = onnx.load(write_network(tmp_path / "network.onnx"))
        model.producer_name = "somebody"
        (tmp_path / "network.onnx").write_bytes(model.SerializeToString())
        assert open_session(tmp_path / "network.onnx", SETTINGS).run(CROP).shape == (1, 3, 8, 8, 8)
