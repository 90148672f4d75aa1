from typing import Any

import pytest

from bids_hsf.bids.typed_json import Fields, NotWholeError

FIELDS = Fields(
    {
        "text": "a",
        "empty": "",
        "number": 2,
        "null": None,
        "texts": ["a", "b"],
        "mixed": ["a", 1],
        "matrix": [[1, 2.5], [3, 4]],
        "objects": [{"x": 1}],
        "inner": {"flag": True, "x": 1, "y": None},
        "nan": float("nan"),
        "huge": 10**1000,
    },
)


def test_values_are_read_as_they_are() -> None:
    assert (FIELDS.required("text"), FIELDS.text("text"), FIELDS.number("number")) == ("a", "a", 2)
    assert isinstance(FIELDS.number("number"), int)
    assert FIELDS.texts("texts") == ("a", "b")
    assert FIELDS.matrix("matrix") == ((1, 2.5), (3, 4))
    assert FIELDS.objects("objects")[0].number("x") == 1
    assert Fields({"shares": {"x": 1, "y": None}}).numbers("shares") == {"x": 1}
    assert FIELDS.mapping("inner")["flag"] is True


@pytest.mark.parametrize("name", ["null", "absent"])
def test_what_is_missing_is_none_or_empty(name: str) -> None:
    assert (FIELDS.text(name), FIELDS.number(name), FIELDS.texts(name), FIELDS.matrix(name)) == (None, None, (), ())
    assert (FIELDS.mapping(name), FIELDS.numbers(name), FIELDS.objects(name)) == ({}, {}, ())
    assert FIELDS.fields(name).values == {}


@pytest.mark.parametrize(
    ("method", "name", "message"),
    [
        ("required", "null", "null is missing"),
        ("required", "empty", "empty is missing"),
        ("text", "number", "number is a number, expected a text"),
        ("number", "text", "text is a text, expected a finite number"),
        ("number", "nan", "nan is a number, expected a finite number"),
        ("number", "huge", "huge is a number, expected a finite number"),
        ("texts", "text", "text is a text, expected a list"),
        ("texts", "mixed", "mixed is a list, expected a list of texts"),
        ("matrix", "texts", "texts is a list, expected a list of lists of numbers"),
        ("objects", "texts", "texts is a list, expected a list of objects"),
        ("mapping", "texts", "texts is a list, expected an object"),
        ("numbers", "inner", "inner.flag is a truth value, expected a finite number"),
    ],
)
def test_other_kinds_are_told_by_name(method: str, name: str, message: str) -> None:
    read: Any = getattr(FIELDS, method)
    with pytest.raises(NotWholeError) as caught:
        read(name)
    assert str(caught.value) == message
