import numpy as np

from bids_hsf.reports.charts import robust_z, strip_chart


def test_robust_z_needs_enough_scans_and_spread():
    assert not robust_z(np.array([1.0, 1, 1, 1, 1, 1, 1, 99])).any()
    assert not robust_z(np.array([1.0, 2, 3, 99])).any()
    values = np.array([10.0, 11, 12, 13, 14, 15, 16, 17, 90, np.nan])
    scores = robust_z(values)
    assert scores[8] > 3.5
    assert np.abs(np.delete(scores, 8)).max() < 3.5


def test_strip_chart_keeps_order_and_outliers():
    values = np.sin(np.arange(2000)) * 50 + 500
    values[1234] = 2000
    chart = strip_chart("CA1", {"L": values, "R": np.full(2000, np.nan)}, [f"scan{i}" for i in range(2000)])
    (strip,) = chart.strips
    assert strip.n == 2000
    assert "scan1234" in [name.text for name in strip.names]
    by_value = sorted(strip.points, key=lambda point: point.value)
    assert [p.y for p in by_value] == sorted((p.y for p in by_value), reverse=True)
    assert strip.high <= strip.third <= strip.median <= strip.first <= strip.low  # heights count from the top
    assert len(strip.points) + chart.n_hidden == 2000


def test_names_beside_a_strip_do_not_overlap():
    values = np.concatenate([np.linspace(100, 110, 50), np.full(5, 400.0)])
    (strip,) = strip_chart("x", {"L": values}, [f"s{i}" for i in range(55)]).strips
    heights = sorted(name.y for name in strip.names)
    assert len(heights) == 5
    assert min(np.diff(heights)) >= 11


def test_no_value_no_chart():
    assert strip_chart("x", {"L": np.full(3, np.nan)}, ["a", "b", "c"]) is None
