"""What a run did, with what, and at what cost: everything that may differ between equal runs."""

import importlib.metadata
import logging
import os
import platform
import resource
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from bids_hsf import __version__
from bids_hsf.bids.provenance import KnownFile, Provenance, describe_file, is_other
from bids_hsf.files import private_folder
from bids_hsf.networks.device import Device
from bids_hsf.runs.config import Config

logger = logging.getLogger(__name__)

PACKAGES = ("numpy", "nibabel", "scipy", "SimpleITK", "pybids")
TORCHIO = ("torchio", "torch")  # place views that are drawn one by one

COMPILED = "compiled"  # in the work folder

RUNTIMES = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu")


class Clock:
    """Seconds of wall time by stage, told in the log as they pass.

    Parameters
    ----------
    key : str
        Name of the scan.
    """

    def __init__(self, key: str = "") -> None:
        self.key = key
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        logger.debug("%s: %s ...", self.key, name)
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            logger.debug("%s: %s took %.1f s", self.key, name, seconds)


def describe_inputs(paths: Mapping[str, Path]) -> list[KnownFile]:
    """Tell the images of a scan from others that may take their places, by size, time and checksum.

    Of those that cannot be read nothing is told: whoever loads them says why.

    Parameters
    ----------
    paths : mapping of str to Path
        Path from the root of the raw dataset to where the image lies.
    """
    described = []
    for name, path in paths.items():
        with suppress(OSError):
            if stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
                described.append(describe_file(name, path))
    return described


def replaced_inputs(inputs: Sequence[KnownFile], paths: Mapping[str, Path]) -> list[str]:
    """Names of images that are not those which `describe_inputs` has described.

    The checksum decides, but is taken only where size or time differ: DataLad changes times alone. Of an image
    that is not there now, or of which older versions have recorded nothing, nothing can be said.
    """
    return [known.path for known in inputs if known.path in paths and _is_other(paths[known.path], known)]


def _is_other(path: Path, known: KnownFile) -> bool:
    try:
        return is_other(path, known)
    except OSError:
        return False


def record(
    request: Mapping[str, Any],
    inputs: Sequence[KnownFile],
    outputs: Sequence[KnownFile],
    device: Device,
    config: Config,
    clock: Clock,
) -> Provenance:
    """Provenance of one scan, to be written to ``logs/``."""
    return Provenance(
        request=request,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        app={"Name": "bids-hsf", "Version": __version__, "Python": platform.python_version()},
        packages=package_versions(request.get("Sampling")),
        device=device.as_record(),
        host={"System": platform.platform(), "Machine": platform.machine(), "Cores": os.cpu_count()},
        command=tuple(config.command),
        container=os.environ.get("BIDS_HSF_CONTAINER"),
        seconds={name: round(seconds, 2) for name, seconds in clock.seconds.items()},
        peak_memory_mb=peak_memory_mb(),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def package_versions(sampling: str | None) -> dict[str, str]:
    """Versions of the packages that the numbers depend on, with views sampled like this, or without any."""
    versions = {}
    for name in (*PACKAGES, *(TORCHIO if sampling == "random" else ()), *RUNTIMES):
        version = _version(name)
        if version is not None:
            versions[name] = version
    return versions


@cache
def _version(package: str) -> str | None:
    """Version of a package, or None where it is not installed: each scan asks, and the environment is searched."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_memory_mb() -> int:
    """Largest resident set of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2))


def default_work_dir(output_dir: Path) -> Path:
    """Name a folder of this user's own in $TMPDIR where that is writable, else a hidden one of the output."""
    temporary = os.environ.get("TMPDIR")
    if temporary and Path(temporary).is_dir() and os.access(temporary, os.W_OK):
        private = private_folder(Path(temporary))
        if private is not None:
            return private
    return output_dir / ".work"


def remove_compiled(work_dir: Path) -> None:
    """Remove what earlier runs have compiled for a device; what others put there, and downloaded models, stay."""
    with suppress(OSError):
        shutil.rmtree(work_dir / COMPILED)


def keep_caches_out_of_the_way(work_dir: Path) -> None:
    """Point libraries that insist on a cache folder to the work folder, before they are imported.

    In containers there is often no home, or one that cannot be written; no folder is made here.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(work_dir / "matplotlib"))
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - pathlib raises
        # Neither HOME nor an entry in passwd, as in Kubernetes or OpenShift: pybids asks for it when it is imported.
        os.environ["HOME"] = str(work_dir / "home")
    home = Path(os.environ.get("HOME") or "/nonexistent")
    if not (home.is_dir() and os.access(home, os.W_OK)):
        os.environ.setdefault("XDG_CACHE_HOME", str(work_dir / "cache"))
        os.environ.setdefault("XDG_CONFIG_HOME", str(work_dir / "config"))
