"""From templates to pages: rendering, addresses, and the writing of values for readers."""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bids_hsf import __version__

TEMPLATES = Path(__file__).parents[1] / "data" / "templates"

UNKNOWN = "n/a"


def anchor(scan: str, model: str, segmentation: str = "") -> str:
    """Name of a scan's section on its subject's page.

    >>> anchor("sub-01_T1w", "hsf")
    'sub-01_T1w-hsf'
    """
    name = "-".join(part for part in (scan, model, segmentation) if part)
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f".{ord(found[0]):x}", name)


def link_to(relative: Path) -> str:
    """Address of a file from a page in the root of the dataset."""
    return quote(relative.as_posix())


def citation_link(output_dir: Path) -> str | None:
    """Address of the methods text, where there is one."""
    path = Path("logs") / "CITATION.html"
    return link_to(path) if (output_dir / path).exists() else None


def to_text(value: Any) -> str:
    """Write any value of a JSON file for a reader.

    >>> to_text({"L": 1, "R": [0.5, None]})
    'L 1, R 0.5 n/a'
    """
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {to_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return ("; " if nested else " ").join(to_text(item) for item in value)
    return str(value)


def to_words(name: str) -> str:
    """Split a JSON name into words.

    >>> to_words("TestTimeAugmentations"), to_words("eTIV_mm3"), to_words("VoxelSizeMm")
    ('Test time augmentations', 'eTIV mm3', 'Voxel size mm')
    """
    if not re.fullmatch(r"[A-Z][A-Za-z]+", name):
        return re.sub(r"^eTIV(?=[A-Z])", "eTIV ", name).replace("_", " ")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def render(
    template: str, kind: str = "html", scripts: Sequence[str] = (), admitted: Sequence[str] = (), **values: Any
) -> str:
    """Fill a template; all that comes from files is escaped for the kind of page: "html", "md" or "bib".

    What is `Markup` is of that kind already. The policy of a page lets its `scripts` run, which are files of the
    package, what they bring along with a checksum that is `admitted`, and no other.
    """
    script = "".join(_asset(name) for name in scripts)
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sources = " ".join(f"'{each}'" for each in (f"sha256-{checksum}", *admitted))
    values |= {"script": Markup(script), "script_source": sources if scripts else "'none'"}  # noqa: S704
    page = _environment(kind).get_template(template)
    return page.render(**values).rstrip() + "\n"


def data_block(values: Any) -> Markup:
    r"""Write values as JSON that may stand between the tags of a script element.

    >>> print(data_block({"scan": "</script>"}))
    {"scan":"\u003c/script>"}
    """
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", r"\u003c"))  # noqa: S704


# Of a run of scans: kind to names.
TEMPLATES_OF_A_RUN = {
    "html": ("base.html.j2", "parts.html.j2", "subject.html.j2", "methods.txt.j2", "citation.html.j2"),
    "md": ("methods.txt.j2", "citation.md.j2"),
    "bib": ("citation.bib.j2",),
}


def prepare_templates() -> None:
    """Compile what a run of scans fills at its end, once a process: meanwhile another thread can do something else."""
    for kind, names in TEMPLATES_OF_A_RUN.items():
        for name in names:
            _environment(kind).get_template(name)


@lru_cache
def _asset(name: str) -> Markup:
    """Read a style sheet or a script of the package: it is no dataset's, and needs no escaping."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704


@lru_cache(maxsize=3)
def _environment(kind: str) -> Environment:
    escape = {"html": None, "md": escape_markdown, "bib": escape_bibtex}[kind]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape is None,  # noqa: S701 - `finalize` escapes for what is no HTML
        finalize=None if escape is None else lambda value: value if isinstance(value, Markup) else escape(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Globals, since macros do not see what a page is given.
    environment.globals |= {"version": __version__, "unknown": UNKNOWN, "asset": _asset}
    environment.filters |= {"mm3": _mm3, "percent": _percent, "fixed": _fixed}
    return environment


def escape_markdown(text: str) -> str:
    r"""Write a line so that Markdown shows it as it is; underscores within words need nothing.

    >>> print(escape_markdown("single_fast <b> *x* [y](z) _a_ &lt;"))
    single_fast \<b\> \*x\* \[y\](z) \_a\_ \&lt;
    """
    text = re.sub(r"[\\`*\[\]<>~|]", r"\\\g<0>", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)
    text = re.sub(r"&(?=#?\w+;)", r"\&", text)
    # What would begin a heading or a list.
    text = re.sub(r"^([#+-])(?=[#\s])", r"\\\1", text)
    return re.sub(r"^(\d+)(?=[.)]\s)", r"\1\\", text)


BIBTEX = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
}
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"'}


def escape_bibtex(text: str) -> str:
    r"""Write a text as the value of a BibTeX field; a brace in it is never one of BibTeX's, which count.

    >>> print(escape_bibtex("50 % {of} Ibáñez"))
    50 \% \textbraceleft{}of\textbraceright{} Ib{\'a}{\~n}ez
    """
    return "".join(_bibtex_letter(letter) for letter in text)


def _bibtex_letter(letter: str) -> str:
    base, accent = (*unicodedata.normalize("NFD", letter), "")[:2]
    if base.isascii() and accent in ACCENTS:
        return f"{{\\{ACCENTS[accent]}{base}}}"
    return BIBTEX.get(letter, letter)


def _mm3(value: float | None) -> str:
    """One decimal, thousands set off by a narrow space."""
    return UNKNOWN if value is None else f"{value:,.1f}".replace(",", "\u202f")


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:+.1f} %".replace("-", "\u2212")


def _fixed(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}".replace("-", "\u2212")
