"""Views of one head: which is located by itself, which through another, and what is said of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from example_data import BIDS_DIR
from numpy.typing import NDArray

from bids_hsf.errors import LocalizationError, ScanError, StorageError, UnreadableImageError
from bids_hsf.geometry import Grid, resample
from bids_hsf.images import load_scan
from bids_hsf.localization.contrasts import Guide, HeadScan, locate_head
from bids_hsf.localization.coregistration import coregister
from bids_hsf.localization.location import Location
from bids_hsf.localization.locator import Locator

WHOLE = Grid((64, 76, 62), np.array([[3.0, 0, 0, -95], [0, 3, 0, -131], [0, 0, 3, -77], [0, 0, 0, 1]]))
SLAB = WHOLE.subgrid((0, 30, 0), (64, 46, 62))
OWN = {"L": np.array([[-26.0, -21, -13]]), "R": np.array([[26.0, -21, -13]])}
LABELLED = {"LabelMap": "fastsurfer:sub-01/mri/aseg.mgz"}


@dataclass
class StandIn:
    """Says that every scan lies in template space, with the quality that a test wants for it; and takes notes."""

    qualities: Mapping[int, float] = field(default_factory=dict)
    """By the address of a scan's array; 0.9 for others, none at all for a negative one."""
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        data: NDArray[Any],
        grid: Grid,
        /,
        *,
        orientation_known: bool = True,
        reference: Location | None = None,
        own: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> Location:
        self.calls.append({"data": data, "orientation_known": orientation_known, "reference": reference, "own": own})
        quality = self.qualities.get(id(data), 0.9)
        if quality < 0:
            raise LocalizationError("both hippocampi lie outside the field of view")
        return reference or Location(np.eye(4), quality, {"L": 1.0, "R": 1.0})


@dataclass(frozen=True)
class Head:
    """T1w and T2w of one head, 3 mm."""

    t1w: NDArray[np.float32]
    t2w: NDArray[np.float32]

    @property
    def slab(self) -> NDArray[np.float32]:
        return self.t2w[:, 30:46]


@pytest.fixture(scope="module")
def brain() -> Head:
    folder = BIDS_DIR / "sub-icbm152" / "anat"
    scans = [load_scan(folder / f"sub-icbm152_{suffix}.nii.gz") for suffix in ("T1w", "T2w")]
    return Head(*(resample(scan.data, scan.grid, WHOLE) for scan in scans))


@pytest.fixture
def t1w(brain: Head) -> HeadScan:
    return HeadScan("sub-01_T1w", brain.t1w, WHOLE, "T1w")


@pytest.fixture
def t2w(brain: Head) -> HeadScan:
    return HeadScan("sub-01_T2w", brain.t2w, WHOLE, "T2w")


@pytest.fixture
def slab(brain: Head) -> HeadScan:
    return HeadScan("sub-01_T2w", brain.slab, SLAB, "T2w")


def never() -> Any:
    raise AssertionError("read though it is not needed")


def labelled(view: HeadScan, read: Callable[[], Mapping[str, Any]] = lambda: OWN) -> HeadScan:
    return replace(view, hippocampi=read, provenance=LABELLED)


def damaged() -> Any:
    raise UnreadableImageError("aseg.mgz is not a readable label map: truncated", "Make it anew.")


def test_one_scan_is_located_by_itself(t1w: HeadScan) -> None:
    locator: Locator = StandIn()
    found = locate_head(replace(t1w, orientation_known=False), locator=locator)
    (view,) = found.scans
    assert (view.key, view.grid, view.coregistration) == (t1w.key, t1w.grid, None)
    assert view.data is t1w.data
    assert found.location.provenance == {}
    assert isinstance(locator, StandIn)
    (call,) = locator.calls
    assert call["orientation_known"] is False
    assert call["own"] is None


def test_hippocampi_of_a_label_map_are_taken_and_named(t1w: HeadScan) -> None:
    locator = StandIn()
    found = locate_head(labelled(t1w), locator=locator)
    assert locator.calls[0]["own"] is OWN
    assert found.location.provenance == LABELLED
    with pytest.raises(UnreadableImageError, match=r"aseg\.mgz"):
        locate_head(labelled(t1w, damaged), locator=locator)


