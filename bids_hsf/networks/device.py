"""Which execution provider runs the networks: probed, not assumed.

ONNX Runtime's list of providers tells what was compiled in, not what works, and a session that cannot
have the provider that it was asked for takes another one in silence. A provider is therefore used only
after a session of the very model has reported it, and has agreed with the CPU provider on a small crop.
"""

import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import DeviceError, ModelError
from bids_hsf.machine import (
    RUNTIME_PLUGINS,
    allowed_cores,
    allowed_memory,
    cpu_features,
    find_gpus,
    int8_feature,
    release_memory,
    runtime_builds,
)
from bids_hsf.networks.onnx_file import NetworkFacts
from bids_hsf.networks.providers import PROVIDERS, Provider, provider_options
from bids_hsf.networks.sessions import CPU, Network, compiled_providers, open_session

logger = logging.getLogger(__name__)


TOLERANCE = 1e-2  # of probabilities, against the CPU provider

# A multiple of every usual pad_multiple; 32768 voxels take some 10 ms.
PROBE_SIZE = 32
TOY_NETWORK = Path(__file__).parents[1] / "data" / "probe.onnx"

HINT = "See `bids-hsf --device list`, or use --device auto"


@dataclass(frozen=True)
class Trial:
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


@dataclass(frozen=True)
class Device:
    """An execution provider that has been seen to work.

    Attributes
    ----------
    name, provider : str
        As given to ``--device``, and as ONNX Runtime has it.
    options : mapping of str to str
        Provider options.
    n_threads : int
        Threads of one session.
    reason : str
        Why this one.
    memory_bytes : int
        Memory that one process may take.
    trials : tuple of Trial
        The whole decision, for the provenance.
    spare_networks : dict of Path to Network
        What the probe opened; whoever needs a network takes it from here first.
    """

    name: str
    provider: str
    options: Mapping[str, str]
    n_threads: int
    reason: str = ""
    memory_bytes: int = field(default_factory=allowed_memory)
    trials: tuple[Trial, ...] = ()
    spare_networks: dict[Path, Network] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the sessions behind when the device crosses a process boundary."""
        return {**self.__dict__, "spare_networks": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def as_record(self) -> dict[str, Any]:
        """Plain values of the whole decision, for the provenance."""
        return {
            "Name": self.name,
            "Provider": self.provider,
            "Options": dict(self.options),
            "Threads": self.n_threads,
            "Reason": self.reason,
            "MemoryMB": self.memory_bytes >> 20,
            "CPUFeatures": list(cpu_features()),
            "GPUs": list(find_gpus()),
            "Builds": runtime_builds(),
            "Trials": [asdict(trial) for trial in self.trials],
        }


def choose_device(
    request: str,
    model_path: Path,
    n_threads: int,
    memory_bytes: int | None = None,
    cache_dir: Path | None = None,
    *,
    reduced_precision: bool = False,
) -> Device:
    """Choose the execution provider for a model, and prove it.

    Parameters
    ----------
    request : str
        "auto", or the name of a provider.
    model_path : Path
        First member of the ensemble.
    n_threads : int
        Threads of one session.
    memory_bytes : int, optional
        Memory that one process may take; by default what the machine allows.
    cache_dir : Path, optional
        Where providers that take long to compile a model may keep the result.
    reduced_precision : bool
        Let providers compute in fewer bits than float32 where the hardware has them.

    Raises
    ------
    DeviceError
        `request` names a provider that is unknown, not there, or wrong.
    ModelError
        Not even the CPU provider can run the file.
    """
    if request != "auto" and request not in [provider.name for provider in PROVIDERS]:
        names = ", ".join(provider.name for provider in PROVIDERS)
        raise DeviceError(f"--device {request}: expected auto, {names}", HINT)
    conflict = build_conflict()
    if conflict:
        logger.warning("%s", conflict)
    memory_bytes = allowed_memory() if memory_bytes is None else memory_bytes
    probe = _Probe(model_path, n_threads, cache_dir, reduced_precision)
    trials = []
    for provider in _candidates(request):
        trial, networks = probe.try_provider(provider)
        release_memory()  # of the CPU provider's answer, and of what failed
        trials.append(trial)
        if trial.state == "works":
            options = provider_options(provider, n_threads, cache_dir, reduced_precision=reduced_precision)
            reason = _reason(request, trial)
            if int8_feature() and not provider.gpu:
                logger.info("%s", _advice())
            return Device(
                *(provider.name, provider.ort_name, options, n_threads, reason),
                memory_bytes,
                tuple(trials),
                networks,
            )
        if request != "auto":
            message = f"--device {request}: {trial.state}: {trial.reason}"
            raise DeviceError(message, f"{conflict} {HINT}" if conflict else HINT)
        level = logging.WARNING if _could_be_had(trial) else logging.DEBUG
        logger.log(level, "--device auto leaves %s out: %s: %s", trial.name, trial.state, trial.reason)
    raise DeviceError(f"no execution provider works: {trials[-1].reason}", conflict or HINT)


def list_devices(model_path: Path | None = None, n_threads: int | None = None) -> tuple[Trial, ...]:
    """Try every known provider with a model, by default with a toy network of 3-D convolutions."""
    probe = _Probe(model_path or TOY_NETWORK, n_threads or allowed_cores())
    return tuple(probe.try_provider(provider)[0] for provider in PROVIDERS)


def format_devices(model_path: Path | None = None) -> str:
    """Table of `list_devices`, with what else decides the speed on this machine."""
    rows = [("device", "state", "probe", "reason")]
    for trial in list_devices(model_path):
        seconds = "" if trial.seconds is None else f"{1000 * trial.seconds:.1f} ms"
        rows.append((trial.name, trial.state, seconds, trial.reason))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows]
    builds = runtime_builds()
    plugins = runtime_builds(RUNTIME_PLUGINS)
    lines += [
        "",
        f"CPU: {', '.join(cpu_features()) or 'features unknown'}; {allowed_cores()} core(s) and "
        f"{allowed_memory() >> 20} MB to use",
        f"GPU: {', '.join(find_gpus()) or 'none seen'}",
        f"ONNX Runtime: {', '.join(f'{name} {version}' for name, version in builds.items())}",
    ]
    if plugins:
        lines.append(f"Plugin libraries, not used: {', '.join(plugins)}")
    if int8_feature():
        lines.append(_advice())
    conflict = build_conflict()
    return "\n".join([*lines, conflict] if conflict else lines)


def build_conflict() -> str:
    """Say what is wrong where several builds of ONNX Runtime share one environment, "" where none do."""
    builds = list(runtime_builds())
    if len(builds) < 2:
        return ""
    keep = next((name for name in builds if name != "onnxruntime"), builds[0])
    return (
        f"{len(builds)} builds of ONNX Runtime overwrite each other in this environment: {', '.join(builds)}. "
        f"Mend it: pip uninstall -y {' '.join(builds)} && pip install {keep}"
    )


def open_network(path: Path, device: Device) -> Network:
    """Take the network that the probe opened, or open the file on the device.

    Raises
    ------
    ModelError
        The file cannot be read, is unsafe, or ONNX Runtime cannot load it.
    DeviceError
        ONNX Runtime took another provider.
    """
    spare = device.spare_networks.pop(path, None)
    return spare or open_session(path, device.provider, device.options, device.n_threads)


def _candidates(request: str) -> Iterator[Provider]:
    """Yield the providers to try for a request, the fastest first."""
    for provider in PROVIDERS:
        if provider.name == request or (request == "auto" and provider.automatic):
            yield provider


def _could_be_had(trial: Trial) -> bool:
    """Tell whether the user can do something about a provider that was left out."""
    if trial.state == "not installed" and trial.name == "openvino":
        return sys.platform == "linux" and platform.machine() == "x86_64"
    return trial.state != "no hardware"


def _reason(request: str, trial: Trial) -> str:
    """One line for the log on why a provider was taken."""
    asked = "fastest that works" if request == "auto" else "asked for"
    return f"{asked}; {trial.reason}" if trial.reason else asked


def _advice() -> str:
    """Say what is faster on this CPU."""
    text = f"{int8_feature()}: the sq models (int8) run about twice as fast as the others here"
    return text + ("; --reduced-precision makes the others faster" if "AMX" in cpu_features() else "")


_Outcome = Callable[..., Trial]


@dataclass
class _Probe:
    """Trials of one model on a small crop; the CPU provider's answer is computed once."""

    path: Path
    n_threads: int
    cache_dir: Path | None = None
    reduced_precision: bool = False
    expected: NDArray[np.float32] | None = None
    cpu_seconds: float = 0.0

    def try_provider(self, provider: Provider) -> tuple[Trial, dict[Path, Network]]:
        """Try a provider; where it works, its session comes along."""

        def outcome(state: str, reason: str, *figures: float) -> Trial:
            return Trial(provider.name, provider.ort_name, state, reason, *figures)

        if provider.gpu not in ("", "any", *find_gpus()):
            return outcome("no hardware", f"no {provider.gpu} GPU is seen"), {}
        if provider.ort_name not in compiled_providers():
            return outcome("not installed", f"needs the package {provider.package}"), {}
        options = provider_options(provider, self.n_threads, self.cache_dir, reduced_precision=self.reduced_precision)
        try:
            network = open_session(self.path, provider.ort_name, options, self.n_threads)
        except DeviceError as error:
            return outcome("fails", error.message), {}
        if self.expected is None:
            # The others are measured by the CPU provider: that it runs at all is its own proof.
            reference = network if provider.ort_name == CPU else open_session(self.path, CPU, {}, self.n_threads)
            self.expected, self.cpu_seconds = _timed_pass(reference)
        if provider.ort_name == CPU:
            return outcome("works", "", self.cpu_seconds), {self.path: network}
        return self._compare(network, outcome), {self.path: network}

    def _compare(self, network: Network, outcome: _Outcome) -> Trial:
        """Judge a provider by its answer on the probe's crop.

        Its speed is told, but decides nothing: on a busy machine the choice would differ from run to
        run, and with it the last digits of the results.
        """
        assert self.expected is not None
        try:
            _timed_pass(network)  # compiles for the shape
            found, seconds = _timed_pass(network)
        except ModelError as error:
            return outcome("fails", error.message)
        difference = difference_between(found, self.expected, network.facts, reduced_precision=self.reduced_precision)
        figures = f"{1000 * seconds:.0f} ms against {1000 * self.cpu_seconds:.0f} ms of the CPU provider"
        if not difference <= TOLERANCE:  # NaN included
            return outcome("fails", f"differs from the CPU provider by {difference:.2g}", seconds, difference)
        return outcome("works", f"{figures}, differing by {difference:.0e}", seconds, difference)


def difference_between(
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
    facts: NetworkFacts,
    *,
    reduced_precision: bool = False,
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


def _timed_pass(network: Network) -> tuple[NDArray[np.float32], float]:
    """Output on the probe's crop, and the seconds that it took."""
    declared = network.session.get_inputs()[0].shape
    shape = [n if isinstance(n, int) and n > 0 else PROBE_SIZE for n in declared]
    shape[:2] = [1, 1]
    crop = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    started = time.perf_counter()
    scores = network.run(crop)
    return scores, time.perf_counter() - started
