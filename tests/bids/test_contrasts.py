import pytest

from bids_hsf.bids.contrasts import PAIR, contrast_of


@pytest.mark.parametrize(("suffix", "contrast"), [("T1w", "T1w"), ("UNIT1", "T1w"), ("T2w", "T2w")])
def test_mp2rage_counts_as_t1w(suffix: str, contrast: str) -> None:
    assert contrast_of(suffix) == contrast


def test_two_contrasts_can_be_joined() -> None:
    assert PAIR == ("T1w", "T2w")
