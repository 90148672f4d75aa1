"""The methods text of a run, made from what really ran: Markdown, HTML and BibTeX."""

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bids_hsf import __version__

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
    provider : str or None
        ONNX Runtime's execution provider; None where nothing ran yet.
    reduced_precision : bool
        It may have computed in fewer bits than float32.
    packages : mapping of str to str
        Versions by name, as on PyPI.
    with_etiv : bool
        Intracranial volumes were estimated.
    with_joined_votes : bool
        The votes of two contrasts were joined.
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
    provider: str | None = None
    reduced_precision: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    with_etiv: bool = True
    with_joined_votes: bool = False
    label_maps: tuple[str, ...] = ()

    @property
    def n_passes(self) -> int:
        """Votes for each hippocampus."""
        return self.n_members * (1 + self.n_augmentations)


@dataclass(frozen=True)
class Reference:
    """A publication; `authors` as BibTeX writes them."""

    authors: str
    title: str
    venue: str
    year: int
    number: str
    doi: str

    @property
    def short(self) -> str:
        """Name and year, as cited in the text."""
        names = [name.split(",")[0] for name in self.authors.split(" and ")]
        shown = (
            names[0] if len(names) == 1 else f"{names[0]} and {names[1]}" if len(names) == 2 else f"{names[0]} et al."
        )
        return f"{shown}, {self.year}"


REFERENCES = {
    "hsf": Reference(
        "Poiret, Clement and Bouyeure, Antoine and Patil, Sandesh and Grigis, Antoine and Duchesnay, Edouard and "
        "Faillot, Matthieu and Bottlaender, Michel and Lemaitre, Frederic and Noulhiane, Marion",
        "A fast and robust hippocampal subfields segmentation: HSF revealing lifespan volumetric dynamics",
        "Frontiers in Neuroinformatics",
        2023,
        "17:1130845",
        "10.3389/fninf.2023.1130845",
    ),
    "bids": Reference(
        "Gorgolewski, Krzysztof J. and Auer, Tibor and Calhoun, Vince D. and others",
        "The brain imaging data structure, a format for organizing and describing outputs of neuroimaging experiments",
        "Scientific Data",
        2016,
        "3:160044",
        "10.1038/sdata.2016.44",
    ),
    "bidsapps": Reference(
        "Gorgolewski, Krzysztof J. and Alfaro-Almagro, Fidel and Auer, Tibor and others",
        "BIDS apps: Improving ease of use, accessibility, and reproducibility of neuroimaging data analysis methods",
        "PLOS Computational Biology",
        2017,
        "13:e1005209",
        "10.1371/journal.pcbi.1005209",
    ),
    "pybids": Reference(
        "Yarkoni, Tal and Markiewicz, Christopher J. and de la Vega, Alejandro and others",
        "PyBIDS: Python tools for BIDS datasets",
        "Journal of Open Source Software",
        2019,
        "4:1294",
        "10.21105/joss.01294",
    ),
    "mni": Reference(
        "Fonov, Vladimir and Evans, Alan C. and Botteron, Kelly and Almli, C. Robert and McKinstry, Robert C. and "
        "Collins, D. Louis",
        "Unbiased average age-appropriate atlases for pediatric studies",
        "NeuroImage",
        2011,
        "54:313-327",
        "10.1016/j.neuroimage.2010.07.033",
    ),
    "mattes": Reference(
        "Mattes, David and Haynor, David R. and Vesselle, Hubert and Lewellen, Thomas K. and Eubank, William",
        "PET-CT image registration in the chest using free-form deformations",
        "IEEE Transactions on Medical Imaging",
        2003,
        "22:120-128",
        "10.1109/TMI.2003.809072",
    ),
    "simpleitk": Reference(
        "Lowekamp, Bradley C. and Chen, David T. and Ib{\\'a}{\\~n}ez, Luis and Blezek, Daniel",
        "The Design of SimpleITK",
        "Frontiers in Neuroinformatics",
        2013,
        "7:45",
        "10.3389/fninf.2013.00045",
    ),
    "torchio": Reference(
        "P{\\'e}rez-Garc{\\'i}a, Fernando and Sparks, Rachel and Ourselin, S{\\'e}bastien",
        "TorchIO: a Python library for efficient loading, preprocessing, augmentation and patch-based sampling of "
        "medical images in deep learning",
        "Computer Methods and Programs in Biomedicine",
        2021,
        "208:106236",
        "10.1016/j.cmpb.2021.106236",
    ),
    "etiv": Reference(
        "Buckner, Randy L. and Head, Denise and Parker, Jamie and Fotenos, Anthony F. and Marcus, Daniel and "
        "Morris, John C. and Snyder, Abraham Z.",
        "A unified approach for morphometric and functional data analysis in young, old, and demented adults using "
        "automated atlas-based head size normalization: reliability and validation against manual measurement of "
        "total intracranial volume",
        "NeuroImage",
        2004,
        "23:724-738",
        "10.1016/j.neuroimage.2004.06.018",
    ),
}

