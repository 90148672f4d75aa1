"""Building and running the image without a daemon: buildah in place of Docker, bubblewrap in place of Singularity."""

import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from host_packages import MOUNT_POINT, HostPackages

logger = logging.getLogger(__name__)

BASE = "localhost/bids-hsf-base:12"
IMAGE = "localhost/bids-hsf:test"
BUILDAH = ("buildah", "--storage-driver", "vfs")
# Nobody's number on any machine: no passwd entry, no home.
STRANGER = 54321
SINGULARITY_UID = 23456


def buildah(*arguments: str | Path) -> str:
    """Run a buildah command and return what it prints."""
    done = subprocess.run([*BUILDAH, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def import_base(archive: Path) -> None:
    """Make the base image from an archive of its files."""
    remove_image(BASE)
    container = buildah("from", "scratch")
    try:
        buildah("add", "--quiet", container, archive, "/")
        buildah("config", "--cmd", "bash", container)
        buildah("commit", "--quiet", container, BASE)
    finally:
        buildah("rm", container)


def remove_image(name: str) -> None:
    """Remove an image if it is there."""
    subprocess.run([*BUILDAH, "rmi", name], capture_output=True, check=False)


def image_id(name: str) -> str:
    """Identifier of an image, or nothing."""
    command = [*BUILDAH, "images", "--quiet", "--no-trunc", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def build_image(context: Path, packages: HostPackages, arguments: Mapping[str, str]) -> None:
    """Build the Dockerfile on the base image."""
    # The last run's image loses its name to the new one.
    before = set(buildah("images", "--all", "--quiet", "--no-trunc").split()) - {image_id(IMAGE)}
    command = [*BUILDAH, "build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--tag", IMAGE]
    for name, path in packages.secrets.items():
        command += ["--secret", f"id={name},src={path}"]
    for name, value in ({"BASE_IMAGE": BASE} | dict(arguments)).items():
        command += ["--build-arg", f"{name}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        mounts = packages.mount_folders(Path(folder))
        command += ["--volume", f"{folder}:{MOUNT_POINT}:ro,rbind", str(context)]
        script = f'set -e\n{mounts}\nexec "$@"'
        try:
            subprocess.run(["unshare", "--mount", "sh", "-c", script, "build", *command], check=True)
        finally:
            _remove_intermediate(before)


def _remove_intermediate(before: set[str]) -> None:
    """Remove the untagged images that a build left: with vfs each holds a full copy of its files."""
    listed = buildah("images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Name}}").splitlines()
    for line in listed:
        identifier, _, name = line.partition(" ")
        if name.strip() == "<none>" and identifier not in before:
            remove_image(identifier)


@contextmanager
def container_of(image: str) -> Iterator[tuple[str, Path]]:
    """A container of an image and the folder with its files, removed in the end."""
    name = "bids-hsf-test"
    # One that a killed run left.
    subprocess.run([*BUILDAH, "rm", name], capture_output=True, check=False)
    container = buildah("from", "--pull-never", "--name", name, image)
    try:
        yield container, Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def run_as_docker(
    container: str, arguments: Sequence[str], mounts: Mapping[Path, str]
) -> subprocess.CompletedProcess[str]:
    """``docker run --user 54321:54321 --network none`` of the image's entry point."""
    # buildah gives no network namespace under this isolation, and does not know the entry point.
    command = ["unshare", "--net", *BUILDAH, "run", "--isolation", "chroot", "--user", f"{STRANGER}:{STRANGER}"]
    for path, target in mounts.items():
        command += ["--volume", f"{path}:{target}"]
    entry_point = json.loads(buildah("inspect", container))["OCIv1"]["config"]["Entrypoint"]
    return subprocess.run(
        [*command, container, "--", *entry_point, *arguments], capture_output=True, text=True, check=False
    )


def run_as_singularity(
    root: Path, script: str, arguments: Sequence[str], mounts: Mapping[Path, str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """``singularity run``: another user, read-only files, the host's environment, nothing writable but the mounts.

    `script` is a section of a definition file. There is no network and not even a writable /tmp.
    """
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "{root}", "/", "--proc", "/proc"]
    command += ["--dev", "/dev"]
    for path, target in mounts.items():
        path_and_options = target.partition(":")
        bind = "--ro-bind" if path_and_options[2] == "ro" else "--bind"
        command += [bind, str(path), path_and_options[0]]
    command += ["/bin/sh", "-c", script, "runscript", *arguments]
    leaking = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"} | dict(environment)
    return run_as_stranger(root, command, leaking)


def run_as_stranger(
    root: Path, command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user who may not enter the image store; ``{root}`` stands for a mount that he may read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101
        mount_point = Path(folder) / "root"
        mount_point.mkdir()
        command = [word.format(root=mount_point) if word == "{root}" else word for word in command]
        identity = ["setpriv", f"--reuid={SINGULARITY_UID}", f"--regid={SINGULARITY_UID}", "--clear-groups"]
        script = f"mount --bind '{root}' '{mount_point}' && exec \"$@\""
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "run", *identity, *command],
            env=dict(environment), capture_output=True, text=True, check=False,
        )  # fmt: skip


def missing_programs() -> list[str]:
    """Programs that this machine lacks."""
    needed = ("buildah", "bwrap", "debootstrap", "setpriv", "unshare", "tar")
    return [name for name in needed if not shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
