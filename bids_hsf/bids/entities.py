"""Entities in the names of files and folders, and what becomes of them in the names of outputs."""

import re
from collections.abc import Mapping

# Entities of anatomical images, in the order of BIDS names.
ENTITY_ORDER = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "flip", "inv", "mt", "part", "chunk")

WORDS = {".": "p", "-": "m"}  # HSF users write acq-0.8mm: 0p8mm


def legal_label(label: str) -> str:
    """Make a label alphanumeric, as BIDS has it; labels that differ stay different, but for rare cases.

    >>> legal_label("0.8mm"), legal_label("0-8mm"), legal_label("é")
    ('0p8mm', '0m8mm', 'ue9')
    """
    return re.sub(r"[^A-Za-z0-9+]", lambda found: WORDS.get(found[0], f"u{ord(found[0]):x}"), label)


def split_name(rest: str) -> tuple[dict[str, str], str]:
    """Split the name of an image, without extension, into entities with their labels and the suffix.

    >>> split_name("ses-1_run-2_T1w")
    ({'ses': '1', 'run': '2'}, 'T1w')
    """
    *pairs, suffix = rest.split("_")
    labels: dict[str, str] = {}
    for pair in pairs:
        name, _, label = pair.partition("-")
        labels.setdefault(name, label)
    return labels, suffix


def in_order(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Entities that names of outputs keep, in BIDS order and with legal labels."""
    return tuple((name, legal_label(labels[name])) for name in ENTITY_ORDER if labels.get(name))
