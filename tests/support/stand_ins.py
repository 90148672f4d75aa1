"""Programs that are on few machines, in a small: they take the options that documented lines use, and refuse others.

Container engines undo their binds and run the app itself; a scheduler runs the scripts; viewers look whether their
files are there.
"""

import argparse
import ast
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import SimpleITK as sitk
from typing_shell import Program, Shell

from bids_hsf.errors import DeviceError
from bids_hsf.machine import find_gpus

REPOSITORY = Path(__file__).parents[2]


class Engines:
    """Docker and Apptainer, whose image holds the app that is tested.

    Parameters
    ----------
    app : callable
        Runs ``bids-hsf``.
    """

    def __init__(self, app: Program) -> None:
        self.app = app
        self.images: set[str] = set()

    def docker(self, words: list[str]) -> int:
        """``docker build`` and ``docker run``."""
        parser = argparse.ArgumentParser(prog="docker", allow_abbrev=False)
        commands = parser.add_subparsers(required=True, dest="command")
        build = commands.add_parser("build", allow_abbrev=False)
        build.add_argument("-t", "--tag", required=True)
        build.add_argument("--build-arg", action="append", default=[])
        build.add_argument("context", type=Path)
        run = commands.add_parser("run", allow_abbrev=False)
        run.add_argument("--rm", action="store_true", required=True)
        run.add_argument("--read-only", action="store_true")
        for flag in ("--user", "--gpus", "--network"):
            run.add_argument(flag)
        run.add_argument("-v", "--volume", action="append", default=[])
        run.add_argument("-e", "--env", action="append", default=[])
        run.add_argument("image")
        run.add_argument("words", nargs=argparse.REMAINDER)
        options = parser.parse_args(words)
        if options.command == "run":
            assert options.user is None or re.fullmatch(r"\d+:\d+", options.user)
            code = self._run(options.image, options.volume, options.env, options.words)
            # Where no GPU is, the app has understood the line if it says so.
            return 0 if options.gpus == "all" and code == DeviceError.exit_code and not find_gpus() else code
        recipe = (options.context / "Dockerfile").read_text()
        for name in (text.partition("=")[0] for text in options.build_arg):
            assert re.search(rf"^ARG {name}=", recipe, re.M), f"the Dockerfile has no argument {name}"
        self.images.add(options.tag)
        return 0

    def apptainer(self, words: list[str]) -> int:
        """``apptainer build`` of a Docker image, and ``apptainer run``."""
        parser = argparse.ArgumentParser(prog="apptainer", allow_abbrev=False)
        commands = parser.add_subparsers(required=True, dest="command")
        build = commands.add_parser("build", allow_abbrev=False)
        build.add_argument("image", type=Path)
        build.add_argument("source")
        run = commands.add_parser("run", allow_abbrev=False)
        for flag in ("--cleanenv", "--containall", "--no-home"):
            run.add_argument(flag, action="store_true")
        run.add_argument("-B", "--bind", action="append", default=[])
        run.add_argument("image", type=Path)
        run.add_argument("words", nargs=argparse.REMAINDER)
        options = parser.parse_args(words)
        if options.command == "build":
            kind, _, name = options.source.partition(":")
            assert kind == "docker-daemon"
            assert name.removesuffix(":latest") in self.images, f"nobody has built {name}"
            options.image.touch()
            return 0
        assert options.image.is_file(), f"{options.image} is not there"
        self.images.add(str(options.image))
        return self._run(str(options.image), options.bind, [], options.words)

    def _run(self, image: str, binds: list[str], variables: list[str], words: list[str]) -> int:
        """Run the app with words and variables as they are outside."""
        assert image in self.images, f"nobody has built {image}"
        outside: dict[str, str] = {}
        for bind in binds:
            host, inside, *mode = bind.split(":")
            assert Path(host).is_absolute(), f"{host} is not a full path"
            # Docker would make it, as root's, so that --user could not write there.
            assert Path(host).is_dir(), f"{host} is not there"
            assert mode in ([], ["ro"]), bind
            outside[inside] = host
        read_only = [bind.split(":")[0] for bind in binds if bind.endswith(":ro")]
        written = [host for host in outside.values() if host not in read_only]
        before = [_listed(folder, written) for folder in read_only]
        environ = {key: _outside(value, outside) for key, _, value in (text.partition("=") for text in variables)}
        with mock.patch.dict(os.environ, environ):
            code = self.app([_outside(word, outside) for word in words])
        # A cache of models gets locks and marks where it may be written: what was there is as it was.
        after = [_listed(folder, written) for folder in read_only]
        assert all(old <= new for old, new in zip(before, after, strict=True)), "it was to be read alone"
        return code


def _outside(word: str, outside: Mapping[str, str]) -> str:
    """Path of the host for one inside."""
    for inside, host in outside.items():
        if word == inside or word.startswith(f"{inside}/"):
            return host + word[len(inside) :]
    return word


def _listed(folder: str, written: list[str]) -> set[tuple[Path, int]]:
    """Files with their times; what is in a folder that may be written is left out."""
    paths = [path for path in Path(folder).rglob("*") if not any(path.is_relative_to(other) for other in written)]
    return {(path, path.stat().st_mtime_ns) for path in paths if path.is_file() and path.suffix != ".lock"}