def test_a_pair_on_the_t1w_is_located_there(t1w: HeadScan, t2w: HeadScan) -> None:
    locator = StandIn()
    found = locate_head(t1w, labelled(t2w, never), locator=locator)
    assert [view.key for view in found.scans] == ["sub-01_T1w", "sub-01_T2w"]
    (call,) = locator.calls
    assert call["data"] is t1w.data
    second = found.scans[1]
    assert second.coregistration is not None
    expected = second.coregistration.reference_from_second @ t2w.grid.affine
    np.testing.assert_array_equal(second.grid.affine, expected)
    assert found.location.provenance == {}


def test_a_pair_on_the_t2w_is_located_through_the_t1w(t1w: HeadScan, t2w: HeadScan) -> None:
    locator = StandIn()
    found = locate_head(labelled(t2w, never), labelled(t1w), locator=locator)
    first, second = locator.calls
    assert first["data"] is t1w.data
    assert first["own"] is OWN
    assert second["data"] is t2w.data
    together = found.scans[1].coregistration
    assert together is not None
    np.testing.assert_array_equal(second["reference"].scan_from_template, together.reference_from_second)
    assert found.location.provenance == {**LABELLED, "Through": "sub-01_T1w"}


def test_two_heads_are_no_pair(t1w: HeadScan, t2w: HeadScan) -> None:
    other = replace(t1w, data=t1w.data[:, :, ::-1])
    with pytest.raises(ScanError, match="sub-01_T1w cannot be brought together with sub-01_T2w"):
        locate_head(t2w, other, locator=StandIn())


def sized(etiv_mm3: Mapping[int, float | None]) -> Locator:
    """Find every scan where it lies, with the intracranial volume that a test wants, by the address of its array."""

    def find(data: NDArray[Any], *_: Any, **__: Any) -> Location:
        volume = etiv_mm3[id(data)]
        return Location(np.eye(4), 0.9, {"L": 1.0, "R": 1.0}, volume, None if volume else "not steady")

    return find


@pytest.mark.parametrize(
    ("own", "guides", "expected", "warned"),
    [
        (1.60e6, 1.55e6, 1.55e6, False),
        (None, 1.55e6, 1.55e6, False),
        (3.10e6, 1.35e6, 1.35e6, True),
        (1.60e6, None, 1.60e6, False),
        (None, None, None, False),
    ],
)
def test_a_whole_head_in_t2w_has_the_size_that_its_t1w_shows(
    t1w: HeadScan, t2w: HeadScan, own: float | None, guides: float | None, expected: float | None, warned: bool
) -> None:
    """And stays where it was found by itself."""
    locator = sized({id(t2w.data): own, id(t1w.data): guides})
    found = locate_head(t2w, guide=Guide(t1w.key, False, lambda: t1w), locator=locator).location
    assert found.etiv_mm3 == expected
    assert found.etiv_reason == (None if expected else "not steady")
    assert found.provenance == ({"eTIVOf": "sub-01_T1w"} if guides else {})
    assert any("are they of one person?" in each.text for each in found.findings) is warned


def test_a_guide_that_cannot_be_read_leaves_the_scan_its_own_size(t2w: HeadScan) -> None:
    def stale() -> HeadScan:
        raise StorageError("Cannot read sub-01_T1w.nii.gz: Stale file handle")

    for read in (stale, damaged):
        found = locate_head(t2w, guide=Guide("sub-01_T1w", False, read), locator=sized({id(t2w.data): 1.5e6}))
        assert found.location.etiv_mm3 == 1.5e6
        (finding,) = found.location.findings
        assert (finding.code, finding.weight) == ("guide-unused", "note")
        assert finding.text.startswith("the eTIV is not that of sub-01_T1w: ")


def test_a_slab_is_located_through_the_guide(slab: HeadScan, t1w: HeadScan) -> None:
    locator = StandIn()
    found = locate_head(labelled(slab, never), guide=Guide(t1w.key, True, lambda: labelled(t1w)), locator=locator)
    assert [call["data"] is slab.data for call in locator.calls] == [False, True]
    together = coregister(slab.data, slab.grid, t1w.data, t1w.grid)
    assert found.location.provenance == {
        **LABELLED,
        "Through": "sub-01_T1w",
        "CoregistrationQuality": round(together.quality, 4),
    }
    np.testing.assert_array_equal(found.location.scan_from_template, together.reference_from_second)


