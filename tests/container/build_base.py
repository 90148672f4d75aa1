"""A stand-in for the registry's debian:12-slim, made by debootstrap from Debian's packages."""

import hashlib
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from host_packages import HostPackages

logger = logging.getLogger(__name__)

MAX_AGE_DAYS = 30
# What Debian's own slim images leave out, now and in every later installation.
EXCLUDED = ("doc", "man", "info", "locale", "groff", "lintian", "linda")


def base_archive(packages: HostPackages, cache_dir: Path) -> Path:
    """Archive of the base's files: from the cache, else made anew (about a minute).

    A base older than a month is renewed; where that fails, the old one serves.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    recipe = Path(__file__).read_bytes() + "\n".join(packages.debian_sources).encode()
    archive = cache_dir / f"debian-12-{hashlib.sha256(recipe).hexdigest()[:12]}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < MAX_AGE_DAYS * 86400:
        return archive
    try:
        _make(archive, packages.debian_sources)
    except subprocess.CalledProcessError as error:
        if not archive.exists():
            raise
        logger.warning("The base image could not be renewed (%s); using the old one", error)
    return archive


def _make(archive: Path, sources: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="debootstrap-") as folder:
        root = Path(folder) / "root"
        partial = Path(folder) / archive.name
        # debootstrap mounts /proc in its target: in a namespace of its own it leaves nothing behind.
        bootstrap = ["unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm", str(root)]
        mirror = next((line.split()[1] for line in sources if line.split()[2] == "bookworm"), None)
        done = subprocess.run([*bootstrap, *([mirror] if mirror else [])], capture_output=True, text=True, check=False)
        if done.returncode:
            logger.error("%s", "\n".join(done.stdout.splitlines()[-20:]))
            done.check_returncode()
        _slim(root, sources)
        tar = ["tar", "--create", "--file", str(partial), "--numeric-owner", "--sort=name", "--directory", str(root)]
        subprocess.run([*tar, "--exclude=./proc/*", "--exclude=./sys/*", "."], check=True)
        for old in archive.parent.glob("debian-12-*.tar"):
            old.unlink()
        partial.rename(archive)


def _slim(root: Path, sources: Sequence[str]) -> None:
    """Bring a minimal system to the content of the slim image."""
    excluded = "".join(f"path-exclude /usr/share/{name}/*\n" for name in EXCLUDED)
    kept = "path-include /usr/share/doc/*/copyright\n"
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(excluded + kept)
    for name in EXCLUDED:
        for path in sorted((root / "usr/share" / name).rglob("*"), reverse=True):
            if path.name == "copyright" and name == "doc":
                continue
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
    for pattern in ("var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "etc/resolv.conf", "etc/hostname"):
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if sources:
        (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
