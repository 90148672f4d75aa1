import random

import pytest

from bids_hsf.bids.shards import Shard
from bids_hsf.errors import UsageError


@pytest.mark.parametrize(("n_labels", "count"), [(0, 1), (1, 1), (7, 3), (1000, 7), (5, 8)])
def test_shards_leave_none_out_take_none_twice_and_are_of_one_size(n_labels: int, count: int) -> None:
    labels = [f"{i:04d}" for i in range(n_labels)]
    shards = [Shard(k, count).of(labels) for k in range(1, count + 1)]
    assert sorted(label for shard in shards for label in shard) == labels
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_listing_does_not_matter() -> None:
    labels = [f"{i}" for i in range(100)]
    mixed = random.Random(3).sample(labels, 100)
    assert Shard(3, 7).of(mixed) == Shard(3, 7).of(labels) == Shard(3, 7).of(mixed + mixed[:5])


def test_shards_are_written_as_k_of_n() -> None:
    assert Shard.parse("03/10") == Shard(3, 10)
    assert str(Shard(3, 10)) == "3/10"


@pytest.mark.parametrize("text", ["", "3", "3/", "/3", "a/b", "1.5/2", "-1/3", "1/3/4", "²/3"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard expects K/N"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0"])
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is none of the shards"):
        Shard.parse(text)