class Scheduler:
    """``sbatch``: the tasks run at once, one after the other; of a large array the first and the last.

    Parameters
    ----------
    shell : callable
        Gives the session in which the tasks run.
    """

    def __init__(self, shell: Callable[[], Shell]) -> None:
        self.shell = shell
        self.jobs: list[str] = []

    def sbatch(self, words: list[str]) -> int:
        """Run a script once for each task; prints the number of the job."""
        parser = argparse.ArgumentParser(prog="sbatch", allow_abbrev=False)
        parser.add_argument("--parsable", action="store_true")
        parser.add_argument("--array")
        parser.add_argument("--dependency")
        parser.add_argument("script", type=Path)
        parser.add_argument("words", nargs=argparse.REMAINDER)
        options = parser.parse_args(words)
        if options.dependency is not None:
            kind, _, job = options.dependency.partition(":")
            assert kind in ("afterany", "afterok")
            assert job in self.jobs, f"{job!r} is no job"
        headers = re.findall(r"^#SBATCH (--.*)$", options.script.read_text(), re.M)
        stated = dict(word.partition("=")[::2] for header in headers for word in shlex.split(header))
        array = options.array or stated.get("--array")
        for task in _tasks(array):
            variables = {"SLURM_CPUS_PER_TASK": stated["--cpus-per-task"], **task}
            environ = {**os.environ, **variables}
            code, said = self.shell().run(["bash", str(options.script), *options.words], environ)
            assert code == 0, f"{options.script} {variables}: {said}"
        self.jobs.append(str(4000 + len(self.jobs)))
        print(self.jobs[-1] if options.parsable else f"Submitted batch job {self.jobs[-1]}")
        return 0


def _tasks(array: str | None) -> Iterator[dict[str, str]]:
    """Variables of the tasks; of one without any where it is no array."""
    if array is None:
        yield {}
        return
    first, _, last = array.partition("%")[0].partition("-")
    numbers = range(int(first), int(last or first) + 1)
    bounds = {"SLURM_ARRAY_TASK_MIN": numbers[0], "SLURM_ARRAY_TASK_MAX": numbers[-1]}
    for number in dict.fromkeys((numbers[0], numbers[-1])):
        known = {"SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_COUNT": len(numbers), **bounds}
        yield {key: str(value) for key, value in known.items()}


def itksnap(words: list[str]) -> int:
    """ITK-SNAP: main image, segmentation, label descriptions."""
    parser = argparse.ArgumentParser(prog="itksnap", allow_abbrev=False)
    for flag in ("-g", "-s", "-l", "-o"):
        parser.add_argument(flag, type=_file)
    parser.parse_args(words)
    return 0


def freeview(words: list[str]) -> int:
    """FreeView: volumes, each with its options behind colons."""
    parser = argparse.ArgumentParser(prog="freeview", allow_abbrev=False)
    parser.add_argument("-v", nargs="+", required=True)
    for volume in parser.parse_args(words).v:
        path, *options = volume.split(":")
        _file(path)
        for name, _, value in (option.partition("=") for option in options):
            assert name in ("colormap", "lut", "opacity", "visible"), f"FreeView knows no {name}"
            assert name != "colormap" or value in ("lut", "heat", "jet", "grayscale")
            if name == "lut":
                _file(value)
    return 0


# Options of an overlay, with what each takes.
FSLEYES: dict[str, list[Callable[[str], Any]]] = {
    "--overlayType": [{"label", "volume", "mask"}.__contains__],
    "--lut": [lambda text: _file(text)],
    "--cmap": [{"hot", "greyscale", "red-yellow"}.__contains__],
    "--displayRange": [float, float],
    "--alpha": [float],
}


def fsleyes(words: list[str]) -> int:
    """FSLeyes: overlays, each followed by its options."""
    rest = list(words)
    overlays = 0
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            assert overlays, f"{word} stands before any image"
            assert all(kind(rest.pop(0)) is not False for kind in FSLEYES[word])
        else:
            _file(word)
            overlays += 1
    return 0


def slicer(words: list[str]) -> int:
    """3D Slicer: runs the Python code with those functions of `slicer.util` that load and show."""
    flag, code = words
    assert flag == "--python-code"
    exec(compile(ast.parse(code), "Slicer", "exec"), {"slicer": SimpleNamespace(util=_SlicerUtil)})
    return 0


def ants_apply_transforms(words: list[str]) -> int:
    """ANTs: carries the image by the transform; the template is the reader's own, and not looked at."""
    asked = dict(zip(words[::2], words[1::2], strict=True))
    assert set(asked) == {"-d", "-n", "-i", "-r", "-t", "-o"}
    assert (asked["-d"], asked["-n"]) == ("3", "GenericLabel")
    assert sitk.ReadTransform(str(_file(asked["-t"]))).GetDimension() == 3
    assert sitk.ReadImage(str(_file(asked["-i"]))).GetDimension() == 3
    return 0


class _SlicerUtil:
    """What the code may call; anything else is an AttributeError."""

    @staticmethod
    def loadLabelVolume(filename: str) -> Any:  # noqa: N802 - Slicer's name
        _file(filename)
        display = SimpleNamespace(SetAndObserveColorNodeID=lambda number: number)
        return SimpleNamespace(GetDisplayNode=lambda: display)

    @staticmethod
    def loadColorTable(filename: str) -> Any:  # noqa: N802 - Slicer's name
        _file(filename)
        return SimpleNamespace(GetID=lambda: "table")

    @staticmethod
    def loadVolume(filename: str) -> str:  # noqa: N802 - Slicer's name
        return str(_file(filename))

    @staticmethod
    def setSliceViewerLayers(background: Any, label: Any) -> None:  # noqa: N802 - Slicer's name
        assert background
        assert label


def _file(text: str) -> Path:
    path = Path(text)
    assert path.is_file(), f"{text} is no file"
    assert path.stat().st_size
    return path


VIEWERS: dict[str, Program] = {
    "itksnap": itksnap,
    "freeview": freeview,
    "fsleyes": fsleyes,
    "Slicer": slicer,
    "antsApplyTransforms": ants_apply_transforms,
}
