"""Model cards: what a hub's YAML file says of a family of models, typed and checked."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bids_hsf.hub.marked_yaml import Entry, read_yaml
from bids_hsf.labels import Label, Merge

SUFFIXES = ("T1w", "T2w")

MAX_MODEL_BYTES = 2**31  # a protobuf message, thus an ONNX file without external data, cannot be larger
_SHARED_REQUIRED = (
    *("version", "description", "contrasts", "voxel_size_mm", "normalization", "pad_multiple", "output"),
    *("license", "citation", "authors", "training_data"),
)

# What a card may leave out, as it would be written.
_DEFAULTS = {
    "margin_mm": "default",
    "evaluation": "not stated",
    "minimum_app_version": "0",
    "n_augmentations": "0",
    "precision": "float32",
    "sparsity": "0",
}

_SHARED = (*_SHARED_REQUIRED, *_DEFAULTS, "augmentation")


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
        Hexadecimal checksums; at least one is given.
    """

    filename: str
    source: str
    size: int | None
    sha256: str | None
    xxh3_64: str | None


@dataclass(frozen=True)
class AugmentationRecipe:
    """Test-time augmentation: how one random sample is drawn. Defaults are HSF's.

    Attributes
    ----------
    flip_probability : float
        Left-right flip.
    affine_probability : float
        Affine, else elastic, after the flip.
    scales : tuple of float
        Lowest and highest zoom an axis.
    rotation_degrees, translation_mm : float
        Uniform in +- this, an axis.
    elastic_control_points : int
        An axis.
    elastic_displacement_mm : float
        Largest displacement an axis.
    """

    flip_probability: float = 0.5
    affine_probability: float = 0.8
    scales: tuple[float, float] = (0.8, 1.2)
    rotation_degrees: float = 15.0
    translation_mm: float = 3.0
    elastic_control_points: int = 4
    elastic_displacement_mm: float = 4.0

    @property
    def mirrors_alone(self) -> bool:
        """Whether each sample is the mirrored crop and nothing else, so that a second one tells nothing new."""
        still = self.scales == (1, 1) and self.rotation_degrees == 0 and self.translation_mm == 0
        return self.flip_probability == 1 and self.affine_probability == 1 and still


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
    margin_mm : float or None
        Margin around the hippocampus; None for the app's default.
    normalization : str
        "zscore": over the whole crop, unbiased standard deviation.
    pad_multiple : int
        Crops are padded symmetrically with zeros to a multiple of this.
    output : str
        "probabilities" or "logits".
    n_augmentations : int
        Random test-time samples beside the plain pass.
    recipe : AugmentationRecipe
    license, citation, training_data : str
    authors : tuple of str
    evaluation : str
    minimum_app_version : str
    path : Path
        The YAML file.
    precision : str
        "float32" or "int8"; int8 pays where the CPU has VNNI or AMX.
    sparsity : float
        Share of weights that are zero.
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
    margin_mm: float | None
    normalization: str
    pad_multiple: int
    output: str
    n_augmentations: int
    recipe: AugmentationRecipe
    license: str
    citation: str
    authors: tuple[str, ...]
    training_data: str
    evaluation: str
    minimum_app_version: str
    path: Path
    precision: str = "float32"
    sparsity: float = 0.0


def load_cards(path: Path) -> list[ModelCard]:
    """Read a family's YAML file; one card a model, in the file's order.

    Raises
    ------
    CardError
        With the file, the line and what was expected.
    """
    root = read_yaml(path)
    family = root.fields(
        required=("schema", "family", "orientation", "labels", "models"),
        optional=("hemispheres", "merges", *_SHARED),
    )
    family["schema"].choice(("1",))
    family["orientation"].choice(("RAS",))
    if "hemispheres" in family:
        family["hemispheres"].choice(("shared",))
    labels = _labels(family["labels"])
    merges = _merges(family["merges"], labels) if "merges" in family else ()
    defaults = {key: root.scalar(text) for key, text in _DEFAULTS.items()}
    shared = defaults | {key: entry for key, entry in family.items() if key in (*_SHARED, "family")}
    cards = [_card(name, entry, shared, (labels, merges)) for name, entry in family["models"].pairs()]
    if not cards:
        raise family["models"].error("a family needs at least one model")
    return cards


