"""Compare two output folders of the app and tell all that differs but what may: ``compare_outputs.py BEFORE AFTER``.

What may differ between runs of one method is passed over: ``logs/`` (seconds, hosts, dates, commands), the address of
the raw dataset, the app's version, times and dates in texts, the packing of a file. What is meant to differ is named by
an option, and is told apart in the table. The exit code is 0 where nothing else differs, and 1 where something does.
"""

import argparse
import csv
import fnmatch
import gzip
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

PASSED_OVER = ("logs/*", ".work/*", "*.lock")
# Key paths of dataset_description.json and of the sidecars.
MAY_DIFFER = ("GeneratedBy.Version", "GeneratedBy.Container", "SourceDatasets.URL", "DatasetLinks.raw")
# Rows of a table are told by the first of these columns that it has, else by their number.
IDENTITIES = ("scan", "index", "desc_id", "participant_id")
TIME_OF_DAY = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?(\.\d+)?(Z|[+-]\d{2}:\d{2})?")
# A page tells by how much the chosen device was the fastest.
MEASURED = re.compile(r"\b\d+(\.\d+)? m?s\b")
VERSION = re.compile(r"\bbids-hsf v?\d+(\.\d+)+[\w.+-]*\b")
ADDRESS = re.compile(r"file://[^\s\"'<>]*")
N_EXAMPLES = 5


class Verdict(StrEnum):
    """What is to be said of a file."""

    SAME = "same"
    ALLOWED = "may differ"
    INTENDED = "intended"
    DIFFERENT = "differs"
    MISSING = "missing"
    NEW = "new"


GOOD = (Verdict.SAME, Verdict.ALLOWED, Verdict.INTENDED)


@dataclass(frozen=True)
class Intended:
    """What the caller means to differ.

    Attributes
    ----------
    keys : tuple of str
        Keys of JSON files, or parts of a key path: ``Localization.Quality``. All below a key is meant too.
    columns : tuple of str
        Columns of tables; ``*`` stands for anything.
    files : tuple of str
        Patterns of paths from the output folder: whether they are there, and what is in them.
    """

    keys: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """One thing that differs within a file.

    Attributes
    ----------
    text : str
        What a person reads.
    verdict : Verdict
        `ALLOWED`, `INTENDED` or `DIFFERENT`.
    """

    text: str
    verdict: Verdict = Verdict.DIFFERENT


@dataclass(frozen=True)
class Finding:
    """What was found of one file.

    Attributes
    ----------
    path : str
        From the output folder.
    verdict : Verdict
        The worst of its differences.
    details : tuple of str
        The differences that have this verdict.
    """

    path: str
    verdict: Verdict
    details: tuple[str, ...] = ()


def compare_folders(before: Path, after: Path, intended: Intended | None = None) -> list[Finding]:
    """Compare all files of two output folders, in the order of their paths."""
    intended = intended or Intended()
    first, second = _files(before), _files(after)
    return [_compare_file(path, before, after, intended) for path in sorted(first | second)]


def _files(folder: Path) -> set[str]:
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {path for path in paths if not _matches(path, PASSED_OVER)}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _compare_file(path: str, before: Path, after: Path, intended: Intended) -> Finding:
    named = _matches(path, intended.files)
    for folder, verdict in ((after, Verdict.MISSING), (before, Verdict.NEW)):
        if not (folder / path).is_file():
            return Finding(path, Verdict.INTENDED, (str(verdict),)) if named else Finding(path, verdict)
    first, second = (before / path).read_bytes(), (after / path).read_bytes()
    if first == second:
        return Finding(path, Verdict.SAME)
    if path.endswith(".gz"):
        first, second = gzip.decompress(first), gzip.decompress(second)
    differences = [Difference("packed otherwise", Verdict.ALLOWED)]
    if first != second:
        differences = list(_comparison(path)(first, second, intended))
    verdict = max((each.verdict for each in differences), key=[*GOOD, Verdict.DIFFERENT].index)
    details = tuple(each.text for each in differences if each.verdict == verdict)
    return Finding(path, Verdict.INTENDED if named else verdict, details)


