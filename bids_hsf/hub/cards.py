"""Model cards: what a hub's YAML file says of a family of models, typed and checked."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bids_hsf.hub.card_file import (
    MAX_MODEL_BYTES,
    AugmentationRecipe,
    CoordinatesForm,
    DiceWeights,
    FamilyForm,
    LabelForm,
    MemberForm,
    MergeForm,
    SharedForm,
    StructureForm,
    parse_card_file,
)
from bids_hsf.hub.marked_yaml import MarkedYaml, Place, read_yaml
from bids_hsf.labels import Label, Merge

__all__ = [
    "MAX_MODEL_BYTES",
    "AugmentationRecipe",
    "Coordinates",
    "Member",
    "ModelCard",
    "load_cards",
    "without_credentials",
]

NOT_STATED = "not stated"
# What either a model or its family has to say.
REQUIRED = (
    *("version", "description", "contrasts", "voxel_size_mm", "normalization", "pad_multiple", "output"),
    *("license", "citation", "authors", "training_data"),
)


@dataclass(frozen=True)
class Member:
    """One ONNX file of an ensemble.

    Attributes
    ----------
    filename : str
        Name in the cache, without any path part.
    source : str
        https:// or file:// address, or a path relative to the card for packaged members.
    size : int or None
        Bytes.
    sha256, xxh3_64 : str or None
        Hexadecimal checksums in lower case; at least one is given.
    """

    filename: str
    source: str
    size: int | None
    sha256: str | None
    xxh3_64: str | None

    @property
    def checksums(self) -> dict[str, str]:
        """Checksums that are stated, by algorithm."""
        stated = {"sha256": self.sha256, "xxh3_64": self.xxh3_64}
        return {algorithm: value for algorithm, value in stated.items() if value}

    @property
    def shown_source(self) -> str:
        """The source as it may be printed, without user name and password."""
        return without_credentials(self.source)


@dataclass(frozen=True)
class Coordinates:
    """A network that makes unfolded coordinates of what the members say.

    Attributes
    ----------
    network : Member
    labels : tuple of int
        Indices of the labels that have coordinates.
    """

    network: Member
    labels: tuple[int, ...]


@dataclass(frozen=True)
class ModelCard:
    """One model of a family: everything the app must know to run it.

    Attributes
    ----------
    name : str
        As given to ``--model``, such as "longaxis_single_fast".
    family : str
        Letters and digits; the ``seg-`` entity of outputs.
    version : str
    description : str
    members : tuple of Member
        Only these vote, whatever else lies in the folder.
    labels : tuple of Label
        In the order of the output channels after background.
    merges : tuple of Merge
        Coarser label sets that the card offers (``--ca-mode``).
    contrasts : tuple of str
        BIDS suffixes that the model may be run on, "T1w", "T2w".
    voxel_size_mm : float or None
        Isotropic voxel size of the crop, or None for the scan's own voxels.
    normalization : str
        "zscore": over the whole crop, unbiased standard deviation.
    pad_multiple : int
        Crops are padded symmetrically with zeros to a multiple of this.
    output : str
        "probabilities" or "logits".
    license, citation, training_data : str
    authors : tuple of str
    path : Path
        The YAML file.
    margin_mm : float or None
        Margin around the hippocampus; None for the app's default.
    n_augmentations : int
        Random test-time samples beside the plain pass.
    recipe : AugmentationRecipe
    evaluation, accuracy : str
        How good it is, at length and in a few words.
    minimum_app_version : str
    precision : str
        "float32" or "int8"; int8 pays where the CPU has VNNI or AMX.
    sparsity : float
        Share of weights that are zero.
    predicted_dice : DiceWeights or None
        How the Dice with the truth is told from a result; None where nothing was learnt.
    structure_dice : DiceWeights or None
        The same of a single structure, by its own entropy.
    max_entropy : float or None
        Mean over a whole hippocampus; with more a result is worth a look.
    max_sides_apart : float or None
        Between the logits of what is predicted of the two sides; with more they are worth a look.
    coordinates : Coordinates or None
        Tells unfolded coordinates; None where nothing was trained for it.
    """

    name: str
    family: str
    version: str
    description: str
    members: tuple[Member, ...]
    labels: tuple[Label, ...]
    merges: tuple[Merge, ...]
    contrasts: tuple[str, ...]
    voxel_size_mm: float | None
    normalization: str
    pad_multiple: int
    output: str
    license: str
    citation: str
    authors: tuple[str, ...]
    training_data: str
    path: Path
    margin_mm: float | None = None
    n_augmentations: int = 0
    recipe: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    evaluation: str = NOT_STATED
    accuracy: str = NOT_STATED
    minimum_app_version: str = "0"
    precision: str = "float32"
    sparsity: float = 0.0
    predicted_dice: DiceWeights | None = None
    structure_dice: DiceWeights | None = None
    max_entropy: float | None = None
    max_sides_apart: float | None = None
    coordinates: Coordinates | None = None

    @property
    def files(self) -> tuple[Member, ...]:
        """All ONNX files that a run may need: those that vote, and the one that tells coordinates."""
        return self.members if self.coordinates is None else (*self.members, self.coordinates.network)


def load_cards(path: Path) -> list[ModelCard]:
    """Read a family's YAML file; one card a model, in the file's order.

    Raises
    ------
    CardError
        With the file, the line and what was expected.
    """
    document = read_yaml(path)
    family = parse_card_file(document)
    labels = _labels(family.labels, document)
    merges = tuple(_merge(name, merge, labels, document) for name, merge in (family.merges or {}).items())
    return [_card(name, family, labels, merges, document) for name in family.models]


def without_credentials(text: str) -> str:
    """Text whose addresses hold neither user names nor passwords.

    >>> without_credentials("from https://ada:secret@host.example/net.onnx")
    'from https://host.example/net.onnx'
    """
    return re.sub(r"//[^/?#\s]*@", "//", text)


def _card(
    name: str, family: FamilyForm, labels: tuple[Label, ...], merges: tuple[Merge, ...], document: MarkedYaml
) -> ModelCard:
    """Assemble one model's card from the fields of its family and its own."""
    place: Place = ("models", name)
    own = {key: value for key, value in family.given().items() if key in SharedForm.model_fields}
    own |= family.models[name].given()
    for key in REQUIRED:
        if key not in own:
            raise document.error(place, f"model {name} has no {key}, and neither has its family")
    for key in ("contrasts", "authors"):
        at = (*place, key) if key in family.models[name].given() else (key,)
        own[key] = _distinct(own[key], at, document)
    if "augmentation" in own:
        own["recipe"] = own.pop("augmentation")
    own["members"] = _members(family.models[name].members, (*place, "members"), document)
    if "coordinates" in own:
        at = (*place, "coordinates") if "coordinates" in family.models[name].given() else ("coordinates",)
        own["coordinates"] = _coordinates(own["coordinates"], labels, at, document)
    return ModelCard(name=name, family=family.family, labels=labels, merges=merges, path=document.path, **own)


