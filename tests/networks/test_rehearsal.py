"""What would end this process ends another one."""

import hashlib
import platform
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fast_app import write_card, write_dataset
from onnx import TensorProto, helper, numpy_helper
from toy_networks import CPU, write_model, write_network
from toy_runs import Place

from bids_hsf.errors import ModelError
from bids_hsf.hub.models import cache_root, packaged_hub_dir
from bids_hsf.networks import rehearsal, sessions
from bids_hsf.networks.device import settings_to_try
from bids_hsf.networks.rehearsal import rehearse
from bids_hsf.networks.sessions import MemberFile

SETTINGS = [CPU.session_settings]

# In the place of ONNX Runtime: it opens what its name does not say is evil.
CRASHING = """
import os, signal
class SessionOptions:
    def add_session_config_entry(self, *_): pass
class InferenceSession:
    def __init__(self, *_, **__): os.kill(os.getpid(), signal.{name})
def set_default_logger_severity(_): pass
"""


def let_it_crash(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes have an ONNX Runtime that crashes; this one has its own already."""
    assert onnxruntime.get_available_providers()
    folder.mkdir()
    (folder / "onnxruntime.py").write_text(CRASHING.format(name=name))
    monkeypatch.syspath_prepend(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDS_HSF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path) -> MemberFile:
    path = write_network(tmp_path / "net.onnx")
    return MemberFile(path, {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Processes that are started."""
    commands: list[object] = []
    true_run = rehearsal.subprocess.run

    def run(command, **options):
        commands.append(command)
        return true_run(command, **options)

    monkeypatch.setattr(rehearsal.subprocess, "run", run)
    return commands


def test_file_that_passes_is_tried_once(file: MemberFile, started: list[object]) -> None:
    rehearse([file], SETTINGS)
    assert len(started) == 1
    assert len(list((cache_root() / rehearsal.MARKS).iterdir())) == 1
    rehearse([file], SETTINGS)
    assert len(started) == 1
    other = MemberFile(file.path)  # nobody states what it is
    rehearse([other], SETTINGS)
    rehearse([other], SETTINGS)
    assert len(started) == 3


@pytest.mark.parametrize("name", ["x" * 300, "file/models"])
def test_cache_that_cannot_be_used_stops_nobody(
    file: MemberFile, started: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIDS_HSF_CACHE", str(tmp_path / name))
    rehearse([file], SETTINGS)
    rehearse([file], SETTINGS)
    assert len(started) == 2


def test_what_ships_with_the_package_needs_none(started: list[object]) -> None:
    rehearse([MemberFile(path) for path in (packaged_hub_dir() / "longaxis").glob("*.onnx")], SETTINGS)
    assert started == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("SIGSEGV", "ONNX Runtime crashes with it on CPUExecutionProvider (SIGSEGV)"), ("SIGKILL", "for want of memory")],
)
def test_crash_becomes_an_error(
    file: MemberFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    let_it_crash(tmp_path / "fake", name, monkeypatch)
    with pytest.raises(ModelError) as caught:
        rehearse([file], SETTINGS)
    assert str(file.path) in caught.value.message
    assert said in caught.value.message
    assert caught.value.exit_code == 69
    assert not (cache_root() / rehearsal.MARKS).exists()


def write_dividing(path: Path, operator: str, dividend: int, divisor: int) -> Path:
    """Write a network that divides whole numbers as it sees a crop: no trick of its bytes, a check finds nothing."""
    zero, over, by = (
        numpy_helper.from_array(np.array(n, np.int64), name)
        for n, name in zip((0, dividend, divisor), ("zero", "over", "by"), strict=True)
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "zero"], ["none"]),
        helper.make_node("Add", ["none", "over"], ["a"]),
        helper.make_node("Add", ["none", "by"], ["b"]),
        helper.make_node(operator, ["a", "b"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["part"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["x", "part"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["y"], axis=1),
    ]
    return write_model(path, nodes, ["b", 2, "i", "j", "k"], tensors=[zero, over, by])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors divide by zero in silence")
@pytest.mark.parametrize(
    ("operator", "dividend", "divisor"),
    [("Div", 1, 0), ("Mod", 1, 0), ("Div", -(2**63), -1), ("Mod", -(2**63), -1)],
)
def test_network_that_truly_crashes(tmp_path: Path, operator: str, dividend: int, divisor: int) -> None:
    file = MemberFile(write_dividing(tmp_path / "net.onnx", operator, dividend, divisor))
    with pytest.raises(ModelError, match=r"net\.onnx: ONNX Runtime crashes .* \(SIGFPE\)") as caught:
        rehearse([file], SETTINGS)
    assert caught.value.exit_code == 69


def test_network_that_stays_in_one_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime ends between operators alone; the process that has tried it ends, and nothing is remembered."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["most"], kernel_shape=[95] * 3, pads=[47] * 6),
        helper.make_node("Concat", ["x", "most"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["y"], axis=1),
    ]
    path = write_model(tmp_path / "slow.onnx", nodes, ["b", 2, "i", "j", "k"])
    monkeypatch.setattr(sessions, "PASS_SECONDS", 0.05)
    monkeypatch.setattr(sessions, "PASS_SECONDS_A_VOXEL", 0.0)
    file = MemberFile(path, {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(ModelError, match=r"slow\.onnx: ONNX Runtime comes to no end with it on CPUExecution") as caught:
        rehearse([file], SETTINGS)
    assert caught.value.exit_code == 69
    assert not (cache_root() / rehearsal.MARKS).exists()


def test_process_that_does_not_even_stop_waiting_is_killed(
    file: MemberFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_crash(tmp_path / "fake", "SIGSTOP", monkeypatch)
    monkeypatch.setattr(sessions, "OPENING_SECONDS", 3.0)
    monkeypatch.setattr(sessions, "PASS_SECONDS", 0.0)
    with pytest.raises(ModelError, match="comes to no end"):
        rehearse([file], SETTINGS)


def test_run_ends_before_its_first_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(write_dataset(tmp_path / "bids", 1), write_card(tmp_path / "hub"), tmp_path / "out")
    let_it_crash(tmp_path / "fake", "SIGABRT", monkeypatch)
    done = place.run(place.reference, "participant")
    assert done.returncode == 69
    assert "toy.onnx: ONNX Runtime crashes with it on CPUExecutionProvider (SIGABRT)" in done.stderr
    assert not list(place.reference.rglob("*_failure.json"))


def test_what_merely_fails_is_left_to_this_process(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"no network")
    rehearse([MemberFile(path)], SETTINGS)


def test_process_that_cannot_be_started_stops_nobody(file: MemberFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(rehearsal.subprocess, "run", refuse)
    rehearse([file], SETTINGS)
    assert not (cache_root() / rehearsal.MARKS).exists()


def test_sessions_that_are_tried_end_with_the_cpu_provider() -> None:
    tried = settings_to_try("auto", 3)
    assert tried[-1].provider == "CPUExecutionProvider"
    assert {settings.n_threads for settings in tried} == {3}
    assert len({settings.provider for settings in tried}) == len(tried)
