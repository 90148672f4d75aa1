"""The model hub: from a name to the verified ONNX files of an ensemble.

Cards come from the packaged folder, from the folders in BIDS_HSF_HUB and from those named on the command line. Files
come from the package, or by download into BIDS_HSF_CACHE, else the platform's cache folder. What lies in the cache is
named by its checksum and checked before every use; other files there are ignored.
"""

import difflib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import Version

from bids_hsf import __version__
from bids_hsf.errors import CardError, FetchError, ModelError, StorageError
from bids_hsf.files import checksums, private_folder, read_text, sweep
from bids_hsf.hub import OFFLINE_MODEL
from bids_hsf.hub.cards import MAX_MODEL_BYTES, Member, ModelCard, load_cards

logger = logging.getLogger(__name__)


HUB_VARIABLE = "BIDS_HSF_HUB"
CACHE_VARIABLE = "BIDS_HSF_CACHE"
HTTP_VARIABLE = "BIDS_HSF_ALLOW_HTTP"


@dataclass(frozen=True)
class Ensemble:
    """A model whose files are there and are the ones that its card names.

    Attributes
    ----------
    card : ModelCard
    member_paths : tuple of Path
        ONNX files, in the card's order.
    """

    card: ModelCard
    member_paths: tuple[Path, ...]


def packaged_hub_dir() -> Path:
    """Folder of the cards that ship with the app: inside an installed package, else the clone's own."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "models_hub"
    return installed if installed.is_dir() else package.parent / "models_hub"


def list_cards(hub_dirs: Sequence[Path] = (), wanted: str = "") -> list[ModelCard]:
    """Read all cards: those of `hub_dirs` first, then those of BIDS_HSF_HUB, then the packaged ones.

    A name stands once: the first folder that has it wins, and a warning says which card it hides. A malformed card
    outside the package is warned of and left out, so that it stops nobody who uses another model.

    Parameters
    ----------
    hub_dirs : sequence of Path
    wanted : str
        A model's name: of the packaged files, if one has it, the others are left unread, which takes a while.

    Raises
    ------
    ModelError
        If one of the folders does not exist.
    """
    found: dict[str, ModelCard] = {}
    for path in _in_question(_card_paths(hub_dirs), wanted):
        for card in _load(path):
            first = found.setdefault(card.name, card)
            if first is not card:
                logger.warning("model %s of %s hides the one of %s", card.name, first.path, path)
    return list(found.values())


def find_card(name_or_path: str, hub_dirs: Sequence[Path] = ()) -> ModelCard:
    """Find a model by its name, or read ``path/to/card.yaml``, or ``path/to/card.yaml:NAME`` where it has several.

    Raises
    ------
    ModelError
        If there is no such model, or it needs a newer app.
    CardError
        If the card is malformed.
    """
    path, name = _split_card_path(name_or_path)
    card = _choose(load_cards(path), name, path) if path else _find_name(name, list_cards(hub_dirs, name))
    # The base version: a development version before a release has what the release has.
    if Version(card.minimum_app_version) > Version(Version(__version__).base_version):
        raise ModelError(
            f"model {card.name} ({card.path}) needs bids-hsf >= {card.minimum_app_version}, this is {__version__}",
            "Install a newer bids-hsf, or choose another model.",
        )
    return card


def cache_root(cache_dir: Path | None = None) -> Path:
    """Folder of downloaded models: `cache_dir`, else BIDS_HSF_CACHE, else the platform's cache folder."""
    if cache_dir is not None:
        return cache_dir.expanduser().absolute()
    if stated := os.environ.get(CACHE_VARIABLE):
        return Path(stated).expanduser().absolute()
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("bids-hsf") / "models"
    except RuntimeError:  # as older versions leave "~" as it is
        folder = Path("~")
    # An arbitrary user id in a container has no home.
    return folder if folder.is_absolute() else _private_temporary() / "models"


