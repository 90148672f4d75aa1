"""Build the image and run it as Docker and Singularity would, without a daemon: ``make test-container``.

In this order: the base image by debootstrap, the Dockerfile by buildah, the image's files, participant and group
level as ``docker run`` and as ``singularity run`` with the sections of the definition file, a participant as BABS
starts it, the definition that builds from scratch, and the descriptors of the registries. The label maps must be
those of a run outside any container. Needs root on Debian or Ubuntu; what is missing is installed by apt-get.

The image stays: ``buildah --storage-driver vfs images``. The base is kept in BIDS_HSF_CONTAINER_CACHE, by default
in ``~/.cache/bids-hsf-container``.
"""

import argparse
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import build_base
import definition
import image_files
import sandboxes
import yaml
from host_packages import HostPackages, host_packages

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "tests" / "data" / "bids"
DEFINITION = REPOSITORY / "singularity" / "bids_hsf.def"
SCRATCH_DEFINITION = REPOSITORY / "singularity" / "bids_hsf_scratch.def"
DESCRIPTOR = REPOSITORY / "bids_hsf" / "data" / "bids_hsf.boutiques.json"
BIN = Path(sys.executable).parent
# The device is named: "auto" takes the fastest, which may differ from run to run on a busy machine.
METHOD = ("--model", "longaxis_single_fast", "--device", "cpu", "--nthreads", "2")
# What a login shell brings into Singularity; each would break or change a Python that listened.
LEAKS = {
    "PYTHONPATH": "/bids", "PYTHONHOME": "/nonexistent", "PYTHONSTARTUP": "/nonexistent", "PYTHONUSERBASE": "/bids",
    "OMP_NUM_THREADS": "64", "LC_ALL": "xx_XX.UTF-8", "TMPDIR": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent",
    "MPLBACKEND": "TkAgg", "USER": "nobody-here",
}  # fmt: skip
# As BABS writes it, with keys of other applications.
BABS_FILTER = {"fmap": {"datatype": "fmap"}, "bold": {"suffix": "bold"}, "t1w": {"suffix": "T1w"}, "flair": {}}

logger = logging.getLogger("test-container")


class CheckError(Exception):
    """The image is not as it should be."""


@dataclass
class Bench:
    """Where the checks work and what they found."""

    scratch: Path
    cache: Path
    packages: HostPackages
    rows: list[tuple[str, float, str]] = field(default_factory=list)

    def step(self, name: str, check: Callable[[], str]) -> None:
        """Run a check, note its time and its finding."""
        logger.info("%s ...", name)
        started = time.monotonic()
        finding = check()
        self.rows.append((name, time.monotonic() - started, finding))
        logger.info("%s: %s (%.0f s)", name, finding, self.rows[-1][1])

    def output(self, name: str) -> Path:
        """A new output folder that anybody may write."""
        path = self.scratch / name
        path.mkdir()
        path.chmod(0o777)
        return path


