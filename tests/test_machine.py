"""Cores, memory, instructions and builds, as other machines would show them."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bids_hsf import machine
from bids_hsf.errors import BidsHsfError
from bids_hsf.machine import check_threads, without_search_for_cycles

V2_ROOT_GROUP = "0::/job/task\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.mark.usefixtures("many_cores")
class TestAllowedCores:
    def test_affinity_alone(self, tmp_path):
        assert machine.allowed_cores(tmp_path, {}) == 64

    def test_quota_of_a_group_above_counts(self, tmp_path):
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": V2_ROOT_GROUP,
                "sys/fs/cgroup/job/cpu.max": "250000 100000\n",
                "sys/fs/cgroup/job/task/cpu.max": "max 100000\n",
            },
        )
        assert machine.allowed_cores(root, {}) == 3

    def test_cgroup_1_container_sees_its_group_as_the_mount(self, tmp_path):
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
        )
        assert machine.allowed_cores(root, {}) == 4

    def test_no_quota_in_cgroup_1(self, tmp_path):
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "5:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
        )
        assert machine.allowed_cores(root, {}) == 64

    @pytest.mark.parametrize("name", machine.SCHEDULER_CORES)
    def test_scheduler(self, tmp_path, name):
        assert machine.allowed_cores(tmp_path, {name: "6"}) == 6

    @pytest.mark.parametrize("text", ["", "4(x2)", "0"])
    def test_odd_scheduler_values_give_at_least_one_core(self, tmp_path, text):
        assert machine.allowed_cores(tmp_path, {"SLURM_CPUS_ON_NODE": text}) == (1 if text == "0" else 64)


def run_apart(code: str) -> None:
    """Run lines that change their process for good in one of their own; they can ask for its `resident()` bytes."""
    resident = "def resident():\n    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
    subprocess.run([sys.executable, "-c", resident + code], check=True)


class TestAllowedMemory:
    def test_least_of_all_limits(self, tmp_path):
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": V2_ROOT_GROUP,
                "sys/fs/cgroup/job/memory.max": f"{3 << 20}\n",
                "sys/fs/cgroup/job/task/memory.max": "max\n",
            },
        )
        assert machine.allowed_memory(root, {}) == 3 << 20
        assert machine.allowed_memory(root, {"SLURM_MEM_PER_NODE": "2"}) == 2 << 20
        assert machine.allowed_memory(root, {"SLURM_MEM_PER_CPU": "1", "SLURM_CPUS_ON_NODE": "2"}) == 2 << 20

    def test_slurm_zero_means_all_of_the_node(self, tmp_path):
        assert machine.allowed_memory(tmp_path, {"SLURM_MEM_PER_NODE": "0"}) == machine.allowed_memory(tmp_path, {})

    def test_no_limit_in_cgroup_1_is_a_huge_number(self, tmp_path):
        root = write(
            tmp_path,
            {"proc/self/cgroup": "2:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"},
        )
        assert machine.allowed_memory(root, {}) == machine.allowed_memory(tmp_path / "nothing", {})


class TestMachine:
    @pytest.mark.parametrize(
        ("flags", "features", "int8"),
        [
            ("fpu sse avx2 avx512f avx512_vnni", ("AVX512-VNNI", "AVX512", "AVX2"), "AVX512-VNNI"),
            ("avx2 amx_tile amx_int8 avx512_vnni", ("AMX", "AVX512-VNNI", "AVX2"), "AMX"),
            ("fpu avx2", ("AVX2",), None),
        ],
    )
    def test_cpu_features(self, tmp_path, flags, features, int8):
        root = write(tmp_path, {"proc/cpuinfo": f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n"})
        assert machine.cpu_features(root) == features
        assert machine.int8_feature(root) == int8

    def test_no_cpuinfo(self, tmp_path):
        assert machine.cpu_features(tmp_path) == ()

    def test_gpus(self, tmp_path):
        assert machine.find_gpus(tmp_path) == ()
        root = write(tmp_path, {"dev/nvidia0": "", "sys/class/drm/card0/device/vendor": "0x8086\n", "dev/kfd": ""})
        assert machine.find_gpus(root) == ("AMD", "Intel", "NVIDIA")

    def test_released_memory_goes_back_to_the_system(self):
        """What many small objects leave behind is not in one piece, so that only the C library can give it back."""
        code = (
            "from bids_hsf.machine import release_memory\n"
            "many = [bytes(100_000) for _ in range(1000)]\n"
            "last = bytes(100_000)\n"
            "del many\n"
            "before = resident()\n"
            "release_memory()\n"
            "assert before - resident() > 50e6\n"
        )
        run_apart(code)

    def test_large_arrays_go_back_to_the_system_when_they_are_freed(self):
        """The first one that is freed would raise the C library's threshold, and all that follow would be kept."""
        code = (
            "from bids_hsf.machine import return_large_arrays\n"
            "return_large_arrays()\n"
            "before = resident()\n"
            "bytearray(40_000_000)\n"
            "many = [(bytearray(17_000_000), bytearray(50_000)) for _ in range(20)]\n"
            "small = [pair[1] for pair in many]\n"
            "assert resident() - before > 300e6\n"
            "del many\n"
            "assert resident() - before < 20e6\n"
        )
        run_apart(code)

    def test_arrays_take_the_pages_that_are_written_to(self):
        code = (
            "from bids_hsf.machine import keep_numpy_small\n"
            "keep_numpy_small()\n"
            "import numpy as np\n"
            "zeros, before = np.zeros(100_000_000, np.uint8), resident()\n"
            "zeros[::2_000_000] = 1\n"
            "assert resident() - before < 10e6\n"
        )
        run_apart(code)

    def test_linear_algebra_starts_no_threads(self):
        code = (
            "import os\n"
            "from bids_hsf.machine import keep_numpy_small\n"
            "keep_numpy_small()\n"
            "import numpy as np, scipy.linalg\n"
            "np.ones((900, 900)) @ np.ones((900, 900))\n"
            "assert len(os.listdir('/proc/self/task')) == 1\n"
        )
        run_apart(code)

    def test_imports_are_hardly_searched_for_cycles(self):
        code = (
            "import gc\n"
            "from bids_hsf.machine import search_rarely_for_cycles\n"
            "search_rarely_for_cycles()\n"
            "before = sum(each['collections'] for each in gc.get_stats())\n"
            "import bids_hsf.workflow\n"
            "assert sum(each['collections'] for each in gc.get_stats()) - before < 20\n"  # by itself 300
            "before = len(gc.get_objects())\n"
            "for _ in range(100_000):\n"
            "    ring = [[]]\n"
            "    ring[0].append(ring)\n"
            "assert len(gc.get_objects()) - before < 50_000\n"  # what goes round in circles still goes, of 200,000
        )
        run_apart(code)

    @pytest.mark.parametrize("name", ["NUMPY_MADVISE_HUGEPAGE", "OPENBLAS_NUM_THREADS"])
    def test_numpy_is_as_the_user_wants_it(self, monkeypatch, name):
        monkeypatch.setenv(name, "7")
        machine.keep_numpy_small()
        assert os.environ[name] == "7"

    def test_installed_build_is_found(self):
        builds = machine.runtime_builds()
        assert len(builds) == 1


def test_threads_that_the_system_does_not_start_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_threads(3)
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_two(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(BidsHsfError, match="starts no further process or thread"):
        check_threads(3)
    assert not any(thread.is_alive() for thread in started)


def test_the_search_for_cycles_is_taken_up_again_whatever_happens() -> None:
    with pytest.raises(ValueError, match="stop"), without_search_for_cycles():
        assert not gc.isenabled()
        raise ValueError("stop")
    assert gc.isenabled()
    gc.disable()
    try:
        with without_search_for_cycles():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
