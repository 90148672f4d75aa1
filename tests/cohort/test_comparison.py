import numpy as np
import pytest

from bids_hsf.cohort.comparison import Measured, agreements


def measured(first: float | None, second: float | None, dice: float | None = 0.9, structure: str = "a") -> Measured:
    return Measured("sub-1_T1w", "sub-1", None, "L", structure, dice, first, second)


def test_agreement_by_hand() -> None:
    (found,) = agreements([measured(100, 110), measured(200, 190), measured(300, 330, None), measured(None, 1)])
    differences = np.array([10, -10, 30])
    assert (found.n, found.bias) == (3, 10)
    assert found.sd == pytest.approx(differences.std(ddof=1))
    assert found.limits == pytest.approx((10 - 1.96 * 20, 10 + 1.96 * 20))
    # Student's t with 2 degrees of freedom: 4.3027.
    assert found.bias_interval == pytest.approx((10 - 4.3027 * 20 / 3**0.5, 10 + 4.3027 * 20 / 3**0.5), rel=1e-4)
    assert found.dice == (0.9, 0.9, 0.9, 0.9)
    assert found.bias_percent == pytest.approx(200 * 10 / 210, abs=1e-3)


def test_concordance_is_one_for_equal_and_less_for_shifted_volumes() -> None:
    (same,) = agreements([measured(value, value) for value in (1.0, 2.0, 3.0)])
    (shifted,) = agreements([measured(value, value + 1) for value in (1.0, 2.0, 3.0)])
    assert same.concordance == 1
    # Lin: 2 s12 / (s1 + s2 + shift^2), variances 2/3.
    assert shifted.concordance == pytest.approx((4 / 3) / (4 / 3 + 1))
    (single,) = agreements([measured(1.0, 2.0)])
    assert (single.concordance, single.bias_interval, single.sd) == (None, None, 0)
    assert agreements([measured(None, 2.0)]) == []


def test_totals_come_first() -> None:
    found = agreements([measured(1, 1), measured(2, 2, structure="total")])
    assert [each.structure for each in found] == ["total", "a"]
    assert measured(0, 0).percent is None
