"""Words of code that no line break parts: a browser may break ``--model`` behind its first hyphens."""

import re
from typing import Any

BLOCK = re.compile(r'<div class="highlight-console[^"]*">.*?</pre>', re.DOTALL)
OPTION = re.compile(r"(?<=[ >])--[a-z][a-z0-9-]*")
# A word of code within a sentence or a table, if it has room on a phone; an entity is one letter.
SHORT_WORD = re.compile(r'<span class="pre">(?=(?:[^<&]|&\w+;){1,39}</span>)')


def keep_words_whole(*said: Any) -> None:
    """Mark options of all commands of a page, and short words of code in its text, for the style sheet."""
    context = said[3]
    if "body" in context:
        body = BLOCK.sub(lambda block: OPTION.sub(marked, block[0]), context["body"])
        context["body"] = SHORT_WORD.sub('<span class="pre short">', body)


def marked(option: re.Match[str]) -> str:
    """One option.

    >>> OPTION.sub(marked, "bids-hsf scan.nii.gz out --ca-mode 1/23")
    'bids-hsf scan.nii.gz out <span class="option">--ca-mode</span> 1/23'
    """
    return f'<span class="option">{option[0]}</span>'
