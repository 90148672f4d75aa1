"""A gzip stream of pieces, most of which are all zero: those are packed once."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache

LEVEL = 4
RAW = -15  # window bits of deflate alone
HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # no name, no time, no system
LAST_BLOCK = b"\x03\x00"


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pack pieces one after the other into one stream (RFC 1952); equal pieces give equal bytes.

    A soft map is the size of the scan and empty but for two boxes: its empty slices cost a checksum each.
    """
    yield HEADER
    checksum = length = 0
    for piece in pieces:
        checksum, length = zlib.crc32(piece, checksum), length + len(piece)
        zeros, packed_zeros = _zeros(len(piece))
        yield packed_zeros if piece == zeros else _packed(piece)
    yield LAST_BLOCK + struct.pack("<II", checksum, length & 0xFFFFFFFF)


@lru_cache(maxsize=8)
def _zeros(length: int) -> tuple[bytes, bytes]:
    """So many zeros, as they are and packed."""
    zeros = bytes(length)
    return zeros, _packed(zeros)


def _packed(piece: bytes) -> bytes:
    """Deflate a piece to whole bytes that need nothing of what went before."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW)
    return packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
