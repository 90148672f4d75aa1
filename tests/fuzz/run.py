"""Files of strangers by the ten thousand: what is made of them is a result or a known error, soon, in little memory.

    python tests/fuzz/run.py [--examples SHARE] [--seed N] [TARGET ...]

Each target takes one kind of file. Sound ones are changed: bytes are flipped, cut, doubled and exchanged (plain
random numbers: fast), or fields get values that hypothesis makes up. For each example it is asked that nothing but a
`BidsHsfError` is raised (or `NotWholeError`, which readers of a folder's files take for one), that it takes less than
10 s of the processor, and that no file outside the run's own folder is opened for writing, made, renamed or removed
(an audit hook of Python sees each); in the end, that the process never took 1 GB.
The default numbers are 60,000 examples in all.
"""

import argparse
import copy
import gzip
import json
import logging
import os
import random
import resource
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import nibabel as nib
import numpy as np
import tomli_w
from bids_trees import model_card, write_scan, write_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning
from toy_networks import make_network, write_network

from bids_hsf.bids.dataset import check_dataset, find_scans
from bids_hsf.bids.derivatives import find_derivatives
from bids_hsf.bids.group_table import read_group_table
from bids_hsf.bids.provenance import read_failure, read_provenance
from bids_hsf.bids.selection import Selection
from bids_hsf.bids.sidecars import find_sidecar
from bids_hsf.bids.typed_json import NotWholeError
from bids_hsf.cli.arguments import config_of, parse, read_filters
from bids_hsf.errors import BidsHsfError
from bids_hsf.hub.cards import load_cards
from bids_hsf.hub.models import packaged_hub_dir
from bids_hsf.images import load_scan
from bids_hsf.networks.onnx_file import examine, refuse_unsafe
from bids_hsf.networks.rehearsal import rehearse
from bids_hsf.networks.sessions import MemberFile, SessionSettings, open_session
from bids_hsf.reports.subject import write_subject_report
from bids_hsf.runs import logs, overview
from bids_hsf.runs.config import Config
from bids_hsf.runs.group_table import group_row
from bids_hsf.workflow import Terminal, run

SECONDS = 10.0
MEMORY_MB = 1000
SHOWN = 20
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
)
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 352, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    "",
    "a",
    "..",
    "/etc/passwd",
    "n/a",
    "\x1b[2J",
    "\u202e",
    "é",
    "9" * 400,
    "-1",
    "nan",
    "1e999",
    "sub-01",
    "[",
    "(?",
    "*",
)


@dataclass
class Finding:
    """An example that should not have ended so."""

    target: str
    number: int
    told: str


