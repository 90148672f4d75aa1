"""The size of a brain is measured by as few fits as say it for sure."""

from typing import Any

import numpy as np
import pytest

from bids_hsf.localization import brain_size
from bids_hsf.localization.reduced_scan import ReducedScan
from bids_hsf.localization.search import scaled
from bids_hsf.localization.template import BRAIN_CENTER, load_template


@pytest.mark.parametrize(("wrong", "n_fits"), [(1.0, 2), (1.1, 5)])
def test_a_right_answer_takes_two_fits_and_a_wrong_one_all(
    monkeypatch: pytest.MonkeyPatch, wrong: float, n_fits: int
) -> None:
    template = load_template()
    fits = []
    fit_affine = brain_size.fit_affine

    def counted(*arguments: Any) -> Any:
        fits.append(arguments)
        return fit_affine(*arguments)

    monkeypatch.setattr(brain_size, "fit_affine", counted)
    found = brain_size.brain_size(ReducedScan.of(template.t1w, template.grid), scaled(np.eye(4), BRAIN_CENTER, wrong))
    assert found.scale == pytest.approx(1, abs=0.02)
    assert found.low <= found.scale <= found.high
    assert found.spread < 0.05
    assert len(fits) == n_fits


def test_size_does_not_depend_on_the_number_of_threads() -> None:
    template = load_template()
    scan, start = ReducedScan.of(template.t1w, template.grid), scaled(np.eye(4), BRAIN_CENTER, 1.1)
    assert brain_size.brain_size(scan, start) == brain_size.brain_size(scan, start, n_threads=2)
