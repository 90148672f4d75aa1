import numpy as np

from bids_hsf.reports.charts import Marks, axis_range, strip_chart


def marks(names, outlying=()):
    flags = np.zeros(len(names), bool)
    flags[list(outlying)] = True
    return Marks(names, [f"{name}.html#x" for name in names], flags)


def test_strip_chart_keeps_order_and_outliers():
    values = np.sin(np.arange(2000)) * 50 + 500
    values[1234] = 2000
    names = [f"scan{i}" for i in range(2000)]
    chart = strip_chart("CA1", {"L": values, "R": np.full(2000, np.nan)}, marks(names, [1234]))
    (strip,) = chart.strips
    assert strip.n == 2000
    assert "scan1234" in [name.text for name in strip.names]
    by_value = sorted(strip.points, key=lambda point: float(point.value))
    assert [p.y for p in by_value] == sorted((p.y for p in by_value), reverse=True)
    assert strip.high <= strip.third <= strip.median <= strip.first <= strip.low  # heights count from the top
    assert len(strip.points) + chart.n_hidden == 2000


def test_points_lead_to_their_scans_and_outliers_are_told():
    chart = strip_chart("CA1", {"L": np.arange(20.0)}, marks([f"s{i}" for i in range(20)], [7]))
    (strip,) = chart.strips
    assert {point.name: point.href for point in strip.points}["s3"] == "s3.html#x"
    assert [point.name for point in strip.points if point.is_outlier] == ["s7"]


def test_names_beside_a_strip_do_not_overlap():
    values = np.concatenate([np.linspace(100, 110, 50), np.full(5, 400.0)])
    found = marks([f"s{i}" for i in range(55)], range(50, 55))
    (strip,) = strip_chart("x", {"L": values}, found).strips
    heights = sorted(name.y for name in strip.names)
    assert len(heights) == 5
    assert min(np.diff(heights)) >= 11


def test_no_value_no_chart():
    assert strip_chart("x", {"L": np.full(3, np.nan)}, marks(["a", "b", "c"])) is None


def test_an_axis_holds_all_values_and_does_not_blow_up_small_differences():
    low, high = axis_range(np.array([100.0, 101.0]))
    assert high - low > 25
    low, high = axis_range(np.array([10.0, 2000.0]))
    assert low < 10 < 2000 < high