@dataclass
class Fuzzer:
    """What all targets share."""

    folder: Path
    random: random.Random
    findings: list[Finding] = field(default_factory=list)
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note each change of the file system outside the folder."""
        own = str(self.folder)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                path, _, flags = arguments
                if not isinstance(flags, int) or not flags & WRITES or isinstance(path, int):
                    return
            elif event not in EVENTS:
                return
            if event in ("os.rmdir", "os.remove", "os.mkdir") and arguments[-1] != -1:
                return  # relative to a folder that is open: shutil has looked where that is
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
            if path and not os.path.abspath(path).startswith((own, "/dev/null", "/proc/self")):  # noqa: PTH100
                self.writes.append(f"{event} {path}")

        sys.addaudithook(hook)

    def example(self, target: str, number: int, work: Callable[[], object]) -> None:
        """Do one example, and note how it ended."""
        self.writes.clear()
        began = time.process_time()
        try:
            work()
            end = "taken"
        except (BidsHsfError, NotWholeError) as error:
            end = type(error).__name__
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            end = f"!! {type(error).__name__}"
            told = "".join(traceback.format_exception(error)[-6:])
            self.findings.append(Finding(target, number, told))
        seconds = time.process_time() - began
        self.slowest[target] = max(self.slowest.get(target, 0.0), seconds)
        if seconds > SECONDS:
            self.findings.append(Finding(target, number, f"{seconds:.1f} s"))
        if self.writes:
            self.findings.append(Finding(target, number, f"changed {', '.join(self.writes)}"))
            self.writes.clear()
        self.ends.setdefault(target, Counter())[end] += 1

    def changed(self, content: bytes) -> bytes:
        """Change some bytes: flip, cut, double, exchange, or write numbers that programs stumble over."""
        data = bytearray(content)
        for _ in range(self.random.choice((1, 1, 1, 2, 4, 16))):
            place = self.random.randrange(len(data) + 1)
            kind = self.random.randrange(7)
            size = self.random.choice((1, 2, 4, 8, 64))
            if kind == 0 and data:
                data[place % len(data)] ^= 1 << self.random.randrange(8)
            elif kind == 1:
                data[place : place + size] = self.random.randbytes(size)
            elif kind == 2:
                del data[place : place + size]
            elif kind == 3:
                data[place:place] = data[place : place + size]
            elif kind == 4:
                number = self.random.choice(INTERESTING) * self.random.choice((1, -1))
                data[place : place + size] = (number % (1 << 8 * size)).to_bytes(
                    size, self.random.choice(("little", "big"))
                )
            elif kind == 5:
                data[place:place] = self.random.choice(WORDS).encode()
            else:
                del data[self.random.randrange(len(data) + 1) :]
        return bytes(data)

    def changed_tree(self, tree: Any) -> Any:
        """Change one value somewhere in a tree of dicts and lists."""
        tree = copy.deepcopy(tree)
        for _ in range(self.random.choice((1, 1, 2, 5))):
            node, steps = tree, self.random.randrange(1, 5)
            while steps and isinstance(node, dict | list) and node:
                key = self.random.choice(list(node) if isinstance(node, dict) else range(len(node)))
                steps -= 1
                if steps and isinstance(node[key], dict | list):
                    node = node[key]
                    continue
                what = self.random.randrange(5)
                if what == 0:
                    del node[key]
                elif what == 1 and isinstance(node, dict):
                    node[self.random.choice(WORDS) or "x"] = node.pop(key)
                else:
                    node[key] = self.value()
                break
        return tree

    def value(self, depth: int = 0) -> Any:
        """Some value that no schema asks for."""
        kind = self.random.randrange(8 if depth < 3 else 6)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind == 7:
            return {self.random.choice(WORDS) or "k": self.value(depth + 1) for _ in range(self.random.randrange(4))}
        if kind == 5:
            return self.random.choice((float("nan"), float("inf"), -0.0, 1e308, 5e-324))
        choices = (
            None,
            True,
            self.random.choice(INTERESTING),
            -self.random.choice(INTERESTING),
            self.random.choice(WORDS),
        )
        return choices[kind]


Target = Callable[[Fuzzer, int], Iterator[Callable[[], object]]]


def nifti_bytes(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Changed bytes of whole files, plain and compressed, most of them in the header."""
    folder = fuzzer.folder / "nifti"
    folder.mkdir()
    data = np.random.default_rng(0).integers(0, 1000, (24, 28, 20), dtype=np.int16)
    plain = nib.Nifti1Image(data, np.diag([6.0, 6, 6, 1])).to_bytes()
    for _ in range(count):
        zipped = fuzzer.random.random() < 0.5
        head, rest = plain[:352], plain[352:]
        inner = fuzzer.changed(head) + rest if fuzzer.random.random() < 0.8 else fuzzer.changed(plain)
        content = gzip.compress(inner, 1) if zipped else inner
        if zipped and fuzzer.random.random() < 0.3:
            content = fuzzer.changed(content)
        path = folder / f"scan.nii{'.gz' if zipped else ''}"
        path.write_bytes(content)
        yield lambda path=path: load_scan(path)


