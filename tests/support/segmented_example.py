"""The example dataset, segmented: what the fixtures of `conftest` give."""

from dataclasses import dataclass
from pathlib import Path

from example_data import DisturbedSubject

MODEL = "longaxis_single_fast"


@dataclass(frozen=True)
class Segmented:
    """A dataset and what the app made of it."""

    subject: DisturbedSubject
    bids_dir: Path
    output_dir: Path
    exit_code: int
