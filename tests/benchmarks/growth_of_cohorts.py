"""Time and memory of the group level over large cohorts, whose results are made up on the spot.

::

    python tests/benchmarks/growth_of_cohorts.py [--scans 1000 10000 100000] [--folder /tmp/cohorts]

Each participant has two sessions with a T1w; of every tenth one the second session failed. Of each scan a provenance
records its files, of which a label map of one byte stands for all but sidecar and table. Each participant has a page of
--page-kb that leads nowhere yet, as arrays of single participants leave it: the group level puts the links in. Prints,
by the number of scans, the processor's and the wall's seconds, the largest memory and the size of the pages, then the
same of a second time, when no link is missing; leaves by 1 where the first of up to 100,000 scans takes more than it
may: processor's seconds, for what else the machine does is not ours.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from cohorts import outputs_of, write_cohort
from measuring import watch

from bids_hsf.bids.names import ScanOutputs
from bids_hsf.bids.provenance import Provenance, describe_file
from bids_hsf.reports.subject import subject_page

LIMITS = {"seconds": 60.0, "mb": 800.0}
LIMITS_HOLD_FOR = 100_000
SESSIONS = ("1", "2")


def write_dataset(folder: Path, n_scans: int) -> tuple[Path, Path]:
    """Make the results, and the tables of the raw dataset, unless they are there; returns raw dataset and results."""
    root, out = folder / f"raw{n_scans}", folder / f"out{n_scans}"
    if not root.exists():
        names = write_cohort(out, n_scans // len(SESSIONS), SESSIONS)
        for name in names:
            write_record(outputs_of(out, name))
        for name in names[1::20]:
            outputs = outputs_of(out, name)
            for path in (outputs.sidecar, outputs.table, outputs.dseg, outputs.provenance):
                path.unlink()
            outputs.failure.parent.mkdir(parents=True, exist_ok=True)
            outputs.failure.write_text(json.dumps({"Error": "It is cut short", "Scan": name, "Model": "toy_fast"}))
        root.mkdir()
        participants = dict.fromkeys(name.partition("_")[0] for name in names)
        lines = [f"{name}\t{50 + place % 40}\t{'FM'[place % 2]}" for place, name in enumerate(participants)]
        (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex", *lines]) + "\n")
        # Of each participant a folder with dates: they are all opened.
        for name in participants:
            (root / name).mkdir()
            sessions = f"session_id\tacq_time\nses-1\t2020-01-01\nses-2\t20{21 + int(name[-1])}-06-01\n"
            (root / name / f"{name}_sessions.tsv").write_text(sessions)
    return root, out


def write_record(outputs: ScanOutputs) -> None:
    """Record a scan's files, those of its pictures and maps by name alone: the group level never looks at them."""
    outputs.dseg.write_bytes(b"x")
    outputs.provenance.parent.mkdir(parents=True, exist_ok=True)
    own = [outputs.dseg, outputs.table, outputs.sidecar]
    known = [describe_file(path.relative_to(outputs.output_dir).as_posix(), path) for path in own]
    names = [f"{outputs.figure_stem}_desc-{name}_dseg.svg" for name in ("localization", "segmentation", "thumbnail")]
    known += [replace(known[0], path=name) for name in (*names, f"{outputs.stem}_desc-entropy_probseg.nii.gz")]
    settings = {f"Setting{number}": number for number in range(8)}
    record = Provenance(settings, (known[0],), tuple(known), settings, settings, settings, settings)
    outputs.provenance.write_text(json.dumps(record.to_json(), indent=2))


def write_pages(out: Path, page_kb: int) -> None:
    """Make the pages of all participants, without links, as large as pictures make them."""
    subjects = [path.name for path in out.glob("sub-*") if path.is_dir()]
    page = subject_page(out, subjects[0].removeprefix("sub-")) + f"<!--{'x' * (page_kb << 10)}-->\n"
    for subject in subjects:
        (out / f"{subject}.html").write_text(page.replace(subjects[0], subject))


def main() -> None:
    """Measure, print a table, and fail where the group level takes too long or too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--page-kb", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the results for the next time")
    arguments = parser.parse_args()
    too_much = False
    with tempfile.TemporaryDirectory() as temporary:
        for n_scans in arguments.scans:
            root, out = write_dataset(arguments.folder or Path(temporary), n_scans)
            write_pages(out, arguments.page_kb)
            costs = []
            for _ in ("links are missing", "none is"):
                cost, said = watch([sys.executable, "-m", "bids_hsf", str(root), str(out), "group"])
                page = sum(path.stat().st_size for path in out.glob("*.html")) / 1e6
                spent = f"{cost.cpu_seconds:6.1f} s of a core, {cost.seconds:6.1f} s, {cost.peak_mb:5d} MB"
                print(f"{n_scans:8d} scans {spent}, pages {page:.1f} MB", flush=True)
                costs.append(cost)
            print(f"         {said.strip().splitlines()[-1][15:100]}", flush=True)
            over = costs[0].cpu_seconds > LIMITS["seconds"] or costs[0].peak_mb > LIMITS["mb"]
            too_much = too_much or (n_scans <= LIMITS_HOLD_FOR and over)
    if too_much:
        sys.exit(f"Up to {LIMITS_HOLD_FOR} scans must take less than {LIMITS['seconds']} s and {LIMITS['mb']} MB")


if __name__ == "__main__":
    main()
