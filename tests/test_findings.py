"""Findings are sorted, counted and weighed in one way everywhere."""

from bids_hsf.findings import Finding, Weight, flags, heaviest_first, worst

NOTE = Finding("pieces", Weight.NOTE, "two pieces")
CHECK = Finding("coverage", Weight.CHECK, "cut", 0.95, 0.99, "L")
FAIL = Finding("volume-small", Weight.FAIL, "nothing there", 3.0, 500.0, "R")


def test_the_heaviest_comes_first_and_nothing_twice() -> None:
    other = Finding("noise", Weight.CHECK, "noisy")
    assert heaviest_first([NOTE, CHECK, FAIL, other, CHECK]) == (FAIL, CHECK, other, NOTE)


def test_the_worst_is_that_of_the_heaviest() -> None:
    assert worst([NOTE, FAIL, CHECK]) is Weight.FAIL
    assert worst([NOTE]) is Weight.NOTE
    assert worst([]) is None


def test_notes_are_no_flags() -> None:
    assert flags([NOTE, CHECK, FAIL]) == (FAIL, CHECK)
    assert flags([NOTE]) == ()
