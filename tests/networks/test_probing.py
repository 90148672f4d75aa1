"""Providers are believed only by their answers."""

import numpy as np
import onnxruntime
import pytest
from toy_networks import write_network

from bids_hsf.errors import ModelError
from bids_hsf.networks import probing
from bids_hsf.networks.onnx_file import NetworkFacts
from bids_hsf.networks.probing import Probe, difference_between
from bids_hsf.networks.providers import PROVIDERS, Provider
from bids_hsf.networks.sessions import MemberFile, Network

CPU = next(provider for provider in PROVIDERS if provider.name == "cpu")
CUDA = next(provider for provider in PROVIDERS if provider.name == "cuda")
OTHER = Provider("other", "OtherExecutionProvider", "somewhere")


@pytest.fixture
def file(tmp_path) -> MemberFile:
    return MemberFile(write_network(tmp_path / "network.onnx"))


@pytest.fixture
def played(monkeypatch) -> None:
    """Let the CPU's provider play a second one, so that the tests run on every build."""
    true_session = onnxruntime.InferenceSession

    class Session:
        def __init__(self, model, options, providers):
            self._own = true_session(model, options, providers=["CPUExecutionProvider"])
            self._name = providers[0][0]

        def get_providers(self):
            return [self._name]

        def __getattr__(self, name):
            return getattr(self._own, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(probing, "compiled_providers", lambda: [OTHER.ort_name, CUDA.ort_name, CPU.ort_name])


def let_it_answer(monkeypatch, change) -> None:
    """Change what the played provider answers."""
    true_run = Network.run

    def run(network, tensor):
        scores = true_run(network, tensor)
        return change(scores) if network.session.get_providers()[0] == OTHER.ort_name else scores

    monkeypatch.setattr(Network, "run", run)


def test_cpu_provider_is_its_own_proof_and_its_network_waits(file) -> None:
    trial, settings = Probe(file, 1).try_provider(CPU)
    assert (trial.state, trial.reason, trial.difference) == ("works", "", None)
    assert trial.seconds is not None
    assert settings.n_threads == 1
    waiting = file.open(settings)
    assert waiting.probed() is waiting.probed()
    assert file.open(settings) is not waiting


@pytest.mark.usefixtures("played")
def test_provider_that_agrees_works(file) -> None:
    trial, settings = Probe(file, 2).try_provider(OTHER)
    assert (trial.state, trial.difference) == ("works", 0)
    assert "of the CPU provider, differing by 0e+00" in trial.reason
    assert (settings.provider, settings.n_threads) == (OTHER.ort_name, 2)
    assert file.open(settings).session.get_providers() == [OTHER.ort_name]


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_provider_that_computes_wrongly_fails(file, monkeypatch, wrong) -> None:
    let_it_answer(monkeypatch, lambda scores: scores + np.float32(wrong))
    trial, settings = Probe(file, 1).try_provider(OTHER)
    assert trial.state == "fails"
    assert trial.reason.startswith("differs from the CPU provider by ")
    assert settings is None


@pytest.mark.usefixtures("played")
def test_provider_that_fails_in_its_pass(file, monkeypatch) -> None:
    def fail(scores):
        raise ModelError("no memory there")

    let_it_answer(monkeypatch, fail)
    trial, settings = Probe(file, 1).try_provider(OTHER)
    assert (trial.state, trial.reason, settings) == ("fails", "no memory there", None)


@pytest.mark.usefixtures("played")
def test_answer_of_the_cpu_provider_is_computed_once(file, monkeypatch) -> None:
    probe = Probe(file, 1)
    probe.try_provider(OTHER)
    opened = []
    monkeypatch.setattr(probing, "timed_probe", lambda network: opened.append(network) or (network.probe(), 0.0))
    probe.try_provider(OTHER)
    assert [network.session.get_providers() for network in opened] == [[OTHER.ort_name]]


def test_missing_hardware_and_missing_build(file, monkeypatch) -> None:
    monkeypatch.setattr(probing, "compiled_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(probing, "find_gpus", lambda: ())
    trial, settings = Probe(file, 1).try_provider(CUDA)
    assert (trial.state, trial.reason, settings) == ("no hardware", "no NVIDIA GPU is seen", None)
    monkeypatch.setattr(probing, "find_gpus", lambda: ("NVIDIA",))
    trial, settings = Probe(file, 1).try_provider(CUDA)
    assert (trial.state, trial.reason, settings) == ("not installed", "needs the package onnxruntime-gpu", None)


def test_provider_that_onnx_runtime_replaces_in_silence_is_not_trusted(file, monkeypatch) -> None:
    true_session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: true_session(model, options, providers=["CPUExecutionProvider"]),
    )
    monkeypatch.setattr(probing, "compiled_providers", lambda: [OTHER.ort_name])
    trial, settings = Probe(file, 1).try_provider(OTHER)
    assert trial.state == "fails"
    assert "expected a session of OtherExecutionProvider, ONNX Runtime took CPU" in trial.reason
    assert settings is None


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