@cache
def _private_temporary() -> Path:
    """Folder of this user alone among the temporary ones, one for this process where others hold all its names."""
    return private_folder(Path(tempfile.gettempdir())) or Path(tempfile.mkdtemp(prefix="bids-hsf-"))


def member_path(member: Member, card: ModelCard, cache_dir: Path | None = None) -> Path:
    """Where a member lies, or would lie: beside its card if it is packaged, else in the cache.

    The name in the cache begins with the checksum, so that two versions of a file never take each other's place.

    Raises
    ------
    CardError
        If a packaged member's path leads out of the card's folder through a link.
    """
    if not is_packaged(member):
        return cache_root(cache_dir) / card.family / f"{(member.sha256 or member.xxh3_64 or '')[:8]}-{member.filename}"
    folder = card.path.parent.resolve()
    path = (folder / member.source).resolve()
    if not path.is_relative_to(folder):
        raise CardError(f"{card.path}: {member.source} leads out of the card's folder, to {path}")
    return path


def is_packaged(member: Member) -> bool:
    """Tell whether a member ships beside its card instead of being downloaded."""
    return not urlsplit(member.source).scheme


def fetch(
    card: ModelCard, cache_dir: Path | None = None, *, offline: bool = False, allow_http: bool | None = None
) -> Ensemble:
    """Make sure that every file of a model is there and is what its card says; download what is missing.

    Parameters
    ----------
    card : ModelCard
    cache_dir : Path, optional
        See `cache_root`.
    offline : bool
        Never open a connection.
    allow_http : bool, optional
        Take http:// addresses too; by default only if BIDS_HSF_ALLOW_HTTP is 1.

    Raises
    ------
    FetchError
        If a member cannot be had; what was in the cache before is kept.
    StorageError
        If the cache cannot be written.
    """
    if allow_http is None:
        allow_http = os.environ.get(HTTP_VARIABLE, "") == "1"
    paths = []
    if not all(is_packaged(member) for member in card.files):
        with suppress(OSError):  # of a folder that is closed to us
            sweep(cache_root(cache_dir) / card.family)  # half a file of gigabytes, of a download that was killed
    for member in card.files:
        path = member_path(member, card, cache_dir)
        problem = find_damage(path, member)
        if problem:
            _bring(member, card, path, problem, None if offline else allow_http)
        paths.append(path)
    return Ensemble(card, tuple(paths[: len(card.members)]))


def find_damage(path: Path, member: Member) -> str | None:
    """Say what is wrong with a member's file: missing, unreadable, wrong size or checksum; None if it is whole."""
    expected = member.checksums
    try:
        if not path.is_file():
            return "missing"
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            return f"expected at most {MAX_MODEL_BYTES} bytes, got {size}"
        if member.size is not None and size != member.size:
            return f"expected {member.size} bytes, got {size}"
        found = checksums(path, tuple(expected))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    for algorithm in expected:
        if found[algorithm] != expected[algorithm]:
            return f"expected {algorithm} {expected[algorithm]}, got {found[algorithm]} ({size} bytes)"
    return None


def _bring(member: Member, card: ModelCard, path: Path, problem: str, allow_http: bool | None) -> None:
    """Download one member to `path`; `allow_http` is None where no connection may be opened."""
    hint = _offline_hint(card)
    if is_packaged(member):
        raise FetchError(
            f"model {card.name}: {path}, which ships with its card, is damaged or missing: {problem}",
            "Install the package again, or get a fresh copy of the card's folder.",
        )
    source = member.shown_source
    what = f"model {card.name}: {member.filename} cannot be had from {source} for the cache folder {path.parent}"
    if allow_http is None:
        raise FetchError(f"{what}: {problem} there, and downloads are off", hint)
    if problem != "missing":
        logger.warning("%s is damaged (%s): fetching it again", path, problem)
    from bids_hsf.hub.download import download

    try:
        download(member, path, check=lambda temporary: find_damage(temporary, member), allow_http=allow_http)
    except StorageError as error:
        elsewhere = f"Or set {CACHE_VARIABLE} to a folder that can be written."
        raise StorageError(f"{what}: {error.message}", f"{error.hint} {elsewhere}") from error
    except FetchError as error:
        raise type(error)(f"{what}: {error.message}", f"{error.hint} {hint}" if error.hint else hint) from error


