"""What the benchmarks share: a scan as a dataset, networks as a card, a command's wall time and peak memory."""

import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Measured:
    """Cost of one command: wall seconds, processor seconds, peak of the resident set in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: int


def measure(command: Sequence[str], log_path: Path, **environment: str) -> Measured:
    """Run a command in the folder of `log_path`, to which its output goes, as `watch` does."""
    cost, said = watch(command, cwd=log_path.parent, **environment)
    log_path.write_text(said)
    return cost


def watch(command: Sequence[object], cwd: Path | None = None, **environment: str) -> tuple[Measured, str]:
    """Run a command to its end; returns its cost, and what it printed, which is shown where it fails.

    The peak is that of the largest process of the tree. A child inherits its parent's peak at the start, so that
    whoever calls this must itself be small: import nothing heavy before.
    """
    words, environ = [*map(str, command)], {**os.environ, **environment}
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, cwd=cwd)
    assert process.stdout is not None
    said = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)}\nfailed with {process.returncode}:\n{said[-3000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss >> 10), said


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write what `table` shows, parted by tabs, for the documentation."""
    lines = ["\t".join(map(str, row.values())) for row in rows]
    path.write_text("\n".join(["\t".join(rows[0]), *lines, ""]))


def make_dataset(scans: Sequence[Path], folder: Path, suffix: str = "T1w") -> Path:
    """BIDS dataset with one subject a scan."""
    for number, scan in enumerate(scans, start=1):
        subject = f"sub-{number:02d}"
        target = folder / subject / "anat" / f"{subject}_{suffix}.nii.gz"
        target.parent.mkdir(parents=True)
        if scan.suffix == ".gz":
            shutil.copy(scan, target)
        else:
            with scan.open("rb") as source, gzip.open(target, "wb", compresslevel=1) as packed:
                shutil.copyfileobj(source, packed)
    description = {"Name": "Benchmark", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    (folder / "README").write_text("Copies of one scan, to measure time.\n")
    return folder


def make_card(
    networks: Sequence[Path],
    folder: Path,
    n_labels: int,
    n_augmentations: int,
    voxel_size_mm: float | str = "native",
    name: str = "bench",
) -> Path:
    """Card of one model with some networks as members; HSF's margin of 8 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    members = []
    for number, network in enumerate(networks):
        copy = folder / f"member{number}.onnx"
        shutil.copy(network, copy)
        digest = hashlib.sha256(copy.read_bytes()).hexdigest()
        members.append({"path": copy.name, "sha256": digest, "size": copy.stat().st_size})
    card = {
        "schema": 1,
        "family": "bench",
        "version": "1",
        "description": "Benchmark",
        "orientation": "RAS",
        "contrasts": ["T1w", "T2w"],
        "voxel_size_mm": voxel_size_mm,
        "margin_mm": 8.0,
        "normalization": "zscore",
        "pad_multiple": 8,
        "output": "probabilities",
        "labels": [
            {"index": i, "name": f"Structure {i}", "abbreviation": f"S{i}", "color": f"#{40 * i:02x}8080"}
            for i in range(1, n_labels + 1)
        ],
        "license": "MIT",
        "authors": ["nobody"],
        "citation": "none",
        "training_data": "none",
        "models": {name: {"members": members, "n_augmentations": n_augmentations}},
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False))
    return path


def app_command(bids_dir: Path, output_dir: Path, model: str, *options: str) -> list[str]:
    """Command line of this app at participant level."""
    return [sys.executable, "-m", "bids_hsf", str(bids_dir), str(output_dir), "participant", "--model", model, *options]


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Plain text table; numbers to three digits."""
    names = list(rows[0])
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and value < 1000 else str(value)
