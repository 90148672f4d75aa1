"""Hippocampal subfields by ensembles of ONNX networks: a BIDS App, and its core for Python.

The names below are imported when they are first used, so that ``import bids_hsf`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bids_hsf import errors
    from bids_hsf.api import OpenModel, Result, list_models, open_model, segment
    from bids_hsf.geometry import Grid
    from bids_hsf.segmentation.model import Options

__version__ = "0.1.0"

__all__ = ["Grid", "OpenModel", "Options", "Result", "__version__", "errors", "list_models", "open_model", "segment"]

_HOMES = {
    "Grid": "geometry",
    "OpenModel": "api",
    "Options": "segmentation.model",
    "Result": "api",
    "list_models": "api",
    "open_model": "api",
    "segment": "api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "errors":
        return import_module(f"{__name__}.errors")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
