"""The long table: one row a structure of a scan, ``group_volumes_long.tsv``."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.group_row import IDENTITY
from bids_hsf.bids.group_table import ROWS_AT_ONCE, GroupTable, plain_cell, plain_numbers, plain_texts
from bids_hsf.bids.tables import Structure

NAME = "group_volumes_long.tsv"
MEASURES = ("volume_mm3", "volume_per_mille_eTIV", "entropy_mean", "volume_mm3_low", "volume_mm3_high")
COLUMNS = (*IDENTITY, "hemisphere", "structure", *MEASURES)


@dataclass(eq=False)
class LongTable:
    """Structures of the scans of a group table, in arrays: there are millions.

    Attributes
    ----------
    names : dict of (str, str) to int
        Hemisphere and abbreviation to their number.
    rows, kinds : array of int
        Row of the group table and number of the structure, a line.
    values : dict of str to array of float
        Measure to its values, NaN where there is none.
    """

    names: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: "array[int]" = field(default_factory=lambda: array("l"))
    kinds: "array[int]" = field(default_factory=lambda: array("l"))
    values: "dict[str, array[float]]" = field(default_factory=lambda: {name: array("d") for name in MEASURES})

    def append(self, row: int, structures: Iterable[Structure], etiv_mm3: float | None) -> None:
        """Add the structures of a row of the group table."""
        for structure in structures:
            name = structure.abbreviation.removeprefix(f"{structure.hemisphere}_")
            self.rows.append(row)
            self.kinds.append(self.names.setdefault((structure.hemisphere, name), len(self.names)))
            volume = structure.volume_mm3
            share = None if volume is None or not etiv_mm3 else round(1000 * volume / etiv_mm3, 4)
            found = (volume, share, structure.entropy_mean, structure.volume_low, structure.volume_high)
            for column, value in zip(self.values.values(), found, strict=True):
                column.append(float("nan") if value is None else value)

    def lines(self, table: GroupTable, wanted: NDArray[np.bool_] | None = None) -> Iterator[str]:
        """Lines of the file, without their ends; with `wanted`, of those rows of the group table alone."""
        yield "\t".join(COLUMNS)
        identity = [table.texts(name) for name in IDENTITY]
        names = [f"{side}\t{plain_cell(name)}" for side, name in self.names]
        head, last = "", -1
        for first in range(0, len(self.rows), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            columns = [plain_numbers(column[part]) for column in self.values.values()]
            for row, kind, *cells in zip(self.rows[part], self.kinds[part], *columns, strict=True):
                if wanted is not None and not wanted[row]:
                    continue
                if row != last:
                    head, last = "\t".join(plain_texts(column[row] for column in identity)), row
                yield "\t".join((head, names[kind], *cells))