ACCENTS = {"{\\'a}": "á", "{\\'e}": "é", "{\\'i}": "í", "{\\~n}": "ñ"}

CITED = re.compile(r"\[@([a-z]+)\]")


def methods_markdown(methods: Methods) -> str:
    """Write ``CITATION.md``: paragraphs for a methods section, and the works that they cite."""
    body = "\n\n".join(CITED.sub(lambda found: f"({_short(found[1])})", text) for text in _paragraphs(methods))
    works = "\n".join(f"- {text}" for text in _bibliography(methods))
    return f"# Methods\n\n{NOTICE}\n\n{body}\n\n## References\n\n{works}\n"


def methods_html(methods: Methods) -> str:
    """Write ``CITATION.html``: the same as `methods_markdown`, to be read in a browser."""

    def link(found: re.Match[str]) -> str:
        return f'(<a href="#{found[1]}">{html.escape(_short(found[1]))}</a>)'

    body = "\n".join(f"<p>{CITED.sub(link, html.escape(text))}</p>" for text in _paragraphs(methods))
    keys = _cited(methods)
    works = "\n".join(
        f'<li id="{key}">{html.escape(text)}</li>' for key, text in zip(keys, _bibliography(methods), strict=True)
    )
    return PAGE.format(notice=html.escape(NOTICE), body=body, works=works)


def methods_bibtex(methods: Methods) -> str:
    """Write ``CITATION.bib``: the works that the text cites."""
    entries = []
    for key in _cited(methods):
        if key == "model":
            entries.append(_model_entry(methods))
            continue
        work = REFERENCES[key]
        volume, pages = work.number.split(":")
        fields = {
            "author": work.authors,
            "title": "{" + work.title + "}",
            "journal": work.venue,
            "year": str(work.year),
            "volume": volume,
            "pages": pages.replace("-", "--"),
            "doi": work.doi,
        }
        entries.append(_entry("article", key, fields))
    return "\n".join(entries)


