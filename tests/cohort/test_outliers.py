import numpy as np
import pytest

from bids_hsf.bids.group_row import GroupRow
from bids_hsf.bids.group_table import GroupTable
from bids_hsf.cohort.outliers import judge, limit, robust_z


def cohort(n: int, seed: int = 0, **changes: object) -> list[GroupRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(n):
        shares = dict(zip(("L_a", "R_a"), rng.normal(2, 0.2, 2).tolist(), strict=True))
        rows.append(
            GroupRow(
                f"sub-{place}",
                f"sub-{place}_T1w",
                "m",
                n_components={"L": 1, "R": 1},
                coverage={"L": 1.0, "R": 1.0},
                localization_quality=0.9 + 0.01 * rng.standard_normal(),
                entropy={side: 0.1 * float(np.exp(0.1 * rng.standard_normal())) for side in "LR"},
                volumes={name: 1500 * share for name, share in shares.items()},
                asymmetry={"a": 100 * (shares["L_a"] - shares["R_a"])},
                per_mille=shares,
                **changes,
            )
        )
    return rows


def judged(rows: list[GroupRow]) -> GroupTable:
    table = GroupTable(rows)
    judge(table).put_into(table)
    return table


def flagged(rows: list[GroupRow]) -> list[int]:
    return [place for place, word in enumerate(judged(rows).texts("outlier")) if word == "yes"]


def replaced(row: GroupRow, **changes: object) -> GroupRow:
    return GroupRow(**{**vars(row), **changes})


@pytest.mark.parametrize("n", [8, 20, 60, 400])
def test_few_sound_scans_are_flagged(n: int) -> None:
    share = np.mean([len(flagged(cohort(n, seed))) / n for seed in range(max(1, 800 // n))])
    assert share <= 0.015


@pytest.mark.parametrize(
    ("changes", "measure"),
    [
        ({"n_components": {"L": 1, "R": 4}}, "R_n_components"),
        ({"localization_quality": 0.5}, "localization_quality"),
        ({"entropy": {"L": 0.3, "R": 0.1}}, "L_entropy_mean"),
        ({"coverage": {"L": 0.6, "R": 1.0}}, "L_coverage"),
        ({"per_mille": {"L_a": 0.4, "R_a": 2.0}}, "L_a_per_mille_eTIV"),
        ({"asymmetry": {"a": 180.0}}, "a_asymmetry_percent"),
    ],
)
def test_each_measure_may_be_far_alone(changes: dict[str, object], measure: str) -> None:
    rows = cohort(60)
    rows[7] = replaced(rows[7], **changes)
    assert 7 in flagged(rows)
    assert (judged(rows).texts("outlier_measures")[7] or "").startswith(measure)


def test_what_is_better_than_usual_is_no_outlier() -> None:
    rows = cohort(60)
    rows[7] = replaced(rows[7], localization_quality=1.0, entropy={"L": 0.02, "R": 0.02})
    told = (judged(rows).texts("outlier_measures")[7] or "").split()
    assert not {"localization_quality", "L_entropy_mean"} & set(told)


def test_a_little_in_all_measures_is_far_together() -> None:
    rng = np.random.default_rng(3)
    names = [f"L_s{i}" for i in range(40)]
    rows = [
        GroupRow(f"sub-{i}", f"sub-{i}_T1w", "m", per_mille=dict(zip(names, rng.normal(2, 0.2, 40), strict=True)))
        for i in range(200)
    ]
    rows[5] = replaced(rows[5], per_mille={name: 2 + 0.2 * 3.0 * (-1) ** i for i, name in enumerate(names)})
    table = GroupTable(rows)
    assert np.flatnonzero(judge(table).far[5]).tolist() == [judge(table).measures.index("together")]
    assert (judged(rows).texts("outlier_measures")[5] or "").startswith("together +")


def test_scans_of_other_settings_and_unfinished_ones_are_not_compared() -> None:
    rows = cohort(20) + cohort(7, 1, settings={"test_time_augmentations": 4})
    rows += [GroupRow("sub-x", "sub-x_T1w", "m", status="failed")]
    words = judged(rows).texts("outlier")
    assert words[20:] == [None] * 8
    assert None not in words[:20]


def test_a_scan_without_intracranial_volume_is_judged_by_its_volumes() -> None:
    rows = cohort(40)
    rows[3] = replaced(rows[3], per_mille={"L_a": None, "R_a": None}, volumes={"L_a": 300.0, "R_a": 3000.0})
    told = judged(rows).texts("outlier_measures")
    assert "L_a_mm3 -" in (told[3] or "")
    assert "mm3" not in "".join(text or "" for place, text in enumerate(told) if place != 3)


def test_equal_values_have_no_spread_and_no_outlier() -> None:
    assert robust_z(np.full(9, 3.0)).tolist() == [0] * 9
    assert robust_z(np.array([1.0] * 9 + [3.0]), 0.4)[-1] == 5
    assert judge(GroupTable()).far.shape == (0, 1)


def test_limits_fall_with_scans_and_grow_with_measures() -> None:
    assert limit(20, 10) > limit(60, 10) > limit(1000, 10) > 3
    assert limit(60, 40) > limit(60, 10)
