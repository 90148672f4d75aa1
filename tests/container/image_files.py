"""What may and what may not be inside the image, file by file."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 1_900_000_000

# Paths below the image's root.
UNWANTED = {
    "test": r"^opt/bids-hsf/.*/site-packages/(.*/)?tests?/",
    "pip": r"(^|/)(pip|ensurepip|pip-[\d.]+\.dist-info)/|(^|/)bin/pip|(^|/)pip\.conf$|\.whl$",
    "compiler": r"^usr/(local/)?bin/([\w-]*-)?(gcc|g\+\+|c\+\+|cc|cpp|clang|ld|as|make|cmake)(-\d+)?$",
    "build file": r"^opt/bids-hsf/.*\.(a|h|hpp|pyx|pxd|c|cpp|cu|cuh)$|^(src|build)/",
    "cache": r"^(root/\.(cache|local)|var/cache/apt/|var/lib/apt/lists/.)|/\.cache/",
    "leftover of the build": r"^(tmp|home|mnt|media|run/secrets)/.",
    "log": r"^var/log/.*\w$",
    "documentation": r"^usr/share/(doc/.*(?<!copyright)$|man/.*\.gz$|locale/.*\.mo$)",
    "configuration of the builder": r"/direct_url\.json$|^etc/apt/apt\.conf$|^etc/apt/auth",
}


def files_below(root: Path) -> Iterator[Path]:
    """All files, links included, without following any."""
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names)


def unwanted_files(root: Path) -> list[str]:
    """One line for each file that has no business in the image."""
    patterns = {reason: re.compile(pattern) for reason, pattern in UNWANTED.items()}
    found = []
    for path in files_below(root):
        name = path.relative_to(root).as_posix()
        for reason, pattern in patterns.items():
            # dpkg leaves the links of excluded documentation.
            if pattern.search(name) and not (reason == "documentation" and path.is_symlink()):
                found.append(f"{reason}: {name}")
        if name.startswith(("opt/", "version")) and not path.is_symlink() and not _for_all(path):
            found.append(f"not for all to read: {name}")
    return found


def uncompiled_modules(root: Path) -> list[str]:
    """Modules without byte code: each run of a read-only image would compile them anew."""
    packages = root / "opt/bids-hsf/lib"
    modules = (path for path in packages.rglob("*.py") if "py312_" not in path.name)
    return [str(path) for path in modules if not any((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]


def unpacked_bytes(root: Path) -> int:
    """Sum of the sizes of all files, hard links once."""
    sizes = {}
    for path in files_below(root):
        status = path.lstat()
        sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _for_all(path: Path) -> bool:
    mode = path.stat().st_mode
    needed = stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
    return mode & needed == needed
