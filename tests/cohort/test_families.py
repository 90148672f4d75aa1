from bids_hsf.bids.group_row import GroupRow
from bids_hsf.bids.group_table import GroupTable
from bids_hsf.cohort.families import families_of, mixtures_of


def row(scan: str, model: str = "m", **settings: object) -> GroupRow:
    return GroupRow(scan.split("_")[0], scan, model, segmentation="s", settings=settings)


def test_model_contrast_and_settings_part_scans() -> None:
    rows = [row("sub-1_T1w"), row("sub-1_T2w"), row("sub-2_T1w", "n"), row("sub-3_T1w", labels="whole")]
    rows += [row("sub-4_T1w", app_version="2"), GroupRow("sub-5", "sub-5_T1w", "m", status="killed")]
    families = families_of(GroupTable(rows))
    assert [family.rows for family in families] == [(0, 4), (1,), (2,), (3,)]
    assert (families[3].model, families[3].suffix, families[3].settings) == ("m", "T1w", {"labels": "whole"})


def test_mixtures_are_told_within_model_and_contrast() -> None:
    rows = [row("sub-1_T1w", app_version="1"), row("sub-2_T1w", app_version="1"), row("sub-3_T1w", app_version="2")]
    rows += [row("sub-3_T2w", app_version="3"), row("sub-1_T1w", "n", app_version="4")]
    (mixture,) = mixtures_of(GroupTable(rows))
    assert (mixture.setting, mixture.counts) == ("app_version", {"1": 2, "2": 1})
    assert str(mixture) == "m, T1w, seg-s: app_version differs: 1 (2), 2 (1)"
    assert mixtures_of(GroupTable(rows[:2])) == []
