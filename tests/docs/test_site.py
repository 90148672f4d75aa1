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


# Elements that stick out of a page and do not scroll by themselves, and options that lie on two lines but fit on one.
LOOK = """() => {
  const width = document.documentElement.clientWidth
  const scrolls = '.table-wrapper, pre, .equation'
  const wide = [...document.querySelectorAll('article *')].filter(
    (each) => each.getBoundingClientRect().right > width + 1 && !each.closest(scrolls))
  const options = [...document.querySelectorAll('.highlight-console .option, td:first-child code .pre')]
  return {wide: wide.map((each) => each.outerHTML.slice(0, 80)), found: options.length,
          broken: options.filter((each) => each.textContent.length < 40 && (each.getClientRects().length > 1 ||
            each.offsetHeight > 1.7 * parseFloat(getComputedStyle(each).fontSize))).map((each) => each.textContent)}
}"""


def test_pages_fit_on_a_phone(chromium, site: Path) -> None:
    """No page is wider than the screen, and no option is cut in two."""
    found = 0
    page = chromium.new_page(viewport={"width": 420, "height": 800})
    page.set_default_timeout(60_000)
    for name in ("first-scan", "models", "options", "outputs", "quality-control", "from-hsf", "viewers"):
        page.goto((site / f"{name}.html").as_uri(), wait_until="domcontentloaded")
        seen = page.evaluate(LOOK)
        assert (seen["wide"], seen["broken"]) == ([], []), name
        found += seen["found"]
    page.close()
    assert found > 100


def test_what_opens_a_file_opens_its_page(site: Path) -> None:
    """Sections of a page that is made from a file stand behind what the file begins with."""
    for name, first, then in (
        ("publish-a-model", "the card of one family of models", "Distribute your own model"),
        ("contributing", "whole run, top to bottom", "The rooms"),
    ):
        text = (site / f"{name}.html").read_text(encoding="utf-8").partition("<article")[2]
        assert 0 < text.index(first) < text.index(then)


# An opening bracket at the end of a line, or a comma at the head of one, beside a word of code.
TORN = """() => [...document.querySelectorAll('article code .pre.short')].filter((each) => {
  const beside = each.parentElement.previousSibling
  if (!beside || beside.nodeType !== 3 || !beside.textContent.endsWith('(')) return false
  const range = document.createRange()
  range.setStart(beside, beside.length - 1)
  range.setEnd(beside, beside.length)
  return range.getBoundingClientRect().bottom <= each.getBoundingClientRect().top
}).map((each) => each.textContent)"""


def test_brackets_stay_with_the_words_of_code_behind_them(chromium, site: Path) -> None:
    page = chromium.new_page(viewport={"width": 420, "height": 800})
    page.set_default_timeout(60_000)
    for name in ("clusters", "faq", "from-freesurfer", "how-it-works"):
        page.goto((site / f"{name}.html").as_uri(), wait_until="domcontentloaded")
        assert page.evaluate("document.querySelectorAll('article code .pre.short').length") > 5
        assert page.evaluate(TORN) == [], name
    page.close()
