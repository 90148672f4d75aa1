"""Try a model card and its files, step by step, before it goes into a hub.

Each step gives one finding; the first one that fails ends the trial of that model. The crop is made up, so nothing is
said on how well a model segments: that is what `evaluation` is for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_hsf.errors import BidsHsfError, ModelError
from bids_hsf.hub.cards import ModelCard, load_cards
from bids_hsf.hub.download import UnreachableError
from bids_hsf.hub.models import Ensemble, fetch, is_packaged
from bids_hsf.labels import COORDINATES
from bids_hsf.networks.predictor import OnnxPredictor
from bids_hsf.segmentation.card_draft import unfilled
from bids_hsf.segmentation.coordinates import CoordinatesNetwork, coordinates_of
from bids_hsf.segmentation.model import open_ensemble

Field = NDArray[np.float32]

TIMED_SHAPE = (48, 64, 56)

ODD_SHAPE = (37, 50, 43)

SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Finding:
    """Outcome of one step.

    Attributes
    ----------
    model : str
    step : str
    passed : bool
    detail : str
        What was seen, or what is wrong.
    """

    model: str
    step: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Trial:
    """All findings on a card file.

    Attributes
    ----------
    findings : tuple of Finding
    table_line : str
        For the pull request; empty where a step failed.
    """

    findings: tuple[Finding, ...]
    table_line: str

    @property
    def passed(self) -> bool:
        """Whether every step of every model passed."""
        return all(finding.passed for finding in self.findings)


def check_card(path: Path, device: str, fetch_card: Callable[[ModelCard], Ensemble] = fetch) -> Trial:
    """Check a card file: its schema, then every model's files and how they run.

    Parameters
    ----------
    path : Path
    device : str
        As for ``--device``.
    fetch_card : callable
        `hub.fetch`, with the caller's cache folder and permissions.
    """
    try:
        cards = load_cards(path)
    except BidsHsfError as error:
        return Trial((Finding("", "card", False, _told(error)),), "")
    findings = [Finding("", "card", True, f"{len(cards)} model(s): {', '.join(card.name for card in cards)}")]
    to_do = sorted({name for card in cards for name in unfilled(card)})
    if to_do:
        findings.append(Finding("", "card", False, f"still to be filled in: {', '.join(to_do)}"))
    seconds: dict[tuple[Path, ...], float] = {}
    lines = []
    for card in cards:
        ensemble = Ensemble(card, ())
        try:
            ensemble = fetch_card(card)
            findings.append(Finding(card.name, "files", True, _describe_files(ensemble)))
        except BidsHsfError as error:
            findings.append(Finding(card.name, "files", False, _told(error)))
            if isinstance(error, UnreachableError):  # each further model would wait as long
                break
            continue
        if ensemble.member_paths not in seconds:  # the fast and the accurate model have the same files
            steps, seconds[ensemble.member_paths] = _run(ensemble, device)
            findings += steps
        lines.append(table_line(card, seconds[ensemble.member_paths]))
    passed = all(finding.passed for finding in findings)
    return Trial(tuple(findings), "\n".join(lines) if passed else "")


def table_line(card: ModelCard, seconds_per_pass: float) -> str:
    """One line of the Markdown table of models in models_hub/README.md."""
    labels = ", ".join(label.abbreviation for label in card.labels)
    voxels = "native" if card.voxel_size_mm is None else f"{card.voxel_size_mm:g} mm"
    passes = f"{len(card.members)} x {1 + card.n_augmentations}"
    cells = (card.name, labels, ", ".join(card.contrasts), voxels, passes, f"{seconds_per_pass:.2f} s", card.license)
    return f"| {' | '.join(cells)} |"


def _run(ensemble: Ensemble, device_name: str) -> tuple[list[Finding], float]:
    """Load and run every member until a step fails; returns the findings and the seconds of a pass."""
    checks: dict[str, Callable[[OnnxPredictor], str]] = {
        "load": OnnxPredictor.describe,
        "probabilities": check_probabilities,
        "flip": check_flip,
    }
    name, seconds, step = ensemble.card.name, float("nan"), "load"
    answers: dict[str, dict[str, None]] = {each: {} for each in checks}  # ordered, each answer once
    failure: list[Finding] = []
    try:
        with open_ensemble(ensemble, device_name) as model:
            for network in model.members:
                for step, check in checks.items():
                    answers[step][check(network)] = None
            step = "time"
            seconds = time_pass(next(iter(model.members)))
            if ensemble.card.coordinates is not None:
                step = "coordinates"
                answers[step] = {check_coordinates(ensemble.card, model.device.n_threads): None}
        shape = "x".join(map(str, TIMED_SHAPE))
        device = model.device
        timed = f"{seconds:.2f} s a pass of {shape} voxels on {device.provider}, {device.n_threads} thread(s)"
        answers["time"] = {timed: None}
    except BidsHsfError as error:
        failure = [Finding(name, step, False, _told(error))]
        answers = dict(takewhile(lambda item: item[0] != step, answers.items()))
    return [Finding(name, each, True, "; ".join(told)) for each, told in answers.items()] + failure, seconds


def check_probabilities(predictor: OnnxPredictor) -> str:
    """Run crops of two shapes; what comes out must be what the card says, for every shape.

    Raises
    ------
    ModelError
        If the card says probabilities and they are none.
    """
    worst = 0.0
    for shape in (TIMED_SHAPE, ODD_SHAPE):
        probabilities = predictor(made_up_crop(shape))
        if predictor.softmax_forced:
            raise ModelError("the card says probabilities, but the output does not sum to 1: write `output: logits`")
        worst = max(worst, float(np.abs(probabilities.sum(axis=0) - 1).max()))
    if worst > SUM_TOLERANCE:
        raise ModelError(f"probabilities miss a sum of 1 by {worst:.2g}")
    return f"sum to 1 within {worst:.0e} at {len((TIMED_SHAPE, ODD_SHAPE))} shapes"


def check_flip(predictor: OnnxPredictor) -> str:
    """Compare a crop with its mirror image: left and right share the network, so both must work alike."""
    crop = made_up_crop(TIMED_SHAPE)
    plain = predictor(crop).argmax(axis=0)
    mirrored = predictor(np.ascontiguousarray(crop[::-1])).argmax(axis=0)[::-1]
    return f"{(plain == mirrored).mean():.1%} of voxels of a made-up crop keep their label when it is mirrored"


def check_coordinates(card: ModelCard, n_threads: int) -> str:
    """Run the network that tells coordinates on made-up labels of two shapes."""
    network = CoordinatesNetwork(card, n_threads)
    for shape in (TIMED_SHAPE, ODD_SHAPE):
        body = made_up_crop(shape) / 200
        labels = np.stack([1 - body, *[body / len(card.labels)] * len(card.labels)])
        network(np.asarray(labels, dtype=np.float32))
    names = ", ".join(label.abbreviation for label in card.labels if label.index in coordinates_of(card).labels)
    return f"{', '.join(COORDINATES)} from 0 to 1, of {names}"


def time_pass(predictor: OnnxPredictor) -> float:
    """Seconds of one pass of a warm network on a crop of usual size: the best of three."""
    crop = made_up_crop(TIMED_SHAPE)
    predictor(crop)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        predictor(crop)
        times.append(time.perf_counter() - began)
    return min(times)


def made_up_crop(shape: tuple[int, int, int]) -> Field:
    """Smooth random intensities (X, Y, Z) with a bright body in the middle; always the same."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    body = np.exp(-sum((axis / width) ** 2 for axis, width in zip(axes, (0.4, 0.7, 0.5), strict=True)))
    return np.asarray(100 + 40 * texture / texture.std() + 120 * body, dtype=np.float32)


def _describe_files(ensemble: Ensemble) -> str:
    """Count the files, and say so where others could not have them from the card."""
    size = sum(path.stat().st_size for path in ensemble.member_paths)
    schemes = {member.source.partition(":")[0] for member in ensemble.card.files if not is_packaged(member)}
    remark = ""
    if "file" in schemes:
        remark = "; file:// addresses work on this machine only"
    elif "http" in schemes:
        remark = "; http:// addresses are taken only with --allow-http: others need https://"
    return f"{len(ensemble.member_paths)} file(s), {size / 1e6:.1f} MB, checksums right{remark}"


def _told(error: BidsHsfError) -> str:
    """Put an error and its hint on one line."""
    end = "" if error.message.endswith("?") else "."
    return f"{error.message}{end} {error.hint}" if error.hint else error.message