def _offline_hint(card: ModelCard) -> str:
    """Say what to do where a model cannot be downloaded; of a card that is not ours, its author may be asking."""
    if card.path.parent != packaged_hub_dir():
        return (
            f"If the card is yours, correct the url in {card.path}. Else, where there is internet: "
            f"`hsf-hub fetch {card.path}:{card.name} --dest DIR`, then {CACHE_VARIABLE}=DIR here."
        )
    return (
        f"Where there is internet: `hsf-hub fetch {card.name} --dest DIR`, then {CACHE_VARIABLE}=DIR here. "
        f"Or use --model {OFFLINE_MODEL}: subfields by other borders, from this package, offline."
    )


def _card_paths(hub_dirs: Sequence[Path]) -> list[Path]:
    """YAML files of all hub folders, in the order of precedence."""
    stated = [Path(part).expanduser() for part in os.environ.get(HUB_VARIABLE, "").split(os.pathsep) if part]
    paths: list[Path] = []
    for folder in [*hub_dirs, *stated, packaged_hub_dir()]:
        if not folder.is_dir():
            raise ModelError(
                f"{folder}: no such folder of model cards", f"Correct --hub-dir or the variable {HUB_VARIABLE}."
            )
        paths += [path for path in sorted(folder.glob("*.y*ml")) if path not in paths]
    return paths


def _in_question(paths: Sequence[Path], wanted: str) -> Sequence[Path]:
    """Leave out packaged files that do not name a model where another does."""
    key = re.compile(rf"^ *{re.escape(wanted)}:", re.MULTILINE)
    packaged = [path for path in paths if path.parent == packaged_hub_dir()]
    try:
        naming = [path for path in packaged if key.search(read_text(path))]
    except (OSError, UnicodeDecodeError):
        return paths  # whose reading tells what is wrong
    return [path for path in paths if path in naming or path not in packaged] if naming else paths


def _load(path: Path) -> list[ModelCard]:
    """Read one card file; a malformed one outside the package is only warned of."""
    try:
        return load_cards(path)
    except CardError as error:
        if path.parent == packaged_hub_dir():
            raise
        logger.warning("card left out: %s", error.message)
        return []


def _split_card_path(text: str) -> tuple[Path | None, str]:
    """Take ``card.yaml:NAME`` apart; no path where `text` is a plain name.

    >>> _split_card_path("lab/card.yaml:tiny_fast")
    (PosixPath('lab/card.yaml'), 'tiny_fast')
    >>> _split_card_path("bagging_accurate")
    (None, 'bagging_accurate')
    """
    for ending in (".yaml", ".yml"):
        path, found, name = text.rpartition(f"{ending}:")
        if found:
            return Path(path + ending), name
        if text.endswith(ending):
            return Path(text), ""
    return (Path(text), "") if os.sep in text else (None, text)


def _choose(cards: list[ModelCard], name: str, path: Path) -> ModelCard:
    """Pick a model of one card file."""
    if name:
        return _find_name(name, cards)
    if len(cards) > 1:
        raise ModelError(
            f"{path} has several models: {', '.join(card.name for card in cards)}",
            f"Name one of them: {path}:{cards[0].name}",
        )
    return cards[0]


def _find_name(name: str, cards: list[ModelCard]) -> ModelCard:
    """Pick a model by its name."""
    names = [card.name for card in cards]
    if name in names:
        return cards[names.index(name)]
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.4)
    suggestion = f"did you mean: {', '.join(near)}?" if near else f"there are: {', '.join(names)}"
    raise ModelError(f"no model is called {name!r}; {suggestion}", "`hsf-hub list` shows all models.")
