import json
import re
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bids_hsf.errors import CardError
from bids_hsf.hub.card_file import card_schema
from bids_hsf.hub.cards import AugmentationRecipe, load_cards
from bids_hsf.hub.models import packaged_hub_dir
from bids_hsf.labels import Label

SHA = "ab" * 32
CARD = f"""\
schema: 1
family: lab
version: 4.0
description: Two made-up structures
orientation: RAS
contrasts: [T1w, T2w]
voxel_size_mm: 0.8
margin_mm: 6
normalization: zscore
pad_multiple: 16
output: logits
labels:
  - {{index: 1, name: Head part, abbreviation: head, color: "#AA0000"}}
  - {{index: 2, name: Body part, abbreviation: body, color: "#00aa00"}}
  - {{index: 3, name: Tail part, abbreviation: tail, color: "#0000aa"}}
merges:
  "1/2/3": {{}}
  HBT:
    suffix: Rest
    join:
      - {{labels: [tail, body], name: Body and tail, abbreviation: bodytail, color: "#00aaaa"}}
license: CC0-1.0
citation: none
authors: [Ada, Grace]
training_data: none
models:
  lab_fast:
    members:
      - url: https://host.example/a/lab_1.onnx?download=1
        size: 1000
        sha256: {SHA}
  lab_accurate:
    version: 4.1
    n_augmentations: 5
    augmentation: {{flip_probability: 0, scales: [0.9, 1.1], elastic_control_points: 7}}
    members:
      - path: weights/lab_2.onnx
        xxh3_64: 1234567890123456
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.yaml"


def load(path: Path, text: str = CARD):
    path.write_text(text, encoding="utf-8")
    return load_cards(path)


def test_a_family_is_read_with_what_its_models_change(path: Path) -> None:
    fast, accurate = load(path)
    assert (fast.name, fast.version, accurate.version) == ("lab_fast", "4.0", "4.1")
    assert (fast.voxel_size_mm, fast.margin_mm, fast.pad_multiple, fast.output) == (0.8, 6.0, 16, "logits")
    assert fast.labels[0] == Label(1, "Head part", "head", "#aa0000")
    assert fast.members[0].filename == "lab_1.onnx"
    assert (fast.members[0].size, fast.members[0].sha256, fast.members[0].xxh3_64) == (1000, SHA, None)
    assert fast.recipe == AugmentationRecipe()
    assert (fast.n_augmentations, accurate.n_augmentations) == (0, 5)
    assert accurate.recipe == AugmentationRecipe(flip_probability=0, scales=(0.9, 1.1), elastic_control_points=7)
    # All digits: a plain YAML reader would make a number of it.
    assert (accurate.members[0].source, accurate.members[0].xxh3_64) == ("weights/lab_2.onnx", "1234567890123456")
    assert (fast.precision, fast.sparsity, fast.minimum_app_version, fast.path) == ("float32", 0.0, "0", path)


def test_merges_keep_the_meaning_of_an_index(path: Path) -> None:
    none, joined = load(path)[0].merges
    assert (none.name, none.suffix, none.parts) == ("1/2/3", "", {})
    assert (joined.name, joined.suffix, joined.parts) == ("HBT", "Rest", {2: 2, 3: 2})
    assert [(label.index, label.abbreviation) for label in joined.labels] == [(1, "head"), (2, "bodytail")]


def test_hsf_merges_are_those_of_its_ca_mode() -> None:
    merges = {merge.name: merge for merge in load_cards(packaged_hub_dir() / "hsf.yaml")[0].merges}
    assert list(merges) == ["1/2/3", "1/23", "123", "whole"]
    assert merges["1/23"].parts == {3: 3, 4: 3}
    assert merges["123"].parts == {2: 2, 3: 2, 4: 2}
    assert merges["whole"].parts == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    assert [merge.suffix for merge in merges.values()] == ["", "CA23", "CA123", "Hippocampus"]
    assert [label.index for label in merges["1/23"].labels] == [1, 2, 3, 5]


def test_what_is_known_of_the_errors_of_volumes_belongs_to_labels_and_to_joined_ones(tmp_path: Path) -> None:
    text = CARD.replace('"#AA0000"', '"#AA0000", true_over_found: [0.9, 1.2]')
    text = text.replace('"#00aaaa"', '"#00aaaa", true_over_found: [0.8, 1]')
    path = tmp_path / "lab.yaml"
    path.write_text(text, encoding="utf-8")
    card = load_cards(path)[0]
    assert [label.true_over_found for label in card.labels] == [(0.9, 1.2), None, None]
    (merge,) = [merge for merge in card.merges if merge.parts]
    assert {label.abbreviation: label.true_over_found for label in merge.labels}["bodytail"] == (0.8, 1)


COORDINATES = f"""coordinates:
  url: https://host.example/lab_coordinates.onnx
  sha256: {SHA}
  labels: [tail, head]
