"""A Slurm for these tests, started once a session; where there is none, they say why they are skipped."""

from collections.abc import Iterator

import pytest
from slurm import Slurm, running_slurm, why_not


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A cluster of one node with two cores."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