def _comparison(path: str) -> Callable[[bytes, bytes, Intended], Iterator[Difference]]:
    endings = {".nii": _compare_images, ".tsv": _compare_tables, ".json": _compare_json}
    return endings.get(Path(path.removesuffix(".gz")).suffix, _compare_texts)


def _compare_images(first: bytes, second: bytes, _: Intended) -> Iterator[Difference]:
    images = [nib.Nifti1Image.from_bytes(content) for content in (first, second)]
    headers = [dict(image.header) for image in images]
    # The transforms are told as one affine below.
    for field in [name for name in headers[0] if not re.match("qform|sform|quatern|qoffset|srow|dim$", name)]:
        values = [np.asarray(header[field]) for header in headers]
        if values[0].tobytes() != values[1].tobytes():
            yield Difference(f"header field {field}: {values[0]} -> {values[1]}")
    if images[0].shape != images[1].shape:
        yield Difference(f"shape: {images[0].shape} -> {images[1].shape}")
        return
    if shift := np.abs(images[0].affine - images[1].affine).max():
        yield Difference(f"affine: elements differ by up to {shift:.3g}")
    yield from _compare_voxels(*(np.asarray(image.dataobj) for image in images))


def _compare_voxels(first: np.ndarray, second: np.ndarray) -> Iterator[Difference]:
    both_nan = np.isnan(first) & np.isnan(second)
    changed = (first != second) & ~both_nan
    if not changed.any():
        return
    n_used = np.count_nonzero((first != 0) | (second != 0))
    largest = np.abs(first[changed].astype(np.float64) - second[changed].astype(np.float64)).max()
    yield Difference(
        f"{np.count_nonzero(changed):,} of {first.size:,} voxels ({n_used:,} are not 0); "
        f"largest difference {largest:.6g}"
    )


def _compare_json(first: bytes, second: bytes, intended: Intended) -> Iterator[Difference]:
    leaves = [dict(_leaves(json.loads(content))) for content in (first, second)]
    n_yielded = 0
    for path in dict.fromkeys([*leaves[0], *leaves[1]]):
        old, new = (json.dumps(each[path]) if path in each else "absent" for each in leaves)
        if old != new:
            n_yielded += 1
            yield Difference(f"{path}: {_short(old)} -> {_short(new)}", _verdict_of_key(path, intended))
    if not n_yielded:
        yield Difference("order or layout of the keys")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Key paths such as ``Localization.Warnings[0]``, each with its value; empty containers are values."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]")
    else:
        yield path, value


def _verdict_of_key(path: str, intended: Intended) -> Verdict:
    keys = "." + re.sub(r"\[[0-9]+\]", "", path) + "."
    for verdict, names in ((Verdict.ALLOWED, MAY_DIFFER), (Verdict.INTENDED, intended.keys)):
        if any(f".{name}." in keys for name in names):
            return verdict
    return Verdict.DIFFERENT


def _compare_tables(first: bytes, second: bytes, intended: Intended) -> Iterator[Difference]:
    readers = [csv.DictReader(io.StringIO(content.decode()), delimiter="\t") for content in (first, second)]
    columns, tables = [list(each.fieldnames or ()) for each in readers], [list(each) for each in readers]
    n_yielded = 0
    for column in dict.fromkeys([*columns[0], *columns[1]]):
        verdict = Verdict.INTENDED if _matches(column, intended.columns) else Verdict.DIFFERENT
        if column not in columns[0] or column not in columns[1]:
            text = f"column {column}: {'absent -> new' if column in columns[1] else 'there -> absent'}"
            n_yielded += 1
            yield Difference(text, verdict)
            continue
        cells = [_cells(table, column) for table in tables]
        for row in dict.fromkeys([*cells[0], *cells[1]]):
            old, new = (each.get(row, "no such row") for each in cells)
            if old != new:
                n_yielded += 1
                yield Difference(f"{row}, {column}: {_short(old)} -> {_short(new)}", verdict)
    if not n_yielded:
        yield Difference("order or layout of rows or columns")


