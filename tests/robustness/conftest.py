"""A dataset, a toy model, and an undisturbed run that all others are compared with."""

import pytest
from fast_app import write_card, write_dataset
from toy_runs import N_SUBJECTS, Place


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Nobody changes what lies there."""
    folder = tmp_path_factory.mktemp("robust")
    made = Place(write_dataset(folder / "bids", N_SUBJECTS), write_card(folder / "hub"), folder / "reference")
    done = made.run(made.reference)
    assert done.returncode == 0, done.stderr
    return made
