from pathlib import Path

import pytest
from local_server import LocalServer, serving
from served_cards import digest, write_card
from twins import write_twin

from bids_hsf.hub import download, models
from bids_hsf.hub.cards import ModelCard


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(models.HUB_VARIABLE, raising=False)
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(models.HTTP_VARIABLE, "1")
    monkeypatch.setattr(download, "BACK_OFF_S", 0.01)


@pytest.fixture
def served(tmp_path: Path):
    folder = tmp_path / "served"
    folder.mkdir()
    write_twin(folder / "twin.onnx", n_classes=2)
    with serving(folder) as server:
        yield server


@pytest.fixture
def card(served: LocalServer, tmp_path: Path) -> ModelCard:
    return write_card(
        tmp_path / "hub" / "twin.yaml", f"{served.url}/twin.onnx", sha256=digest(served.folder / "twin.onnx")
    )
