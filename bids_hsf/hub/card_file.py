"""What may stand in a card file: its fields, their limits, and the JSON schema that editors read.

Values come as they are written, thus as strings; pydantic makes numbers of them. Of a mistake the line is told, what
was expected and what stands there.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError, core_schema

from bids_hsf.hub.marked_yaml import MarkedYaml, Place

OF_FAMILY = ("schema", "family", "orientation", "hemispheres", "labels", "merges")  # fields that no model has
MAX_MODEL_BYTES = 2**31  # a protobuf message, thus an ONNX file without external data, cannot be larger


@dataclass(frozen=True)
class Expected:
    """Limits of a value, and how they are said in a message.

    Attributes
    ----------
    description : str
        What stands after "expected".
    limits : mapping of str to object
        In pydantic's words: ``pattern``, ``min_length``, ``ge``, ``le``.
    word : str or None
        Stands for None.
    """

    description: str
    limits: dict[str, Any] = field(default_factory=dict)
    word: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Put the limits on the value's own schema, and our words over its errors."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source) | self.limits)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Allow for what editors take for numbers (version 4.0), and for the word."""
        shown: dict[str, Any] = handler(schema)
        if shown.get("type") == "string" and "enum" not in shown and "const" not in shown:
            shown["type"] = ["string", "number"]
        return {"anyOf": [{"const": self.word}, shown]} if self.word else shown

    def _check(self, value: Any, validate: Callable[[Any], Any]) -> Any:
        if self.word is not None and value == self.word:
            return None
        try:
            return validate(value)
        except ValidationError as error:
            facts = {"expected": self.description, "got": _shown(value)}
            raise PydanticCustomError("unexpected", "expected {expected}, got {got}", facts) from error


def _text(pattern: str, description: str) -> Expected:
    return Expected(description, {"pattern": f"^(?:{pattern})$"})


def _number(low: float, high: float) -> Expected:
    return Expected(f"a number from {low:g} to {high:g}", {"ge": low, "le": high})


def _whole(low: int, high: int) -> Expected:
    return Expected(f"a whole number from {low} to {high}", {"ge": low, "le": high})


def _number_or(word: str, low: float, high: float) -> Expected:
    return Expected(f"{word!r} or a number from {low:g} to {high:g}", {"ge": low, "le": high}, word)


def _shown(value: Any) -> str:
    """Describe a value in a word or two."""
    if isinstance(value, str):
        return repr(value if len(value) <= 200 else f"{value[:200]}...")
    return "nothing" if value is None else "a mapping" if isinstance(value, dict) else "a list"


def _left_out() -> Any:
    """Allow a field to be left out; what is given is told by `Form.given`."""
    return Field(default_factory=lambda: None)


def _in_order(scales: tuple[float, float]) -> tuple[float, float]:
    if scales[0] > scales[1]:
        raise ValueError
    return scales


NO_OTHER_KEYS = Field(json_schema_extra={"additionalProperties": False})

