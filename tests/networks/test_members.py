"""The networks of an ensemble: how many are open, which, and that they are the card's."""

import weakref
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from toy_networks import CPU, toy_card
from twins import write_twin

from bids_hsf.errors import FetchError, ModelError
from bids_hsf.hub.cards import Member
from bids_hsf.networks import sessions
from bids_hsf.networks.device import choose_device
from bids_hsf.networks.members import Members, member_files
from bids_hsf.networks.predictor import OnnxPredictor


@pytest.fixture
def crop() -> np.ndarray:
    return np.random.default_rng(1).normal(300, 40, (13, 21, 18)).astype(np.float32)


def test_one_network_is_open_at_a_time_in_the_order_of_the_card(tmp_path, crop):
    paths = [write_twin(tmp_path / f"{n}.onnx", shift=n / 10) for n in range(3)]
    expected = [OnnxPredictor(path, toy_card(6), CPU)(crop) for path in paths]
    members = Members(paths, toy_card(6), CPU)
    assert len(members) == 3
    for _ in range(2):
        alive: list[weakref.ref[OnnxPredictor]] = []
        for predictor, probabilities in zip(members, expected, strict=True):
            np.testing.assert_array_equal(predictor(crop), probabilities)
            alive.append(weakref.ref(predictor))
            del predictor
            assert [reference() is not None for reference in alive] == [False] * (len(alive) - 1) + [True]


def test_single_network_stays_open(tmp_path):
    members = Members([write_twin(tmp_path / "twin.onnx")], toy_card(6), CPU)
    assert next(iter(members)) is next(iter(members))


def test_all_stay_open_where_that_is_asked_for(tmp_path):
    paths = [write_twin(tmp_path / f"{n}.onnx", shift=n / 10) for n in range(3)]
    members = Members(paths, toy_card(6), CPU, kept_bytes=1 << 30)
    first = list(members)
    assert len({id(predictor) for predictor in first}) == 3
    assert all(a is b for a, b in zip(first, members, strict=True))


def test_card_that_does_not_fit_is_found_at_once(tmp_path):
    with pytest.raises(ModelError, match="3 channels"):
        Members([write_twin(tmp_path / "twin.onnx", n_classes=6)], toy_card(3), CPU)


def test_network_that_the_choice_of_the_device_opened_is_taken_over(tmp_path, monkeypatch):
    paths = [write_twin(tmp_path / f"{n}.onnx") for n in range(2)]
    files = member_files(paths, toy_card(6))
    device = choose_device("cpu", files[0], 1)
    opened = []
    true_open = sessions.open_session

    def counted_open(path, *arguments):
        opened.append(path)
        return true_open(path, *arguments)

    monkeypatch.setattr(sessions, "open_session", counted_open)
    Members(files, toy_card(6), device, kept_bytes=1 << 30)
    assert opened == []
    list(Members(paths, toy_card(6), device, kept_bytes=1 << 30))
    assert opened == paths


def member_of(path: Path, **checksums: str | None) -> Member:
    return Member(path.name, path.name, None, **{"sha256": None, "xxh3_64": None, **checksums})


def test_checksums_of_the_card_go_with_the_files_of_its_order(tmp_path):
    paths = [tmp_path / f"{n}.onnx" for n in range(2)]
    members = (member_of(paths[0], sha256="ab"), member_of(paths[1], sha256="cd", xxh3_64="ef"))
    files = member_files(paths, toy_card(6, members=members))
    assert [file.path for file in files] == paths
    assert [file.checksums for file in files] == [{"sha256": "ab"}, {"sha256": "cd", "xxh3_64": "ef"}]
    assert member_files(files, toy_card(6, members=members)) == files
    with pytest.raises(ValueError, match="zip"):
        member_files(paths[:1], toy_card(6, members=members))


def test_every_opening_is_proved(tmp_path):
    """A member that is exchanged while the run goes on ends with an error, not with other labels."""
    paths = [write_twin(tmp_path / f"{n}.onnx", shift=n / 10) for n in range(2)]
    members = tuple(member_of(path, sha256=sha256(path.read_bytes()).hexdigest()) for path in paths)
    opened = Members(paths, toy_card(6, members=members), CPU)
    assert len(list(opened)) == 2
    write_twin(paths[1], shift=0.5)
    with pytest.raises(FetchError, match=r"1.onnx: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64} .*no longer"):
        list(opened)
    with pytest.raises(FetchError, match=r"1.onnx"):
        Members(paths[::-1], toy_card(6, members=members[::-1]), CPU)


def test_noise_is_shown_once_a_member(tmp_path, monkeypatch):
    """However often a member is opened: what it answered is known."""
    probed = []
    true_probe = sessions.Network.probe

    def counted_probe(network, multiple=1):
        probed.append(network.path)
        return true_probe(network, multiple)

    monkeypatch.setattr(sessions.Network, "probe", counted_probe)
    paths = [write_twin(tmp_path / f"{n}.onnx", shift=n / 10) for n in range(2)]
    opened = Members(paths, toy_card(6), CPU)
    for _ in range(3):
        list(opened)
    assert probed == paths