def _card(
    name: Entry,
    entry: Entry,
    shared: dict[str, Entry],
    tables: tuple[tuple[Label, ...], tuple[Merge, ...]],
) -> ModelCard:
    """Assemble one model's card from the fields of its family and its own."""
    name_text = name.text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, '_', '.' and '-', at most 64")
    own = shared | entry.fields(required=("members",), optional=_SHARED)
    for key in _SHARED_REQUIRED:
        if key not in own:
            raise entry.error(f"model {name_text} has no {key}, and neither has its family")
    return ModelCard(
        name=name_text,
        family=own["family"].text(r"[A-Za-z0-9]{1,32}", "letters and digits: it becomes the seg- entity of file names"),
        version=own["version"].text(r"[!-~]{1,32}", "a word such as 1.0.0"),
        description=own["description"].text(),
        members=_members(own["members"]),
        labels=tables[0],
        merges=tables[1],
        contrasts=own["contrasts"].distinct([entry.choice(SUFFIXES) for entry in own["contrasts"].items()]),
        voxel_size_mm=own["voxel_size_mm"].number_or("native", 0.1, 5.0),
        margin_mm=own["margin_mm"].number_or("default", 0.0, 100.0),
        normalization=own["normalization"].choice(("zscore",)),
        pad_multiple=own["pad_multiple"].integer(1, 128),
        output=own["output"].choice(("probabilities", "logits")),
        n_augmentations=own["n_augmentations"].integer(0, 1000),
        recipe=_recipe(own["augmentation"]) if "augmentation" in own else AugmentationRecipe(),
        license=own["license"].text(),
        citation=own["citation"].text(),
        authors=own["authors"].distinct([author.text() for author in own["authors"].items()]),
        training_data=own["training_data"].text(),
        evaluation=own["evaluation"].text(),
        minimum_app_version=own["minimum_app_version"].text(r"\d+(\.\d+)*", "a version such as 1.2"),
        path=entry.path,
        precision=own["precision"].choice(("float32", "int8")),
        sparsity=own["sparsity"].number(0.0, 1.0),
    )


def _members(entry: Entry) -> tuple[Member, ...]:
    """Read the list of ONNX files; every one with a checksum and a name of its own."""
    members = tuple(_member(item) for item in entry.items())
    entry.distinct([member.filename.lower() for member in members])
    if not 1 <= len(members) <= 100:
        raise entry.error(f"expected 1 to 100 members, got {len(members)}")
    return members


def _member(entry: Entry) -> Member:
    """Read one ONNX file of an ensemble."""
    fields = entry.fields(optional=("filename", "url", "path", "size", "sha256", "xxh3_64"))
    if ("url" in fields) == ("path" in fields):
        raise entry.error("a member needs either a url or a path (relative to the card)")
    if "sha256" not in fields and "xxh3_64" not in fields:
        raise entry.error("a member needs a checksum, sha256 or xxh3_64; `hsf-hub checksum FILE` prints both")
    source = _url(fields["url"]) if "url" in fields else _relative_path(fields["path"])
    size = fields.get("size")
    sha256 = fields.get("sha256")
    xxh3_64 = fields.get("xxh3_64")
    return Member(
        filename=_filename(fields, source, entry),
        source=source,
        size=None if size is None else size.integer(1, MAX_MODEL_BYTES),
        sha256=None if sha256 is None else sha256.text(r"[0-9a-fA-F]{64}", "64 hexadecimal digits").lower(),
        xxh3_64=None if xxh3_64 is None else xxh3_64.text(r"[0-9a-fA-F]{16}", "16 hexadecimal digits").lower(),
    )


def _filename(fields: dict[str, Entry], source: str, entry: Entry) -> str:
    """Name of a member in the cache: as stated, else the last part of its source."""
    filename = fields["filename"].text() if "filename" in fields else unquote(urlsplit(source).path).rpartition("/")[2]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,122}\.onnx", filename):
        where = fields.get("filename", entry)
        raise where.error(
            f"member file name {filename!r}: expected letters, digits, '.', '_', '+', '-' "
            "and the ending .onnx, no folders"
        )
    return filename


def _url(entry: Entry) -> str:
    """Read an address that names a file, without folders that climb."""
    url = entry.text(r"(https?|file)://[!-~]+", "an address that begins with https:// or file://")
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise entry.error(f"{url}: a file:// address has three slashes and an absolute path")
    if parts.scheme != "file" and not parts.hostname:
        raise entry.error(f"{url}: no host in the address")
    return url


