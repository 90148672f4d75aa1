from bids_hsf.text_table import natural_order


def test_runs_are_sorted_as_people_do():
    names = ["run-10", "run-2", "run-1"]
    assert sorted(names, key=natural_order) == ["run-1", "run-2", "run-10"]
