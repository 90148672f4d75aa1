"""Judge a subfields model on the whole head of the ICBM152 template, by the app; needs bids-hsf.

    python judge_scans.py BIDS_DIR HIPPUNFOLD_SUBFIELDS --model subfields_bagging_sq [--out DIR] [--figures DIR]

BIDS_DIR holds sub-icbm152 (T1w and T2w), HIPPUNFOLD_SUBFIELDS the labels of HippUnfold on MNI152NLin2009cSym, which no
step of the training reads. Prints, left / right: Dice with these labels; volumes; T1w against T2w of the same head;
and on the T2w how dark SRLM is against CA1, slice by slice of the body. Whether the shape differs or the place alone:
Dice after the shift by half voxels, mirrored from side to side, that suits the labels best; and whether HippUnfold's
SRLM would be darker higher up. `--figures` writes mosaics.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

LABELS = ("Sub", "CA1", "CA2", "CA3", "DG", "SRLM")
FROM_HIPPUNFOLD = np.array([0, 1, 2, 3, 4, 5, 5, 6, 6])
GROUPS = {
    "Sub": (1,),
    "CA1": (2,),
    "CA2": (3,),
    "CA3": (4,),
    "CA23": (3, 4),
    "DG": (5,),
    "SRLM": (6,),
    "whole": range(1, 7),
}
GOALS = {"Sub": 0.75, "CA1": 0.80, "CA23": 0.60, "DG": 0.80, "SRLM": 0.68, "whole": 0.90}


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * float((first & second).sum()) / max(1.0, float(first.sum() + second.sum()))


def dice_by_group(
    first: np.ndarray, second: np.ndarray, groups: Mapping[str, Sequence[int]] = GROUPS
) -> dict[str, float]:
    return {name: dice(np.isin(first, members), np.isin(second, members)) for name, members in groups.items()}


def renumbered(data: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Labels by their new numbers; those that `table` does not name become 0."""
    numbers = np.zeros(data.shape, dtype=np.uint8)
    for theirs, ours in table.items():
        numbers[data == theirs] = ours
    return numbers


def row(title: str, left: Mapping[str, float], right: Mapping[str, float], form: str) -> None:
    """Print a figure of each group, of both sides."""
    print(f"{title:24}", *(f"{left[g]:{form}}/{right[g]:{form}}".rjust(11) for g in left))


def sides(label_map: np.ndarray) -> dict[str, np.ndarray]:
    """Labels 1 to 6 of the left and the right side of a bilateral map."""
    labels = label_map.astype(int)
    return {"L": np.where(labels < 100, labels, 0), "R": np.where(labels > 100, labels - 100, 0)}


def hippunfold_labels(folder: Path) -> dict[str, np.ndarray]:
    stem = "tpl-MNI152NLin2009cSym_hemi-{}_desc-subfields_dseg.nii.gz"
    return {
        side: FROM_HIPPUNFOLD[np.asarray(nib.load(folder / stem.format(side)).dataobj).astype(int)] for side in "LR"
    }


