"""What lies beside a subject's page: the pages before and after it, and how links to them get into one that is there.

A page tells its neighbours between two pairs of marks, in its head and in its navigation, with room for others. Once
all subjects are there nothing else of a page changes: to make a hundred thousand again would be a day's work, and only
to write them anew an hour's.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from markupsafe import Markup, escape

from bids_hsf.files import MAX_TEXT_BYTES, replacing
from bids_hsf.reports.pages import link_to
from bids_hsf.text_table import natural_order

HEAD_BYTES = 4096  # within which a page tells its neighbours
BEGINNING_BYTES = 1 << 17  # within which both pairs of marks stand
ROOM_BYTES = 512  # between two marks, or several times so many
BEGIN, END = "<!--beside-->", "<!--/beside-->"
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
        return _marked(f'<link rel="{way}" href="{escape(href)}">\n' for way, href in self.hrefs.items())

    @property
    def in_navigation(self) -> Markup:
        """Items of the page's navigation, marked."""
        names = {"prev": f"← sub-{self.before}", "next": f"sub-{self.after} →"}
        return _marked(
            f'<li><a rel="{way}" href="{escape(href)}" title="{KEYS[way]}">{escape(names[way])}</a></li>\n'
            for way, href in self.hrefs.items()
        )


def _marked(lines: Iterable[str]) -> Markup:
    """Put marks around lines, and fill up with blanks."""
    text = "".join((BEGIN, "\n", *lines))
    blanks = " " * (-len(_encoded(text + END)) % ROOM_BYTES)
    return Markup(text + blanks + END)  # noqa: S704 - names are escaped above


def _encoded(text: str) -> bytes:
    """Encode a part of a page as `files.write_text` does."""
    return text.encode(errors="backslashreplace")


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
    parts = [_encoded(neighbours.in_head), _encoded(neighbours.in_navigation)]
    if _link_in_place(page, parts):
        return True
    try:
        content = page.read_bytes() if page.stat().st_size <= MAX_TEXT_BYTES else b""
    except OSError:
        return False
    places = _places(content)
    if len(places) < len(parts):  # of an older version
        return False
    (start, stop), (again, end) = places
    with replacing(page) as temporary, temporary.open("wb") as stream:
        stream.writelines((content[:start], parts[0], content[stop:again], parts[1], content[end:]))
    return True


def _places(content: bytes) -> list[tuple[int, int]]:
    """Where the first two pairs of marks begin and end."""
    return [found.span() for found, _ in zip(PART.finditer(content), range(2), strict=False)]


def _link_in_place(page: Path, parts: Sequence[bytes]) -> bool:
    """Write over the marked parts of a page where the new ones are as long; False where that may not be.

    Each is one write of a few hundred bytes, the head last: a page that was left between the two is linked again. What
    has other names is not touched: an archive's file behind a link, a copy that shares its blocks with this one.
    """
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(page, flags), "r+b") as stream:
            found = os.fstat(stream.fileno())
            places = _places(stream.read(BEGINNING_BYTES))
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                return False
            if [stop - start for start, stop in places] != [len(part) for part in parts]:
                return False
            for (start, _), part in reversed([*zip(places, parts, strict=True)]):
                os.pwrite(stream.fileno(), part, start)
    except OSError:
        return False
    return True
