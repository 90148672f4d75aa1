"""The group table: one row a scan, held by columns, for who writes and who reads it.

A hundred thousand scans have millions of cells: numbers lie in arrays, and equal texts are there once.
"""

import csv
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from bids_hsf.bids.group_row import (
    TOTAL,
    VOLUME_END,
    Cell,
    GroupRow,
    is_number,
    is_own,
    total_column,
)
from bids_hsf.bids.tables import MISSING, faults_told, parse_number
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.files import open_text, replacing

__all__ = [
    "NAME",
    "TOTAL",
    "VOLUME_END",
    "Cell",
    "GroupRow",
    "GroupTable",
    "columns_of",
    "read_group_table",
    "total_column",
    "write_group_table",
]

NAME = "group_volumes.tsv"
MAX_BYTES = 2 << 30
SENSELESS = str.maketrans({"\t": " ", "\n": " ", "\r": " ", '"': "'"})  # in a cell: they would need quotes
ABSENT = float("nan")
ROWS_AT_ONCE = 500


class GroupTable(Sequence[GroupRow]):
    """The group table in memory, by columns; row by row it is a sequence of `GroupRow`, each made when it is asked for.

    Columns stand in the order of the first row that has them: models have structures of their own. Texts are held as
    the file has them, so that a page that is made of the table tells what the file tells.
    """

    def __init__(self, rows: Iterable[GroupRow] = ()) -> None:
        self._columns: dict[str, array[float] | list[str | None]] = {}
        self._known: dict[str, str | None] = {}
        self._length = 0
        self._names: list[str] = []
        self._adders: list[tuple[Any, bool]] = []
        for row in rows:
            self.append(row.cells())

    def append(self, cells: Mapping[str, Cell]) -> None:
        """Add a row; what is missing in it is "n/a", a column that is new is that for all before.

        Raises
        ------
        NotWholeError
            There is another thing than a number in the place of one.
        """
        names = list(cells)
        if names != self._names:
            columns = [self._columns[name] if name in self._columns else self._new_column(name) for name in names]
            self._names, self._adders = names, [(column.append, isinstance(column, list)) for column in columns]
        for (add, is_text), cell in zip(self._adders, cells.values(), strict=True):
            if cell is None and is_text:
                add(None)
            elif is_text:
                add(self._text(cell))
            elif type(cell) is float:  # most are
                add(cell)
            elif cell is None:
                add(ABSENT)
            else:
                value = parse_number(cell) if isinstance(cell, str) else cell
                add(ABSENT if value is None else value)
        self._length += 1
        if len(names) < len(self._columns):
            for column in self._columns.values():
                self._pad(column)

    def _text(self, cell: Cell) -> str | None:
        """Text of a cell as the file has it, the same object for equal ones; None where that is nothing."""
        text = str(cell)
        try:
            return self._known[text]
        except KeyError:
            plain = plain_cell(text)
            kept = None if text in ("", MISSING) else text if plain == text else plain
            self._known[text] = kept
            return kept

    def _new_column(self, name: str) -> Any:
        column: array[float] | list[str | None] = array("d") if is_number(name) else []
        self._columns[name] = column
        self._pad(column)
        return column

    def _pad(self, column: Any) -> None:
        column.extend([ABSENT if isinstance(column, array) else None] * (self._length - len(column)))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> GroupRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[GroupRow]: ...
    def __getitem__(self, index: int | slice) -> GroupRow | list[GroupRow]:
        """Make one row, or some."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return GroupRow.from_cells({name: self._cell(column, index) for name, column in self._columns.items()})

    def _cell(self, column: Any, index: int) -> Cell:
        cell: Cell = column[index]
        return None if isinstance(cell, float) and cell != cell else cell

    @property
    def names(self) -> list[str]:
        """Columns, in the order of the file."""
        # What comes of other tables stands behind all that is our own.
        return sorted(self._columns, key=lambda name: not is_own(name))

    def cells(self, name: str) -> list[Cell]:
        """Column as it is, numbers or texts; None where there is none, and everywhere of a column that is not there."""
        column = self._columns.get(name, [None] * self._length)
        return [self._cell(column, index) for index in range(self._length)]

    def texts(self, name: str) -> Sequence[str | None]:
        """Column of texts; None where there is none, and everywhere of a column that is not there."""
        column = self._columns.get(name, [None] * self._length)
        return column if isinstance(column, list) else [None if cell != cell else f"{cell:.12g}" for cell in column]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Column of numbers, (N,) float64, NaN where there is none; a covariate as far as it is numbers."""
        column = self._columns.get(name, [None] * self._length)
        if isinstance(column, list):
            return np.array([_lenient(cell) for cell in column], dtype=np.float64)
        return np.frombuffer(column, dtype=np.float64) if column else np.zeros(0)

    def put(self, name: str, values: Sequence[Cell] | NDArray[np.float64]) -> None:
        """Set a column, which keeps its place where it is there."""
        # A new object: views of the old one may be alive, and the next row is not to be added to it.
        column: Any = (
            array("d", values)
            if is_number(name)
            else [None if value is None else self._text(value) for value in values]
        )
        self._columns[name], self._names = column, []

    def chosen(self, wanted: Sequence[bool] | NDArray[np.bool_]) -> "GroupTable":
        """Give the rows that are wanted, in a table of their own."""
        table, places = GroupTable(), np.flatnonzero(np.asarray(wanted, bool)).tolist()
        table._length = len(places)
        for name, column in self._columns.items():
            if isinstance(column, list):
                table._columns[name] = [column[place] for place in places]
            else:
                table._columns[name] = array("d", (column[place] for place in places))
        return table

    def lines(self) -> Iterator[str]:
        """Lines of the file, without their ends."""
        names = self.names
        columns = [self._columns[name] for name in names]
        # By columns, as many rows at once as make no large part of the table: cell by cell takes twice as long.
        yield "\t".join(map(plain_cell, names))
        for first in range(0, self._length, ROWS_AT_ONCE):
            parts = [column[first : first + ROWS_AT_ONCE] for column in columns]
            written = [plain_numbers(part) if isinstance(part, array) else plain_texts(part) for part in parts]
            yield from map("\t".join, zip(*written, strict=True))


