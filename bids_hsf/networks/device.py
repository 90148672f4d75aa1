"""Which execution provider runs the networks: probed, not assumed, and what is told of the choice."""

import logging
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bids_hsf.errors import DeviceError
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
from bids_hsf.networks.probing import Probe, ProviderTrial, untried
from bids_hsf.networks.providers import PROVIDERS, Provider, provider_options
from bids_hsf.networks.sessions import CPU, MemberFile, SessionSettings, member_file
from bids_hsf.text_table import near, text_table

logger = logging.getLogger(__name__)

TOY_NETWORK = Path(__file__).parents[1] / "data" / "probe.onnx"

HINT = "See `bids-hsf --device list`, or use --device auto"


@dataclass(frozen=True)
class Device:
    """An execution provider that has been seen to work: a value, which goes to other processes as it is.

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
    trials : tuple of ProviderTrial
        The whole decision, for the provenance.
    """

    name: str
    provider: str
    options: Mapping[str, str]
    n_threads: int
    reason: str = ""
    memory_bytes: int = field(default_factory=allowed_memory)
    trials: tuple[ProviderTrial, ...] = ()

    @property
    def session_settings(self) -> SessionSettings:
        """How the sessions on it are opened."""
        return SessionSettings(self.provider, self.options, self.n_threads)

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
    model: Path | MemberFile,
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
    model : Path or MemberFile
        First member of the ensemble; a `MemberFile` keeps the network that was opened for whoever opens it next.
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
    wanted_providers(request)
    conflict = build_conflict()
    if conflict:
        logger.warning("%s", conflict)
    probe = Probe(member_file(model), n_threads, cache_dir, reduced_precision=reduced_precision)
    trials, settings = _try_candidates(request, probe, f"{conflict} {HINT}" if conflict else HINT)
    chosen = trials[-1]
    return Device(
        name=chosen.name,
        provider=settings.provider,
        options=settings.options,
        n_threads=settings.n_threads,
        reason=_reason(request, chosen),
        memory_bytes=allowed_memory() if memory_bytes is None else memory_bytes,
        trials=tuple(trials),
    )


# What people call them by.
MEANT = {"gpu": "cuda", "nvidia": "cuda", "amd": "migraphx", "rocm": "migraphx", "mps": "coreml", "metal": "coreml"}


def wanted_providers(request: str) -> list[Provider]:
    """List the providers that a request stands for, the fastest first.

    Raises
    ------
    DeviceError
        It names one that nobody knows.
    """
    names = ["auto", *(provider.name for provider in PROVIDERS)]
    if request not in names:
        meant = f"Did you mean {MEANT[request.lower()]}? " if request.lower() in MEANT else near(request, names)
        raise DeviceError(f"--device {request}: expected {', '.join(names)}", f"{meant}{HINT}")
    return [each for each in PROVIDERS if each.name == request or (request == "auto" and each.automatic)]


def candidates(request: str) -> list[Provider]:
    """List the providers that could be tried for a request here, by hardware and builds; no network is opened.

    Raises
    ------
    DeviceError
        It names one that is unknown, or that could not be tried.
    """
    wanted = wanted_providers(request)
    trials = [untried(provider) for provider in wanted]
    if request != "auto" and trials[0].state != "not tried":
        conflict = build_conflict()
        raise DeviceError(
            f"--device {request}: {trials[0].state}: {trials[0].reason}", f"{conflict} {HINT}" if conflict else HINT
        )
    return [provider for provider, trial in zip(wanted, trials, strict=True) if trial.state == "not tried"]


def settings_to_try(
    request: str, n_threads: int, cache_dir: Path | None = None, *, reduced_precision: bool = False
) -> list[SessionSettings]:
    """Tell the sessions in which `choose_device` opens a network: those of the candidates, and the CPU provider's."""
    wanted = [provider for provider in wanted_providers(request) if untried(provider).state == "not tried"]
    tried = [
        SessionSettings(
            provider.ort_name,
            provider_options(provider, n_threads, cache_dir, reduced_precision=reduced_precision),
            n_threads,
        )
        for provider in wanted
    ]
    return (
        tried if any(settings.provider == CPU for settings in tried) else [*tried, SessionSettings(CPU, {}, n_threads)]
    )


def _try_candidates(request: str, probe: Probe, hint: str) -> tuple[list[ProviderTrial], SessionSettings]:
    """Try providers until one works; returns all trials, the last of which is of that one, and its settings."""
    trials = []
    for provider in wanted_providers(request):
        trial, settings = probe.try_provider(provider)
        release_memory()  # of the CPU provider's answer, and of what failed
        trials.append(trial)
        if settings is not None:
            if int8_feature() and not provider.gpu:
                logger.info("%s", _advice())
            return trials, settings
        if request == "auto":
            level = logging.WARNING if _could_be_had(trial) else logging.DEBUG
            logger.log(level, "--device auto leaves %s out: %s: %s", trial.name, trial.state, trial.reason)
    raise DeviceError(f"--device {request}: {trials[-1].state}: {trials[-1].reason}", hint)


def list_devices(model_path: Path | None = None, n_threads: int | None = None) -> tuple[ProviderTrial, ...]:
    """Try every known provider with a model, by default with a toy network of 3-D convolutions."""
    probe = Probe(MemberFile(model_path or TOY_NETWORK), n_threads or allowed_cores())
    return tuple(probe.try_provider(provider)[0] for provider in PROVIDERS)


def format_devices(model_path: Path | None = None) -> str:
    """Table of `list_devices`, with what else decides the speed on this machine."""
    rows = []
    for trial in list_devices(model_path):
        seconds = "" if trial.seconds is None else f"{1000 * trial.seconds:.1f} ms"
        rows.append((trial.name, trial.state, seconds, trial.reason))
    lines = text_table(("device", "state", "probe", "reason"), rows)
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


def _could_be_had(trial: ProviderTrial) -> bool:
    """Tell whether the user can do something about a provider that was left out."""
    if trial.state == "not installed" and trial.name == "openvino":
        return sys.platform == "linux" and platform.machine() == "x86_64"
    return trial.state != "no hardware"


def _reason(request: str, trial: ProviderTrial) -> str:
    """One line for the log on why a provider was taken."""
    asked = "usually the fastest that works" if request == "auto" else "asked for"
    return f"{asked}; {trial.reason}" if trial.reason else asked


def _advice() -> str:
    """Say what is faster on this CPU."""
    text = f"{int8_feature()}: the sq models (int8) run about twice as fast as the others here"
    return text + ("; --reduced-precision makes the others faster" if "AMX" in cpu_features() else "")
