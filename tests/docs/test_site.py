"""The site is built without a warning, offline, and no link of it leads nowhere."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bids_hsf import errors
from bids_hsf.bids.tables import TSV_COLUMNS
from bids_hsf.cli.arguments import build_parser
from bids_hsf.hub.models import list_cards


class Links(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {name for name in (found.get("id"), found.get("name")) if name}
        self.targets += [link for key in ("href", "src") if (link := found.get(key))]


def test_no_link_leads_nowhere(site: Path) -> None:
    pages = {page.relative_to(site).as_posix(): Links(page) for page in site.glob("*.html")}
    assert len(pages) >= 20
    dead = []
    for name, links in pages.items():
        for link in links.targets:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https"):
                # Others' sites cannot be asked here: an address has at least a host, and no blank.
                dead += [] if parts.hostname and "." in parts.hostname and " " not in link else [(name, link)]
            elif parts.scheme not in ("mailto", "data"):
                target = unquote(parts.path) or name
                anchor_is_there = not parts.fragment or target not in pages or parts.fragment in pages[target].anchors
                dead += [] if (site / target).exists() and anchor_is_there else [(name, link)]
    assert not dead


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = [t for t in Links(page).targets if t.endswith((".js", ".css", ".svg", ".png", ".woff2"))]
        assert not [target for target in loaded if "://" in target]


def test_pages_have_what_the_code_has(site: Path) -> None:
    def text(name: str) -> str:
        return (site / f"{name}.html").read_text(encoding="utf-8")

    options = [flag for action in build_parser()._actions for flag in action.option_strings]
    assert not [flag for flag in options if flag not in text("options")]
    assert not [card.name for card in list_cards([]) if card.name not in text("models")]
    assert not [column for column in TSV_COLUMNS if f">{column}<" not in text("outputs")]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) >= 16
    assert not [kind for kind in kinds if f"{kind.__name__}: exit code {kind.exit_code}" not in text("errors")]
    for code in (0, 1, 129, 130, 143, *{kind.exit_code for kind in kinds}):
        assert f"<strong>{code}</strong>" in text("errors")


def test_seconds_are_told_of_every_scan_of_the_run(site: Path) -> None:
    told = (site / "measured.html").read_text(encoding="utf-8")
    assert all(scan in told for scan in ("sub-01_T1w", "sub-02_T1w", "sub-02_T2w"))


def test_pictures_and_reports_of_the_run_are_there(site: Path) -> None:
    assert len(list((site / "_images").glob("*_desc-segmentation_dseg.svg"))) >= 2
    assert (site / "example/sub-01.html").is_file()
    assert (site / "example/group_volumes.html").is_file()
