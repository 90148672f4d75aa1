"""Indices keep their meaning whatever is merged."""

import numpy as np

from bids_hsf.labels import Label, Merge, bilateral, hemisphere_offset, merge_channels

DG, CA1, CA2, CA3 = [
    Label(index, name, name, "#112233") for index, name in enumerate(("DG", "CA1", "CA2", "CA3"), start=1)
]
CA23 = Merge("1/23", "CA23", (DG, CA1, Label(3, "CA2 and CA3", "CA23", "#445566")), {4: 3})


def test_merged_channels_add_up_and_keep_their_order() -> None:
    probabilities = np.array([0.1, 0.2, 0.3, 0.15, 0.25], dtype=np.float32).reshape(5, 1, 1, 1)
    merged = merge_channels(probabilities, CA23, (DG, CA1, CA2, CA3))
    np.testing.assert_allclose(merged.ravel(), [0.1, 0.2, 0.3, 0.4], atol=1e-6)


def test_without_a_merge_nothing_changes() -> None:
    probabilities = np.zeros((5, 2, 2, 2))
    assert merge_channels(probabilities, None, (DG, CA1, CA2, CA3)) is probabilities


def test_right_structures_are_a_hundred_higher() -> None:
    assert (hemisphere_offset("L"), hemisphere_offset("R")) == (0, 100)
    assert [(side, label.index) for side, label in bilateral((DG, CA1))] == [("L", 1), ("L", 2), ("R", 101), ("R", 102)]
