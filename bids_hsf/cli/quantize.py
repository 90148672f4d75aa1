"""``hsf-hub quantize``: an int8 twin of a float model, made and judged on scans of the user's own."""

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_hsf.cli.answers import Answer
from bids_hsf.errors import NoInputError, UsageError

if TYPE_CHECKING:
    from bids_hsf.segmentation.hippocampi import Crop
    from bids_hsf.segmentation.model import Model

logger = logging.getLogger(__name__)

TWIN_ENDING = "_int8"
LEAST_DICE = 0.98


def add_command(add: Callable[..., argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command, with what it takes, by `add`, which adds a command of a name."""
    parser = add("quantize", quantize_model, "make an int8 twin of a float model for this CPU")
    parser.add_argument("model", metavar="NAME|CARD.yaml", help="a float32 model")
    parser.add_argument(
        "--scans",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE",
        help="whole heads, NIfTI: their left hippocampi calibrate the twin, their right ones judge it",
    )
    parser.add_argument(
        "--dest", type=Path, metavar="DIR", help="hub folder for the twin and its card (default: first of BIDS_HSF_HUB)"
    )
    parser.add_argument("--nthreads", type=int, metavar="N", help="threads of the networks (default: all allowed)")
    return parser


def quantize_model(options: argparse.Namespace) -> Answer:
    """Make the int8 twin of a model."""
    from bids_hsf.hub.models import fetch, find_card
    from bids_hsf.hub.twin_card import write_twin_card
    from bids_hsf.segmentation.model import open_ensemble
    from bids_hsf.segmentation.model_check import time_pass
    from bids_hsf.segmentation.quantization import check_quantizable, compare, make_twin, network_inputs

    card = find_card(options.model, options.hub_dir)
    check_quantizable(card)
    folder = hub_folder(options.dest)
    ensemble = fetch(card, allow_http=options.allow_http)
    name = card.name + TWIN_ENDING
    files = [folder / name / f"{path.stem}{TWIN_ENDING}.onnx" for path in ensemble.member_paths]
    card_path = folder / f"{name}.yaml"
    with open_ensemble(ensemble, options.device, options.nthreads) as model:
        left, right = crops_of(options.scans, model)
        twins = []
        for number, (source, target) in enumerate(zip(ensemble.member_paths, files, strict=True), start=1):
            logger.info("network %d of %d: %s", number, len(files), target)
            twins.append(make_twin(source, target, network_inputs(left, card), model.device.session_settings))
        write_twin_card(card_path, card, name, files, "not judged yet")
        with open_ensemble(fetch(find_card(str(card_path))), options.device, options.nthreads) as twin:
            agreement = compare(right, model, twin)
            seconds = [time_pass(next(iter(each.members))) for each in (model, twin)]
            provider = twin.device.provider
    told = ", ".join(f"{label} {value:.3f}" for label, value in agreement.dice.items())
    speed = f"{seconds[0] / seconds[1]:.2f} times as fast ({provider}: {seconds[0]:.3f} and {seconds[1]:.3f} s a pass)"
    remark = f"Mean Dice with {card.name}, {agreement.n_crops} hippocampi that calibration did not see: {told}"
    write_twin_card(card_path, card, name, files, remark)
    lines = [f"{remark}.", f"Here it is {speed}.", f"Card: {card_path}", f"Use it: bids-hsf ... --model {card_path}"]
    if agreement.dice.get("whole", 0.0) < LEAST_DICE:
        lines.insert(1, f"This is less than {LEAST_DICE:g}: do not use it for more than a first look.")
    if any(each.in_float for each in twins):
        left_out = ", ".join(f"{len(each.in_float)} of {each.n_convolutions}" for each in twins)
        lines.insert(1, f"Convolutions left in float32, as they bear no rounding: {left_out}.")
    data = {"model": name, "card": card_path, "dice": agreement.dice, "crops": agreement.n_crops, "seconds": seconds}
    return Answer(data, "\n".join(lines))


def hub_folder(dest: Path | None) -> Path:
    """Folder of the user's own models: the one that was named, or the first of BIDS_HSF_HUB."""
    from bids_hsf.hub.models import HUB_VARIABLE

    stated = dest or next((Path(part) for part in os.environ.get(HUB_VARIABLE, "").split(os.pathsep) if part), None)
    if stated is None:
        raise UsageError("hsf-hub quantize: no folder for the twin", f"Give --dest DIR, or set {HUB_VARIABLE}.")
    return stated.expanduser().absolute()


def crops_of(scans: Sequence[Path], model: "Model") -> "tuple[list[Crop], list[Crop]]":
    """Cut the left and the right hippocampi out of scans, as a run would show them to the networks."""
    from bids_hsf.images import load_scan
    from bids_hsf.labels import HEMISPHERES
    from bids_hsf.localization.contrasts import AlignedScan
    from bids_hsf.localization.locate import locate
    from bids_hsf.segmentation.hippocampi import cut_crops
    from bids_hsf.segmentation.quantization import PLAIN

    sides: dict[str, list[Crop]] = {side: [] for side in HEMISPHERES}
    for path in scans:
        if not path.is_file():
            raise NoInputError(f"--scans {path}: no such file")
        loaded = load_scan(path)
        location = locate(loaded.data, loaded.grid)
        scan = AlignedScan(path.name, loaded.data, loaded.grid)
        for side, crops in sides.items():
            crops += cut_crops([scan], location, side, model, PLAIN)
    left, right = sides.values()
    return left, right
