"""The methods text of a run, made from what really ran: Markdown, HTML and BibTeX."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from bids_hsf.reports.pages import render
from bids_hsf.reports.references import REFERENCES
from bids_hsf.segmentation.ballots import PLURALITY, Ballot

NOTICE = (
    "This text was made from what was run; it may be copied and changed freely. The results are for research use only."
)
MODEL = "model"  # key of the card's own citation

PROVIDERS = {
    "CPUExecutionProvider": "CPU",
    "OpenVINOExecutionProvider": "OpenVINO",
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
}

CONTRASTS = {"T1w": "T1-weighted", "T2w": "T2-weighted", "UNIT1": "MP2RAGE"}


@dataclass(frozen=True)
class Methods:
    """What a run did, as far as a methods section tells it.

    Attributes
    ----------
    model, model_version, model_license, model_citation : str
        From the card. A citation that begins with "@" is taken as BibTeX.
    labels : tuple of str
        Full names of the structures that were segmented.
    n_members, n_augmentations : int
        Networks, and random test-time samples beside the plain pass.
    contrasts : tuple of str
        BIDS suffixes of the scans.
    voxel_size_mm : float or None
        Of the crops; None for the scan's own voxels.
    mirrors_alone : bool
        The one sample is the mirrored crop.
    sampling : str
        "sobol" or "random": how samples are spread, as the card's recipe has it.
    ballot : Ballot
        How a pass votes.
    volume_tolerance : float or None
        Samples were taken until volumes were this exact, as a share; None where their number was given.
    provider : str or None
        ONNX Runtime's execution provider; None where nothing ran yet.
    reduced_precision : bool
        It may have computed in fewer bits than float32.
    packages : mapping of str to str
        Versions by name, as on PyPI.
    with_etiv : bool
        Intracranial volumes are estimated: a scan of the run at the least is large enough to show a head.
    with_joined_votes : bool
        The votes of two contrasts were joined.
    with_coordinates : bool
        Maps of unfolded coordinates were written.
    label_maps : tuple of str
        Other software whose label maps gave the crops, as the user named it.
    """

    model: str
    model_version: str
    model_license: str
    model_citation: str
    labels: tuple[str, ...]
    n_members: int
    n_augmentations: int
    contrasts: tuple[str, ...]
    voxel_size_mm: float | None = None
    mirrors_alone: bool = False
    sampling: str = "sobol"
    ballot: Ballot = PLURALITY
    volume_tolerance: float | None = None
    provider: str | None = None
    reduced_precision: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    with_etiv: bool = False
    with_joined_votes: bool = False
    with_coordinates: bool = False
    label_maps: tuple[str, ...] = ()

    @property
    def n_passes(self) -> int:
        """Votes for each hippocampus."""
        return self.n_members * (1 + self.n_augmentations)


@dataclass(frozen=True)
class Entry:
    """An entry of a BibTeX file.

    Attributes
    ----------
    kind : str
        "article", "misc".
    key : str
        Letters and digits.
    fields : mapping of str to str
        Text as people write it; the template escapes it.
    """

    kind: str
    key: str
    fields: Mapping[str, str]


class Citations:
    """The works that a text cites, in the order of their first citation; called by its template.

    Parameters
    ----------
    link : callable
        Writes a citation of a key and its short name for the format of the text.
    """

    def __init__(self, link: Callable[[str, str], str]) -> None:
        self._link = link
        self.keys: list[str] = []

    def __call__(self, key: str) -> str:
        """Cite a work."""
        if key not in self.keys:
            self.keys.append(key)
        return self._link(key, "the model's citation" if key == MODEL else REFERENCES[key].short)


def methods_markdown(methods: Methods) -> str:
    """Write ``CITATION.md``: paragraphs for a methods section, and the works that they cite."""
    paragraphs, keys = _text(methods, "md", lambda _key, short: f"({short})")
    works = [_work(key, methods) for key in keys]
    return render("citation.md.j2", "md", notice=NOTICE, paragraphs=paragraphs, works=works)


def methods_html(methods: Methods) -> str:
    """Write ``CITATION.html``: the same as `methods_markdown`, to be read in a browser."""
    paragraphs, keys = _text(methods, "html", lambda key, short: Markup('(<a href="#{}">{}</a>)').format(key, short))
    works = {key: _work(key, methods) for key in keys}
    return render("citation.html.j2", "html", notice=NOTICE, paragraphs=paragraphs, works=works)


def methods_bibtex(methods: Methods) -> str:
    """Write ``CITATION.bib``: the works that the text cites."""
    _, keys = _text(methods, "md", lambda _key, short: short)
    entries = [_model_entry(methods) if key == MODEL else _article(key) for key in keys]
    return render("citation.bib.j2", "bib", entries=entries)


def _text(methods: Methods, kind: str, link: Callable[[str, str], str]) -> tuple[list[Markup], list[str]]:
    """Paragraphs of the text, escaped for their format, and the keys of the works that they cite."""
    cite = Citations(link)
    runtime = next((name for name in methods.packages if name.startswith("onnxruntime")), "onnxruntime")
    text = render(
        "methods.txt.j2",
        kind,
        cite=cite,
        methods=_on_one_line(methods),
        scans=" and ".join(CONTRASTS.get(contrast, contrast) for contrast in methods.contrasts) or "Structural",
        provider=PROVIDERS.get(methods.provider or "", methods.provider or ""),
        runtime=methods.packages.get(runtime),
    )
    # Escaped by the template.
    return [Markup(" ".join(part.split())) for part in text.split("\n\n")], cite.keys  # noqa: S704


def _on_one_line(methods: Methods) -> Methods:
    """Give the texts of a card without line breaks and control characters: they are parts of sentences."""
    return replace(
        methods,
        model=_one_line(methods.model),
        model_version=_one_line(methods.model_version),
        model_license=_one_line(methods.model_license),
        model_citation=_one_line(methods.model_citation),
        labels=tuple(map(_one_line, methods.labels)),
    )


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _work(key: str, methods: Methods) -> str:
    """One line of the list of references."""
    if key == MODEL:
        return f"{_one_line(methods.model)} (model): {_one_line(methods.model_citation)}"
    return REFERENCES[key].full


def _article(key: str) -> Entry:
    work = REFERENCES[key]
    volume, pages = work.number.split(":")
    fields = {
        "author": work.authors,
        "title": work.title,
        "journal": work.venue,
        "year": str(work.year),
        "volume": volume,
        "pages": pages.replace("-", "--"),
        "doi": work.doi,
    }
    return Entry("article", key, fields)


def _model_entry(methods: Methods) -> Entry | Markup:
    """BibTeX of the model: the card's own, or an entry that quotes its citation."""
    citation = methods.model_citation.strip()
    if _is_bibtex(citation):
        return Markup(citation)  # noqa: S704 - BibTeX already
    key = re.sub(r"[^A-Za-z0-9]", "", methods.model) or MODEL
    # One of our own keys has an entry already.
    key = MODEL + key if key in REFERENCES else key
    plain = _on_one_line(methods)
    return Entry("misc", key, {"title": f"{plain.model} {plain.model_version}", "note": plain.model_citation})


def _is_bibtex(text: str) -> bool:
    """Whether a text is BibTeX that leaves the entries behind it as they are: all its braces close.

    >>> _is_bibtex("@article{mine, title = {Mine}}"), _is_bibtex("@article{mine, title = {Mine}")
    (True, False)
    """
    if not re.match(r"@\w+\s*\{\s*[^\s,{}]+\s*,", text):
        return False
    depth = 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if depth < 0:
            return False
    return depth == 0