def _cells(table: list[dict[str, str]], column: str) -> dict[str, str]:
    """Tell the cells of a column by row."""
    identity = next((name for name in IDENTITIES if table and name in table[0]), None)
    names = [f"{identity} {row[identity]}" if identity else f"row {i}" for i, row in enumerate(table, start=1)]
    counts = Counter(names)
    # Two models may have done one scan.
    names = [name if counts[name] == 1 else f"{name} (row {i})" for i, name in enumerate(names, start=1)]
    return {name: row[column] for name, row in zip(names, table, strict=True)}


def _compare_texts(first: bytes, second: bytes, _: Intended) -> Iterator[Difference]:
    try:
        texts = [_without_circumstances(content.decode()) for content in (first, second)]
    except UnicodeDecodeError:
        yield Difference(f"bytes: {len(first):,} -> {len(second):,}")
        return
    if texts[0] == texts[1]:
        yield Difference("addresses, version or times", Verdict.ALLOWED)
        return
    lines = [Counter(line.strip() for line in text.splitlines() if line.strip()) for text in texts]
    gone, come = [*(lines[0] - lines[1]).elements()], [*(lines[1] - lines[0]).elements()]
    if not gone and not come:
        yield Difference("order or indentation of the lines")
    yield from (Difference(f"- {_short(line)}") for line in gone)
    yield from (Difference(f"+ {_short(line)}") for line in come)


def _without_circumstances(text: str) -> str:
    for pattern, word in ((VERSION, "VERSION"), (ADDRESS, "ADDRESS"), (TIME_OF_DAY, "TIME"), (MEASURED, "TIME")):
        text = pattern.sub(word, text)
    return text


def _short(text: str, length: int = 90) -> str:
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def format_table(findings: Sequence[Finding], all_files: bool = False) -> str:
    """Lay out one line a file with its differences below, and a sum; files that are the same only if asked for."""
    shown = [finding for finding in findings if all_files or finding.verdict is not Verdict.SAME]
    lines = []
    for finding in shown:
        lines.append(f"{finding.verdict:<10}  {finding.path}")
        lines += [f"{'':<12}{detail}" for detail in finding.details[:N_EXAMPLES]]
        if len(finding.details) > N_EXAMPLES:
            lines.append(f"{'':<12}... and {len(finding.details) - N_EXAMPLES} more")
    counts = Counter(finding.verdict for finding in findings)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    return "\n".join([*lines, f"{len(findings)} file(s): {words or 'none'}"])


def differ(findings: Sequence[Finding]) -> bool:
    """Whether anything differs that neither may nor is meant to."""
    return any(finding.verdict not in GOOD for finding in findings)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare what the command line names; print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--ignore-key", action="append", default=[], help="key or part of a key path of JSON files")
    parser.add_argument("--ignore-column", action="append", default=[], help="column of tables, with * for anything")
    parser.add_argument("--ignore-file", action="append", default=[], help="pattern of paths, such as '*.html'")
    parser.add_argument("--all", action="store_true", help="tell the files that are the same, too")
    words = parser.parse_args(argv)
    for folder in (words.before, words.after):
        if not (folder / "dataset_description.json").is_file():
            parser.error(f"{folder} is no output folder of the app: it has no dataset_description.json")
    intended = Intended(tuple(words.ignore_key), tuple(words.ignore_column), tuple(words.ignore_file))
    findings = compare_folders(words.before, words.after, intended)
    print(format_table(findings, words.all))
    return 1 if differ(findings) else 0


if __name__ == "__main__":
    sys.exit(main())