Text = Annotated[str, Expected("text", {"min_length": 1})]
Letters = Annotated[str, _text("[A-Za-z0-9]{1,24}", "letters and digits, at most 24")]
Name = Annotated[str, _text(r"[^\t\n]{1,80}", "one line of at most 80 characters")]
Color = Annotated[str, _text("#[0-9a-fA-F]{6}", 'a colour such as "#1f77b4", in quotes')]
ModelName = Annotated[str, _text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, '_', '.' and '-', at most 64")]
MergeName = Annotated[str, _text("[!-~]{1,24}", "a word of at most 24 characters")]
Zoom = Annotated[float, _number(0.1, 10)]
Scales = Annotated[
    tuple[Zoom, Zoom],
    AfterValidator(_in_order),
    Expected("the lowest and the highest zoom, from 0.1 to 10, such as [0.8, 1.2]"),
]
Ratios = Annotated[
    tuple[Zoom, Zoom],
    AfterValidator(_in_order),
    Expected("the lowest and the highest ratio, from 0.1 to 10, such as [0.9, 1.2]"),
]
Share = Annotated[float, _number(0, 1)]
Millimetres = Annotated[float, _number(0, 50)]


@dataclass(frozen=True)
class AugmentationRecipe:
    """Test-time augmentation: how one random sample is drawn. Defaults are HSF's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "allow_inf_nan": False,
        "use_attribute_docstrings": True,
    }

    flip_probability: Share = 0.5
    """Of a left-right flip."""
    affine_probability: Share = 0.8
    """Of an affine transform, else an elastic one, after the flip."""
    scales: Scales = (0.8, 1.2)
    """Lowest and highest zoom an axis."""
    rotation_degrees: Annotated[float, _number(0, 180)] = 15.0
    """Uniform in +- this, an axis."""
    translation_mm: Millimetres = 3.0
    """Uniform in +- this, an axis."""
    elastic_control_points: Annotated[int, _whole(4, 64)] = 4
    """An axis."""
    elastic_displacement_mm: Millimetres = 4.0
    """Largest displacement an axis."""
    sampling: Annotated[Literal["sobol", "random"], Expected("sobol or random")] = "sobol"
    """How samples are spread over all that: by a low-discrepancy sequence with samples of its own for each network,
    which needs fewer of them; or drawn one by one, the same for all networks, as HSF does."""
    votes: Annotated[Literal["plurality", "shares"], Expected("plurality or shares")] = "plurality"
    """How a pass votes in a voxel: for its most probable class, as HSF does; or for all classes by their probabilities
    to the power 1.5, the plain crop with .4 of a vote, which needs fewer samples of a single network."""

    @property
    def mirrors_alone(self) -> bool:
        """Whether each sample is the mirrored crop and nothing else, so that a second one tells nothing new."""
        still = self.scales == (1, 1) and self.rotation_degrees == 0 and self.translation_mm == 0
        return self.flip_probability == 1 and self.affine_probability == 1 and still


Weight = Annotated[float, _number(-100, 100)]


@dataclass(frozen=True)
class DiceWeights:
    """How the Dice with the truth is told from a result: its logit is a weighted sum of these figures."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "allow_inf_nan": False,
        "use_attribute_docstrings": True,
    }

    intercept: Weight
    """Of the sum."""
    entropy: Weight
    """Logarithm of the median of the normalised entropy over the labelled voxels."""
    main_share: Weight
    """Share of the labelled voxels in one piece."""
    overlap: Weight
    """Share of the located template's hippocampus that is labelled, 0.6 at the most; 0 in a ready-made crop."""
    unplaced: Weight
    """1 in a ready-made crop, which nothing was located in, else 0."""
    turned: Weight
    """1 where the head lies as heads hardly do, and is a mirror image as likely as not, else 0."""
    coarse: Weight = 0.0
    """Logarithm of the mean voxel size in mm, 0 up to 1 mm: of large voxels networks are less sure than need be."""
    crop_entropy: Weight = 0.0
    """The same as `entropy` in a ready-made crop, else 0."""
    whole_entropy: Weight = 0.0
    """Of a structure: `entropy` of the whole hippocampus that it is a part of; 0 for a whole one."""


def _refuse_unknown(known: Sequence[str], content: Any) -> Any:
    """Name the field that is likely meant by an unknown one."""
    for key in content if isinstance(content, dict) else ():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"expected one of: {', '.join(known)}"
            meant = "it stands above `models`, once for all of them" if key in OF_FAMILY else meant
            facts = {"key": key, "shown": _shown(key), "meant": meant}
            raise PydanticCustomError("unknown", "unknown field {shown}; {meant}", facts)
    return content


DiceForm = Annotated[
    DiceWeights, BeforeValidator(partial(_refuse_unknown, [field.name for field in fields(DiceWeights)]))
]


class Form(BaseModel):
    """A mapping of a card file: known fields alone, each of its type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown(cls, content: Any) -> Any:
        """Refuse what no field is called."""
        return _refuse_unknown([info.alias or name for name, info in cls.model_fields.items()], content)

    def given(self) -> dict[str, Any]:
        """Fields that stand in the file."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class StructureForm(Form):
    """How a structure is called and shown."""

    name: Name
    """Full name."""
    abbreviation: Letters
    """Short name, of which column names are made."""
    color: Color
    """#rrggbb, in quotes."""
    true_over_found: Ratios = _left_out()
    """True over found volume, 2.5th and 97.5th percentile on images of known truth: the prediction interval of a volume
    is made of it; optional."""


