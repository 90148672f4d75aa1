import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from local_server import LocalServer
from served_cards import cached_files, digest, write_card
from twins import write_twin

from bids_hsf.errors import CardError, FetchError, ModelError
from bids_hsf.hub import cards, models
from bids_hsf.hub.cards import ModelCard


def test_packaged_cards_are_whole() -> None:
    found = {card.name: card for card in models.list_cards()}
    hsf = ["single_fast", "single_accurate", "bagging_fast", "bagging_accurate", "single_sq", "bagging_sq"]
    earlier = [f"{name}_3.0.0" for name in hsf[:4]]
    assert {*hsf, *earlier, "longaxis_single_fast", "longaxis_single_accurate"} <= found.keys()
    assert [len(found[name].members) for name in hsf] == [1, 1, 5, 5, 1, 5]
    assert [found[name].n_augmentations for name in hsf] == [0, 8, 0, 7, 8, 7]
    assert [len(found[name].members) for name in earlier] == [1, 1, 5, 5]
    default = found["bagging_accurate"].members[0]
    assert default.source.endswith("poiretclement/hsf/resolve/main/onnx/arunet_4.0.0b0_1706633574.onnx")
    assert (default.xxh3_64, default.filename) == ("535af004dc7251af", "arunet_4.0.0b0_1706633574.onnx")
    assert [label.abbreviation for label in found["single_sq"].labels] == ["DG", "CA1", "CA2", "CA3", "SUB"]
    assert all(card.authors and card.license and card.citation for card in found.values())


def test_packaged_files_are_those_that_their_cards_name() -> None:
    files = {
        models.member_path(member, card): member
        for card in models.list_cards()
        for member in card.files
        if models.is_packaged(member)
    }
    assert len(files) > 20
    assert {str(path): models.find_damage(path, member) for path, member in files.items()} == dict.fromkeys(
        map(str, files)
    )


def test_families_that_ship_have_the_models_that_hsf_has() -> None:
    names = {card.name for card in models.list_cards()}
    kinds = [f"{size}_{kind}" for size in ("single", "bagging") for kind in ("fast", "accurate", "sq")]
    assert names >= {f"{family}_{kind}" for family in ("longaxis", "subfields", "cobralab") for kind in kinds}


def test_the_figures_of_the_list_are_those_of_the_evaluation() -> None:
    """What `hsf-hub list` shows in short has been measured: each figure is one of the evaluation, rounded."""
    told = [card for card in models.list_cards() if card.accuracy != cards.NOT_STATED]
    assert len(told) >= 8
    for card in told:
        measured, shown = ([float(n) for n in re.findall(r"0?\.\d+", t)] for t in (card.evaluation, card.accuracy))
        assert shown
        assert all(any(abs(figure - each) < 0.0051 for each in measured) for figure in shown), card.name


def test_for_a_packaged_model_its_own_file_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {card.name: card.path for card in models.list_cards()}
    read: list[Path] = []
    monkeypatch.setattr(models, "load_cards", lambda path: read.append(path) or cards.load_cards(path))
    for name, path in every.items():
        read.clear()
        assert models.find_card(name).path == path
        assert read == [path]


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


def test_what_a_killed_download_left_goes_with_the_next_use_even_of_a_model_that_is_there(card: ModelCard) -> None:
    folder = models.fetch(card).member_paths[0].parent
    old, young, foreign = (
        folder / name for name in (f".a.bids-hsf-{7:08x}", f".b.bids-hsf-{8:08x}", ".notes.20240101")
    )
    for path in (old, young, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (0, 0))
    models.fetch(card, offline=True)
    assert [path.exists() for path in (old, young, foreign)] == [False, True, True]


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
        "subfields_single_accurate",
    ):
        assert part in text
    assert caught.value.exit_code == 69


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
    # Root may write anywhere: what is asked for is that nobody tries.
    before = sorted(models.cache_root().rglob("*"))
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert models.fetch(card).member_paths == (path,)
        assert sorted(models.cache_root().rglob("*")) == before
    finally:
        path.parent.chmod(0o755)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert models.cache_root() == tmp_path / "cache"
    assert models.cache_root(tmp_path / "stated") == tmp_path / "stated"
    monkeypatch.delenv(models.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert models.cache_root() == tmp_path / "xdg" / "bids-hsf" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    assert models.cache_root().is_absolute()


def test_passwords_in_addresses_are_not_told(tmp_path: Path) -> None:
    card = write_card(tmp_path / "c.yaml", "https://ada:secret@host.example/net.onnx", sha256="0" * 64)
    with pytest.raises(FetchError, match="from https://host.example/net.onnx for") as caught:
        models.fetch(card, offline=True)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
