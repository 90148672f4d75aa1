"""Where this machine takes its packages from, in a shape that an image build can use and then forget.

A machine behind a mirror says so in pip's and apt's configuration. A build needs the same, and nothing of it may
stay in the image: files go in as build secrets, folders (local wheels, local indexes) as one mount on ``/mnt``,
which every Debian image has and which is empty afterwards.
"""

import ast
import configparser
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

MOUNT_POINT = Path("/mnt")
# The options of apt that decide whether a mirror can be reached and is believed.
APT_OPTIONS = re.compile(r"^Acquire::(Check-|https?::|Retries|ForceIPv4)")


@dataclass(frozen=True)
class HostPackages:
    """The machine's package sources."""

    secrets: dict[str, Path]
    """Name of a build secret -> file that holds it."""
    folders: tuple[Path, ...]
    """Folders of this machine; the n-th is needed at ``/mnt/n``."""
    debian_sources: tuple[str, ...]
    """Lines of apt's sources.list for Debian 12; empty for Debian's own servers."""

    def mount_folders(self, mount_dir: Path) -> str:
        """Shell commands that put the folders below `mount_dir`, for a mount namespace of their own."""
        lines = [f"mount --bind '{folder}' '{mount_dir / str(n)}'" for n, folder in enumerate(self.folders)]
        for n in range(len(self.folders)):
            (mount_dir / str(n)).mkdir(parents=True, exist_ok=True)
        return "\n".join(lines)


def host_packages(scratch_dir: Path) -> HostPackages:
    """Read pip's and apt's configuration; `scratch_dir` receives the secrets and must be private and short-lived."""
    folders: list[Path] = []
    parser = configparser.RawConfigParser()
    for section, options in pip_options().items():
        parser[section] = {name: _inside(value, folders, scratch_dir) for name, value in options.items()}
    pip_conf = scratch_dir / "pip.conf"
    with pip_conf.open("w") as file:
        parser.write(file)
    apt_conf = scratch_dir / "apt.conf"
    apt_conf.write_text("".join(f"{line}\n" for line in ('Acquire::Retries "5";', *apt_options())))
    secrets = {"pip.conf": pip_conf, "apt.conf": apt_conf}
    return HostPackages(secrets, tuple(folders), tuple(debian_sources()))


def pip_options() -> dict[str, dict[str, str]]:
    """All that pip's files and environment variables say, section -> option -> value; the environment wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    options: dict[str, dict[str, str]] = {}
    # The environment's lines begin with a colon and are put last, so that they overwrite.
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, option = name.replace(":env:", "global").partition(".")
        options.setdefault(section, {})[option] = ast.literal_eval(value)
    return options


def apt_options() -> list[str]:
    """Options of apt about the transport and the trust in a mirror."""
    if not shutil.which("apt-config"):
        return []
    dump = subprocess.run(["apt-config", "dump", "Acquire"], check=False, capture_output=True, text=True).stdout
    return [line for line in dump.splitlines() if APT_OPTIONS.match(line) and not line.endswith('"";')]


def debian_sources() -> list[str]:
    """The machine's own sources for Debian 12, main component, if it has any."""
    if not shutil.which("apt-get"):
        return []
    form = "$(REPO_URI) $(CODENAME)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Component: main"]
    targets = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    known = dict.fromkeys(target for target in targets if re.search(r" bookworm(-updates|-security)?$", target))
    lines = [f"deb {target} main" for target in known]
    return lines if any(line.endswith(" bookworm main") for line in lines) else []


def _inside(value: str, folders: list[Path], scratch_dir: Path) -> str:
    """Rewrite the local paths and file addresses of an option to where the build will find them."""
    return " ".join(_moved(word, folders, scratch_dir) for word in value.split())


def _moved(word: str, folders: list[Path], scratch_dir: Path) -> str:
    is_address = word.startswith("file:")
    path = Path(unquote(urlsplit(word).path) if is_address else word)
    if not path.is_absolute() or not path.exists():
        return word
    if path.is_file():
        return _copied(path, folders, scratch_dir)
    # The pages of an index point to files beside its folder.
    folder = path.parent if is_address else path
    if folder not in folders:
        folders.append(folder)
    moved = MOUNT_POINT / str(folders.index(folder)) / path.relative_to(folder)
    return moved.as_uri() if is_address else str(moved)


def _copied(path: Path, folders: list[Path], scratch_dir: Path) -> str:
    """Copy a file, such as a certificate, into a folder that is mounted too."""
    target = scratch_dir / "certificates"
    target.mkdir(exist_ok=True)
    if target not in folders:
        folders.append(target)
    shutil.copyfile(path, target / path.name)
    return str(MOUNT_POINT / str(folders.index(target)) / path.name)