class LabelForm(StructureForm):
    """A structure that the networks tell apart."""

    index: Annotated[int, _whole(1, 99)]
    """1, 2, 3, ... in the order of the output channels. In label maps, the right hemisphere has 100 + index."""


class JoinForm(StructureForm):
    """Labels that a coarser set joins."""

    labels: list[Text]
    """Abbreviations, two or more."""


class MergeForm(Form):
    """A coarser label set; an empty one is the set of all labels as they are."""

    suffix: Letters = _left_out()
    """Appended to the family in file names."""
    join: Annotated[list[JoinForm], Field(min_length=1)] = _left_out()
    """Groups of labels; a joined label has the lowest index of its parts."""


class MemberForm(Form):
    """One ONNX file of an ensemble."""

    filename: Text = _left_out()
    """By default the last part of the source. Ends in .onnx, without folders."""
    url: Annotated[str, _text(r"(https?|file)://[!-~]{1,2000}", "an address that begins with https:// or file://")] = (
        _left_out()
    )
    """https:// or file:// address."""
    path: Annotated[str, _text("[A-Za-z0-9_.+/-]{1,200}", "letters, digits, '.', '_', '+', '-' and '/'")] = _left_out()
    """Path below the card's own folder, for files that ship with it."""
    size: Annotated[int, _whole(1, MAX_MODEL_BYTES)] = _left_out()
    """Bytes. Nothing longer is ever downloaded."""
    sha256: Annotated[str, _text("[0-9a-fA-F]{64}", "64 hexadecimal digits")] = _left_out()
    """Checksum; this one or xxh3_64 is needed."""
    xxh3_64: Annotated[str, _text("[0-9a-fA-F]{16}", "16 hexadecimal digits")] = _left_out()
    """Checksum; this one or sha256 is needed."""


class CoordinatesForm(MemberForm):
    """A network that tells the unfolded coordinates of a segmentation."""

    labels: Annotated[list[Text], Field(min_length=1)]
    """Abbreviations of the labels that have coordinates; a layer beside the sheet of grey matter has none."""


