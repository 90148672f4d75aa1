import pytest

from bids_hsf.bids.entities import in_order, legal_label, split_name


@pytest.mark.parametrize(
    ("label", "legal"),
    [("01", "01"), ("0.8mm", "0p8mm"), ("a-b", "amb"), ("a_b", "au5fb"), ("张", "u5f20"), ("a+b", "a+b")],
)
def test_labels_become_letters_and_digits(label: str, legal: str) -> None:
    assert legal_label(label) == legal


def test_names_are_split_into_entities_and_suffix() -> None:
    assert split_name("sub-01_ses-2_acq-a-b_T1w") == ({"sub": "01", "ses": "2", "acq": "a-b"}, "T1w")
    assert split_name("T1w") == ({}, "T1w")


def test_the_first_of_two_equal_entities_counts() -> None:
    assert split_name("sub-01_run-1_run-2_T1w")[0]["run"] == "1"


def test_entities_stand_in_bids_order_and_unknown_ones_go() -> None:
    labels = {"run": "1", "desc": "x", "acq": "0.8", "ses": "2", "sub": "01", "rec": ""}
    assert in_order(labels) == (("sub", "01"), ("ses", "2"), ("acq", "0p8"), ("run", "1"))