"""


def test_a_network_that_tells_coordinates_is_a_file_that_does_not_vote(path: Path) -> None:
    card, _ = load(path, CARD.replace("models:", COORDINATES + "models:"))
    assert card.coordinates is not None
    assert card.coordinates.labels == (1, 3)
    assert [member.filename for member in card.members] == ["lab_1.onnx"]
    assert [member.filename for member in card.files] == ["lab_1.onnx", "lab_coordinates.onnx"]
    assert load(path)[0].files == load(path)[0].members


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[tail, head]", "[tail, feet]", "expected head or body or tail, got 'feet'"),
        ("[tail, head]", "[tail, tail]", "tail stands twice"),
        ("[tail, head]", "[]", "expected at least one item"),
        ("  labels: [tail, head]\n", "", "missing field: labels"),
        (f"  sha256: {SHA}\n", "", "a member needs a checksum"),
        ("lab_coordinates.onnx", "lab_coordinates.pt", "the ending .onnx"),
        ("https://host.example/", "https:///", "no host in the address"),
    ],
)
def test_a_mistake_of_that_network_is_told(path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(CardError, match=re.escape(message)):
        load(path, CARD.replace("models:", COORDINATES.replace(old, new) + "models:"))


def line_of(text: str) -> int:
    return CARD[: CARD.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("contrasts:", "contrast:", "unknown field 'contrast'; did you mean contrasts?"),
        ("contrasts: [T1w, T2w]", "contrasts: [T1]", "expected T1w or T2w, got 'T1'"),
        ("contrasts: [T1w, T2w]", "contrasts: T1w", "expected a list, got 'T1w'"),
        ("contrasts: [T1w, T2w]", "contrasts: [T1w, T1w]", "T1w stands twice"),
        ("schema: 1", "schema: 2", "expected 1, got '2'"),
        ("family: lab", "family: my-lab", "expected letters and digits"),
        ("orientation: RAS", "orientation: LPS", "expected RAS, got 'LPS'"),
        ("voxel_size_mm: 0.8", "voxel_size_mm: fixed", "expected 'native' or a number from 0.1 to 5, got 'fixed'"),
        ("voxel_size_mm: 0.8", "voxel_size_mm: 80", "expected 'native' or a number from 0.1 to 5, got '80'"),
        ("voxel_size_mm: 0.8", "voxel_size_mm: .nan", "expected 'native' or a number"),
        ("pad_multiple: 16", "pad_multiple: 8.5", "expected a whole number from 1 to 128, got '8.5'"),
        ("normalization: zscore", "normalization: minmax", "expected zscore, got 'minmax'"),
        ("output: logits", "output: softmax", "expected probabilities or logits, got 'softmax'"),
        ("{index: 2, name: Body", "{index: 3, name: Body", "expected index 2, got 3"),
        ("abbreviation: body,", "abbreviation: bo_dy,", "expected letters and digits, at most 24, got 'bo_dy'"),
        ("{index: 1, name: Head part, abb", "{index: 1, abb", "missing field: name"),
        ('color: "#AA0000"', "color: #AA0000", None),
        ('color: "#AA0000"', "color: red", "expected a colour such as"),
        ("abbreviation: body,", "abbreviation: body, true_over_found: [1.2, 0.9],", "the lowest and the highest ratio"),
        ("abbreviation: body,", "abbreviation: body, true_over_found: 1.2,", "the lowest and the highest ratio"),
        ("labels: [tail, body]", "labels: [tail, neck]", "expected head or body or tail, got 'neck'"),
        ("labels: [tail, body]", "labels: [tail]", "expected two or more labels"),
        ("license: CC0-1.0", "license:", "expected text, got nothing"),
        ("authors: [Ada, Grace]", "authors: []", "expected at least one item"),
        ("size: 1000", "size: 9999999999", "expected a whole number from 1 to 2147483648"),
        (f"sha256: {SHA}", "sha256: abc", "expected 64 hexadecimal digits, got 'abc'"),
        ("https://host.example/a/lab_1.onnx?download=1", "ftp://host.example/lab_1.onnx", "begins with https://"),
        ("https://host.example/a/lab_1.onnx?download=1", "file://etc/lab_1.onnx", "three slashes"),
        ("https://host.example/a/lab_1.onnx?download=1", "https:///lab_1.onnx", "no host"),
        ("path: weights/lab_2.onnx", "path: ../lab_2.onnx", "below the card's own folder"),
        ("path: weights/lab_2.onnx", "path: /etc/lab_2.onnx", "below the card's own folder"),
        ("path: weights/lab_2.onnx", "path: weights\\lab_2.onnx", "expected letters, digits"),
        ("elastic_control_points: 7", "elastic_control_points: 3", "from 4 to 64"),
        ("scales: [0.9, 1.1]", "scales: [1.1, 0.9]", "lowest and the highest zoom"),
        ("    n_augmentations: 5", "    n_augmentations: 5\n    n_augmentations: 6", None),
        ("family: lab", "family: lab\nfamily: bal", None),
        ("  lab_accurate:", "  lab/accurate:", "expected letters, digits, '_', '.' and '-'"),
        ("authors: [Ada, Grace]", "authors: [Ada, Grace", None),
        ("authors: [Ada, Grace]", "authors: [Ada, {b: c}]", "expected text, got a mapping"),
        ("authors: [Ada, Grace]", "authors: [Ada, []]", "expected text, got a list"),
        ("citation: none", "citation: &x [none]", "expected text, got a list"),
        ("HBT:", "HBT: {suffixx: a, ", None),
        ("suffix: Rest", "sufix: Rest", "unknown field 'sufix'; did you mean suffix?"),
        ("flip_probability: 0,", "flip_probability: 1.5,", "expected a number from 0 to 1, got '1.5'"),
        ("flip_probability: 0,", "flip: 0,", "unknown field 'flip'; expected one of: flip_probability, affine"),
        ("flip_probability: 0,", "flip_probability: nan,", "expected a number from 0 to 1, got 'nan'"),
        ("pad_multiple: 16", "pad_multiple: 1e999", "expected a whole number"),
        ("pad_multiple: 16", f"pad_multiple: {'9' * 5000}", "expected a whole number"),
        ("https://host.example/a/lab_1.onnx?download=1", "https://[half/lab_1.onnx", "no valid address"),
        ("https://host.example/a/lab_1.onnx?download=1", "https://host:99999/lab_1.onnx", "no valid address"),
    ],
)
def test_a_mistake_is_told_with_its_line(path: Path, old: str, new: str, message: str | None) -> None:
    assert CARD.count(old) == 1
    with pytest.raises(CardError) as caught:
        load(path, CARD.replace(old, new))
    assert str(path) in caught.value.message
    found = re.search(r"line (\d+)", caught.value.message)
    assert found
    if message is None:
        assert int(found[1]) >= line_of(old)
    else:
        assert int(found[1]) == line_of(old)
        assert message in caught.value.message


@pytest.mark.parametrize(
    ("filename", "allowed"),
    [
        ("lab_1.onnx", True),
        ("../lab_1.onnx", False),
        ("a/lab_1.onnx", False),
        ("..\\lab_1.onnx", False),
        (".hidden.onnx", False),
        ("lab.bin", False),
        ("CON:.onnx", False),
    ],
)
def test_member_names_have_no_path_parts(path: Path, filename: str, allowed: bool) -> None:
    text = CARD.replace("        size: 1000\n", f"        filename: '{filename}'\n")
    if allowed:
        assert load(path, text)[0].members[0].filename == filename
    else:
        with pytest.raises(CardError, match=f"line {line_of('size: 1000')}: member file name"):
            load(path, text)


def test_member_names_from_addresses_have_none_either(path: Path) -> None:
    coded = CARD.replace("a/lab_1.onnx?download=1", "%2e%2e%2fevil.onnx")
    assert load(path, coded)[0].members[0].filename == "evil.onnx"
    for name in ("..%5Cevil.onnx", "weights", "weights/"):
        with pytest.raises(CardError, match="member file name"):
            load(path, CARD.replace("a/lab_1.onnx?download=1", name))


def test_two_members_cannot_share_a_name(path: Path) -> None:
    twice = CARD.replace(
        "      - path:", f"      - {{url: 'https://x.example/LAB_2.onnx', sha256: {SHA}}}\n      - path:"
    )
    with pytest.raises(CardError, match=r"lab_2\.onnx stands twice"):
        load(path, twice)


@pytest.mark.parametrize("line", ["url: https://host.example/a/lab_1.onnx?download=1", f"sha256: {SHA}"])
def test_a_member_needs_a_source_and_a_checksum(path: Path, line: str) -> None:
    with pytest.raises(CardError, match="a member needs"):
        load(path, CARD.replace(line, "size: 5" if line.startswith("url") else "").replace("        size: 1000\n", ""))


def test_a_field_that_neither_model_nor_family_has_is_named(path: Path) -> None:
    with pytest.raises(CardError, match="model lab_fast has no license"):
        load(path, CARD.replace("license: CC0-1.0\n", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the card is empty"),
        ("just words", "expected a mapping"),
        ("a: !!python/object/apply:os.system ['touch /tmp/hub/pwned']", "unknown field"),
        ("&a [*a]", "too many items"),
        ("[" * 600, "the card|YAML"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
            "too many items",
        ),
        ("\x00", "not a YAML text file"),
        ("[1]: 2", "expected a word"),
        ("{}: 2", "expected a word"),
        ("models: {}", "expected at least one item, got none"),
        ("- a", "expected a mapping of 'key: value' lines, got a list"),
        ('family: "\\ud800"', "unknown|missing|expected"),
    ],
)
def test_hostile_files_are_refused(path: Path, text: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        load(path, text)


def test_a_huge_or_missing_card_is_refused(path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read"):
        load_cards(path)
    with pytest.raises(CardError, match="at most 262144 bytes"):
        load(path, "#" * (2**20 + 1))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_is_changed_gives_cards_or_a_card_error(path: Path, data: st.DataObject) -> None:
    lines = CARD.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    lines[index] = data.draw(
        st.one_of(st.text(max_size=30), st.just(""), st.sampled_from(lines), st.just(lines[index][2:]))
    )
    cards = []
    with suppress(CardError):
        cards = load(path, "\n".join(lines))
    assert all("/" not in member.filename for card in cards for member in card.members)


def test_messages_hold_no_password(path: Path) -> None:
    with pytest.raises(CardError) as caught:
        load(path, CARD.replace("https://host.example/a/lab_1.onnx?download=1", "file://ada:secret@host/lab_1.onnx"))
    assert "secret" not in caught.value.message


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((packaged_hub_dir() / "card.schema.json").read_text(encoding="utf-8"))
    return content


def test_published_schema_is_up_to_date(schema: dict[str, Any]) -> None:
    assert schema == card_schema(), "renew it: hsf-hub schema > models_hub/card.schema.json"


def plain_cards() -> dict[str, str]:
    guide = (packaged_hub_dir() / "README.md").read_text(encoding="utf-8")
    cards = {path.name: path.read_text(encoding="utf-8") for path in packaged_hub_dir().glob("*.yaml")}
    return {**cards, "lab": CARD, "guide": guide.split("```yaml\n")[1].split("```")[0]}


@pytest.mark.parametrize("text", plain_cards().values(), ids=plain_cards())
def test_cards_are_valid_under_the_schema_as_editors_read_them(schema: dict[str, Any], text: str) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("contrasts:", "contrast:"),
        ("schema: 1", "schema: 2"),
        ("voxel_size_mm: 0.8", "voxel_size_mm: fixed"),
        ("voxel_size_mm: 0.8", "voxel_size_mm: 80"),
        ('color: "#AA0000"', "color: red"),
        ("pad_multiple: 16", "pad_multiple: 8.5"),
        ("lab_accurate:", "lab/accurate:"),
        ("flip_probability: 0,", "flip: 0,"),
        ("license: CC0-1.0", "license:"),
    ],
)
def test_schema_finds_what_the_app_refuses(schema: dict[str, Any], path: Path, old: str, new: str) -> None:
    text = CARD.replace(old, new)
    with pytest.raises(CardError):
        load(path, text)
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text)))


RECIPE = [each.name for each in fields(AugmentationRecipe)]


@pytest.mark.parametrize("name", RECIPE)
def test_a_wrong_word_in_a_recipe_is_answered_with_what_is_expected_there(path: Path, name: str) -> None:
    with pytest.raises(CardError, match="expected (?!a mapping).*, got 'nonsense'"):
        load(path, re.sub(r"augmentation: \{.*\}", f"augmentation: {{{name}: nonsense}}", CARD))


@pytest.mark.parametrize("votes", ["plurality", "shares"])
def test_a_card_says_how_passes_vote(path: Path, votes: str) -> None:
    fast, accurate = load(path, CARD.replace("elastic_control_points: 7", f"votes: {votes}"))
    assert (fast.recipe.votes, accurate.recipe.votes) == ("plurality", votes)


@pytest.mark.parametrize("line", ["schema: 1", "family: lab", "orientation: RAS", "hemispheres: shared", "merges: {}"])
def test_a_field_of_the_family_that_stands_in_a_model_is_sent_to_its_place(path: Path, line: str) -> None:
    with pytest.raises(CardError, match="it stands above `models`, once for all of them"):
        load(path, CARD.replace("  lab_fast:\n", f"  lab_fast:\n    {line}\n"))
