"""What this machine has, and how much of it this process may use: facts only, no choices.

Every function takes the root of the file system (and the environment) that it reads, so that tests
can show it other machines.
"""

import atexit
import ctypes
import errno
import gc
import math
import os
import resource
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from bids_hsf.errors import BidsHsfError

ROOT = Path("/")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
NEW_OBJECTS = 20_000  # after which Python looks for cycles among them; by itself it does after 700
UNLIMITED = 1 << 60  # bytes; cgroup v1 writes "no limit" as a number near 2**63

# All of them provide a package of the one name "onnxruntime", so they overwrite each other's files.
RUNTIME_BUILDS = (
    "onnxruntime",
    "onnxruntime-openvino",
    "onnxruntime-gpu",
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-training",
    "ort-nightly",
)

RUNTIME_PLUGINS = (
    "onnxruntime-ep-openvino",
    "onnxruntime-ep-nv-tensorrt-rtx-cu12",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
)

# Cores that a scheduler granted to this task: Slurm, SGE, PBS Pro, Torque, LSF.
SCHEDULER_CORES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "NSLOTS", "NCPUS", "PBS_NUM_PPN", "LSB_DJOB_NUMPROC")

INT8_FLAGS = {"amx_int8": "AMX", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}

VECTOR_FLAGS = {"avx512f": "AVX512", "avx2": "AVX2"}

GPU_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


def allowed_cores(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Cores that this process may use: affinity, cgroup quota and job scheduler, whichever is least."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    limits += [math.ceil(quota) for quota in _cgroup_core_quotas(root)]
    limits += [int(environ[name]) for name in SCHEDULER_CORES if environ.get(name, "").isdigit()]
    return max(1, min(limits))


def allowed_memory(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Bytes that this process may use: RAM, cgroup, ulimit and job scheduler, whichever is least.

    What other processes take at the moment is left out on purpose: a decision that rests on this
    number is the same tomorrow.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limits += _cgroup_numbers(root, "memory", ("memory.max", "memory.limit_in_bytes"))
    limits += [soft for soft, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA)) if soft >= 0]
    limits += _slurm_memory(environ)
    return min(limit for limit in limits if limit < UNLIMITED)


def cpu_features(root: Path = ROOT) -> tuple[str, ...]:
    """Vector and matrix instructions of the CPU that networks profit from, the widest first.

    Empty where the system has no /proc/cpuinfo (macOS, Windows).
    """
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    flags = set(line.partition(":")[2].split())
    return tuple(name for flag, name in (INT8_FLAGS | VECTOR_FLAGS).items() if flag in flags)


def int8_feature(root: Path = ROOT) -> str | None:
    """Instruction set that makes int8 networks faster than float32 ones, None without one."""
    return next((name for name in cpu_features(root) if name in INT8_FLAGS.values()), None)


