"""Shared libraries of this process: what was read of them once, and is not needed again, leaves its memory."""

import ctypes
import os
import re
import struct
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_MADV_DONTNEED = 4  # of <sys/mman.h>
_LARGE_PART = 1 << 17  # bytes of a library, below which nothing is gained
# Of a line of it: begin, end, offset in the file, and the file, of what is mapped without leave to write.
_MAPPED = re.compile(r"(?m)^([0-9a-f]+)-([0-9a-f]+) r-[x-]p ([0-9a-f]+) \S+ \d+ +(/.*\.so.*)$")
# Of <elf.h>, for 64 bits and the usual order of bytes.
_ELF, _ELF_HEADER, _ELF_PART = b"\x7fELF\x02\x01", struct.Struct("<16xHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_LOADED, _DYNAMIC, _WRITABLE = 1, 2, 2
_CHANGED_CODE, _FLAGS, _CHANGES_CODE = 22, 30, 4


def release_libraries() -> None:
    """Take code and constants of large libraries out of this process's resident set; two milliseconds.

    To be called once libraries have been loaded, which reads them from end to end: of SimpleITK, OpenVINO and ONNX
    Runtime 150 MB, of which a scan needs 25. A page that is needed again comes back at once from the system's cache,
    where it stays. What a process may write to, even if to relocate it once, is left alone.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
        for begin, end, offset, path in _MAPPED.findall(_MAPS.read_text(errors="replace")):
            start, length = int(begin, 16), int(end, 16) - int(begin, 16)
            # One that is just being loaded is mapped as a whole, for a moment, before its parts are.
            if length >= _LARGE_PART and (int(offset, 16), length) in _constant_parts(path):
                advise(start, length, _MADV_DONTNEED)


@lru_cache(maxsize=256)
def _constant_parts(path: str) -> frozenset[tuple[int, int]]:
    """Offset and length, in whole pages, of the parts of a library that nobody ever writes to; none of odd ones."""
    page = os.sysconf("SC_PAGE_SIZE")
    parts = set()
    try:
        with Path(path).open("rb") as file:
            head = file.read(_ELF_HEADER.size)
            _, _, _, _, at, _, _, _, size, count, *_ = _ELF_HEADER.unpack(head)
            if not head.startswith(_ELF) or size != _ELF_PART.size:
                return frozenset()
            file.seek(at)
            for kind, flags, offset, _, _, stored, *_ in _ELF_PART.iter_unpack(file.read(count * size)):
                if kind == _LOADED and not flags & _WRITABLE:
                    first = offset // page * page
                    parts.add((first, -(-(offset + stored) // page) * page - first))
                elif kind == _DYNAMIC:
                    file.seek(offset)
                    entries = struct.iter_unpack("<QQ", file.read(stored // 16 * 16))
                    if any(tag == _CHANGED_CODE or (tag == _FLAGS and value & _CHANGES_CODE) for tag, value in entries):
                        return frozenset()
    except (OSError, struct.error):
        return frozenset()
    return frozenset(parts)
