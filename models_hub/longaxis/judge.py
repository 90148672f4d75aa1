"""Judge the networks on the cases that each of them never saw, along the way of the app; needs bids-hsf.

    python judge.py Task04_Hippocampus OUT_DIR                 members as trained, each case's unseen ones
    python judge.py Task04_Hippocampus OUT_DIR --quantized --model longaxis_bagging_accurate
    python judge.py Task04_Hippocampus OUT_DIR --split fold --model longaxis_single_fast    cross-validation

OUT_DIR holds bootstrapK.onnx (or bootstrapK_sq.onnx, foldK.onnx) and bootstrapK_split.json of train.py. A case is
voted on by those of the five members whose bootstrap sample lacks it: two on average, where the shipped ensemble has
five, so that the figures err on the low side. Cases that all five have seen are left out and counted. Of five folds
each case has one.

Writes OUT_DIR/out_of_bag_MODEL.tsv, or OUT_DIR/cross_validation_MODEL.tsv (a row a case and label), and prints the
means; the same for all pairs of a case and a single unseen member; and how well the uncertainty tells errors: the area
under the ROC curve of the entropy for wrong against right voxels of the crops, and Spearman's correlation of a case's
mean entropy over its labelled voxels with its Dice.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats
from tqdm import tqdm

from bids_hsf.hub.models import find_card
from bids_hsf.images import load_scan
from bids_hsf.machine import allowed_cores
from bids_hsf.networks.device import choose_device
from bids_hsf.segmentation.decision import Segmentation
from bids_hsf.segmentation.evaluation import (
    WHOLE,
    Case,
    Score,
    find_cases,
    load_labels,
    scores_of,
    segment_case,
    summarize,
)
from bids_hsf.segmentation.model import Model

N_MEMBERS = 5
N_BINS = 10_000


class EntropyJudge:
    """Counts wrong and right voxels by their entropy."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, N_BINS), dtype=np.int64)  # right, wrong

    def add(self, entropy: np.ndarray, wrong: np.ndarray) -> None:
        bins = np.minimum((entropy * N_BINS).astype(int), N_BINS - 1)
        for row, chosen in enumerate((~wrong, wrong)):
            self.counts[row] += np.bincount(bins[chosen], minlength=N_BINS)

    def area_under_curve(self) -> float:
        """Chance that a wrong voxel has a higher entropy than a right one; ties count half."""
        right, wrong = self.counts
        below = np.cumsum(right) - right
        return float((wrong * (below + right / 2)).sum() / (right.sum() * wrong.sum()))


class Jury:
    """The members of an ensemble and the cases that each has seen."""

    def __init__(self, out_dir: Path, split: str, model: str, suffix: str) -> None:
        self.card = find_card(model)
        self.device = choose_device("auto", out_dir / f"{split}0{suffix}.onnx", allowed_cores())
        self.paths, self.seen = [], []
        for member in range(N_MEMBERS):
            self.paths.append(out_dir / f"{split}{member}{suffix}.onnx")
            self.seen.append(set(json.loads((out_dir / f"{split}{member}_split.json").read_text())["train"]))

    def unbiased(self, case: str) -> tuple[Path, ...]:
        return tuple(path for path, seen in zip(self.paths, self.seen, strict=True) if case not in seen)

    @cache  # noqa: B019 - one jury a run; each set of members is opened once
    def model(self, paths: tuple[Path, ...]) -> Model:
        return Model(replace(self.card, members=()), paths, self.device)

    def judge(self, case: Case, entropies: EntropyJudge) -> tuple[list[Score], list[Score], float]:
        """Scores of the unseen members together, of each alone, and the mean entropy of the labelled voxels."""
        scan = load_scan(case.image_path)
        truth = load_labels(case.label_path, scan.grid, self.card)

        def segment(paths: tuple[Path, ...]) -> tuple[Segmentation, list[Score]]:
            found = segment_case(case.name, scan.data, scan.grid, self.model(paths))
            return found, list(scores_of(case.name, truth, found.labels, self.card, scan.grid.voxel_sizes))

        unbiased = self.unbiased(case.name)
        together, scores = segment(unbiased)
        alone = scores if len(unbiased) == 1 else [s for path in unbiased for s in segment((path,))[1]]
        entropies.add(together.entropy, together.labels != truth)
        return scores, alone, float(together.entropy[together.labels > 0].mean())


def print_means(title: str, scores: Sequence[Score]) -> None:
    print(f"\n{title}")
    for mean in summarize(scores):
        if mean.measure != "volume_similarity":
            figures = f"{mean.mean:.4f}  sd {mean.sd:.4f}  standard error {mean.standard_error:.4f}"
            print(f"{mean.label:<10} {mean.measure:<8} n {mean.n:>3}  {figures}")


def rows(scores: Sequence[Score]) -> Iterator[list[object]]:
    yield ["case", "label", "dice", "hd95_mm", "volume_similarity"]
    for score in scores:
        case, label, *figures = astuple(score)
        yield [case, label, *(f"{figure:.4f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("msd_dir", type=Path, help="with images/ and labels/")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--split", choices=["bootstrap", "fold"], default="bootstrap")
    parser.add_argument("--model", default="longaxis_bagging_fast", help="whose card (labels, augmentation) counts")
    parser.add_argument("--quantized", action="store_true")
    arguments = parser.parse_args()
    jury = Jury(arguments.out_dir, arguments.split, arguments.model, "_sq" if arguments.quantized else "")
    cases = find_cases(arguments.msd_dir / "images", arguments.msd_dir / "labels")
    judged = [case for case in cases if jury.unbiased(case.name)]
    entropies, scores, alone, means = EntropyJudge(), [], [], []
    for case in tqdm(judged, unit="case", disable=None):
        together, single, entropy = jury.judge(case, entropies)
        scores, alone, means = scores + together, alone + single, [*means, entropy]

    kind = "out_of_bag" if arguments.split == "bootstrap" else "cross_validation"
    name = f"{kind}_{arguments.model}{'_sq' if arguments.quantized else ''}.tsv"
    with (arguments.out_dir / name).open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows(scores))
    print(f"{len(judged)} of {len(cases)} cases were unseen by a member; {len(cases) - len(judged)} left out")
    print_means("unseen members together", scores)
    print_means("each unseen member alone", alone)
    whole = [score.dice for score in scores if score.label == WHOLE]
    print(f"\nentropy, wrong against right voxels: area under the curve {entropies.area_under_curve():.4f}")
    print(f"mean entropy against whole Dice: Spearman {stats.spearmanr(means, whole).statistic:.3f}")


if __name__ == "__main__":
    main()