class SharedForm(Form):
    """Fields that may stand in the family, and in a model, where they replace the family's."""

    version: Annotated[str, _text("[!-~]{1,32}", "a word such as 1.0.0")] = _left_out()
    """Of the weights."""
    description: Text = _left_out()
    """One line."""
    license: Text = _left_out()
    """Of the weights, best an SPDX identifier."""
    authors: Annotated[list[Text], Field(min_length=1)] = _left_out()
    """Names."""
    citation: Text = _left_out()
    """What users cite."""
    training_data: Text = _left_out()
    """What the networks have seen."""
    evaluation: Text = _left_out()
    """How good they are, on what; optional."""
    accuracy: Annotated[str, _text(r"[^\t\n]{1,60}", "one line of at most 60 characters")] = _left_out()
    """The same in a few words, for the table of `hsf-hub list`; optional."""
    contrasts: Annotated[list[Annotated[Literal["T1w", "T2w"], Expected("T1w or T2w")]], Field(min_length=1)] = (
        _left_out()
    )
    """Images that the model may be run on."""
    voxel_size_mm: Annotated[float, _number_or("native", 0.1, 5)] = _left_out()
    """Crops are resampled to such isotropic voxels; native: the scan's own."""
    margin_mm: Annotated[float, _number_or("default", 0, 100)] = _left_out()
    """Margin of the crop around the hippocampus; optional."""
    normalization: Annotated[Literal["zscore"], Expected("zscore")] = _left_out()
    """zscore: over the whole crop, unbiased standard deviation."""
    pad_multiple: Annotated[int, _whole(1, 128)] = _left_out()
    """Each side of the crop becomes a multiple of it."""
    output: Annotated[Literal["probabilities", "logits"], Expected("probabilities or logits")] = _left_out()
    """What the networks give."""
    n_augmentations: Annotated[int, _whole(0, 1000)] = _left_out()
    """Random test-time samples beside the plain pass; optional, 0."""
    augmentation: Annotated[
        AugmentationRecipe,
        BeforeValidator(partial(_refuse_unknown, [field.name for field in fields(AugmentationRecipe)])),
    ] = _left_out()
    """How a sample is drawn; optional."""
    predicted_dice: DiceForm = _left_out()
    """How the Dice with the truth is told from a result; optional."""
    structure_dice: DiceForm = _left_out()
    """The same of a single structure, by its own entropy and the whole's; optional."""
    max_entropy: Share = _left_out()
    """Mean normalised entropy over a whole hippocampus; with more a result is worth a look; optional."""
    max_sides_apart: Annotated[float, _number(0, 10)] = _left_out()
    """Between the logits of what is predicted of the two sides; with more they are worth a look; optional, 0.6."""
    coordinates: CoordinatesForm = _left_out()
    """A further network that makes unfolded coordinates of the probabilities, for --write-coords; optional."""
    precision: Annotated[Literal["float32", "int8"], Expected("float32 or int8")] = _left_out()
    """Of the weights; optional, float32."""
    sparsity: Share = _left_out()
    """Share of weights that are zero; optional, 0."""
    minimum_app_version: Annotated[str, _text(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}", "a version such as 1.2")] = _left_out()
    """Of bids-hsf; optional."""


class ModelForm(SharedForm):
    """One model of a family."""

    members: Annotated[list[MemberForm], Field(min_length=1, max_length=100)]
    """ONNX files that vote."""


class FamilyForm(SharedForm):
    """A card file of bids-hsf: one family of models. See models_hub/README.md."""

    schema_version: Annotated[Literal["1"], Expected("1")] = Field(
        alias="schema", json_schema_extra={"const": 1, "type": "integer"}
    )
    """1."""
    family: Annotated[str, _text("[A-Za-z0-9]{1,32}", "letters and digits: it becomes the seg- entity of file names")]
    """Letters and digits; the seg- entity of file names."""
    orientation: Annotated[Literal["RAS"], Expected("RAS")]
    """Axes of the networks' input: to the right, to the front, up."""
    hemispheres: Annotated[Literal["shared"], Expected("shared")] = _left_out()
    """One network for left and right, each shown as it lies; optional."""
    labels: Annotated[list[LabelForm], Field(min_length=1, max_length=99)]
    """In the order of the output channels after background."""
    merges: Annotated[dict[MergeName, MergeForm], NO_OTHER_KEYS] = _left_out()
    """Coarser label sets for --ca-mode; optional."""
    models: Annotated[dict[ModelName, ModelForm], Field(min_length=1), NO_OTHER_KEYS]
    """Name of a model, as given to --model, to its fields."""


def parse_card_file(document: MarkedYaml) -> FamilyForm:
    """Check the content of a card file.

    Raises
    ------
    CardError
        With the line of the first mistake and what was expected.
    """
    try:
        return FamilyForm.model_validate(document.content)
    except ValidationError as error:
        mistakes = [_mistake(details) for details in error.errors(include_url=False)]
        # A missing field comes last: an unknown one may be meant for it.
        place, message = min(mistakes, key=lambda mistake: ("missing" in mistake[1], document.line(mistake[0])))
        raise document.error(place, message) from error


def card_schema() -> dict[str, Any]:
    """JSON schema of a card file, for editors; what fields have to do with each other is beyond it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **FamilyForm.model_json_schema()}


def _mistake(details: ErrorDetails) -> tuple[Place, str]:
    """Place and message of one of pydantic's errors."""
    kind, facts = details["type"], details.get("ctx", {})
    place = tuple(part for part in details["loc"] if part != "[key]")
    if kind == "missing":
        return place[:-1], f"missing field: {place[-1]}"
    if kind == "unknown":
        return (*place, facts["key"]), details["msg"]
    if kind == "unexpected":
        return place, details["msg"]
    if kind in ("too_short", "too_long"):
        bounds = "at least one item" if kind == "too_short" else f"at most {facts['max_length']} items"
        return place, f"expected {bounds}, got {facts['actual_length'] or 'none'}"
    shape = "a list" if kind == "list_type" else "a mapping of 'key: value' lines"
    return place, f"expected {shape}, got {_shown(details['input'])}"