def segment(bids_dir: Path, model: str, out: Path) -> tuple[float, float]:
    """Run the app on the head; returns seconds, and those of the processor."""
    started, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "bids_hsf", str(bids_dir), str(out), "participant", "--model", model]
    command += ["--participant-label", "icbm152", "--skip-bids-validation"]
    subprocess.run(command, check=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.time() - started, used


def found_labels(out: Path, contrast: str) -> np.ndarray:
    path = next(out.glob(f"sub-icbm152/**/sub-icbm152_space-{contrast}_seg-subfields*_dseg.nii.gz"))
    return np.asarray(nib.load(path).dataobj)


def darkness(labels: np.ndarray, image: np.ndarray) -> tuple[int, int, float]:
    """Slices of the body where SRLM is darker than CA1, of how many, and the mean ratio of the two.

    The body: the middle half of the slices, front to back, with at least five voxels of each.
    """
    held = np.flatnonzero((labels > 0).any(axis=(0, 2)))
    quarter = len(held) // 4
    ratios = []
    for y in held[quarter : len(held) - quarter]:
        srlm, ca1 = (image[:, y][labels[:, y] == k] for k in (6, 2))
        if min(len(srlm), len(ca1)) >= 5:
            ratios.append(srlm.mean() / ca1.mean())
    return sum(r < 1 for r in ratios), len(ratios), float(np.mean(ratios)) if ratios else float("nan")


def show_darkness(side: str, label_maps: dict[str, np.ndarray], t2w: np.ndarray) -> None:
    for title, labels in label_maps.items():
        darker, n, ratio = darkness(labels, t2w)
        print(f"T2w {side}, SRLM by {title}: darker than CA1 in {darker} of {n} slices of the body, ratio {ratio:.3f}")


def moved(labels: np.ndarray, side: str, shift_mm: Sequence[float]) -> np.ndarray:
    """Move a 1 mm label map (x, y, z) of a side by mm to the middle of the head, to the front and up."""
    toward = np.array(shift_mm) * (1 if side == "L" else -1, 1, 1)
    shares = [ndimage.shift((labels == label).astype(float), toward, order=1) for label in range(len(LABELS) + 1)]
    return np.argmax(shares, axis=0)


def show_place(contrast: str, found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> None:
    """Print the Dice after the shift by half voxels, the same for both sides, that suits the labels best."""
    box = ndimage.find_objects((sum(truth.values()) > 0).astype(int))[0]
    near = tuple(slice(s.start - 5, s.stop + 5) for s in box)

    def scores(shift: tuple[float, ...]) -> list[dict[str, float]]:
        return [dice_by_group(moved(found[side][near], side, shift), truth[side][near]) for side in "LR"]

    by_shift = {shift: scores(shift) for shift in product((-0.5, 0.0, 0.5), repeat=3)}
    best = max(by_shift, key=lambda shift: sum(sum(each.values()) for each in by_shift[shift]))
    print(f"{contrast} moved to the middle, the front and up by {best} mm:")
    left, right = by_shift[best]
    print(f"{'':24}", *(f"{left[group]:.2f}/{right[group]:.2f}".rjust(11) for group in GROUPS))


def mosaic(path: Path, image: np.ndarray, *label_maps: np.ndarray, n: int = 12) -> None:
    """Coronal slices from front to back, plain above and labelled below, by one map after the other."""
    import matplotlib as mpl  # for the figures alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    colors = ListedColormap(["#00000000", "#9467bd", "#2ca02c", "#1f77b4", "#ffbf00", "#d62728", "#17becf"])
    found = ndimage.find_objects((sum(labels > 0 for labels in label_maps) > 0).astype(int))[0]
    box = tuple(slice(max(0, s.start - 5), s.stop + 5) for s in found)
    seen = image[box]
    low, high = np.percentile(seen, (1, 99))
    n_rows = 1 + len(label_maps)
    figure, axes = plt.subplots(n_rows, n, figsize=(2 * n, 2 * n_rows), layout="tight")
    for column, y in enumerate(np.linspace(seen.shape[1] - 7, 6, n).astype(int)):
        for row in range(n_rows):
            axes[row, column].imshow(seen[:, y].T, cmap="gray", origin="lower", vmin=low, vmax=high)
            axes[row, column].axis("off")
        for row, labels in enumerate(label_maps, 1):
            cut = labels[box][:, y].T
            axes[row, column].imshow(
                cut, cmap=colors, vmin=-0.5, vmax=6.5, origin="lower", alpha=0.6, interpolation="nearest"
            )
    figure.savefig(path, dpi=70)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("hippunfold_subfields", type=Path)
    parser.add_argument("--model", default="subfields_bagging_sq")
    parser.add_argument("--out", type=Path, help="keep the app's output here")
    parser.add_argument("--figures", type=Path, help="mosaics; needs matplotlib")
    arguments = parser.parse_args()
    truth = hippunfold_labels(arguments.hippunfold_subfields)
    anat = arguments.bids_dir / "sub-icbm152" / "anat"
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        seconds, cpu_seconds = segment(arguments.bids_dir, arguments.model, out)
        found = {contrast: sides(found_labels(out, contrast)) for contrast in ("T1w", "T2w")}
    print(f"{arguments.model}: {seconds:.1f} s for both scans, {cpu_seconds:.1f} s of the processor")

    print(f"{'':24}", *(name.rjust(11) for name in GROUPS))
    print(f"{'goal':24}", *(f"{GOALS[name]:.2f}".rjust(11) if name in GOALS else " " * 11 for name in GROUPS))
    for contrast, label_maps in found.items():
        row(f"{contrast}, Dice", *(dice_by_group(label_maps[s], truth[s]) for s in "LR"), ".2f")
        show_place(contrast, label_maps, truth)
    row("T1w against T2w, Dice", *(dice_by_group(found["T1w"][s], found["T2w"][s]) for s in "LR"), ".2f")
    volumes = {
        title: [{g: float(np.isin(maps[s], m).sum()) for g, m in GROUPS.items()} for s in "LR"]
        for title, maps in (("HippUnfold", truth), *found.items())
    }
    for title, pair in volumes.items():
        row(f"{title}, mm3", *pair, ".0f")
    change = [
        {g: 200 * (t2[g] - t1[g]) / (t1[g] + t2[g]) for g in t1}
        for t1, t2 in zip(volumes["T1w"], volumes["T2w"], strict=True)
    ]
    row("T2w - T1w, % of volume", *change, ".1f")
    images = {c: np.asarray(nib.load(anat / f"sub-icbm152_{c}.nii.gz").dataobj, dtype=float) for c in found}
    for side in "LR":
        higher = moved(truth[side], side, (0, 0, 0.5))
        by_maker = {"HippUnfold": truth[side], "HippUnfold, 0.5 mm higher": higher, "T2w": found["T2w"][side]}
        show_darkness(side, by_maker, images["T2w"])
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        for contrast, label_maps in found.items():
            for side in "LR":
                mosaic(arguments.figures / f"icbm152_{contrast}_{side}.png", images[contrast], label_maps[side])


if __name__ == "__main__":
    main()
