"""Label maps to volumes."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.geometry import Grid
from bids_hsf.labels import RIGHT_OFFSET, SIDE_NAMES, Label, bilateral

# Of the passes, by the names of the columns.
SPREAD = {
    "mean": "volume_mm3_mean",
    "sd": "volume_mm3_sd",
    "low": "volume_mm3_low",
    "high": "volume_mm3_high",
    "sampling": "volume_se_sampling",
}
PREDICTED = ("volume_mm3_predicted_low", "volume_mm3_predicted_high")


@dataclass(frozen=True)
class StructureVolume:
    """One structure of one hemisphere, measured.

    Attributes
    ----------
    index : int
        In the label map: left k, right 100 + k.
    name : str
        Such as "Left Subiculum".
    abbreviation : str
        Such as "L_Sub".
    color : str
        "#rrggbb".
    hemisphere : str
        "L" or "R".
    voxels : int
    volume_mm3 : float
        Voxels times the voxel's volume.
    per_mille_etiv : float or None
        Volume over the intracranial volume, in thousandths; None where that is unknown.
    entropy_mean : float or None
        Mean normalised predictive entropy over its voxels, 0-1; None where it has none.
    spread : mapping of str to float, or None
        "mean", "sd", "low" and "high" (central 95 %) of the volume over the passes, and "sampling", its standard error
        that comes of the number of random views, all in mm3; None for one pass.
    predicted : tuple of float or None
        95 % prediction interval of the true volume, in mm3; None where the model's errors are not known.
    """

    index: int
    name: str
    abbreviation: str
    color: str
    hemisphere: str
    voxels: int
    volume_mm3: float
    per_mille_etiv: float | None
    entropy_mean: float | None
    spread: Mapping[str, float] | None = None
    predicted: tuple[float, float] | None = None


@dataclass(frozen=True)
class Volumes:
    """The structures of a label map, left ones first.

    >>> left = StructureVolume(1, "Left Subiculum", "L_Sub", "#aa0000", "L", 500, 500.0, None, 0.1)
    >>> volumes = Volumes((left,))
    >>> volumes["L_Sub"].volume_mm3, len(volumes)
    (500.0, 1)

    Attributes
    ----------
    structures : tuple of StructureVolume
    """

    structures: tuple[StructureVolume, ...]

    def __iter__(self) -> Iterator[StructureVolume]:
        return iter(self.structures)

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, abbreviation: str) -> StructureVolume:
        """Find a structure by its abbreviation with its hemisphere, such as "L_CA1"."""
        for structure in self.structures:
            if structure.abbreviation == abbreviation:
                return structure
        raise KeyError(abbreviation)

    def to_records(self, predicted_dice: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """One row a structure, in the columns of ``dseg.tsv``; what does not exist is None.

        Parameters
        ----------
        predicted_dice : mapping of str to float, optional
            Abbreviation to the Dice that the structure is thought to have; without any there is no such column.
        """
        known = {name for structure in self.structures for name in structure.spread or {}}
        records = [_record(structure, known) for structure in self.structures]
        if predicted_dice:
            for record in records:
                record["predicted_dice"] = predicted_dice.get(record["abbreviation"])
        return records


def _record(structure: StructureVolume, known: Collection[str]) -> dict[str, Any]:
    """Columns of one structure."""
    record = {
        "index": structure.index,
        "name": structure.name,
        "abbreviation": structure.abbreviation,
        "color": structure.color,
        "mapping": 1,  # grey matter, in the table of BIDS
        "hemisphere": structure.hemisphere,
        "volume_mm3": round(structure.volume_mm3, 2),
        "volume_per_mille_eTIV": structure.per_mille_etiv,
        "voxels": structure.voxels,
        "entropy_mean": structure.entropy_mean,
    }
    spread = structure.spread or {}
    for name, column in SPREAD.items():
        if name in known:
            record[column] = round(spread[name], 2) if name in spread else None
    if structure.predicted is not None:
        record |= {column: round(value, 2) for column, value in zip(PREDICTED, structure.predicted, strict=True)}
    return record


def measure(
    label_map: NDArray[np.uint8],
    grid: Grid,
    labels: tuple[Label, ...],
    entropy: NDArray[np.float32],
    spreads: Mapping[int, Mapping[str, float]],
    etiv_mm3: float | None = None,
) -> Volumes:
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
        Bilateral index to "mean", "sd", "low", "high" and "sampling", as `StructureVolume.spread` has them;
        empty where there was one pass.
    etiv_mm3 : float or None
        Estimated total intracranial volume.
    """
    size = RIGHT_OFFSET + 100
    # Of the labelled voxels alone: counting takes eight bytes a voxel, and most of a head is background.
    labelled = np.flatnonzero(label_map > 0)
    found = label_map.ravel()[labelled]
    voxels = np.bincount(found, minlength=size)
    entropies = np.bincount(found, weights=entropy.ravel()[labelled], minlength=size)
    structures = []
    for hemisphere, label in bilateral(labels):
        count = int(voxels[label.index])
        volume = count * grid.voxel_volume
        structures.append(
            StructureVolume(
                index=label.index,
                name=f"{SIDE_NAMES[hemisphere].capitalize()} {label.name}",
                abbreviation=f"{hemisphere}_{label.abbreviation}",
                color=label.color,
                hemisphere=hemisphere,
                voxels=count,
                volume_mm3=volume,
                per_mille_etiv=per_mille(volume, etiv_mm3),
                entropy_mean=round(float(entropies[label.index]) / count, 4) if count else None,
                spread=spreads.get(label.index),
                predicted=_prediction_interval(volume, label.true_over_found),
            )
        )
    return Volumes(tuple(structures))


def _prediction_interval(volume_mm3: float, ratios: tuple[float, float] | None) -> tuple[float, float] | None:
    """Scale a volume by the central 95 % of true over found volume, as in split conformal prediction.

    Lei et al., Journal of the American Statistical Association 2018, doi:10.1080/01621459.2017.1307116.
    """
    return None if ratios is None else (volume_mm3 * ratios[0], volume_mm3 * ratios[1])


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
    return round(1000 * volume_mm3 / etiv_mm3, 4) if etiv_mm3 and not math.isnan(volume_mm3) else None
