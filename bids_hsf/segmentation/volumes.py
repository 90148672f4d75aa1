"""Label maps to volumes, and the volumes of many scans to one table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.geometry import Grid
from bids_hsf.labels import RIGHT_OFFSET, Label, bilateral

Row = dict[str, Any]


def measure(
    label_map: NDArray[np.uint8],
    grid: Grid,
    labels: tuple[Label, ...],
    entropy: NDArray[np.float32],
    spreads: Mapping[int, Mapping[str, float]],
    etiv_mm3: float | None = None,
) -> list[Row]:
    """Measure every structure of a bilateral label map.

    Parameters
    ----------
    label_map : array, (X, Y, Z) uint8
        Left k, right 100 + k.
    grid : Grid
        Of the label map.
    labels : tuple of Label
        The card's, or those of the merge.
    entropy : array, (X, Y, Z) float32
        Normalised predictive entropy, 0-1.
    spreads : mapping of int to mapping of str to float
        Bilateral index to "mean", "sd", "low" and "high" of the volume over the passes, in mm3; empty
        where there was one pass.
    etiv_mm3 : float or None
        Estimated total intracranial volume.

    Returns
    -------
    list of dict
        One row a structure, in the columns of ``dseg.tsv``. A volume is the number of voxels times
        the voxel's volume in mm3; `entropy_mean` is the mean over the structure's voxels.
    """
    size = RIGHT_OFFSET + 100
    # Of the labelled voxels alone: counting takes eight bytes a voxel, and most of a head is background.
    labelled = label_map > 0
    voxels = np.bincount(label_map[labelled], minlength=size)
    entropies = np.bincount(label_map[labelled], weights=entropy[labelled], minlength=size)
    rows = []
    for hemisphere, label in bilateral(labels):
        count = int(voxels[label.index])
        row: Row = {
            "index": label.index,
            "name": f"{'Left' if hemisphere == 'L' else 'Right'} {label.name}",
            "abbreviation": f"{hemisphere}_{label.abbreviation}",
            "color": label.color,
            "mapping": 1,
            "hemisphere": hemisphere,
            "volume_mm3": round(count * grid.voxel_volume, 2),
            "volume_per_mille_eTIV": per_mille(count * grid.voxel_volume, etiv_mm3),
            "voxels": count,
            "entropy_mean": round(float(entropies[label.index]) / count, 4) if count else None,
        }
        if spreads:
            spread = spreads.get(label.index)
            for name in ("mean", "sd", "low", "high"):
                row[f"volume_mm3_{name}"] = None if spread is None else round(spread[name], 2)
        rows.append(row)
    return rows


def asymmetry_index(left: float, right: float) -> float | None:
    """Left minus right over their mean, in per cent; None where both are zero.

    >>> asymmetry_index(1100.0, 900.0)
    20.0
    """
    total = left + right
    return None if total == 0 else 200 * (left - right) / total


def per_mille(volume_mm3: float, etiv_mm3: float | None) -> float | None:
    """Volume over the intracranial volume, in thousandths; None where one of them is unknown.

    >>> per_mille(3000.0, 1.5e6)
    2.0
    """
    return round(1000 * volume_mm3 / etiv_mm3, 4) if etiv_mm3 and not np.isnan(volume_mm3) else None
