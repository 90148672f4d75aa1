import pytest

from bids_hsf.bids.group_row import GroupRow
from bids_hsf.bids.group_table import GroupTable
from bids_hsf.cohort.changes import change_lines

YEARS = {"session_age": 1.0, "age": 1.0}


def visit(session: str, volume: float | None, model: str = "m", **covariates: str) -> GroupRow:
    scan = f"sub-1_ses-{session}_acq-x_T1w"
    return GroupRow("sub-1", scan, model, f"ses-{session}", volumes={"L_a": volume}, covariates=covariates)


def told(*rows: GroupRow, years: dict[str, float] = YEARS) -> list[dict[str, str]]:
    title, *lines = (line.split("\t") for line in change_lines(GroupTable(rows), years))
    return [dict(zip(title, line, strict=True)) for line in lines]


def test_change_is_of_the_first_and_of_the_previous_session() -> None:
    found = told(visit("10", 800.0), visit("2", 900.0), visit("1", 1000.0))
    pairs = [(row["compared_with"], row["from_session"], row["to_session"], row["change_mm3"]) for row in found]
    assert pairs == [
        ("first", "ses-1", "ses-2", "-100"),
        ("first", "ses-1", "ses-10", "-200"),
        ("previous", "ses-2", "ses-10", "-100"),
    ]
    assert found[0]["years"] == found[0]["change_mm3_per_year"] == "n/a"


@pytest.mark.parametrize(
    ("first", "second", "units", "years", "known_from"),
    [
        ({"acq_time": "2020-01-01T12:00:00Z"}, {"acq_time": "2022-01-01T12:00:00.5"}, YEARS, 2.0, "acq_time"),
        ({"session_age": "70"}, {"session_age": "71.5"}, YEARS, 1.5, "session_age"),
        ({"session_age": "120"}, {"session_age": "126"}, {"session_age": 1 / 12}, 0.5, "session_age"),
        ({"age": "70"}, {"age": "73"}, YEARS, 3.0, "age"),
        ({"acq_time": "soon", "age": "70"}, {"acq_time": "2022-01-01", "age": "70"}, YEARS, None, "n/a"),
    ],
)
def test_years_by_dates_or_ages(first, second, units, years, known_from) -> None:
    (row,) = told(visit("a", 1000.0, **first), visit("b", 900.0, **second), years=units)
    assert row["years_from"] == known_from
    if years is None:
        assert row["change_percent_per_year"] == "n/a"
    else:
        assert float(row["years"]) == pytest.approx(years, abs=0.003)
        assert float(row["change_percent_per_year"]) == pytest.approx(-10 / years, abs=0.05)


def test_dates_decide_the_order() -> None:
    (row,) = told(visit("a", 900.0, acq_time="2022-01-01"), visit("b", 1000.0, acq_time="2020-01-01"))
    assert (row["from_session"], row["change_percent"]) == ("ses-b", "-10")


def test_what_cannot_be_compared_is_not() -> None:
    other = GroupRow("sub-1", "sub-1_ses-b_acq-y_T1w", "m", "ses-b", volumes={"L_a": 1.0})
    assert told(visit("a", 1000.0), visit("b", 900.0, "n"), other) == []
    assert told(visit("a", None), visit("b", 900.0)) == []
    (row,) = told(visit("a", 0.0), visit("b", 900.0))
    assert (row["change_mm3"], row["change_percent"]) == ("900", "n/a")