def plain_cell(cell: Cell) -> str:
    r"""Write a cell so that no reader needs quotes; None and NaN are "n/a", numbers have what digits they need.

    >>> plain_cell("a \t\"b\""), plain_cell(812.25), plain_cell(1000.0), plain_cell(None)
    ("a  'b'", '812.25', '1000', 'n/a')
    """
    if cell is None or cell != cell:
        return MISSING
    if not isinstance(cell, str):
        return f"{cell:.12g}"
    # What is no UTF-8 in a name is spelt out, as `write_lines` would.
    return cell.translate(SENSELESS).encode(errors="backslashreplace").decode()


def plain_numbers(cells: Iterable[float]) -> list[str]:
    """Write numbers as `plain_cell` does."""
    return [f"{cell:.12g}" if cell == cell else MISSING for cell in cells]


def plain_texts(cells: Iterable[str | None]) -> list[str]:
    """Write texts of a table in memory: they are plain."""
    return [MISSING if cell is None else cell for cell in cells]


def _lenient(cell: str | None) -> float:
    try:
        value = parse_number(cell)
    except NotWholeError:
        value = None
    return ABSENT if value is None else value


def columns_of(rows: Iterable[GroupRow]) -> list[str]:
    """Union of the rows' columns in order of first sight, those of other tables behind: models have own structures."""
    return GroupTable(rows).names


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a table line by line, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def write_group_table(output_dir: Path, rows: Iterable[GroupRow]) -> Path:
    """Write ``group_volumes.tsv``; returns its path."""
    path = output_dir / NAME
    table = rows if isinstance(rows, GroupTable) else GroupTable(rows)
    write_lines(path, table.lines())
    return path


def read_group_table(output_dir: Path) -> GroupTable:
    """Read ``group_volumes.tsv``.

    Raises
    ------
    FileNotFoundError
        There is none, or another run has just taken it away.
    NotWholeError
        It cannot be read, is cut short, or has another thing than a number in the place of one.
    """
    table = GroupTable()
    with faults_told(), open_text(output_dir / NAME, MAX_BYTES) as stream:
        lines = csv.reader(_whole(stream), delimiter="\t")
        names = next(lines, [])
        if not names:
            raise NotWholeError("it is empty")
        for cells in lines:
            if len(cells) != len(names):
                raise NotWholeError("its lines are not of one length")
            table.append(dict(zip(names, cells, strict=True)))
    return table


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Give lines that end: cut within a number, a table would still be one."""
    for line in lines:
        if not line.endswith("\n"):
            raise NotWholeError("its last line does not end")
        yield line
