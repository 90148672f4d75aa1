"""Are poor results told from good ones? Spoilt scans of known truth, from every brain at hand.

    python tests/benchmarks/failures.py [--heads DIR] [--contexts DIR] [--crops DIR] [--keep FILE] [--fit [CARD]]

Brains: the example dataset's T1w and T2w; further whole heads (NIfTI files of a folder); synthetic images of whole-head
label maps with FreeSurfer's numbers (hippocampus 17 and 53); ready-made crops of one hippocampus with manual labels
(DIR/images, DIR/labels). The truth of heads and synthetic images is the plain result on the unspoilt image, of crops
the manual labels. Each is spoilt in the ways of `spoilt.py`.

Prints, a model: of results with a Dice below 0.7 the share that is flagged (a finding of weight check or fail), of
those with 0.85 and more the share that is flagged by mistake, the area under the ROC curve of the joint score
(predicted Dice, less what findings weigh), and Spearman's rank correlation of predicted and true Dice; and every result
that was flagged wrongly. With --fit the weights of the card's `predicted_dice` are learnt anew: the figures are then
those of brains that were held out, and the weights learnt from all are printed as YAML. What the card's own weights say
is in the findings either way. --keep FILE goes on where an interrupted run ended; to learn from a whole one takes
seconds.

A family whose networks have changed is learnt anew by one command, from the example brains and some crops; it writes
both lines, `predicted_dice` and `structure_dice`, into the card, in some 10 minutes on a quiet machine:

    python tests/benchmarks/failures.py --model subfields_single_fast --crops DIR --every 25 --keep FILE \\
        --fit models_hub/subfields.yaml

Flags are those of the card as it was before; the same line without --fit and with another FILE tells the new ones.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from brains import Brain, of_side
from numpy.typing import NDArray
from scipy import ndimage, optimize, stats
from spoilt import SPOILS, UNTOLD, spoilt

from bids_hsf.api import open_model
from bids_hsf.errors import BidsHsfError
from bids_hsf.findings import flags
from bids_hsf.images import LoadedScan, take_scan
from bids_hsf.labels import RIGHT_OFFSET, hemisphere_offset
from bids_hsf.localization.contrasts import AlignedScan, HeadScan, LocatedScans, locate_head
from bids_hsf.segmentation.evaluation import dice, isotropic_grid
from bids_hsf.segmentation.hippocampi import Hippocampi, Hippocampus, join_sides, segment, segment_crop
from bids_hsf.segmentation.measures import SideMeasures
from bids_hsf.segmentation.model import DEFAULTS, Model
from bids_hsf.segmentation.predicted_dice import regressors
from bids_hsf.segmentation.presence import Look
from bids_hsf.segmentation.quality import Quality, confirmed, judge

BIDS_DIR = Path(__file__).parents[1] / "data" / "bids"
POOR, GOOD = 0.7, 0.85
# What findings take from the predicted Dice, to rank results by both.
COSTS = {"check": 0.3, "fail": 0.6}
# Grey levels of tissues in T1w, by FreeSurfer's numbers on the left; what lies beyond is drawn by lot.
TISSUES = {0: 0.05, 2: 1.0, 3: 0.72, 4: 0.28, 5: 0.3, 7: 0.98, 8: 0.72, 10: 0.85, 11: 0.74, 12: 0.76, 13: 0.95}
TISSUES |= {14: 0.28, 15: 0.28, 16: 0.95, 17: 0.7, 18: 0.7, 24: 0.25, 26: 0.74, 28: 0.92, 85: 0.8}
RIGHT_OF = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28}


@dataclass(frozen=True)
class Row:
    """One hippocampus of one image, by one model; `measures` and all that is `said` serve to try other thresholds."""

    model: str
    brain: str
    group: str
    spoil: str
    side: str
    dice: float
    codes: tuple[str, ...]
    worst: str
    predicted: float
    figures: dict[str, float]
    structures: dict[str, dict[str, float]]
    measures: dict[str, Any] = field(default_factory=dict)
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_flagged(self) -> bool:
        return self.worst in COSTS


def canonical(path: Path) -> tuple[NDArray, NDArray]:
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def heads(folder: Path | None) -> Iterator[Brain]:
    """Whole heads, whose truth is still to be made."""
    for path in sorted(BIDS_DIR.glob("sub-*/anat/*_T[12]w.nii.gz")) + sorted(
        (folder or BIDS_DIR / "none").glob("*.nii*")
    ):
        data, affine = canonical(path)
        contrast = "T2w" if path.name.endswith("_T2w.nii.gz") else "T1w"
        yield Brain(path.name, path.name.split("_")[0], contrast, data, affine, np.zeros(data.shape, np.int16))


def synthetic(folder: Path, every: int) -> Iterator[Brain]:
    """T1w images of label maps: grey levels, clouds, blur, noise."""
    for number, path in enumerate(sorted(folder.glob("*.nii*"))[::every]):
        labels, affine = canonical(path)
        labels, rng = labels.astype(int), np.random.default_rng(number)
        levels = rng.uniform(0.1, 0.9, labels.max() + 1)
        for value in np.unique(labels).tolist():
            known = TISSUES.get(RIGHT_OF.get(value, value))
            levels[value] = levels[value] if known is None else known + rng.normal(0, 0.02)
        clouds = ndimage.gaussian_filter(rng.normal(0, 1, labels.shape), 5)
        data = ndimage.gaussian_filter(levels[labels] + 0.03 * clouds / clouds.std(), 0.55)
        data = 1000 * np.clip(data + rng.normal(0, 0.03, labels.shape), 0, None)
        truth = np.where(labels == 17, 1, np.where(labels == 53, 101, 0)).astype(np.int16)
        yield Brain(path.name, path.name, "T1w", data.astype(np.float32), affine, truth)


def crops(folder: Path, every: int) -> Iterator[Brain]:
    """Crops of one hippocampus with manual labels."""
    for path in sorted((folder / "images").glob("*.nii*"))[::every]:
        (data, affine), (labels, _) = canonical(path), canonical(folder / "labels" / path.name)
        yield Brain(path.name, path.name, "T1w", data, affine, labels.astype(np.int16))


def loaded(brain: Brain) -> LoadedScan:
    return take_scan(nib.Nifti1Image(brain.data, brain.affine))


def located(brain: Brain) -> tuple[LoadedScan, LocatedScans]:
    scan = loaded(brain)
    return scan, locate_head(HeadScan(f"{brain.name}_{brain.contrast}", scan.data, scan.grid, brain.contrast))


def rows_of(name: str, brain: Brain, spoil: str, found: Hippocampi, told: tuple[Quality, tuple]) -> Iterator[Row]:
    """Compare what was found with the truth, and with what is said of it."""
    quality, others = told
    for side in found.sides:
        hemisphere = side.hemisphere
        said = [each for each in (*quality.findings, *others) if each.hemisphere in (None, hemisphere)]
        flagged = flags(said)
        yield Row(
            name,
            brain.name,
            brain.group,
            spoil,
            hemisphere,
            true_dice(found, brain, hemisphere),
            tuple(dict.fromkeys(each.code for each in flagged)),
            str(flagged[0].weight) if flagged else "none",
            quality.predicted_dice.get(hemisphere, float("nan")),
            regressors(quality.measures[hemisphere]),
            dict(structures_of(brain, found, side, quality.structure_dice)),
            asdict(quality.measures[hemisphere]),
            [asdict(each) for each in said],
        )


def true_dice(found: Hippocampi, brain: Brain, side: str) -> float:
    """Dice of a whole hippocampus with the truth, of which a part may lie beyond the field of view."""
    own, true = of_side(found.label_map, side), brain.mask(side)
    size = own.sum() + true.sum() + brain.beyond[side == "R"]
    return float(2 * (own & true).sum() / size) if size else float("nan")


def structures_of(
    brain: Brain, found: Hippocampi, side: Hippocampus, predicted: Mapping[str, float]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Label of each structure, its Dice with the truth, and the predicted one; none where it was not found.

    Nor is there any where the truth is of other structures than the model's.
    """
    known = set(np.unique(brain.truth[brain.truth > 0] % RIGHT_OFFSET).tolist())
    for label in found.labels if known == {label.index for label in found.labels} else ():
        index = label.index + hemisphere_offset(side.hemisphere)
        inside = side.segmentation.labels == label.index
        if inside.any() and (brain.truth == index).any():
            told = predicted.get(f"{side.hemisphere}_{label.abbreviation}", float("nan"))
            true = dice(found.label_map == index, brain.truth == index)
            yield label.abbreviation, {"label": label.index, "dice": true, "predicted": told}


