"""Parts of files that are kept elsewhere in the repository: told once, shown here."""

import re
import statistics
from collections import defaultdict
from pathlib import Path

import documented_commands

from extension.markdown import from_docstring, table

ROOT = Path(__file__).parents[2]
RESULTS = "tests/benchmarks/results"


def section(words: str) -> str:
    """One section of a Markdown file: ``FILE Heading``, without its heading."""
    name, _, heading = words.partition(" ")
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"{name} has no section {heading!r}")
    return linked(found[2], Path(name).parent)


def lead(words: str) -> str:
    """Text of a Markdown file between its title and its first section."""
    return linked(_parted(words)[0], Path(words).parent)


def page(words: str) -> str:
    """All sections of a Markdown file."""
    return linked(_parted(words)[1], Path(words).parent)


def _parted(name: str) -> tuple[str, str]:
    """Part a file into what stands before its first section, without the title, and the rest."""
    text = (ROOT / name).read_text(encoding="utf-8")
    first = re.search(r"^## ", text, flags=re.MULTILINE)
    cut = first.start() if first else len(text)
    return re.sub(r"\A# .*\n", "", text[:cut]), text[cut:]


def starts_before_its_headings(text: str) -> bool:
    r"""Tell whether something stands before the first of the headings.

    >>> [starts_before_its_headings(text) for text in ("One.", "## A", "One.\n\n## A", "```\n# no heading\n```")]
    [False, False, True, False]
    """
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    first = re.search(r"^#{1,6} ", without_code, flags=re.MULTILINE)
    return first is not None and bool(without_code[: first.start()].strip())


def linked(text: str, folder: Path) -> str:
    """Let links to files of the repository lead to its page on the web; pictures are taken into the site."""

    def lead(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("#"):
            return match[0]
        path = (ROOT / folder / target.partition("#")[0]).resolve()
        if not path.exists():
            raise ValueError(f"{folder}: a link to {target}, which is not there")
        if match.group().startswith("!"):
            return f"![{match[1]}](../{path.relative_to(ROOT).as_posix()})"
        kind = "tree" if path.is_dir() else "blob"
        return (
            f"[{match[1]}](https://github.com/clementpoiret/bids-hsf/{kind}/main/{path.relative_to(ROOT).as_posix()})"
        )

    return re.sub(r"!?\[([^\]]*)\]\(([^)\s]+)\)", lead, text)


def scores(name: str) -> str:
    """Means of a table of scores that ``hsf-hub evaluate`` or a judge has written."""
    lines = [line.split("\t") for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    heads, rows = lines[0], lines[1:]
    measures = heads[2:]
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        for measure, text in zip(measures, row[2:], strict=True):
            if text != "n/a":
                values[row[1], measure].append(float(text))
    shown = {"dice": "Dice", "hd95_mm": "HD95, mm", "volume_similarity": "volume similarity"}
    structures = list(dict.fromkeys(row[1] for row in rows))
    body = [
        [structure, *[_mean(values[structure, measure]) for measure in measures], len({r[0] for r in rows})]
        for structure in structures
    ]
    return table(["structure", *[f"{shown.get(m, m)}, mean (sd)" for m in measures], "cases"], body)


def _mean(numbers: list[float]) -> str:
    return f"{statistics.mean(numbers):.3f} ({statistics.stdev(numbers):.3f})" if len(numbers) > 1 else "n/a"


def figures(name: str) -> str:
    """Show a table as a benchmark wrote it."""
    heads, *rows = [line.split("\t") for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return table(heads, [["n/a" if cell == "nan" else cell for cell in row] for row in rows])


def beside_hsf(_: str) -> str:
    """Show what `compare_hsf.py` has written, or say that it has not."""
    names = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / RESULTS).glob("*hsf*.tsv"))
    if not names:
        return "Not measured with this version.\n"
    return "\n".join(f"`{name}`:\n\n{figures(name)}" for name in names)


def tried(_: str) -> str:
    """Tell how many of the commands of this site are tried in which way, and what the ways are."""
    explained = re.split(r"^=+ =+$", documented_commands.__doc__ or "", flags=re.M)[1]
    ways = re.findall(r"^(\S+) +(.*(?:\n {10}.*)*)", explained, re.M)
    found = documented_commands.counts()
    return table(
        ["way", "how", "commands"], [(way, from_docstring(" ".join(how.split())), found[way]) for way, how in ways]
    )


MAKERS = {
    "section": section,
    "lead": lead,
    "page": page,
    "scores": scores,
    "figures": figures,
    "beside-hsf": beside_hsf,
    "tried": tried,
}