def _relative_path(entry: Entry) -> str:
    """Read a packaged member's path: below the card's own folder."""
    text = entry.text(r"[A-Za-z0-9_.+/-]{1,200}", "letters, digits, '.', '_', '+', '-' and '/'")
    if text.startswith("/") or ".." in text.split("/"):
        raise entry.error(f"{text}: expected a path below the card's own folder, without '..'")
    return text


def _labels(entry: Entry) -> tuple[Label, ...]:
    """Read the label table; indices are the output channels, so they count up from 1."""
    labels = []
    for expected, item in enumerate(entry.items(), start=1):
        fields = item.fields(required=("index", "name", "abbreviation", "color"))
        index = fields["index"].integer(1, 99)
        if index != expected:
            raise fields["index"].error(
                f"expected index {expected}, got {index}: labels are listed in the order of the output channels"
            )
        labels.append(Label(index, *_naming(fields)))
    if not labels:
        raise entry.error("expected at least one label")
    entry.distinct([label.abbreviation.lower() for label in labels])
    return tuple(labels)


def _naming(fields: dict[str, Entry]) -> tuple[str, str, str]:
    """Name, abbreviation and colour of a label."""
    return (
        fields["name"].text(r"[^\t\n]{1,80}", "one line of at most 80 characters"),
        fields["abbreviation"].text(r"[A-Za-z0-9]{1,24}", "letters and digits"),
        fields["color"].text(r"#[0-9a-fA-F]{6}", 'a colour such as "#1f77b4", in quotes').lower(),
    )


def _merges(entry: Entry, labels: tuple[Label, ...]) -> tuple[Merge, ...]:
    """Read the coarser label sets, each by the labels that it joins."""
    return tuple(_merge(name.text(r"[!-~]{1,24}", "a word"), item, labels) for name, item in entry.pairs())


def _merge(name: str, entry: Entry, labels: tuple[Label, ...]) -> Merge:
    """Read one label set; an empty one (`{}`) leaves all labels as they are."""
    fields = entry.fields(optional=("suffix", "join"))
    if not fields:
        return Merge(name, "", labels, {})
    if set(fields) != {"suffix", "join"}:
        raise entry.error(f"label set {name}: expected both suffix and join, or neither")
    indices = {label.abbreviation: label.index for label in labels}
    merged: dict[int, Label] = {}
    parts: dict[int, int] = {}
    for item in fields["join"].items():
        joined = item.fields(required=("labels", "name", "abbreviation", "color"))
        chosen = [indices[part.choice(tuple(indices))] for part in joined["labels"].items()]
        if len(chosen) < 2 or len(set(chosen)) < len(chosen) or parts.keys() & set(chosen):
            raise joined["labels"].error("expected two or more labels, each in one place only")
        parts |= dict.fromkeys(chosen, min(chosen))
        merged[min(chosen)] = Label(min(chosen), *_naming(joined))
    if not parts:
        raise fields["join"].error("expected at least one group of labels to join")
    kept = [merged.get(label.index, label) for label in labels if parts.get(label.index, label.index) == label.index]
    fields["join"].distinct([label.abbreviation.lower() for label in kept])
    return Merge(name, fields["suffix"].text(r"[A-Za-z0-9]{1,24}", "letters and digits"), tuple(kept), parts)


def _recipe(entry: Entry) -> AugmentationRecipe:
    """Read how test-time samples are drawn; what is not said is as in HSF."""
    bounds = {
        "flip_probability": (0.0, 1.0),
        "affine_probability": (0.0, 1.0),
        "rotation_degrees": (0.0, 180.0),
        "translation_mm": (0.0, 50.0),
        "elastic_displacement_mm": (0.0, 50.0),
    }
    fields = entry.fields(optional=(*bounds, "scales", "elastic_control_points"))
    recipe = AugmentationRecipe()
    numbers = {key: fields[key].number(*limit) for key, limit in bounds.items() if key in fields}
    recipe = replace(recipe, **numbers)  # type: ignore[arg-type]
    if "scales" in fields:
        values = [item.number(0.1, 10.0) for item in fields["scales"].items()]
        if len(values) != 2 or values[0] > values[1]:
            raise fields["scales"].error("expected the lowest and the highest zoom, such as [0.8, 1.2]")
        recipe = replace(recipe, scales=(values[0], values[1]))
    if "elastic_control_points" in fields:
        recipe = replace(recipe, elastic_control_points=fields["elastic_control_points"].integer(4, 64))
    return recipe
