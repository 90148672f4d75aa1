"""Cards and marks of strangers: each command says what is wrong with them, soon and in little memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_server import LocalServer
from peak_memory import PEAK_MB
from served_cards import write_card

from bids_hsf.errors import CardError, FetchError
from bids_hsf.hub import download, models
from bids_hsf.hub.cards import ModelCard, load_cards

GOOD = """\
schema: 1
family: lab
version: 1.0
description: One structure
orientation: RAS
contrasts: [T1w]
voxel_size_mm: native
normalization: zscore
pad_multiple: 8
output: probabilities
labels: [{index: 1, name: One, abbreviation: one, color: "#112233"}]
license: CC0-1.0
citation: none
authors: [Ada]
training_data: none
models:
  lab_fast:
    members: [{url: "https://host.example/a.onnx", sha256: "SHA"}]
""".replace("SHA", "ab" * 32)

MANY = 12_000
HOSTILE = {
    "half an IPv6 address": GOOD.replace("https://host.example", "https://[x"),
    "an IPv6 address with a name": GOOD.replace("https://host.example", "https://[::1%25x]:port"),
    "a port beyond all": GOOD.replace("host.example", "host.example:99999999"),
    "a password beside half an address": GOOD.replace("https://host.example", "https://ada:secret@[x"),
    "a version of 5,000 digits": f"minimum_app_version: {'9' * 5000}\n{GOOD}",
    "a size of 5,000 digits": GOOD.replace("{url:", f"{{size: {'9' * 5000}, url:"),
    "an index of 100,000 digits": GOOD.replace("index: 1", f"index: {'1' * 100_000}"),
    "many authors, two of them equal": GOOD.replace("[Ada]", f"[{', '.join(map(str, range(MANY)))}, 7]"),
    "many labels": GOOD.replace("labels: [", f"labels: [{'{index: 1}, ' * 9_000}"),
    "many members": GOOD.replace("members: [", f"members: [{'{size: 1}, ' * 9_000}"),
    "many models": GOOD + "".join(f"  m{i}: {{members: []}}\n" for i in range(4_000)),
    "many unknown fields": "".join(f"field{i}: 1\n" for i in range(MANY)) + GOOD,
    "an unknown field with a long name": f"? {'x' * 200_000}\n: 1\n{GOOD}",
    "aliases that multiply": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(9)),
    "an alias of itself": "a: &a [*a]\n",
    "brackets in brackets": "[" * 250_000,
    "braces in braces": "{a: " * 60_000,
    "blocks in blocks": "\n".join(" " * i + "a:" for i in range(700)),
    "question marks": "? " * 120_000,
    "one key, again and again": "a: 1\n" * 50_000,
    "a tag that builds objects": "!!python/object/apply:os.system ['true']",
    "control characters": GOOD.replace("One structure", "\x1b[2J"),
    "half a character": f'"\\ud800": 1\n{GOOD}',
    "half a character as a value": GOOD.replace("One structure", '"\\udfff"'),
    "no text": "\x00\x01\x02",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_card_is_refused_soon(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(CardError, match="card.yaml") as caught:
        load_cards(path)
    assert time.process_time() - began < 10
    assert len(caught.value.message) < 2_000
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/tty", "pipe", "itself.yaml", "folder", "gone"])
def test_card_that_is_no_file(tmp_path: Path, target: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "itself.yaml"
    path.symlink_to(target)
    with pytest.raises(CardError, match=r"itself.yaml: (the card cannot be read|expected a card of at most)"):
        load_cards(path)


COMMANDS = (["list"], ["show", "lab_fast"], ["verify"], ["fetch", "lab_fast"], ["validate", "{bad}"], ["show", "{bad}"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words))
def test_every_command_lives_with_hostile_cards_in_its_folder(tmp_path: Path, command: list[str]) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    os.mkfifo(hub / "pipe.yaml")
    (hub / "zero.yaml").symlink_to("/dev/zero")
    (hub / "loop.yaml").symlink_to("loop.yaml")
    (hub / "folder.yaml").mkdir()
    for number, text in enumerate(HOSTILE.values()):
        (hub / f"bad{number}.yaml").write_text(text, encoding="utf-8")
    words = [word.format(bad=hub / "bad0.yaml") for word in command]
    environment = {**os.environ, "BIDS_HSF_CACHE": str(tmp_path / "cache")}
    script = "import sys; from bids_hsf.cli.hub import main; code = main(); "
    script += f"print('peak', {PEAK_MB}); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--hub-dir", str(hub)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == (0 if command[0] in ("list", "verify") else 69), done.stderr
    assert "Traceback" not in done.stderr
    assert int(done.stdout.split("peak ")[-1]) < 1000
    assert "\x1b" not in done.stdout + done.stderr


def test_address_half_of_which_is_missing_is_told_by_every_message(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(HOSTILE["half an IPv6 address"])
    with pytest.raises(CardError, match="no valid address: Invalid IPv6 URL"):
        models.find_card(str(path))


class TestMarkOfAFailedDownload:
    """Processes that wait for one download share its failure; nobody else can make it fail."""

    def note_of(self, card: ModelCard) -> Path:
        target = models.member_path(card.members[0], card)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.with_name(f".{target.name}.failed")

    def test_one_from_the_future_is_not_believed(self, card: ModelCard) -> None:
        note = self.note_of(card)
        note.write_text("no connection")
        os.utime(note, (time.time() + 10_000,) * 2)
        assert models.fetch(card).member_paths[0].is_file()

    def test_one_of_somebody_else_is_not_believed(self, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
        note = self.note_of(card)
        note.write_text("no connection")
        os.utime(note, (time.time() + 0.5,) * 2)
        monkeypatch.setattr(download.os, "getuid", lambda: note.stat().st_uid + 1)
        assert models.fetch(card).member_paths[0].is_file()

    def test_pipe_in_its_place_is_not_waited_for(self, card: ModelCard) -> None:
        note = self.note_of(card)
        os.mkfifo(note)
        os.utime(note, (time.time() + 0.5,) * 2)
        assert models.fetch(card).member_paths[0].is_file()

    def test_its_text_is_made_harmless(self, card: ModelCard) -> None:
        note = self.note_of(card)
        note.write_text("no\x1b[2J connection to //ada:secret@host")
        os.utime(note, (time.time() + 0.5,) * 2)
        with pytest.raises(FetchError) as caught:
            models.fetch(card)
        assert "no [2J connection to //host" in caught.value.message


def test_member_of_terabytes_is_not_hashed(tmp_path: Path) -> None:
    network = tmp_path / "net.onnx"
    with network.open("wb") as file:
        file.truncate(1 << 42)
    card = write_card(tmp_path / "card.yaml", "net.onnx", sha256="ab" * 32)
    with pytest.raises(FetchError, match="expected at most 2147483648 bytes"):
        models.fetch(card)


def test_pipe_as_a_member_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.onnx")
    card = write_card(tmp_path / "card.yaml", "net.onnx", sha256="ab" * 32)
    with pytest.raises(FetchError, match="damaged or missing"):
        models.fetch(card)


def test_cache_beside_a_strangers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home, downloads go to a temporary folder: of this user alone."""
    monkeypatch.delenv(models.CACHE_VARIABLE)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~") / name)
    monkeypatch.setattr(models.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"bids-hsf-{os.getuid()}").symlink_to("/etc")
    root = models.cache_root()
    assert root.is_relative_to(tmp_path)
    assert root != tmp_path / f"bids-hsf-{os.getuid()}" / "models"
    assert models.cache_root() == root


def test_slow_server_of_a_served_card(card: ModelCard, served: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then ends at the deadline, and nothing of it stays."""
    monkeypatch.setattr(download, "TOTAL_DEADLINE_S", 0.3)
    served.misbehave("/twin.onnx", "trickle")
    with pytest.raises(FetchError, match="then we stopped waiting"):
        models.fetch(card)
    folder = models.member_path(card.members[0], card).parent
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".failed")] == []