def _distinct(values: Sequence[str], place: Place, document: MarkedYaml) -> tuple[str, ...]:
    """Return `values`, which must differ."""
    twice = sorted(value for value, count in Counter(values).items() if count > 1)
    if twice:
        raise document.error(place, f"{', '.join(twice)} stands twice")
    return tuple(values)


def _members(forms: Sequence[MemberForm], place: Place, document: MarkedYaml) -> tuple[Member, ...]:
    """Read the list of ONNX files; every one with a name of its own."""
    members = tuple(_member(form, (*place, index), document) for index, form in enumerate(forms))
    _distinct([member.filename.lower() for member in members], place, document)
    return members


def _member(form: MemberForm, place: Place, document: MarkedYaml) -> Member:
    """Read one ONNX file of an ensemble."""
    if (form.url is None) == (form.path is None):
        raise document.error(place, "a member needs either a url or a path (relative to the card)")
    if form.sha256 is None and form.xxh3_64 is None:
        raise document.error(place, "a member needs a checksum, sha256 or xxh3_64; `hsf-hub checksum FILE` prints both")
    source, problem = form.url or form.path, _source_problem(form)
    if problem:
        raise document.error((*place, "url" if form.url else "path"), f"{without_credentials(source)}: {problem}")
    filename = form.filename or unquote(urlsplit(source).path).rpartition("/")[2]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,122}\.onnx", filename):
        raise document.error(
            (*place, "filename"),
            f"member file name {filename!r}: expected letters, digits, '.', '_', '+', '-' "
            "and the ending .onnx, no folders",
        )
    checksums = (value and value.lower() for value in (form.sha256, form.xxh3_64))
    return Member(filename, source, form.size, *checksums)