def on_heads(brain: Brain, model: Model, left_out: set[str]) -> Iterator[Row]:
    """Spoil a head; without labels of its own the truth is the result on the unspoilt one."""
    name = model.card.name
    if not brain.truth.any():
        _, at = located(brain)
        brain = replace(brain, truth=segment(at.scans, at.location, model).label_map.astype(np.int16))
    for spoil, copy in spoilt(brain, left_out):
        try:
            scan, at = located(copy)
        except BidsHsfError as error:
            print(f"{brain.name}, {spoil}: refused: {error.message}", flush=True)
            continue
        found = segment(at.scans, at.location, model)
        quality = judge(found, at.scans, at.location, model.card)
        others = confirmed([*at.location.findings, *scan.findings], quality)
        yield from rows_of(name, copy, spoil, found, (quality, others))


def on_crops(brain: Brain, model: Model, left_out: set[str]) -> Iterator[Row]:
    """Spoil a crop; its manual labels are the truth."""
    name, size = model.card.name, model.card.voxel_size_mm
    for spoil, copy in spoilt(brain, left_out, is_crop=True):
        scan = loaded(copy)
        aligned = AlignedScan(f"{brain.name}_T1w", scan.data, scan.grid)
        side = segment_crop(aligned, scan.grid if size is None else isotropic_grid(scan.grid, size), model)
        found = join_sides([side], scan.grid, model.labels, DEFAULTS)
        quality = judge(found, [aligned], None, model.card)
        yield from rows_of(name, copy, spoil, found, (quality, confirmed(scan.findings, quality)))