NOTICE = (
    "This text was made from what was run; it may be copied and changed freely. The results are for research use only."
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Methods · bids-hsf</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 44rem; margin: 3rem auto; padding: 0 1.2rem; font: 1.0625rem/1.65 system-ui, sans-serif; }}
li {{ margin: .5rem 0; overflow-wrap: anywhere; }}
li:target {{ outline: 2px solid; outline-offset: .3rem; }}
.notice {{ font-size: .875rem; opacity: .8; }}
</style>
</head>
<body>
<h1>Methods</h1>
<p class="notice">{notice}</p>
{body}
<h2>References</h2>
<ul>
{works}
</ul>
</body>
</html>
"""


def _paragraphs(methods: Methods) -> Iterator[str]:
    """Sentences with ``[@key]`` where a work is cited."""
    scans = " and ".join(CONTRASTS.get(contrast, contrast) for contrast in methods.contrasts) or "Structural"
    yield (
        f"Hippocampi were segmented with bids-hsf {__version__}, a BIDS App [@bidsapps] that carries on the "
        f"hippocampal segmentation factory HSF [@hsf]. {scans} scans were selected from a dataset in the brain "
        f"imaging data structure [@bids] by PyBIDS{_version(methods, 'pybids')} [@pybids]. "
        "Each scan was registered to the symmetric MNI152 2009c template [@mni] by an affine transform that maximises "
        "mutual information, searched for from many poses and refined [@mattes] in SimpleITK"
        f"{_version(methods, 'SimpleITK')} [@simpleitk]; the template's hippocampi, carried into the scan and fitted "
        f"to their surroundings, gave a crop around each one, {_sampling(methods)}."
    )
    if methods.label_maps:
        yield f"Where there were label maps of {' or '.join(methods.label_maps)}, the crops followed their hippocampi."
    if methods.with_joined_votes:
        yield (
            "T1w and T2w scans of one session were brought together by a rigid transform that maximises Mattes mutual "
            "information; the networks saw each contrast, and the votes on both were joined on the voxels of one."
        )
    yield f"{_networks(methods)} {_decision(methods)}"
    etiv = (
        " Total intracranial volume was estimated from the scaling of the same affine transform [@etiv]."
        if methods.with_etiv
        else ""
    )
    yield (
        "The volume of a structure is the number of its voxels times the volume of a voxel, on the scan's own grid. "
        f"Structures: {', '.join(methods.labels)}, left and right.{etiv}"
    )


def _sampling(methods: Methods) -> str:
    if methods.voxel_size_mm is None:
        return "on the scan's own voxels"
    return f"resampled along the head's own axes to isotropic voxels of {methods.voxel_size_mm:g} mm"


def _networks(methods: Methods) -> str:
    """Which networks looked at a crop, how often, and on what."""
    number = "one network" if methods.n_members == 1 else f"each of the {methods.n_members} networks"
    name = f"the model {methods.model} {methods.model_version} under {methods.model_license} [@model]"
    provider = PROVIDERS.get(methods.provider or "", methods.provider or "")
    runtime = next((name for name in methods.packages if name.startswith("onnxruntime")), "onnxruntime")
    ran = f", run by ONNX Runtime{_version(methods, runtime)}" + (f" with its {provider} provider" if provider else "")
    ran += ", in reduced precision where the hardware has it" if methods.reduced_precision else ""
    seen = "every crop as it is"
    if methods.n_augmentations and methods.mirrors_alone:
        seen += " and mirrored"
    elif methods.n_augmentations:
        seen += (
            f" and {methods.n_augmentations} copies of it, randomly flipped and deformed by "
            f"TorchIO{_version(methods, 'torchio')} [@torchio]"
        )
    return f"{number.capitalize()} of {name}{ran}, saw {seen}."


def _decision(methods: Methods) -> str:
    """How the passes became labels."""
    if methods.n_passes == 1:
        return (
            "A voxel took its most probable class; its uncertainty is the entropy of the class probabilities, divided "
            "by the logarithm of the number of classes."
        )
    return (
        f"A voxel took the class that won most of the {methods.n_passes} votes, ties going to the class with the "
        "higher mean probability; its uncertainty is the entropy of the mean class probabilities, divided by the "
        "logarithm of the number of classes."
    )


def _version(methods: Methods, package: str) -> str:
    version = methods.packages.get(package)
    return f" {version}" if version else ""


def _cited(methods: Methods) -> list[str]:
    """Keys of the works in the order of their first citation."""
    return list(dict.fromkeys(key for text in _paragraphs(methods) for key in CITED.findall(text)))


def _short(key: str) -> str:
    return "the model's citation" if key == "model" else _readable(REFERENCES[key].short)


def _bibliography(methods: Methods) -> Iterator[str]:
    for key in _cited(methods):
        if key == "model":
            yield f"{methods.model} (model): {' '.join(methods.model_citation.split())}"
            continue
        work = REFERENCES[key]
        authors = [" ".join(reversed(name.split(", "))) for name in work.authors.split(" and ")]
        names = ", ".join("et al." if name == "others" else name for name in authors)
        yield _readable(f"{names} ({work.year}). {work.title}. {work.venue} {work.number}. https://doi.org/{work.doi}")


def _model_entry(methods: Methods) -> str:
    """BibTeX of the model: the card's own, or one that quotes its citation."""
    citation = methods.model_citation.strip()
    if citation.startswith("@"):
        return citation + "\n"
    key = re.sub(r"[^A-Za-z0-9]", "", methods.model) or "model"
    note = re.sub(r"([&%$#_{}])", r"\\\1", " ".join(citation.split()))
    title = re.sub(r"([&%$#_{}])", r"\\\1", methods.model)
    return _entry("misc", key, {"title": "{" + f"{title} {methods.model_version}" + "}", "note": note})


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}}}\n"


def _readable(text: str) -> str:
    """Write BibTeX's accents as letters."""
    for code, letter in ACCENTS.items():
        text = text.replace(code, letter)
    return text
