"""Output folders on disks that know less than others: FAT, exFAT, shares of Windows."""

import errno
import fcntl
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from toy_runs import N_SUBJECTS, Place, assert_whole, contents, leftovers, run_here

# What no name may hold or end with there.
IMPOSSIBLE = re.compile(r'["*:<>?\\|\x00-\x1f]|[. ]$')
TWO_SECONDS = 2 * 10**9  # the clock of FAT


@pytest.fixture
def poor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither links nor modes nor locks."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for name in ("symlink", "link", "chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(fcntl, "flock", without_locks)


@pytest.mark.usefixtures("poor")
def test_neither_links_nor_modes_nor_locks_nor_fine_times_are_needed(place: Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = place.run(out)
    assert done.returncode == 0, done.stderr
    assert_whole(out)
    assert contents(out) == contents(place.reference)
    assert leftovers(out) == []
    for path in out.rglob("*"):
        found = path.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns // TWO_SECONDS * TWO_SECONDS))
    again = place.run(out, "participant", "status")
    assert again.returncode == 0, again.stderr
    assert f"{N_SUBJECTS} done before, 0 to do" in again.stderr


@pytest.mark.usefixtures("poor")
def test_the_validator_is_told_where_its_links_cannot_be(place: Place, tmp_path: Path) -> None:
    words = place.words(tmp_path / "out", "participant", "--participant-label", "01")
    done = run_here(*(word for word in words if word != "--skip-bids-validation"))
    assert done.returncode == 0, done.stderr
    assert "The BIDS validator could not run ([Errno 1] Operation not permitted" in done.stderr
    assert "1 of 1 scan(s) done" in done.stderr


def test_all_names_are_possible_there_and_differ_by_more_than_case(place: Place) -> None:
    paths = [path.relative_to(place.reference) for path in place.reference.rglob("*")]
    assert [path for path in paths if IMPOSSIBLE.search(path.name)] == []
    several = Counter(path.as_posix().lower() for path in paths)
    assert [name for name, count in several.items() if count > 1] == []