def fitted(rows: list[Row]) -> dict[str, float]:
    """Weights whose sum is the logit of the Dice: the cross entropy is least, none has the wrong sign."""
    names = list(rows[0].figures)
    figures = np.array([[row.figures[name] for name in names] for row in rows])
    truth = np.array([row.dice for row in rows])
    signs = {"entropy": -1, "main_share": 1, "overlap": 1, "turned": -1, "coarse": 1, "whole_entropy": -1}
    limits = {1: (0, None), -1: (None, 0), 0: (None, None)}

    def loss(weights: NDArray) -> tuple[float, NDArray]:
        share = 1 / (1 + np.exp(-figures @ weights))
        cost = -(truth * np.log(share + 1e-9) + (1 - truth) * np.log(1 - share + 1e-9)).mean()
        return cost + 1e-4 * (weights[1:] ** 2).sum(), figures.T @ (share - truth) / len(truth) + np.r_[
            0, 2e-4 * weights[1:]
        ]

    bounds = [limits[signs.get(name, 0)] for name in names]
    found = optimize.minimize(loss, np.zeros(len(names)), jac=True, bounds=bounds, method="L-BFGS-B")
    return dict(zip(names, np.round(found.x, 3).tolist(), strict=True))


def predicted_by(weights: dict[str, float], row: Row) -> float:
    return float(1 / (1 + np.exp(-sum(weights[name] * figure for name, figure in row.figures.items()))))


def held_out(rows: list[Row]) -> list[Row]:
    """Predict each brain by weights that were learnt from the others."""
    found = []
    for group in sorted({row.group for row in rows}):
        weights = fitted(learnable([row for row in rows if row.group != group]))
        found += [replace(row, predicted=predicted_by(weights, row)) for row in rows if row.group == group]
    return found


def by_structure(rows: list[Row]) -> list[Row]:
    """Take each structure for a row of its own, by its own entropy."""
    found = []
    for row in rows:
        measures = measures_of(row.measures)
        for name, told in row.structures.items():
            figures = regressors(measures, measures.structure_entropies[int(told["label"])])
            own = {"side": f"{row.side}_{name}", "dice": told["dice"], "predicted": told["predicted"]}
            found.append(replace(row, figures=figures, **own))
    return found


def report(title: str, rows: list[Row]) -> None:
    """Print the figures that count; what no image tells of is counted apart."""
    untold, rows = [row for row in rows if row.spoil in UNTOLD], [row for row in rows if row.spoil not in UNTOLD]
    truth, flagged = np.array([row.dice for row in rows]), np.array([row.is_flagged for row in rows])
    score = np.array([row.predicted - COSTS.get(row.worst, 0.0) for row in rows])
    poor, good = truth < POOR, truth >= GOOD
    pairs = good.sum() * poor.sum()
    area = stats.mannwhitneyu(score[good], score[poor]).statistic / pairs if pairs else float("nan")
    spearman = stats.spearmanr([row.predicted for row in rows], truth).statistic
    print(
        f"{title}: {len(rows)} hippocampi; poor (Dice < {POOR}) {poor.sum()}, flagged {flagged[poor].mean():.1%}; "
        f"good (>= {GOOD}) {good.sum()}, flagged {flagged[good].mean():.1%}; AUROC {area:.3f}; Spearman {spearman:.3f}"
    )
    if untold:
        said = sum(row.is_flagged for row in untold)
        print(f"  {', '.join(sorted(UNTOLD))}, which no single image tells of: {len(untold)}, flagged {said}")
    for row in sorted(rows, key=lambda row: row.dice):
        if (row.dice < POOR and not row.is_flagged) or (row.dice >= GOOD and row.is_flagged):
            print(f"  {row.brain}, {row.spoil}, {row.side}: {row.dice:.2f} ({row.predicted:.2f}) {row.codes}")


