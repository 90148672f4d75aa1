"""A real run of the app on the example data: its pictures, tables and reports, as the pages show them.

Nothing of it is kept in the repository. The site's configuration may name the folder of a run that is there
(``example_run``, as the tests do); else one is made, and made again whenever the package has changed.
"""

import csv
import hashlib
import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

from documented_study import MODEL, write_study
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import bids_hsf
from bids_hsf.reports.canvas import ENTROPY
from extension.code_tables import described_columns
from extension.markdown import code, plain, table

HERE = Path(__file__).parents[1]
OWN_RUN = HERE / "_build" / "example"
SHOWN = HERE / "_generated"  # where pages find the pictures
STUDY, DERIVATIVES = "study", "study/derivatives/bids-hsf"


def prepare(app: Sphinx) -> None:
    """Have a run, and lay its pictures where pages find them."""
    folder = Path(app.config.example_run) if app.config.example_run else _own_run()
    shutil.rmtree(SHOWN, ignore_errors=True)
    shutil.copytree(folder / DERIVATIVES, SHOWN / "bids-hsf", ignore=shutil.ignore_patterns("*.nii.gz", ".*"))
    (SHOWN / "tree.txt").write_text(_drawn(folder / DERIVATIVES), encoding="utf-8")


def publish(app: Sphinx, error: Exception | None) -> None:
    """Put the reports of the run beside the pages."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "example"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(SHOWN / "bids-hsf", target, ignore=shutil.ignore_patterns("logs"))


def _own_run() -> Path:
    """Segment the example data, unless that has been done with the package as it is."""
    mark, state = OWN_RUN / ".package", _state()
    if mark.is_file() and mark.read_text() == state:
        return OWN_RUN
    shutil.rmtree(OWN_RUN, ignore_errors=True)
    write_study(OWN_RUN / STUDY)
    words = [STUDY, DERIVATIVES, "participant", "group", "--model", MODEL]
    done = subprocess.run([sys.executable, "-m", "bids_hsf", *words], cwd=OWN_RUN, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise ExtensionError(f"The example run has ended with {done.returncode}")
    mark.write_text(state)
    return OWN_RUN


def _state() -> str:
    """Checksum of the package and of the models that ship with it."""
    package = Path(bids_hsf.__file__).parent
    paths = sorted([*package.rglob("*.py"), *package.rglob("*.j2"), *(HERE.parent / "models_hub").glob("*.yaml")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _only(pattern: str) -> Path:
    found = sorted((SHOWN / "bids-hsf").glob(pattern))
    if not found:
        raise ExtensionError(f"The example run has no {pattern}")
    return found[0]


def picture(words: str) -> str:
    """One figure of a report: ``NAME SUBJECT What is to be seen``."""
    name, subject, caption = words.split(" ", 2)
    if name == ENTROPY:  # a layer of another picture, which Sphinx knows no way to name
        path = _only(f"sub-{subject}/figures/*_desc-segmentation_dseg.svg").relative_to(SHOWN / "bids-hsf")
        source, told = html.escape(f"example/{path.as_posix()}#{name}"), html.escape(caption)
        image = f'<img class="report-figure" src="{source}" alt="{told}">'
        return f'<figure class="align-default">{image}<figcaption>{told}</figcaption></figure>\n'
    path = _only(f"sub-{subject}/figures/*_desc-{name}_dseg.svg")
    options = f":alt: {caption}\n:class: report-figure"
    return f"```{{figure}} /{path.relative_to(HERE).as_posix()}\n{options}\n\n{caption}\n```\n"


def report_links(_: str) -> str:
    """Links to the reports of the run, which lie beside the pages."""
    pages = sorted(path.name for path in (SHOWN / "bids-hsf").glob("*.html"))
    return (
        "\n".join(f'- <a href="example/{html.escape(name)}"><code>{html.escape(name)}</code></a>' for name in pages)
        + "\n"
    )


def rows_of(words: str) -> str:
    """Rows of a table of the run: ``PATTERN column,column,...``."""
    pattern, _, columns = words.partition(" ")
    with _only(pattern).open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    names = columns.split(",") if columns else list(rows[0])
    return table([code(name) for name in names], [[plain(row[name]) for name in names] for row in rows])


def dictionary(words: str) -> str:
    """Show the data dictionary of a table of the run, the JSON file beside it."""
    return described_columns(json.loads(_only(words).read_text(encoding="utf-8")))


def columns_of(words: str) -> str:
    """Names of the columns of a table of the run."""
    with _only(words).open(newline="") as stream:
        return ", ".join(code(name) for name in next(csv.reader(stream, delimiter="\t"))) + "\n"


def tree(_: str) -> str:
    """Show the files that the run has left."""
    return f"```text\n{(SHOWN / 'tree.txt').read_text(encoding='utf-8')}```\n"


def _drawn(folder: Path) -> str:
    """Draw a folder as a tree; what is alike for further scans is left out."""
    lines: list[str] = []
    first = sorted(path.name for path in folder.glob("sub-*") if path.is_dir())[0]
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts):
        parts = path.relative_to(folder).parts
        is_further = parts[0].startswith("sub-") and not parts[0].startswith(first)
        if is_further or any(part.startswith(".") for part in parts):
            continue
        lines.append("  " * len(parts) + path.name + ("/" if path.is_dir() else ""))
    return f"{folder.name}/\n" + "\n".join(lines) + "\n"


def seconds(_: str) -> str:
    """Tell what the run took, stage by stage, from its own provenance, and on which machine."""
    rows, host = [], {}
    _only("logs/**/*_provenance.json")
    for path in sorted((SHOWN / "bids-hsf" / "logs").rglob("*_provenance.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        host = record["Host"] | {"provider": record["Device"].get("Provider", "")}
        spent = record["Seconds"]
        rows.append(
            (
                code(f"{path.name.partition('_space')[0]}_{path.name.partition('space-')[2][:3]}"),
                spent,
                record["PeakMemoryMB"],
            )
        )
    stages = list(dict.fromkeys(stage for _, spent, _ in rows for stage in spent))
    body = [[key, *[f"{spent.get(stage, 0):.1f}" for stage in stages], f"{memory:.0f}"] for key, spent, memory in rows]
    machine = ", ".join(f"{key}: {value}" for key, value in host.items() if key not in ("Name", "Host") and value)
    return f"{table(['scan', *[f'{s}, s' for s in stages], 'memory, MB'], body)}\n\n{plain(machine)}\n"


MAKERS = {
    "picture": picture,
    "reports": report_links,
    "rows": rows_of,
    "columns": columns_of,
    "dictionary": dictionary,
    "tree": tree,
    "seconds": seconds,
}
