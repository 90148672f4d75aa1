"""How many scans run at once, and with how many threads each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_hsf.errors import UsageError
from bids_hsf.runs.config import Resources
from bids_hsf.runs.scheduling import share_cores


@pytest.mark.parametrize(
    ("fixed", "n_tasks", "allowed", "expected"),
    [
        (Resources(), 1, 1, (1, 1)),
        (Resources(), 1, 16, (1, 4)),
        (Resources(), 3, 16, (3, 4)),
        (Resources(), 10, 16, (10, 1)),
        (Resources(), 100, 2, (2, 1)),
        (Resources(nthreads=8), 100, 16, (8, 1)),
        (Resources(nthreads=64), 100, 16, (16, 1)),
        (Resources(nprocs=16), 100, 16, (16, 1)),
        (Resources(omp_nthreads=8), 100, 16, (2, 8)),
        (Resources(omp_nthreads=8), 1, 16, (1, 8)),
        (Resources(nprocs=2, omp_nthreads=3), 100, 16, (2, 3)),
        (Resources(mem_mb=4000), 100, 64, (2, 4)),
        (Resources(mem_mb=16000), 100, 16, (10, 1)),
        (Resources(mem_mb=100), 100, 64, (1, 4)),
    ],
)
def test_cores_are_shared(fixed: Resources, n_tasks: int, allowed: int, expected: tuple[int, int]) -> None:
    assert share_cores(fixed, n_tasks, allowed) == expected


def test_memory_of_the_machine_limits_the_scans_at_once() -> None:
    assert share_cores(Resources(), 100, 64, 4000 << 20) == (2, 4)
    assert share_cores(Resources(mem_mb=80000), 100, 64, 4000 << 20) == (53, 1)
    assert share_cores(Resources(nprocs=8), 100, 64, 4000 << 20) == (8, 8)
    assert share_cores(Resources(), 100, 64, 4000 << 20, scan_mb=600) == (6, 4)
    assert share_cores(Resources(), 100, 64, 4000 << 20, scan_mb=5000) == (1, 4)


@pytest.mark.parametrize("fixed", [Resources(nprocs=4, omp_nthreads=5), Resources(nthreads=2, omp_nthreads=3)])
def test_contradicting_numbers_are_refused(fixed: Resources) -> None:
    with pytest.raises(UsageError, match="exceeds"):
        share_cores(fixed, 10, 16)


numbers = st.none() | st.integers(1, 64)


resources = st.builds(Resources, nthreads=numbers, nprocs=numbers, omp_nthreads=numbers)


@given(resources, st.integers(1, 99), st.integers(1, 128))
def test_never_more_threads_than_cores(fixed: Resources, n_tasks: int, allowed: int) -> None:
    try:
        n_processes, n_threads = share_cores(fixed, n_tasks, allowed)
    except UsageError:
        return
    assert 1 <= n_processes * n_threads <= min(fixed.nthreads or allowed, allowed)
    assert n_threads == (fixed.omp_nthreads or n_threads)