def nifti_headers(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Header fields with any value of their types."""
    folder = fuzzer.folder / "headers"
    folder.mkdir()
    # Neither constant nor noise, and with its voxels behind the header: as it is, it is taken.
    data = (20 * np.indices((24, 28, 20)).sum(axis=0)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([6.0, 6, 6, 1]))
    image.header["vox_offset"] = 352
    fields = [name for name in image.header if name != "magic"]
    path = folder / "scan.nii"
    for _ in range(count):
        header = image.header.copy()
        for name in fuzzer.random.sample(fields, fuzzer.random.choice((1, 1, 2, 3))):
            shape = np.shape(header[name])
            kind = header[name].dtype
            values = fuzzer.random.randbytes(kind.itemsize * int(np.prod(shape, dtype=int)))
            if fuzzer.random.random() < 0.6 and kind.kind in "if":
                numbers = [
                    fuzzer.random.choice((-1, 0, 1, 2, 3, 5, 7, 24, 352, 32767, 1e30))
                    for _ in range(int(np.prod(shape, dtype=int)))
                ]
                with np.errstate(all="ignore"):
                    values = np.array(numbers, np.float64).astype(kind).tobytes()
            header[name] = np.frombuffer(values, kind).reshape(shape)
        path.write_bytes(header.binaryblock + bytes(4) + data.tobytes(order="F"))
        yield lambda: load_scan(path)


def sidecars(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Everything that an output folder is read for: sidecars, tables, provenance, failures, group table."""
    source = Path(os.environ.get("FUZZ_OUTPUTS") or make_outputs(fuzzer.folder / "outputs"))
    out = fuzzer.folder / "derivatives"
    originals = {
        path.relative_to(source): path.read_bytes()
        for path in source.rglob("*")
        if path.suffix in (".json", ".tsv") and path.is_file() and path.stat().st_size < 100_000
    }
    for name, content in originals.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    (out / "logs/sub-01").mkdir(parents=True, exist_ok=True)
    failure = Path("logs/sub-01/sub-01_T1w_failure.json")
    originals[failure] = b'{"Scan": "sub-01_T1w", "Error": "x", "Hint": "y", "Class": "z"}'
    (out / failure).write_bytes(originals[failure])
    names = sorted(originals)
    for _ in range(count):
        name = fuzzer.random.choice(names)
        content = originals[name]
        if name.suffix == ".json" and fuzzer.random.random() < 0.7:
            content = json.dumps(fuzzer.changed_tree(json.loads(content))).encode()
        else:
            content = fuzzer.changed(content)
        (out / name).write_bytes(content)
        yield lambda name=name: read_outputs(out, name)
        (out / name).write_bytes(originals[name])


def make_outputs(folder: Path, n_subjects: int = 1) -> Path:
    """Run the app once on made-up heads; returns its output folder."""
    from fast_app import write_card, write_dataset
    from toy_runs import Place

    place = Place(write_dataset(folder / "bids", n_subjects), write_card(folder / "hub"), folder / "out")
    done = place.run(place.reference)
    assert done.returncode == 0, done.stderr
    return place.reference


def read_outputs(out: Path, name: Path) -> None:
    """Read as group, reports and status do."""
    rows = []
    for derivative in find_derivatives(out):
        if derivative.sidecar is not None and derivative.fault is None:
            rows.append(group_row(derivative.sidecar, derivative.structures))
    find_sidecar(out / name)
    read_provenance(out / name)
    read_failure(out / name)
    read_group_table(out)
    if name.suffix == ".json" and rows:
        write_subject_report(out, "01")


def cohorts(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """The whole group level and `status`, of a dataset, ratings and an output folder of which one file is changed."""
    out = make_outputs(fuzzer.folder / "cohort", 3)
    bids_dir, ratings = out.parent / "bids", out.parent / "qc.tsv"
    table = "participant_id\tage\tgroup\nsub-01\t30\tA\nsub-02\t41\tB\nsub-03\tn/a\tA\n"
    described = {"age": {"Description": "age", "Units": "years"}, "group": {"Levels": {"A": "a", "B": "b"}}}
    (bids_dir / "participants.tsv").write_text(table)
    (bids_dir / "participants.json").write_text(json.dumps(described))
    ratings.write_text("scan\tmodel\trating\tcomment\trated_at\nsub-01_T1w\t\tgood\tx\t2031-04-05\n")

    def done(level: str) -> None:
        words = [str(bids_dir), str(out), level, *(["--ratings", str(ratings)] if level == "group" else [])]
        run(config_of(parse(words), words), Terminal())

    done("group")
    originals = {
        path: path.read_bytes()
        for path in sorted([ratings, *bids_dir.rglob("*"), *out.rglob("*")])
        if path.suffix in (".json", ".tsv", ".toml") and path.is_file() and path.stat().st_size < 100_000
    }
    for _ in range(count):
        path, content = fuzzer.random.choice(list(originals.items()))
        if path.suffix == ".json" and fuzzer.random.random() < 0.7:
            path.write_text(json.dumps(fuzzer.changed_tree(json.loads(content))))
        else:
            path.write_bytes(fuzzer.changed(content))
        yield partial(done, fuzzer.random.choice(("group", "group", "status")))
        path.write_bytes(content)


def filters(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Filter files, read; some of them asked of a dataset."""
    root = write_tree(fuzzer.folder / "bids", ["sub-01/anat/sub-01_T1w.json"])
    write_scan(root / "sub-01/anat/sub-01_T1w.nii.gz")
    write_scan(root / "sub-02/ses-1/anat/sub-02_ses-1_acq-x_run-1_T1w.nii.gz")
    sound = {"t1w": {"acquisition": "x", "run": [1, 2], "session": None}, "t2w": {"reconstruction": "*"}}
    path = fuzzer.folder / "filter.json"
    for number in range(count):
        if fuzzer.random.random() < 0.6:
            path.write_text(json.dumps(fuzzer.changed_tree(sound)))
        else:
            path.write_bytes(fuzzer.changed(json.dumps(sound).encode()))
        yield lambda number=number: ask(root, path, number % 50 == 0)


def ask(root: Path, path: Path, query: bool) -> None:
    """Read a filter file, and find scans by it."""
    words = [str(root), str(root.parent / "out"), "participant", "--bids-filter-file", str(path)]
    read_filters(str(path))
    config = config_of(parse(words), words)
    if query:
        find_scans(root, config.selection)


def datasets(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Names of files, and what the dataset says of itself."""
    root = write_tree(fuzzer.folder / "named", [])
    folder = root / "sub-01" / "anat"
    folder.mkdir(parents=True)
    name = b"sub-01_ses-1_acq-x_run-1_T1w.nii.gz"
    description = (root / "dataset_description.json").read_bytes()
    for _ in range(count):
        changed = fuzzer.changed(name).replace(b"/", b"-").replace(b"\0", b"0")[:200] or b"x"
        path = os.path.join(os.fsencode(folder), changed)  # noqa: PTH118 - bytes
        if changed in (b".", b".."):
            continue
        with open(path, "wb"):  # noqa: PTH123
            pass
        (root / "dataset_description.json").write_bytes(
            fuzzer.changed(description) if fuzzer.random.random() < 0.3 else description
        )
        yield lambda: (check_dataset(root), find_scans(root, Selection()))
        os.unlink(path)  # noqa: PTH108


def cards(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Model cards: changed bytes, and changed fields."""
    import yaml

    texts = [path.read_bytes() for path in sorted(packaged_hub_dir().glob("*.yaml"))]
    small = [text[: text.rindex(b"\n  ", 0, 6000)] if len(text) > 6000 else text for text in texts]
    trees = [yaml.safe_load(text) for text in texts]
    path = fuzzer.folder / "card.yaml"
    for _ in range(count):
        if fuzzer.random.random() < 0.5:
            path.write_bytes(fuzzer.changed(fuzzer.random.choice(small)))
        else:
            tree = fuzzer.changed_tree(fuzzer.random.choice(trees))
            path.write_text(json.dumps(tree, default=str), encoding="utf-8")  # JSON is YAML
        yield lambda: load_cards(path)


def saved_runs(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Settings of saved runs, for --config-file and for status."""
    path = fuzzer.folder / "config.toml"
    asked = Config(Path("/bids"), Path("/out"), ("status",))
    logs.write_config(path, Config(Path("/b"), Path("/o"), ("participant",)), model_card())
    sound = path.read_bytes()
    tree = tomllib.loads(sound.decode())
    for _ in range(count):
        content = fuzzer.changed(sound)
        if fuzzer.random.random() < 0.7:
            try:
                content = tomli_w.dumps(without_none(fuzzer.changed_tree(tree))).encode("utf-8", "surrogatepass")
            except (TypeError, ValueError, AttributeError):
                content = fuzzer.changed(sound)
        path.write_bytes(content)

        def read() -> None:
            words = ["--config-file", str(path)]
            config_of(parse(words), words)
            overview.with_settings_of(asked, path)

        yield read


def without_none(value: Any) -> Any:
    """What TOML can say of a value."""
    if isinstance(value, dict):
        return {str(key): without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value


def onnx_bytes(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Networks with changed bytes: checked all, and those that pass opened and run."""
    path = write_network(fuzzer.folder / "net.onnx", width=2, instance_norm=True)
    sound = path.read_bytes()
    opened = 0
    for _ in range(count):
        content = fuzzer.changed(sound)
        path.write_bytes(content)

        def check(content: bytes = content) -> bool:
            refuse_unsafe(examine(content, path), path)
            return True

        yield check
        try:
            passes = check()
        except BidsHsfError:
            continue
        if passes and opened < count // 50:
            opened += 1
            # As the app does: a file that makes ONNX Runtime crash, one in ten thousand, would end this process.
            yield lambda: opened_apart_first(path)


def opened_apart_first(path: Path) -> None:
    """Rehearse a network in a process of its own, then open it here and let it run."""
    settings = SessionSettings("CPUExecutionProvider", {}, 1)
    rehearse([MemberFile(path)], [settings])
    open_session(path, settings).probe()


def onnx_messages(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Networks with fields of any value: shapes, attributes, names, types."""
    path = fuzzer.folder / "message.onnx"
    sound = make_network(width=2, instance_norm=True)
    numbers = (0, 1, -1, 2, 5, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1)
    for _ in range(count):
        model = copy.deepcopy(sound)
        node = fuzzer.random.choice(model.graph.node)
        tensor = fuzzer.random.choice(model.graph.initializer)
        kind = fuzzer.random.randrange(6)
        if kind == 0:
            tensor.dims[fuzzer.random.randrange(len(tensor.dims))] = fuzzer.random.choice(numbers)
        elif kind == 1 and node.attribute:
            attribute = fuzzer.random.choice(node.attribute)
            attribute.ints[:] = [fuzzer.random.choice(numbers) for _ in range(fuzzer.random.randrange(8))]
        elif kind == 2:
            tensor.data_type = fuzzer.random.randrange(30)
        elif kind == 3:
            node.op_type = fuzzer.random.choice(("Resize", "Pad", "Tile", "Expand", "Reshape", "Range", "If", "Conv"))
        elif kind == 4 and node.input:
            node.input[0] = fuzzer.random.choice([*WORDS, tensor.name, node.output[0]])
        else:
            axis = fuzzer.random.choice(model.graph.input[0].type.tensor_type.shape.dim)
            axis.dim_value = fuzzer.random.choice((0, 1, 7, 64, 1 << 12, 1 << 31, -1))
        path.write_bytes(model.SerializeToString())
        yield lambda: open_session(path, SessionSettings("CPUExecutionProvider", {}, 1)).probe()


def hypothesis_json(fuzzer: Fuzzer, count: int) -> Iterator[Callable[[], object]]:
    """Any JSON at all, where one of ours should be; hypothesis makes it up."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    trees = st.recursive(
        leaves, lambda t: st.lists(t, max_size=4) | st.dictionaries(st.text(max_size=10), t, max_size=4)
    )
    made: list[Any] = []

    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(trees)
    def collect(tree: Any) -> None:
        made.append(tree)

    collect()
    path = fuzzer.folder / "any.json"
    card = fuzzer.folder / "any.yaml"
    for tree in (made * 2)[:count]:
        text = json.dumps(tree)
        path.write_text(text)
        card.write_text(text)

        def read() -> None:
            for use in (find_sidecar, read_provenance, read_failure):
                use(path)
            for use_or_refuse in (lambda: read_filters(str(path)), lambda: load_cards(card)):
                try:
                    use_or_refuse()
                except BidsHsfError:
                    continue

        yield read


TARGETS: dict[str, tuple[Target, int]] = {
    "nifti_bytes": (nifti_bytes, 9_000),
    "nifti_headers": (nifti_headers, 9_000),
    "sidecars": (sidecars, 2_500),
    "cohorts": (cohorts, 400),
    "filters": (filters, 5_000),
    "datasets": (datasets, 200),
    "cards": (cards, 4_000),
    "saved_runs": (saved_runs, 7_000),
    "onnx_bytes": (onnx_bytes, 20_000),
    "onnx_messages": (onnx_messages, 1_000),
    "hypothesis_json": (hypothesis_json, 2_000),
}


def main() -> int:
    """Run the targets; returns 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--examples", type=float, default=1.0, metavar="SHARE", help="of the usual numbers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    warnings.simplefilter("ignore", NonInteractiveExampleWarning)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # what is written to the current folder is seen among the rest
        os.environ["BIDS_HSF_CACHE"] = str(Path(folder) / "own" / "cache")  # where it is remembered what has passed
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = folder
        fuzzer = Fuzzer(Path(folder) / "own", random.Random(options.seed))
        fuzzer.folder.mkdir()
        fuzzer.watch()
        for name in options.targets or TARGETS:
            target, count = TARGETS[name]
            began = time.monotonic()
            for number, work in enumerate(target(fuzzer, max(1, round(count * options.examples)))):
                fuzzer.example(name, number, work)
            ends = ", ".join(f"{n} {end}" for end, n in fuzzer.ends[name].most_common())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            total = sum(fuzzer.ends[name].values())
            print(
                f"{name}: {total} examples in {time.monotonic() - began:.0f} s, slowest {fuzzer.slowest[name]:.2f} s, "
                f"peak so far {peak} MB: {ends}",
                flush=True,
            )
            if peak > MEMORY_MB:
                fuzzer.findings.append(Finding(name, -1, f"{peak} MB"))
        strays = sorted(path.name for path in Path(folder).iterdir() if path.name != "own")
        if strays:
            fuzzer.findings.append(Finding("all", -1, f"left beside the own folder: {strays}"))
        os.chdir("/")
    told: Counter[str] = Counter()
    for finding in fuzzer.findings:
        told[finding.told.strip().splitlines()[-1]] += 1
        if sum(told.values()) <= SHOWN:
            print(f"\n{finding.target}, example {finding.number}:\n{finding.told}")
    examples = sum(sum(ends.values()) for ends in fuzzer.ends.values())
    print(f"\n{examples} examples, {len(fuzzer.findings)} finding(s)")
    for line, number in told.most_common():
        print(f"  {number} x {line}")
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
