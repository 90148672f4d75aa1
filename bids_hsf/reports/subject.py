"""A subject's page: all its scans, from files already on disk alone.

Pages are plain HTML and CSS, hold no date, load nothing (their content security policy forbids it): the pictures are
in them, so that a page can be sent alone. They link to the files beside them. Equal files give equal pages.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bids_hsf import __version__
from bids_hsf.bids.derivatives import find_derivatives, read_derivative, result_files
from bids_hsf.bids.names import FAILURE_END, log_folder
from bids_hsf.bids.provenance import read_failure
from bids_hsf.files import read_text, write_text
from bids_hsf.reports.embedding import Album
from bids_hsf.reports.neighbours import Neighbours, leads_to, link, order_of
from bids_hsf.reports.pages import UNKNOWN, citation_link, render
from bids_hsf.reports.scan_view import view_scan
from bids_hsf.reports.sessions import compare_sessions
from bids_hsf.reports.thumbnails import add_missing_thumbnails
from bids_hsf.text_table import natural_order

SCRIPTS = ("keys.js", "subject.js")


def write_subject_report(output_dir: Path, subject: str, neighbours: Neighbours | None = None) -> Path:
    """Write ``sub-<subject>.html`` with all scans of a subject, all sessions and runs; returns its path.

    Small pictures that its figures lack are made, too.
    """
    add_missing_thumbnails(output_dir / f"sub-{subject}" / "figures")
    path = output_dir / f"sub-{subject}.html"
    write_text(path, subject_page(output_dir, subject, neighbours or Neighbours()))
    return path


def is_up_to_date(output_dir: Path, subject: str, neighbours: Neighbours) -> bool:
    """Whether the page of a subject was made of the files that are there; clocks say nothing of that."""
    path = output_dir / f"sub-{subject}.html"
    try:
        page = read_text(path)
    except (OSError, UnicodeDecodeError):
        return False
    return leads_to(path, neighbours) and f'content="{_fingerprint(output_dir, subject)}"' in page


def join_pages(output_dir: Path) -> int:
    """Put links into the pages that lack one to a neighbour, which has come since; returns their number."""
    n_written = 0
    for subject, neighbours in order_of(output_dir).items():
        page = output_dir / f"sub-{subject}.html"
        if page.exists() and not leads_to(page, neighbours):
            if not link(page, neighbours):
                write_subject_report(output_dir, subject, neighbours)
            n_written += 1
    return n_written


def _fingerprint(output_dir: Path, subject: str) -> str:
    """Checksum of what a page is made of: sidecars, tables and failures by content, figures by size."""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted((output_dir / f"sub-{subject}" / "figures").glob("*_dseg.[sh]*")):
        with suppress(OSError):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode(errors="backslashreplace"))
    for path in (*result_files(output_dir, subject), *_failure_records(output_dir, subject)):
        try:
            content = read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            content = str(error)
        digest.update(f"{path.name}\0{content}\0".encode(errors="backslashreplace"))
    return digest.hexdigest()[:16]


def write_image_report(output_dir: Path, table: Path, key: str) -> Path:
    """Write the page of an image that belongs to no dataset, ``<key>.html``; returns its path."""
    path = output_dir / f"{key}.html"
    found = read_derivative(table, output_dir)
    scans = [] if found is None else [view_scan(output_dir, found, Album())]
    page = render(
        "subject.html.j2",
        scripts=SCRIPTS,
        title=key,
        scans=scans,
        failures=[],
        comparisons=[],
        neighbours=None,
        citation=citation_link(output_dir),
    )
    write_text(path, page)
    return path


def subject_page(output_dir: Path, subject: str, neighbours: Neighbours | None = None) -> str:
    """Render the page of a subject.

    Parameters
    ----------
    output_dir : Path
        A derivative dataset of this app. Read are the subject's ``*_dseg.tsv`` and ``.json``, the
        figures, and ``logs/``; whatever is missing is left out or "n/a".
    subject : str
        Label without ``sub-``.
    neighbours : Neighbours, optional
        Whose pages are linked to.
    """
    neighbours = neighbours or Neighbours()
    found = find_derivatives(output_dir, subject)
    found.sort(key=lambda derivative: natural_order(derivative.table.as_posix()))
    album = Album()
    scans = [view_scan(output_dir, derivative, album) for derivative in found]
    if len({scan.model for scan in scans}) > 1:
        scans = [replace(scan, heading=f"{scan.title} · {scan.model}") for scan in scans]
    if len({(scan.title, scan.model) for scan in scans}) < len(scans):
        scans = [
            replace(scan, title=f"{scan.title} · {scan.segmentation}", heading=f"{scan.heading} · {scan.segmentation}")
            for scan in scans
        ]
    return render(
        "subject.html.j2",
        scripts=SCRIPTS,
        title=f"sub-{subject}",
        fingerprint=_fingerprint(output_dir, subject),
        scans=scans,
        failures=list(_failures(output_dir, subject)),
        comparisons=compare_sessions(scans),
        neighbours=neighbours,
        citation=citation_link(output_dir),
    )


def _failure_records(output_dir: Path, subject: str) -> list[Path]:
    return sorted(log_folder(output_dir, f"sub-{subject}").glob(f"*{FAILURE_END}"))


def _failures(output_dir: Path, subject: str) -> Iterator[tuple[str, str, str]]:
    """Find scans that failed: name, reason, hint."""
    for path in _failure_records(output_dir, subject):
        failure = read_failure(path)
        yield path.name.removesuffix(FAILURE_END), failure.error or UNKNOWN, failure.hint or ""
