import hashlib
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from local_server import LocalServer, serving
from twins import write_twin

from bids_hsf.errors import CardError, FetchError, ModelError, StorageError
from bids_hsf.hub import download, models
from bids_hsf.hub.cards import ModelCard, load_cards

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


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(models.HUB_VARIABLE, raising=False)
    monkeypatch.setenv(models.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(models.HTTP_VARIABLE, "1")
    monkeypatch.setattr(download, "BACK_OFF_S", 0.01)


@pytest.fixture
def served(tmp_path: Path):
    folder = tmp_path / "served"
    folder.mkdir()
    write_twin(folder / "twin.onnx", n_classes=2)
    with serving(folder) as server:
        yield server


@pytest.fixture
def card(served: LocalServer, tmp_path: Path) -> ModelCard:
    return write_card(
        tmp_path / "hub" / "twin.yaml", f"{served.url}/twin.onnx", sha256=digest(served.folder / "twin.onnx")
    )


def cached_files() -> list[Path]:
    return sorted(path for path in models.cache_root().rglob("*") if path.is_file() and path.suffix != ".lock")


def test_packaged_cards_are_whole() -> None:
    cards = {card.name: card for card in models.list_cards()}
    hsf = ["single_fast", "single_accurate", "bagging_fast", "bagging_accurate", "single_sq", "bagging_sq"]
    earlier = [f"{name}_3.0.0" for name in hsf[:4]]
    assert {*hsf, *earlier, "longaxis_single_fast", "longaxis_single_accurate"} <= cards.keys()
    assert [len(cards[name].members) for name in hsf] == [1, 1, 5, 5, 1, 5]
    assert [cards[name].n_augmentations for name in hsf] == [0, 20, 0, 20, 20, 20]
    assert [len(cards[name].members) for name in earlier] == [1, 1, 5, 5]
    default = cards["bagging_accurate"].members[0]
    assert default.source.endswith("poiretclement/hsf/resolve/main/onnx/arunet_4.0.0b0_1706633574.onnx")
    assert (default.xxh3_64, default.filename) == ("535af004dc7251af", "arunet_4.0.0b0_1706633574.onnx")
    assert [label.abbreviation for label in cards["single_sq"].labels] == ["DG", "CA1", "CA2", "CA3", "SUB"]
    assert all(card.authors and card.license and card.citation for card in cards.values())


def test_unknown_model_names_near_ones() -> None:
    with pytest.raises(ModelError, match="did you mean: bagging_accurate"):
        models.find_card("baging_acurate")


def test_cards_are_found_by_path_and_name(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.find_card(str(card.path)).name == "twin_fast"
    assert models.find_card(f"{card.path}:twin_fast").name == "twin_fast"
    assert models.find_card("twin_fast", [card.path.parent]).path == card.path
    with pytest.raises(ModelError):
        models.find_card("twin_fast")
    monkeypatch.setenv(models.HUB_VARIABLE, str(card.path.parent))
    assert models.find_card("twin_fast").path == card.path
    with pytest.raises(ModelError, match="has several models: single_fast"):
        models.find_card(str(models.packaged_hub_dir() / "hsf.yaml"))


def test_a_name_in_two_folders_is_taken_from_the_first_and_said(
    served: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = write_card(tmp_path / "own" / "c.yaml", f"{served.url}/a.onnx", sha256="0" * 64, name="bagging_accurate")
    assert models.find_card("bagging_accurate", [own.path.parent]).path == own.path
    assert f"model bagging_accurate of {own.path} hides the one of" in caplog.text


def test_a_broken_card_beside_good_ones_is_said_and_left_out(card: ModelCard, caplog: pytest.LogCaptureFixture) -> None:
    (card.path.parent / "broken.yaml").write_text("schema: 1\nfamly: x\n", encoding="utf-8")
    assert models.find_card("twin_fast", [card.path.parent]).name == "twin_fast"
    assert "broken.yaml, line 2: unknown field 'famly'; did you mean family?" in caplog.text
    with pytest.raises(CardError, match="line 2"):
        models.find_card(str(card.path.parent / "broken.yaml"))


def test_a_missing_hub_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        models.list_cards([tmp_path / "nowhere"])


def test_a_card_for_a_newer_app_is_refused(card: ModelCard) -> None:
    card.path.write_text(card.path.read_text() + "minimum_app_version: 99.1\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"needs bids-hsf >= 99\.1"):
        models.find_card(str(card.path))


def test_fetch_downloads_once_and_then_works_offline(card: ModelCard, served: LocalServer) -> None:
    first = models.fetch(card)
    assert first.member_paths[0].read_bytes() == (served.folder / "twin.onnx").read_bytes()
    assert first.member_paths[0].stat().st_mode & 0o777 == 0o644
    assert models.fetch(card, offline=True) == first
    assert served.requests["/twin.onnx"] == 1
    assert cached_files() == list(first.member_paths)


def test_xxh3_64_is_checked_too(card: ModelCard, served: LocalServer) -> None:
    right = xxhash.xxh3_64_hexdigest((served.folder / "twin.onnx").read_bytes())
    member = replace(card.members[0], sha256=None, xxh3_64=right)
    assert models.fetch(replace(card, members=(member,))).member_paths[0].exists()
    wrong = replace(member, xxh3_64="0" * 16)
    with pytest.raises(FetchError, match=f"expected xxh3_64 {'0' * 16}, got {right}"):
        models.fetch(replace(card, members=(wrong,)))


def test_offline_error_of_the_default_names_all_that_helps(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        models.fetch(models.find_card("bagging_accurate"), tmp_path / "here", offline=True)
    text = f"{caught.value.message} {caught.value.hint}"
    for part in (
        "arunet_4.0.0b0_1706633574.onnx",
        "https://huggingface.co/poiretclement/hsf/resolve/main/onnx/arunet_4.0.0b0_1706633574.onnx",
        str(tmp_path / "here"),
        "hsf-hub fetch bagging_accurate",
        "longaxis_single_accurate",
    ):
        assert part in text
    assert caught.value.exit_code == 69


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        (["html"], "a web page came instead of a model"),
        (["untyped html"], "it is a web page"),
        (["truncate"], "cut off after 1|cut off after [0-9]+ bytes"),
        (["truncate silently"], "what came is not the file of the card: expected sha256"),
        (["404"], "answered with status 404"),
        (["503"], "answered with status 503"),
        (["-> file:///etc/hostname"], "redirects to file:///etc/hostname"),
        (["-> /login.html"], "a web page came instead of a model, from http://127.0.0.1:[0-9]+/login.html"),
    ],
)
def test_bad_answers_leave_nothing_behind(
    card: ModelCard, served: LocalServer, manners: list[str], message: str
) -> None:
    (served.folder / "login.html").write_text("<html>")
    served.misbehave("/login.html", "html")
    served.misbehave("/twin.onnx", *manners)
    with pytest.raises(FetchError, match=message) as caught:
        models.fetch(card)
    assert card.members[0].source in caught.value.message
    assert cached_files() == []


def test_a_damaged_file_is_kept_where_no_better_one_comes(card: ModelCard, served: LocalServer) -> None:
    path = models.fetch(card).member_paths[0]
    path.write_bytes(b"damaged")
    served.misbehave("/twin.onnx", "500")
    with pytest.raises(FetchError, match="status 500"):
        models.fetch(card)
    assert path.read_bytes() == b"damaged"
    served.misbehave("/twin.onnx", "ok")
    assert models.fetch(card).member_paths[0].read_bytes() != b"damaged"


def test_what_may_pass_is_tried_again(card: ModelCard, served: LocalServer) -> None:
    served.misbehave("/twin.onnx", "503", "truncate", "ok")
    models.fetch(card)
    assert served.requests["/twin.onnx"] == 3
    served.misbehave("/twin.onnx", "404")
    with pytest.raises(FetchError):
        models.fetch(card, cache_dir=card.path.parent / "other")
    assert served.requests["/twin.onnx"] == 4


def test_a_redirect_within_the_rules_is_followed(card: ModelCard, served: LocalServer) -> None:
    write_twin(served.folder / "moved.onnx", n_classes=2)
    served.misbehave("/twin.onnx", f"-> {served.url}/moved.onnx")
    assert models.fetch(card).member_paths[0].is_file()


def test_http_must_be_allowed(card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(models.HTTP_VARIABLE)
    with pytest.raises(FetchError, match="http:// is not taken") as caught:
        models.fetch(card)
    assert "--allow-http" in (caught.value.hint or "")
    assert served.requests.total() == 0
    assert models.fetch(card, allow_http=True).member_paths


def test_a_redirect_out_of_https_is_refused() -> None:
    class Answer:
        url = "https://host/a.onnx"
        headers = {"location": "http://elsewhere/a.onnx"}  # noqa: RUF012
        is_redirect = True

    with pytest.raises(FetchError, match=r"redirects to http://elsewhere/a\.onnx, which is not https"):
        download._judge_answer(Answer(), None, allow_http=False)  # type: ignore[arg-type]


def test_an_endless_body_is_cut_at_the_limit(
    card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_MODEL_BYTES", 2**20)
    served.misbehave("/twin.onnx", "endless")
    with pytest.raises(FetchError, match="more than the 1048576 bytes"):
        models.fetch(card)
    assert cached_files() == []


def test_the_size_of_the_card_is_a_limit(card: ModelCard) -> None:
    member = replace(card.members[0], size=10)
    with pytest.raises(FetchError, match=r"the server announces [0-9]+ bytes, at most 10"):
        models.fetch(replace(card, members=(member,)))


def test_silence_ends_in_time_and_is_shared_by_those_who_waited(
    card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ANSWER_DEADLINE_S", 0.3)
    served.misbehave("/twin.onnx", "hang")
    began = time.time()
    with pytest.raises(FetchError, match="did not answer within"):
        models.fetch(card)
    assert time.time() - began < 3
    target = models.member_path(card.members[0], card)
    with pytest.raises(download.UnreachableError), download._shared_failure(target, began):
        pytest.fail("a waiter tried again")
    served.misbehave("/twin.onnx", "ok")
    models.fetch(card)
    assert [path.name for path in cached_files()] == [target.name]


def test_nobody_listening_is_unreachable(card: ModelCard, served: LocalServer, tmp_path: Path) -> None:
    dead = write_card(tmp_path / "dead.yaml", "http://127.0.0.1:9/twin.onnx", sha256=card.members[0].sha256 or "")
    with pytest.raises(download.UnreachableError, match=r"no connection to 127\.0\.0\.1:9 \(.*refused"):
        models.fetch(dead)


def test_file_addresses_are_copied(card: ModelCard, served: LocalServer, tmp_path: Path) -> None:
    source = served.folder / "twin.onnx"
    local = write_card(tmp_path / "local.yaml", source.as_uri(), sha256=digest(source))
    path = models.fetch(local).member_paths[0]
    assert path.is_relative_to(models.cache_root())
    assert path.read_bytes() == source.read_bytes()
    gone = write_card(tmp_path / "gone.yaml", (tmp_path / "gone.onnx").as_uri(), sha256="0" * 64)
    with pytest.raises(FetchError, match=r"gone\.onnx: No such file"):
        models.fetch(gone)


def test_packaged_members_are_used_in_place_and_checked(tmp_path: Path) -> None:
    path = write_twin(tmp_path / "hub" / "weights" / "twin.onnx", n_classes=2)
    packaged = write_card(tmp_path / "hub" / "twin.yaml", "weights/twin.onnx", sha256=digest(path))
    assert models.fetch(packaged, offline=True).member_paths == (path,)
    path.write_bytes(b"damaged")
    with pytest.raises(FetchError, match=r"ships with its card, is damaged or missing: expected sha256"):
        models.fetch(packaged)


def test_a_packaged_member_cannot_leave_its_folder(tmp_path: Path) -> None:
    outside = write_twin(tmp_path / "outside.onnx", n_classes=2)
    packaged = write_card(tmp_path / "hub" / "twin.yaml", "twin.onnx", sha256=digest(outside))
    (tmp_path / "hub" / "twin.onnx").symlink_to(outside)
    with pytest.raises(CardError, match="leads out of the card's folder"):
        models.fetch(packaged)


def test_other_files_in_the_cache_do_not_vote(card: ModelCard, served: LocalServer) -> None:
    path = models.member_path(card.members[0], card)
    for stale in (path.parent / "stale.onnx", path.parent / "00000000-twin.onnx"):
        write_twin(stale)
    assert models.fetch(card).member_paths == (path,)


def test_a_read_only_cache_is_used_as_it_is(card: ModelCard, served: LocalServer) -> None:
    path = models.fetch(card).member_paths[0]
    (path.parent / f".{path.name}.lock").unlink()
    # Root may write anywhere: what is asked for is that nobody tries.
    before = sorted(models.cache_root().rglob("*"))
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert models.fetch(card).member_paths == (path,)
        assert sorted(models.cache_root().rglob("*")) == before
    finally:
        path.parent.chmod(0o755)


def test_a_cache_that_cannot_be_made_says_so(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written: Not a directory") as caught:
        models.fetch(card, cache_dir=tmp_path / "file" / "cache")
    assert "BIDS_HSF_CACHE" in (caught.value.hint or "")


def test_a_full_disk_leaves_nothing_half_written(card: ModelCard, served: LocalServer) -> None:
    path = models.fetch(card).member_paths[0]
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # the twin is larger
    try:
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            models.fetch(card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cached_files() == [path]
    assert path.read_bytes() == b"old"


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert models.cache_root() == tmp_path / "cache"
    assert models.cache_root(tmp_path / "stated") == tmp_path / "stated"
    monkeypatch.delenv(models.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models.cache_root() == tmp_path / "xdg" / "bids-hsf" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    assert models.cache_root().is_absolute()


def test_many_processes_that_start_together_download_once(card: ModelCard, served: LocalServer) -> None:
    served.misbehave("/twin.onnx", "slow")
    done = subprocess.run([sys.executable, "-c", TWENTY, str(card.path)], capture_output=True, text=True, timeout=60)
    size = (served.folder / "twin.onnx").stat().st_size
    assert done.stdout.split() == [str(size)] * 20, done.stderr
    assert served.requests["/twin.onnx"] == 1


# Forked once everything is imported, and let go at once: 20 interpreters would need 20 times as long to start.
TWENTY = """
import os, sys
import filelock, pooch, requests, tqdm
from bids_hsf.hub import download, models

card = models.find_card(sys.argv[1])
gate, opener = os.pipe()
for _ in range(20):
    if os.fork() == 0:
        os.close(opener)
        os.read(gate, 1)
        size = models.fetch(card).member_paths[0].stat().st_size
        os.write(1, f"{size}\\n".encode())
        os._exit(0)
os.close(opener)
assert all(os.wait()[1] == 0 for _ in range(20))
"""