def main() -> int:
    """Run all checks; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-scratch", action="store_true", help="leave out the definition that builds from scratch")
    parser.add_argument("--keep-image", action="store_true", help="take the image that is there instead of building")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    install_programs()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stated = os.environ.get("BIDS_HSF_CONTAINER_CACHE")
    cache = Path(stated) if stated else Path.home() / ".cache" / "bids-hsf-container"
    with alone(cache), tempfile.TemporaryDirectory(prefix="bids-hsf-container-") as folder:
        Path(folder).chmod(0o755)
        private = Path(folder) / "private"
        private.mkdir(mode=0o700)
        bench = Bench(Path(folder), cache, host_packages(private))
        try:
            run_all(bench, options)
        except CheckError as error:
            logger.error("FAILED: %s", error)
            return 1
        finally:
            for name, seconds, finding in bench.rows:
                print(f"{name:34} {seconds:6.0f} s  {finding}")
    return 0


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Wait for another run on this machine: the image has one name."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_all(bench: Bench, options: argparse.Namespace) -> None:
    """All checks, in order."""
    if not options.keep_image:
        bench.step("base image", lambda: make_base(bench))
        bench.step("image", lambda: make_image(bench))
    expected = bench.output("outside")
    bench.step("outside a container", lambda: run_outside(expected))
    with sandboxes.container_of(sandboxes.IMAGE) as (container, root):
        bench.step("files in the image", lambda: check_files(root))
        bench.step("as Docker, random user", lambda: check_docker(bench, container, expected))
        bench.step("definition %post", lambda: run_post(root, definition.sections(DEFINITION)["post"], bench, []))
        bench.step("definition %test", lambda: run_test(root, DEFINITION))
        bench.step("start-up", lambda: measure_start(root))
        bench.step("as Singularity, read-only", lambda: check_singularity(bench, root, expected))
        bench.step("as BABS", lambda: check_babs(bench, root, expected))
    if not options.no_scratch:
        bench.step("definition from scratch", lambda: check_scratch_definition(bench))
    bench.step("registries' descriptors", lambda: check_registries(bench, expected))


def install_programs() -> None:
    """Install what this machine lacks, or say what to do."""
    missing = sandboxes.missing_programs()
    if os.geteuid() != 0:
        raise SystemExit("make test-container needs root: buildah's chroot isolation, debootstrap and mounts")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise SystemExit(f"make test-container needs {', '.join(missing)}")
    logger.info("installing buildah, bubblewrap and debootstrap")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=600"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run([*apt, "update"], environment)
    wanted = ["buildah", "bubblewrap", "debootstrap", "debian-archive-keyring"]
    run([*apt, "install", "--no-install-recommends", *wanted], environment)


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a program and return what it printed; its output is shown when it fails."""
    done = subprocess.run(
        command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    expect_success(done, " ".join(map(str, command)))
    return done.stdout


def expect_success(done: subprocess.CompletedProcess[str], what: str) -> None:
    """Raise unless a program ended well."""
    if done.returncode:
        raise CheckError(f"{what}: exit code {done.returncode}\n{done.stdout or ''}{done.stderr or ''}")


def make_base(bench: Bench) -> str:
    """Make or fetch the base and import it."""
    archive = build_base.base_archive(bench.packages, bench.cache)
    sandboxes.import_base(archive)
    return f"{archive.stat().st_size / 1e6:.0f} MB"


def make_image(bench: Bench) -> str:
    """Build the Dockerfile with what can be reached from here: the longaxis family, pip's own torch."""
    try:
        arguments = {"MODELS": "longaxis", "TORCH_INDEX": "", "VERSION": "test"}
        sandboxes.build_image(REPOSITORY, bench.packages, arguments)
    finally:
        sandboxes.remove_image(sandboxes.BASE)
    return sandboxes.IMAGE


def run_outside(output: Path) -> str:
    """Run the app in this environment: what the containers are compared with."""
    run([BIN / "bids-hsf", EXAMPLE, output, "participant", "group", *METHOD])
    return f"{len(label_maps(output))} label maps"


def check_files(root: Path) -> str:
    """No leftovers, everything compiled and readable, small enough."""
    unwanted = image_files.unwanted_files(root) + image_files.uncompiled_modules(root)
    if unwanted:
        raise CheckError(f"{len(unwanted)} files should not be in the image:\n" + "\n".join(unwanted[:50]))
    size = image_files.unpacked_bytes(root)
    if size > image_files.MAX_BYTES:
        raise CheckError(f"the image has {size / 1e9:.2f} GB unpacked, at most {image_files.MAX_BYTES / 1e9} allowed")
    if (root / "version").read_text().strip() not in run([BIN / "bids-hsf", "--version"]):
        raise CheckError("/version is not the app's version")
    return f"{size / 1e9:.2f} GB unpacked"


def check_docker(bench: Bench, container: str, expected: Path) -> str:
    """``docker run --user 54321:54321 --network none``, both levels."""
    output = bench.output("docker")
    arguments = ["/bids", "/out", "participant", "group", *METHOD]
    expect_success(sandboxes.run_as_docker(container, arguments, {EXAMPLE: "/bids:ro", output: "/out"}), "as Docker")
    return check_output(output, expected)


def check_singularity(bench: Bench, root: Path, expected: Path) -> str:
    """``singularity run`` without --cleanenv: participant and group apart."""
    output = bench.output("singularity")
    for level in ("participant", "group"):
        done = sandboxes.run_as_singularity(
            root, definition.with_environment(DEFINITION, "runscript"), ["/bids", "/out", level, *METHOD],
            {EXAMPLE: "/bids:ro", output: "/out"}, LEAKS,
        )  # fmt: skip
        expect_success(done, f"as Singularity, {level}")
    return check_output(output, expected)


def check_babs(bench: Bench, root: Path, expected: Path) -> str:
    """One participant as BABS starts it: label with sub-, the others' files broken links, a filter file."""
    dataset, output, work = (bench.output(f"babs-{name}") for name in ("bids", "out", "work"))
    shutil.copytree(EXAMPLE, dataset, dirs_exist_ok=True)
    for path in (dataset / "sub-icbm152" / "anat").iterdir():
        path.unlink()
        path.symlink_to("../../.git/annex/objects/not-here")
    (work / "filter.json").write_text(json.dumps(BABS_FILTER))
    settings = yaml.safe_load((REPOSITORY / "docker" / "babs" / "bids_hsf.yaml").read_text())["bids_app_args"]
    flag = settings.pop("$SUBJECT_SELECTION_FLAG")
    words = [word for name, value in settings.items() for word in (name, value) if word]
    words = [word.replace("$BABS_TMPDIR", "/work") for word in words]
    arguments = ["inputs/data/BIDS", "outputs", "participant", *words, *METHOD, flag, "sub-colin27"]
    done = sandboxes.run_as_singularity(
        root, "cd /data && exec /opt/bids-hsf/bin/bids-hsf \"$@\"",
        [*arguments, "--bids-filter-file", "/work/filter.json"],
        {bench.output("babs-job"): "/data", dataset: "/data/inputs/data/BIDS", output: "/data/outputs", work: "/work"},
        {},
    )  # fmt: skip
    expect_success(done, "as BABS")
    return compare(output, expected, label_maps(expected, "sub-colin27"))


def run_post(root: Path, script: str, bench: Bench, binds: Sequence[str]) -> str:
    """%post as root with the image's files writable and the network of this machine."""
    mounts = bench.scratch / "post"
    commands = bench.packages.mount_folders(mounts)
    command = ["bwrap", "--cap-add", "ALL", "--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    command += ["--chdir", "/"]
    if binds:  # a build with network; the machine's package sources as in the Dockerfile
        command += ["--ro-bind", str(mounts), "/mnt", *binds]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    script_with_mounts = f'set -e\nmkdir -p {mounts}\n{commands}\nexec "$@"'
    run(
        ["unshare", "--mount", "/bin/sh", "-c", script_with_mounts, "post", *command, "/bin/sh", "-e", "-c", script],
        environment,
    )
    return "done"


def run_test(root: Path, path: Path) -> str:
    """%test of a definition file, as another user on read-only files."""
    done = sandboxes.run_as_singularity(root, definition.with_environment(path, "test"), [], {}, LEAKS)
    expect_success(done, f"%test of {path.name}")
    return done.stdout.splitlines()[0]


def measure_start(root: Path) -> str:
    """Median time of ``--help`` in the image."""
    script = definition.with_environment(DEFINITION, "runscript")
    times = []
    for _ in range(5):
        started = time.monotonic()
        expect_success(sandboxes.run_as_singularity(root, script, ["--help"], {}, {}), "--help")
        times.append(time.monotonic() - started)
    return f"--help in {sorted(times)[2]:.2f} s"


def check_scratch_definition(bench: Bench) -> str:
    """Run the definition that builds from Debian and the sources, on the base that debootstrap made."""
    root = bench.scratch / "scratch-image"
    root.mkdir()
    run(["tar", "--extract", "--file", build_base.base_archive(bench.packages, bench.cache), "--directory", root])
    binds = []
    for name, target in (("apt.conf", "/etc/apt/apt.conf"), ("pip.conf", "/etc/pip.conf")):
        binds += ["--ro-bind", str(bench.packages.secrets[name]), target]
    binds += ["--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf", "--ro-bind", "/etc/hosts", "/etc/hosts"]
    # debootstrap's Include does this, before the sections.
    include = "apt-get -q update && apt-get -q -y --no-install-recommends install python3 python3-venv"
    run_post(root, f"export DEBIAN_FRONTEND=noninteractive; {include}", bench, binds)
    for source, target in definition.files(SCRATCH_DEFINITION):
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copy
        copy(REPOSITORY / source, place)
    arguments = {"MODELS": "longaxis", "TORCH_INDEX": ""}
    run_post(root, definition.filled_in(definition.sections(SCRATCH_DEFINITION)["post"], arguments), bench, binds)
    for target in binds[2::3]:  # empty files that the binds left
        (root / target.lstrip("/")).unlink()
    version = run_test(root, SCRATCH_DEFINITION)
    check_files(root)
    size = image_files.unpacked_bytes(root)
    shutil.rmtree(root)
    return f"{version}, {size / 1e9:.2f} GB unpacked"


def check_registries(bench: Bench, expected: Path) -> str:
    """Boutiques: validate, and launch without a container. nipoppy: the bundle."""
    environment = tools(bench.cache)
    run([environment / "bin" / "bosh", "validate", DESCRIPTOR])
    if json.loads(run([BIN / "bids-hsf", "--bids-exec-spec"])) != json.loads(DESCRIPTOR.read_text()):
        raise CheckError("--bids-exec-spec does not print the descriptor")
    output = bench.output("boutiques")
    model, device = METHOD[1], METHOD[3]
    invocation = {
        "bids_dir": str(EXAMPLE), "output_dir": str(output), "analysis_level": ["participant", "group"],
        "participant_label": ["colin27"], "model": model, "device": device, "nthreads": 2,
    }  # fmt: skip
    path = bench.scratch / "invocation.json"
    path.write_text(json.dumps(invocation))
    launch = [environment / "bin" / "bosh", "exec", "launch", "--no-container", "--skip-data-collection"]
    run([*launch, DESCRIPTOR, path], os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}, bench.scratch)
    found = compare(output, expected, label_maps(expected, "sub-colin27"))
    bundle = bench.scratch / "nipoppy"
    shutil.copytree(REPOSITORY / "docker" / "nipoppy", bundle)  # with the descriptor that the link names
    run([environment / "bin" / "nipoppy", "pipeline", "validate", bundle])
    return f"descriptor and nipoppy bundle valid, launched: {found}"


def tools(cache: Path) -> Path:
    """An environment with the registries' checkers, made once."""
    wanted = Path(__file__).with_name("requirements.txt").read_text()
    environment = cache / "tools"
    stamp = environment / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        run([sys.executable, "-m", "venv", "--clear", environment])
        pip = [environment / "bin" / "python", "-m", "pip", "--quiet", "install"]
        run([*pip, "--requirement", Path(__file__).with_name("requirements.txt")])
        stamp.write_text(wanted)
    return environment


def check_output(output: Path, expected: Path) -> str:
    """The output is valid BIDS without a warning, and holds the expected label maps and tables."""
    report = json.loads(run([BIN / "bids-validator-deno", "--format", "json", output], os.environ | {"NO_COLOR": "1"}))
    if issues := report["issues"]["issues"]:
        raise CheckError(f"bids-validator: {len(issues)} finding(s), first {issues[0]}")
    if (output / "group_volumes.tsv").read_bytes() != (expected / "group_volumes.tsv").read_bytes():
        raise CheckError("group_volumes.tsv differs from the one outside the container")
    return "valid BIDS, " + compare(output, expected, label_maps(expected))


def label_maps(output: Path, subject: str = "sub-*") -> list[Path]:
    """Label maps of a subject, relative to the output."""
    found = sorted(path.relative_to(output) for path in output.glob(f"{subject}/**/*_dseg.nii.gz"))
    if not found:
        raise CheckError(f"no label maps of {subject} in {output}")
    return found


def compare(output: Path, expected: Path, names: Sequence[Path]) -> str:
    """The label maps are the same, byte by byte."""
    for name in names:
        if not (output / name).exists():
            raise CheckError(f"{name} is missing in {output.name}")
        if (output / name).read_bytes() != (expected / name).read_bytes():
            raise CheckError(f"{name} in {output.name} differs from the one made outside the container")
    return f"{len(names)} label map(s) the same as outside"


if __name__ == "__main__":
    sys.exit(main())
