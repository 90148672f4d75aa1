"""What lies beside a subject's page: the pages before and after it, and how links to them get into one that is there.

A page tells its neighbours between two pairs of marks, in its head and in its navigation. Once all subjects are there
nothing else of a page changes: of a hundred thousand that would be a day's work to make again.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from markupsafe import Markup

from bids_hsf.files import MAX_TEXT_BYTES, replacing
from bids_hsf.reports.pages import link_to
from bids_hsf.text_table import natural_order

HEAD_BYTES = 4096  # within which a page tells its neighbours
BEGIN, END = Markup("<!--beside-->"), Markup("<!--/beside-->")
PART = re.compile(re.escape(BEGIN.encode()) + b".*?" + re.escape(END.encode()), re.DOTALL)
KEYS = {"prev": "key p", "next": "key n"}


@dataclass(frozen=True)
class Neighbours:
    """Subjects before and after one in the order of the pages, without ``sub-``; "" at both ends."""

    before: str = ""
    after: str = ""

    @property
    def hrefs(self) -> dict[str, str]:
        """Addresses of their pages: "prev" and "next", as far as there are such."""
        pages = {"prev": self.before, "next": self.after}
        return {way: link_to(Path(f"sub-{subject}.html")) for way, subject in pages.items() if subject}

    @property
    def in_head(self) -> Markup:
        """Links of the page's head, marked."""
        line = Markup('<link rel="{}" href="{}">\n')
        return self._marked(line.format(way, href) for way, href in self.hrefs.items())

    @property
    def in_navigation(self) -> Markup:
        """Items of the page's navigation, marked."""
        line = Markup('<li><a rel="{}" href="{}" title="{}">{}</a></li>\n')
        names = {"prev": f"← sub-{self.before}", "next": f"sub-{self.after} →"}
        return self._marked(line.format(way, href, KEYS[way], names[way]) for way, href in self.hrefs.items())

    @staticmethod
    def _marked(lines: Iterable[Markup]) -> Markup:
        return Markup().join((BEGIN, Markup("\n"), *lines, END))


def in_order(labels: Iterable[str]) -> dict[str, Neighbours]:
    """Put subjects, without ``sub-``, into the order of their pages, each with those beside it."""
    subjects = ["", *sorted(labels, key=natural_order), ""]
    return {
        subject: Neighbours(before, after)
        for before, subject, after in zip(subjects, subjects[1:], subjects[2:], strict=False)
    }


def order_of(output_dir: Path) -> dict[str, Neighbours]:
    """Subjects that have a folder, in the order of their pages, each with those beside it."""
    with os.scandir(output_dir) as entries:  # beside each folder lies a page: of those, no more than the name is read
        names = [entry.name for entry in entries if entry.name.startswith("sub-") and entry.is_dir()]
    return in_order(name.removeprefix("sub-") for name in names)


def linked_neighbours(page: Path) -> Neighbours:
    """Tell which neighbours a page leads to now, without a look at the others."""
    pages = {way: Path(unquote(href)).name for way, href in _links(page).items()}
    labels = {way: name.removeprefix("sub-").removesuffix(".html") for way, name in pages.items()}
    return Neighbours(labels.get("prev", ""), labels.get("next", ""))


def leads_to(page: Path, neighbours: Neighbours) -> bool:
    """Whether a page has the links to its neighbours, and no others."""
    return _links(page) == neighbours.hrefs


def _links(page: Path) -> dict[str, str]:
    """Addresses of the neighbours in the head of a page; none where there is no page."""
    try:
        with page.open("rb") as stream:
            head = stream.read(HEAD_BYTES).decode(errors="replace")
    except OSError:
        return {}
    return dict(re.findall(r'<link rel="(prev|next)" href="([^"]*)">', head))


def link(page: Path, neighbours: Neighbours) -> bool:
    """Put links to its neighbours into a page that is there; False where it has no place for them.

    Raises
    ------
    StorageError
        The page cannot be written.
    """
    try:
        content = page.read_bytes() if page.stat().st_size <= MAX_TEXT_BYTES else b""
    except OSError:
        return False
    parts = [neighbours.in_head, neighbours.in_navigation]
    places = [found.span() for found, _ in zip(PART.finditer(content), parts, strict=False)]
    if len(places) < len(parts):  # of an older version
        return False
    (start, stop), (again, end) = places
    head, navigation = (part.encode(errors="backslashreplace") for part in parts)
    with replacing(page) as temporary, temporary.open("wb") as stream:
        stream.writelines((content[:start], head, content[stop:again], navigation, content[end:]))
    return True