def learnable(rows: list[Row]) -> list[Row]:
    """Leave out what tells nothing of the figures: results compared with themselves, heads mirrored."""
    of_crops = {row.brain for row in rows if row.figures["unplaced"]}
    told = [row for row in rows if row.spoil not in UNTOLD]
    return [row for row in told if row.spoil != "clean" or row.brain in of_crops]


def measures_of(kept: Mapping[str, Any]) -> SideMeasures:
    """Take measures from what was kept of them."""
    look, entropies = kept["look"], kept["structure_entropies"]
    look = Look(**look) if isinstance(look, dict) else look
    return SideMeasures(
        **{**kept, "look": look, "structure_entropies": {int(key): entropies[key] for key in entropies}}
    )


def remembered(path: Path | None) -> Iterator[Row]:
    """Rows of a kept file, with the figures of today; what was measured by an older version is measured anew."""
    known = {each.name for each in fields(SideMeasures)}
    for line in path.read_text().splitlines() if path and path.exists() else ():
        told = json.loads(line)
        if set(told["measures"]) == known:
            figures = regressors(measures_of(told["measures"]))
            yield Row(**{**told, "codes": tuple(told["codes"]), "figures": figures})


def write_weights(card: Path, learnt: Mapping[str, dict[str, float]]) -> None:
    """Put what was learnt into a card, in place of what it says."""
    text = card.read_text()
    for key, weights in learnt.items():
        line = f"{key}: {json.dumps(weights)}".replace('"', "")
        text, n = re.subn(rf"^{key}: \{{[^}}]*\}}", line, text, flags=re.MULTILINE)
        if n != 1:
            raise SystemExit(f"{card} has no line for {key}; add: {line}")
    card.write_text(text)


def asked() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--contexts", type=Path)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of the label maps and crops, one of so many")
    parser.add_argument("--model", action="append")
    parser.add_argument("--only", default="", help="brains whose names hold this text")
    parser.add_argument("--spoil", default="", help="ways to spoil whose names hold this text")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--fit", nargs="?", const="", metavar="CARD", help="learn anew, and write it into a card")
    return parser.parse_args()


def brains_of(arguments: argparse.Namespace) -> Iterator[tuple[Callable[..., Iterator[Row]], Brain]]:
    """All brains, each with the way to spoil and segment it."""
    sources = [(on_heads, heads(arguments.heads))]
    if arguments.contexts:
        sources.append((on_heads, synthetic(arguments.contexts, arguments.every)))
    if arguments.crops:
        sources.append((on_crops, crops(arguments.crops, arguments.every)))
    for spoil_and_segment, brains in sources:
        yield from ((spoil_and_segment, brain) for brain in brains if arguments.only in brain.name)


def measure(arguments: argparse.Namespace, names: list[str], rows: list[Row]) -> None:
    """Add what is not among the rows yet, and keep it."""
    unwanted = {spoil.name for spoil in SPOILS if arguments.spoil not in spoil.name}
    for model in [open_model(name, device="cpu", n_threads=1)._model for name in names]:
        for spoil_and_segment, brain in brains_of(arguments):
            known = {row.spoil for row in rows if (row.model, row.brain) == (model.card.name, brain.name)}
            for row in spoil_and_segment(brain, model, unwanted | known):
                rows.append(row)
                if arguments.keep:
                    with arguments.keep.open("a") as stream:
                        print(json.dumps(row.__dict__), file=stream)


def main() -> None:
    """Spoil, segment, compare, print."""
    arguments = asked()
    names = arguments.model or ["longaxis_single_fast", "subfields_single_fast"]
    if arguments.fit and len(names) > 1:
        raise SystemExit("a card is learnt from one --model")
    rows = list(remembered(arguments.keep))
    measure(arguments, names, rows)
    for name in names:
        own = [row for row in rows if row.model == name and not np.isnan(row.dice)]
        single = by_structure(own)
        if arguments.fit is not None:
            learnt = {"predicted_dice": fitted(learnable(own)), "structure_dice": fitted(learnable(single))}
            for key, weights in learnt.items():
                print(f"{key}:", json.dumps(weights).replace('"', ""))
            own, single = held_out(own), held_out(single)
            if arguments.fit:
                write_weights(Path(arguments.fit), learnt)
        report(name, own)
        single = [row for row in single if row.spoil not in UNTOLD]
        truth, told = ([getattr(row, of) for row in single] for of in ("dice", "predicted"))
        print(f"  structures: {len(single)}; Spearman {stats.spearmanr(told, truth).statistic:.3f}")


if __name__ == "__main__":
    sys.exit(main())
