"""Cards of twins, for a server to serve."""

import hashlib
from pathlib import Path

from bids_hsf.hub.cards import ModelCard, load_cards
from bids_hsf.hub.models import cache_root

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