def find_gpus(root: Path = ROOT) -> tuple[str, ...]:
    """Vendors of the graphics processors that this process can see: "NVIDIA", "AMD", "Intel", "Apple"."""
    vendors = {_read(path) for path in sorted((root / "sys/class/drm").glob("card*/device/vendor"))}
    found = {GPU_VENDORS[vendor] for vendor in vendors if vendor in GPU_VENDORS}
    # Containers are given device files, and often no /sys/class/drm.
    if list((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists():
        found.add("NVIDIA")
    if (root / "dev/kfd").exists():
        found.add("AMD")
    if (root / "System/Library/Frameworks/Metal.framework").exists() and os.uname().machine == "arm64":
        found.add("Apple")
    return tuple(sorted(found))


def runtime_builds(names: tuple[str, ...] = RUNTIME_BUILDS) -> dict[str, str]:
    """Installed packages among `names`, with their versions."""
    builds = {}
    for name in names:
        try:
            builds[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return builds


def return_large_arrays() -> None:
    """Let the C library give arrays of 8 MB and more back the moment they are freed, in this process.

    GNU's keeps what was once freed for the next array of that size, and for each thread apart: some 100 MB after a
    scan. Smaller arrays stay, as getting each anew from the system would cost more time than it saves memory. Once
    told the one threshold, the library no longer adapts the other, above which it gives back what lies free at the
    top: at its 128 KB a registration takes twice as long.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, 8 << 20)
            library.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


# Asked when NumPy is imported. By itself it takes pages of 2 MB, so that a map of a whole scan, zero but for the
# hippocampi, has a third of its size instead of a tenth; and its linear algebra, like SciPy's, starts a thread a core,
# which spins for a tenth of a second at the start and behind each larger product, on cores that others work on.
_NUMPY_SETTINGS = {
    "NUMPY_MADVISE_HUGEPAGE": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


def keep_numpy_small() -> None:
    """Let arrays take the pages that are written to and no more, and linear algebra one thread.

    In this process, where NumPy is not imported yet, and in those that it starts, unless the user wants it otherwise.
    """
    for name, value in _NUMPY_SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def without_search_for_cycles() -> Iterator[None]:
    """Let Python look for no cycles among objects meanwhile: in a hundred thousand rows that costs a twentieth more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def search_rarely_for_cycles() -> None:
    """Let Python look for cycles less often, and not at its end, when all objects go anyway.

    Hundreds of modules are looked through again and again while they are imported, which takes a tenth of a second,
    and once more at the end, which takes a sixth.
    """
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)


def release_memory() -> None:
    """Give memory that is free inside this process back to the system; a few milliseconds.

    The C library keeps what networks and registrations have freed: some 100 MB in a scan's time.
    """
    # Other C libraries than GNU's have no such function, and no such habit.
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _cgroup_core_quotas(root: Path) -> Iterator[float]:
    """Cores by each CPU quota above this process: cgroup v2 "max period", cgroup v1 in two files."""
    for folder in _cgroup_folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            yield int(quota) / int(period)


def _cgroup_numbers(root: Path, controller: str, names: tuple[str, ...]) -> list[int]:
    """Numbers in the files `names` of all groups above this process; "max" and missing ones left out."""
    texts = [_read(folder / name) for folder in _cgroup_folders(root, controller) for name in names]
    return [int(text) for text in texts if text.isdigit()]


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, for versions 1, 2 and both mounted at once.

    A container may see its own group as the mount's root while /proc still names the host's path:
    each parent up to the mount is therefore looked at, and missing ones are passed over.
    """
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts = [base, base / "unified"]
        elif controller in controllers.split(","):
            mounts = [base / controllers, base / controller]
        else:
            continue
        relative = Path(path.lstrip("/"))
        yield from (mount / part for mount in mounts for part in (relative, *relative.parents))


def _slurm_memory(environ: Mapping[str, str]) -> list[int]:
    """Bytes that Slurm granted on this node; its variables are in MB."""
    per_node, per_core = environ.get("SLURM_MEM_PER_NODE", ""), environ.get("SLURM_MEM_PER_CPU", "")
    cores = environ.get("SLURM_CPUS_ON_NODE", "1")
    limits = [int(per_node) << 20] if per_node.isdigit() and int(per_node) > 0 else []
    if per_core.isdigit() and cores.isdigit():
        limits.append(int(per_core) * int(cores) << 20)
    return limits


def _read(path: Path) -> str:
    """Text of a small system file without its last newline, "" where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def no_more_threads(error: BaseException) -> BidsHsfError | None:
    """Say an error in words where it means that the system starts no further process or thread; None for others."""
    is_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    is_process = isinstance(error, OSError) and error.errno == errno.EAGAIN
    if not (is_thread or is_process):
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    told = "" if limit == resource.RLIM_INFINITY else f"; this user may have {limit} of them"
    return BidsHsfError(
        f"The system starts no further process or thread{told}",
        "Lower --nthreads, or raise the limit (ulimit -u, or that of the container).",
    )


def check_threads(count: int) -> None:
    """Make sure that a number of threads can be started, before libraries do so that end the process without a word.

    Raises
    ------
    BidsHsfError
        The system starts fewer.
    """
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError as error:
        raise no_more_threads(error) or error from error
    finally:
        done.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
