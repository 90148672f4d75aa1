"""Values as Hydra and shells leave them."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_hsf.cli.hydra import read_overrides, read_value
from bids_hsf.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("t2", "t2"),
        ("'t2'", "t2"),
        ('"a b"', "a b"),
        ("", ""),
        ("1/2/3", "1/2/3"),
        ("123", 123),
        ("-0.5", -0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("null", None),
        ("[]", []),
        ("[16, 4, 16]", [16, 4, 16]),
        ('["CUDAExecutionProvider","CPUExecutionProvider"]', ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("[[CUDA,{device_id:0,limit:2147483648}],CPU]", [["CUDA", {"device_id": 0, "limit": 2147483648}], "CPU"]),
        ('{"a.onnx":{"url":"https://url.to/a.onnx"}}', {"a.onnx": {"url": "https://url.to/a.onnx"}}),
        ("{a.onnx:{url:https://to/a.onnx,xxh3_64:f0f0}}", {"a.onnx": {"url": "https://to/a.onnx", "xxh3_64": "f0f0"}}),
    ],
)
def test_value(text: str, value: Any) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


@pytest.mark.parametrize("text", ["[1,2", "{a:1", "[1]]", "[1 [2]]", "{a}", "[" * 50])
def test_brackets_that_do_not_close(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_value(text)


def test_names() -> None:
    overrides = read_overrides(["files.path=~/a=b", "+augmentation.elastic.x=1", "++hydra.run.dir=."])
    assert [(each.name, each.value) for each in overrides] == [
        ("files.path", "~/a=b"),
        ("augmentation.elastic.x", 1),
        ("hydra.run.dir", "."),
    ]
    with pytest.raises(UsageError, match="NAME=VALUE"):
        read_overrides(["files.path"])


@settings(max_examples=300, deadline=None)
@given(st.text("[]{}:,'\"ab1 \\.", max_size=12))
def test_anything_is_read_or_refused(text: str) -> None:
    with suppress(UsageError):
        read_value(text)
