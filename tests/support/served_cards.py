"""Cards of twins, for a server to serve."""

import hashlib
import re
from pathlib import Path

from local_server import LocalServer

from bids_hsf.files import checksums
from bids_hsf.hub.cards import ModelCard, load_cards
from bids_hsf.hub.models import cache_root, packaged_hub_dir

CARD = """
schema: 1
family: twin
version: 1.0
description: A made-up model
orientation: RAS
contrasts: [T1w]
voxel_size_mm: native
normalization: zscore
pad_multiple: 8
output: probabilities
labels:
  - {{index: 1, name: One, abbreviation: one, color: "#112233"}}
license: CC0
citation: none
authors: [Nobody]
training_data: none
models:
  {name}:
    members: [{members}]
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(path: Path, *sources: str, sha256: str, name: str = "twin_fast") -> ModelCard:
    kind = "path" if "://" not in sources[0] else "url"
    members = ", ".join(f'{{{kind}: "{source}", sha256: "{sha256}"}}' for source in sources)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CARD.format(name=name, members=members), encoding="utf-8")
    return load_cards(path)[0]


def cached_files() -> list[Path]:
    return sorted(path for path in cache_root().rglob("*") if path.is_file() and path.suffix != ".lock")


def write_hsf_twins(server: LocalServer, folder: Path, views: int | None = None) -> Path:
    """HSF's own card with its files replaced by twins that the server has, with fewer views if a test wants it."""
    from twins import write_sq_twin, write_twin  # their onnx takes a second to import

    text = (packaged_hub_dir() / "hsf.yaml").read_text(encoding="utf-8")
    text = re.sub(r"https://[^ ]+/([^/ ]+\.onnx)(\?download=1)?", rf"{server.url}/\1", text)
    for name in sorted(set(re.findall(r"[^/ ]+\.onnx", text))):
        number = re.search(r"ba?g?(\d)", name)
        write = write_sq_twin if "qat" in name else write_twin
        path = write(
            server.folder / name, **({} if "qat" in name else {"shift": 0.05 * int(number[1] if number else 0)})
        )
        text = re.sub(rf"({re.escape(name)}\n +xxh3_64: )\w+", rf"\g<1>{checksums(path)['xxh3_64']}", text)
    if views is not None:
        text = re.sub(r"(n_augmentations: )\d+", rf"\g<1>{views}", text)
    folder.mkdir(exist_ok=True)
    (folder / "hsf.yaml").write_text(text, encoding="utf-8")
    return folder / "hsf.yaml"