def test_a_slab_whose_sides_are_exchanged_is_told(slab: HeadScan, t1w: HeadScan) -> None:
    scan = load_scan(BIDS_DIR / "sub-colin27" / "anat" / "sub-colin27_T1w.nii.gz")
    head = replace(t1w, data=resample(scan.data, scan.grid, WHOLE))
    own = head.data[:, 30:46]
    for data, weights in ((own, []), (own[::-1].copy(), ["fail"])):
        found = locate_head(replace(slab, data=data), guide=Guide(head.key, False, lambda: head), locator=StandIn())
        told = [each for each in found.location.findings if each.code == "mirrored"]
        assert [each.weight for each in told] == weights
        assert found.location.provenance["Through"] == "sub-01_T1w"
    assert "the scan fits sub-01_T1w only as a mirror image" in told[0].text


def test_a_doubtful_scan_is_located_through_the_guide(t2w: HeadScan, t1w: HeadScan) -> None:
    locator = StandIn({id(t2w.data): 0.2})
    found = locate_head(t2w, guide=Guide(t1w.key, False, lambda: t1w), locator=locator)
    assert [call["data"] is t2w.data for call in locator.calls] == [True, False, True]
    assert found.location.provenance["Through"] == "sub-01_T1w"


def test_the_label_map_of_the_guide_is_borrowed_unless_the_scan_has_its_own(t2w: HeadScan, t1w: HeadScan) -> None:
    guide = Guide(t1w.key, True, lambda: labelled(t1w))
    borrowed = locate_head(t2w, guide=guide, locator=StandIn()).location.provenance
    assert borrowed["LabelMap"] == LABELLED["LabelMap"]
    assert borrowed["Through"] == "sub-01_T1w"
    assert locate_head(labelled(t2w), guide=guide, locator=StandIn()).location.provenance == LABELLED


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("missing", "located without sub-01_T1w: sub-01_T1w.nii.gz does not exist"),
        ("damaged", "located without sub-01_T1w: aseg.mgz is not a readable label map: truncated"),
        ("nowhere", "located without sub-01_T1w: both hippocampi lie outside the field of view"),
    ],
)
def test_a_guide_that_cannot_be_used_is_told(case: str, expected: str, slab: HeadScan, t1w: HeadScan) -> None:
    def read() -> HeadScan:
        if case == "missing":
            raise UnreadableImageError("sub-01_T1w.nii.gz does not exist")
        return labelled(t1w, damaged) if case == "damaged" else t1w

    locator = StandIn({id(t1w.data): -1.0} if case == "nowhere" else {})
    found = locate_head(slab, guide=Guide(t1w.key, case == "damaged", read), locator=locator)
    assert [(each.code, each.weight, each.text) for each in found.location.findings] == [
        ("guide-unused", "check", expected)
    ]
    assert found.location.provenance == {}
    assert locator.calls[-1]["data"] is slab.data


def test_a_doubtful_guide_is_not_followed(slab: HeadScan, t1w: HeadScan) -> None:
    locator = StandIn({id(t1w.data): 0.3})
    found = locate_head(slab, guide=Guide(t1w.key, False, lambda: t1w), locator=locator)
    (finding,) = found.location.findings
    assert finding.text.startswith("located without sub-01_T1w: quality there 0.30, of the coregistration 0.")
    assert finding.text.endswith("(expected 0.45 and 0.1 or more)")
    assert found.location.provenance == {}


def test_a_guide_of_another_head_is_not_followed(t2w: HeadScan) -> None:
    """The answer that is doubtful by itself is kept, and not searched for again."""
    noise = np.random.default_rng(1).normal(100, 10, WHOLE.shape).astype(np.float32)
    locator = StandIn({id(t2w.data): 0.2})
    guide = Guide("sub-01_T1w", False, lambda: HeadScan("sub-01_T1w", noise, WHOLE, "T1w"))
    found = locate_head(t2w, guide=guide, locator=locator)
    (finding,) = found.location.findings
    assert finding.text.startswith("located without sub-01_T1w: quality there 0.90")
    assert found.location.quality == 0.2
    assert len(locator.calls) == 2
