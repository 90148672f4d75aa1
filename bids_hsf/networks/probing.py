"""Whether an execution provider works: a network is opened on it, and its answer compared with the CPU provider's.

ONNX Runtime's list of providers tells what was compiled in, not what works, and a session that cannot
have the provider that it was asked for takes another one in silence. A provider is therefore believed
only after a session of the very model has reported it, and has agreed with the CPU provider on a small crop.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import DeviceError, ModelError
from bids_hsf.machine import find_gpus
from bids_hsf.networks.onnx_file import NetworkFacts
from bids_hsf.networks.providers import Provider, provider_options
from bids_hsf.networks.sessions import CPU, MemberFile, Network, SessionSettings, compiled_providers

TOLERANCE = 1e-2  # of probabilities, against the CPU provider

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ProviderTrial:
    """What came of looking at one provider.

    Attributes
    ----------
    name, provider : str
        As given to ``--device``, and as ONNX Runtime has it.
    state : str
        "works", "fails", "not installed", "no hardware" or "not tried".
    reason : str
    seconds : float or None
        One pass over a crop of 32x32x32 voxels.
    difference : float or None
        Largest difference of a probability from the CPU provider's.
    """

    name: str
    provider: str
    state: str
    reason: str = ""
    seconds: float | None = None
    difference: float | None = None


def untried(provider: Provider) -> ProviderTrial:
    """Tell whether a provider could be tried here at all: its hardware is seen, its build is installed."""
    trial = ProviderTrial(provider.name, provider.ort_name, "not tried")
    if provider.gpu not in ("", "any", *find_gpus()):
        return replace(trial, state="no hardware", reason=f"no {provider.gpu} GPU is seen")
    if provider.ort_name not in compiled_providers():
        return replace(trial, state="not installed", reason=f"needs the package {provider.package}")
    return trial


class Probe:
    """Tries providers with one network on a small crop; the CPU provider's answer is computed once.

    Parameters
    ----------
    file : MemberFile
        It keeps the network of the last provider that works.
    n_threads : int
        Threads of one session.
    cache_dir : Path, optional
        Where providers that take long to compile a model may keep the result.
    reduced_precision : bool
        Let providers compute in fewer bits than float32 where the hardware has them.
    """

    def __init__(
        self, file: MemberFile, n_threads: int, cache_dir: Path | None = None, *, reduced_precision: bool = False
    ) -> None:
        self._file = file
        self._n_threads = n_threads
        self._cache_dir = cache_dir
        self._reduced_precision = reduced_precision
        self._expected: FloatArray | None = None
        self._cpu_seconds = 0.0

    def try_provider(self, provider: Provider) -> tuple[ProviderTrial, SessionSettings | None]:
        """Try a provider; where it works, the settings of its session come along.

        Raises
        ------
        ModelError
            Not even the CPU provider can run the network, or its file is not to be loaded.
        """
        trial = untried(provider)
        if trial.state != "not tried":
            return trial, None
        reduced = self._reduced_precision
        options = provider_options(provider, self._n_threads, self._cache_dir, reduced_precision=reduced)
        settings = SessionSettings(provider.ort_name, options, self._n_threads)
        try:
            network = self._file.open(settings)
        except DeviceError as error:
            return replace(trial, state="fails", reason=error.message), None
        expected = self._answer_of_the_cpu(network if provider.ort_name == CPU else None)
        if provider.ort_name == CPU:
            # The others are measured by it: that it runs at all is its own proof.
            trial = replace(trial, state="works", seconds=self._cpu_seconds)
        else:
            trial = self._compare(trial, network, expected)
        if trial.state != "works":
            return trial, None
        self._file.keep(network, settings)
        return trial, settings

    def _answer_of_the_cpu(self, network: Network | None) -> FloatArray:
        """Answer of the CPU provider, from its network if that is open."""
        if self._expected is None:
            reference = network or self._file.open(SessionSettings(CPU, {}, self._n_threads))
            self._expected, self._cpu_seconds = timed_probe(reference)
        return self._expected

    def _compare(self, trial: ProviderTrial, network: Network, expected: FloatArray) -> ProviderTrial:
        """Judge a provider by its answer on the probe's crop.

        Its speed is told, but decides nothing: on a busy machine the choice would differ from run to
        run, and with it the last digits of the results.
        """
        try:
            network.probe()  # compiles for the shape
            found, seconds = timed_probe(network)
        except ModelError as error:
            return replace(trial, state="fails", reason=error.message)
        difference = difference_between(found, expected, network.facts, reduced_precision=self._reduced_precision)
        trial = replace(trial, seconds=seconds, difference=difference)
        if not difference <= TOLERANCE:  # NaN included
            return replace(trial, state="fails", reason=f"differs from the CPU provider by {difference:.2g}")
        figures = f"{1000 * seconds:.0f} ms against {1000 * self._cpu_seconds:.0f} ms of the CPU provider"
        return replace(trial, state="works", reason=f"{figures}, differing by {difference:.0e}")


def difference_between(
    found: FloatArray, expected: FloatArray, facts: NetworkFacts, *, reduced_precision: bool = False
) -> float:
    """How far two providers' outputs of a network lie apart: the largest difference, infinite for other shapes.

    Where the steps between values are coarse (int8 networks, reduced precision) it is the mean: where providers add
    up in another order, a value next to the border between two steps is rounded to the other one, and single voxels
    of the probe's noise end up apart by a tenth.
    """
    if found.shape != expected.shape:
        return float("inf")
    apart = np.abs(found - expected)
    coarse = reduced_precision or "QuantizeLinear" in facts.operators
    return float(apart.mean() if coarse else apart.max())


def timed_probe(network: Network) -> tuple[FloatArray, float]:
    """Answer to the probe, and the seconds that the pass took."""
    started = time.perf_counter()
    scores = network.probe()
    return scores, time.perf_counter() - started