def _coordinates(form: CoordinatesForm, labels: tuple[Label, ...], place: Place, document: MarkedYaml) -> Coordinates:
    """Read the network that tells coordinates."""
    indices = {label.abbreviation: label.index for label in labels}
    named = _distinct(form.labels, (*place, "labels"), document)
    unknown = [name for name in named if name not in indices]
    if unknown:
        raise document.error((*place, "labels"), f"expected {' or '.join(indices)}, got {unknown[0]!r}")
    return Coordinates(_member(form, place, document), tuple(sorted(indices[name] for name in named)))


def _source_problem(form: MemberForm) -> str | None:
    """Say what is wrong with an address or a path beyond its characters."""
    if form.url is None:
        climbs = form.path.startswith("/") or ".." in form.path.split("/")
        return "expected a path below the card's own folder, without '..'" if climbs else None
    try:
        parts = urlsplit(form.url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        return f"no valid address: {error}"
    if parts.scheme == "file":
        return None if host in (None, "localhost") else "a file:// address has three slashes and an absolute path"
    return None if host else "no host in the address"


def _labels(forms: Sequence[LabelForm], document: MarkedYaml) -> tuple[Label, ...]:
    """Read the label table; indices are the output channels, so they count up from 1."""
    for i, form in enumerate(forms):
        if form.index != i + 1:
            raise document.error(
                ("labels", i, "index"),
                f"expected index {i + 1}, got {form.index}: labels are listed in the order of the output channels",
            )
    _distinct([form.abbreviation.lower() for form in forms], ("labels",), document)
    return tuple(_label(form.index, form) for form in forms)


def _label(index: int, form: StructureForm) -> Label:
    """Read one structure."""
    return Label(index, form.name, form.abbreviation, form.color.lower(), form.true_over_found)


def _merge(name: str, form: MergeForm, labels: tuple[Label, ...], document: MarkedYaml) -> Merge:
    """Read one label set by the labels that it joins; an empty one (`{}`) leaves all labels as they are."""
    place: Place = ("merges", name)
    if not form.given():
        return Merge(name, "", labels, {})
    if set(form.given()) != {"suffix", "join"}:
        raise document.error(place, f"label set {name}: expected both suffix and join, or neither")
    indices = {label.abbreviation: label.index for label in labels}
    merged: dict[int, Label] = {}
    parts: dict[int, int] = {}
    for i, joined in enumerate(form.join):
        inner = (*place, "join", i, "labels")
        unknown = [part for part in joined.labels if part not in indices]
        if unknown:
            raise document.error(inner, f"expected {' or '.join(indices)}, got {unknown[0]!r}")
        chosen = [indices[part] for part in joined.labels]
        if len(chosen) < 2 or len(set(chosen)) < len(chosen) or parts.keys() & set(chosen):
            raise document.error(inner, "expected two or more labels, each in one place only")
        parts |= dict.fromkeys(chosen, min(chosen))
        merged[min(chosen)] = _label(min(chosen), joined)
    kept = [merged.get(label.index, label) for label in labels if parts.get(label.index, label.index) == label.index]
    _distinct([label.abbreviation.lower() for label in kept], (*place, "join"), document)
    return Merge(name, form.suffix, tuple(kept), parts)
