"""Pieces that are packed one by one make one gzip stream, which every program reads."""

import gzip
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bids_hsf.bids.gzip_stream import gzipped

pieces = st.lists(st.binary(max_size=300) | st.integers(0, 5000).map(bytes), max_size=8)


@given(pieces)
def test_any_pieces_come_back(pieces: list[bytes]) -> None:
    packed = b"".join(gzipped(pieces))
    assert gzip.decompress(packed) == b"".join(pieces)
    assert packed == b"".join(gzipped(iter(pieces)))


def test_other_programs_read_it_and_the_empty_rest_takes_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "map.gz"
    pieces = [b"head", *[bytes(100_000)] * 50, bytes(range(256)) * 300, *[bytes(100_000)] * 50]
    path.write_bytes(b"".join(gzipped(pieces)))
    assert path.stat().st_size < 20_000
    assert subprocess.run(["gzip", "-dc", path], check=True, capture_output=True).stdout == b"".join(pieces)
    with gzip.open(path) as stream:
        assert stream.read(4) == b"head"
    assert path.read_bytes()[4:8] == bytes(4)  # no time
