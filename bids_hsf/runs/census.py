"""Where each scan stands, with the reason and what to type next, for people and for programs."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids_hsf.bids.derivatives import find_derivatives
from bids_hsf.bids.names import FAILURE_END, STARTED_END, claim_beside
from bids_hsf.bids.provenance import read_failure
from bids_hsf.bids.sidecars import Sidecar, find_sidecar
from bids_hsf.errors import NoInputError
from bids_hsf.files import disk_fault
from bids_hsf.findings import flags
from bids_hsf.runs.beginnings import is_at_work, read_beginning
from bids_hsf.runs.command_line import command_line
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import PARTS_SUFFIX, Job, Plan
from bids_hsf.runs.states import State, changed, difference, judged, replaced
from bids_hsf.text_table import text_table

SHOWN_LABELS = 200

# Names of the lists in JSON; results of the other states are there, and the next run makes them again.
LISTS: Mapping[State, str] = {
    State.DONE: "done",
    State.FAILED: "failed",
    State.KILLED: "killed",
    State.RUNNING: "running",
    State.MISSING: "missing",
}
AGAIN = "to_do_again"


@dataclass(frozen=True)
class Status:
    """Where the scans of a model stand.

    Attributes
    ----------
    text : str
        For people.
    data : dict
        For programs: plain values.
    is_complete : bool
        Whether all scans are done, as far as is known.
    """

    text: str
    data: dict[str, Any]
    is_complete: bool


@dataclass(frozen=True)
class Standing:
    """Where a scan stands.

    Attributes
    ----------
    job : Job
    state : State
    reason : str
        Empty where there is none to tell.
    look : tuple of str
        Weight and text of what somebody has to look at in a finished scan; empty where there is nothing.
    """

    job: Job
    state: State
    reason: str = ""
    look: tuple[str, ...] = ()

    def row(self) -> tuple[str, str, str]:
        """Line of the table for people."""
        if self.look:
            return self.job.key, f"done, {self.look[0]}", self.look[1]
        return self.job.key, str(self.state), self.reason

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        known: dict[str, Any] = {"scan": self.job.key, "participant": self.job.scan.participant}
        known |= {} if self.state in LISTS else {"state": str(self.state)}
        known |= {"reason": self.reason} if self.reason else {}
        known |= {"look_at": self.look[0], "finding": self.look[1]} if self.look else {}
        if self.state is State.FAILED:
            failure = read_failure(self.job.outputs.failure)
            known |= {"hint": failure.hint, "exit_code": failure.exit_code}
        return known


def standing_of(job: Job) -> Standing:
    """Tell where a scan stands, and why."""
    sidecar = find_sidecar(job.outputs.sidecar)
    state = judged(job, sidecar, watch=True)
    if state is State.DONE:
        return Standing(job, state, look=() if sidecar is None else _to_look_at(sidecar))
    return Standing(job, state, _reason(job, state))


def _to_look_at(sidecar: Sidecar) -> tuple[str, ...]:
    """Heaviest weight, and the texts, of what somebody has to look at."""
    found = flags(sidecar.findings)
    return (str(found[0].weight), "; ".join(finding.text for finding in found)) if found else ()


def _reason(job: Job, state: State) -> str:
    if state is State.DIFFERENT:
        return difference(job)
    if state is State.REPLACED:
        return f"{', '.join(replaced(job))} is not the image of last time"
    if state is State.CHANGED:
        return f"{', '.join(changed(job))} is not as it was written"
    if job.name_fault is not None:
        return job.name_fault
    if state is State.MISSING:
        return ""
    beginning = read_beginning(job.outputs.started) if state in (State.KILLED, State.RUNNING) else None
    if beginning is not None:
        return beginning.told if state is State.KILLED else f"since {beginning.when}, on {beginning.host}"
    return read_failure(job.outputs.failure).error


def status(plan: Plan, config: Config, asked: bool = False) -> Status:
    """List the scans that failed (with the reason) or are missing, and write a line that runs them.

    What was made with other settings is whole, and is only to be replaced by who asks for settings (`asked`) himself:
    those of the last run may have been meant for a few scans.
    """
    census = [standing_of(job) for job in plan.jobs]
    rows = [standing.row() for standing in census if standing.state is not State.DONE]
    doubts = [standing.row() for standing in census if standing.look]
    counts = Counter(standing.state for standing in census)
    lines = [*text_table(("scan", "state", "reason"), rows + doubts), ""] if rows or doubts else []
    summary = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    looks = f", {len(doubts)} of these to be looked at" if doubts else ""
    lines.append(f"{plan.card.name} (seg-{plan.segmentation}): {len(plan.jobs)} scan(s): {summary}{looks}")
    text = "\n".join([*lines, *(_of_disk(config.output_dir) if rows else []), *_advice(census, config, asked)])
    return Status(text, _data(census, plan, config), not rows)


def _of_disk(output_dir: Path) -> list[str]:
    """Line on a disk to which no run can write now; what began there could not say how it ended."""
    fault = disk_fault(output_dir)
    return [] if fault is None else [f"The disk of {output_dir} {fault} now: what is at work there can write nothing."]


def _advice(census: Sequence[Standing], config: Config, asked: bool) -> list[str]:
    """Lines on what to type for the scans that are not done."""
    different = [standing.job for standing in census if standing.state is State.DIFFERENT]
    unfinished = _unfinished(census)
    lines = []
    if unfinished:
        others = {job.scan.participant for job in different}
        force = any(job.scan.participant in others for job in unfinished)  # else the run would refuse these
        lines += ["To run the rest:", f"  {rest_line(unfinished, config, force=force)}"]
    if different and asked:
        lines += ["To replace what was made with other settings:", f"  {rest_line(different, config, force=True)}"]
    elif different:
        lines.append(
            f"The {len(different)} made with other settings than the last run are whole, and stay as they are. "
            "To make all alike, ask for status with the settings that you want, such as --model NAME."
        )
    return lines


def _unfinished(census: Sequence[Standing]) -> list[Job]:
    return [standing.job for standing in census if standing.state not in (State.DONE, State.DIFFERENT)]


def _data(census: Sequence[Standing], plan: Plan, config: Config) -> dict[str, Any]:
    """All that is known, as plain values."""
    lists: dict[str, list[Any]] = {name: [] for name in (*LISTS.values(), AGAIN)}
    for standing in census:
        lists[LISTS.get(standing.state, AGAIN)].append(standing.to_json())
    record, rest = config.as_record(), _unfinished(census)
    outputs = (
        "uncertainty",
        "write_probabilities",
        "write_coordinates",
        "write_transforms",
        "split_long_axis",
        "report_3d",
    )
    return {
        "model": plan.card.name,
        "segmentation": plan.segmentation,
        "complete": all(standing.state is State.DONE for standing in census),
        "counts": {name: len(found) for name, found in lists.items()},
        "settings": {
            "method": record["method"],
            "outputs": {name: record["behaviour"][name] for name in outputs},
            "selection": record["selection"],
        },
        "disk": disk_fault(config.output_dir),
        "left_out": [scan.key for scan in plan.left_out],
        **lists,
        "command": rest_line(rest, config) if rest else None,
    }


def status_of_derivatives(output_dir: Path) -> Status:
    """List the same without the raw data: nobody can tell then what is missing.

    Raises
    ------
    NoInputError
        There are no derivatives.
    """
    # Head, body and tail are no scan of their own.
    found = [scan for scan in find_derivatives(output_dir) if f"{PARTS_SUFFIX}_" not in scan.table.name]
    done = [derivative for derivative in found if derivative.fault is None]
    doubts = {scan.stem: look for scan in done if scan.sidecar is not None and (look := _to_look_at(scan.sidecar))}
    rows = [*_recorded(output_dir), *((scan.stem, "not whole", scan.fault) for scan in found if scan.fault is not None)]
    if not found and not rows:
        raise NoInputError(f"No derivatives in {output_dir}", "Run the participant level first.")
    told = [*rows, *((name, f"done, {weight}", text) for name, (weight, text) in doubts.items())]
    lines = [*text_table(("scan", "state", "reason"), told), ""] if told else []
    counts = Counter(state for _, state, _ in rows)
    looks = f" ({len(doubts)} to be looked at)" if doubts else ""
    others = "".join(f", {counts[state]} {state}" for state in ("killed", "running", "not whole") if counts[state])
    summary = f"{len(done)} done{looks}, {counts['failed']} failed{others}"
    lines += [f"{summary}; the BIDS folder is not there, missing scans are not known"]
    lines += _of_disk(output_dir) if rows else []
    lists = {
        name: [{"scan": scan, "reason": reason} for scan, of, reason in rows if of == state]
        for name, state in (("failed", "failed"), ("killed", "killed"), ("running", "running"), (AGAIN, "not whole"))
    }
    data = {"complete": None if not rows else False, "missing": None, "done": [{"scan": scan.stem} for scan in done]}
    return Status("\n".join(lines), data | lists, not rows)


def _recorded(output_dir: Path) -> list[tuple[str, str, str]]:
    """Name, state and reason of the scans of which a failure or a beginning is recorded."""
    rows = []
    for path in sorted((output_dir / "logs").glob("sub-*/sub-*.json")):
        if path.name.endswith(FAILURE_END):
            rows.append((path.name.removesuffix(FAILURE_END), "failed", read_failure(path).error))
        beginning = read_beginning(path) if path.name.endswith(STARTED_END) else None
        if beginning is not None:
            stem = path.name.removesuffix(STARTED_END)
            held = is_at_work(beginning, path, claim_beside(path), watch=True)
            rows.append((stem, "running" if held else "killed", beginning.told))
    return rows


def shown(parts: Sequence[Status], as_json: bool) -> str:
    """Text of what is known of all models, or JSON."""
    if as_json:
        complete = None if any(part.data["complete"] is None for part in parts) else all(p.is_complete for p in parts)
        return json.dumps({"complete": complete, "models": [part.data for part in parts]}, indent=2)
    return "\n\n".join(part.text for part in parts)


def rest_line(rest: Sequence[Job], config: Config, force: bool = False) -> str:
    """Command line that processes the participants of some scans, with the settings of the present one."""
    labels = tuple(sorted({job.scan.participant for job in rest}))
    # Without labels the same line does what is missing, too; a longer one would not fit a shell.
    selection = replace(config.selection, participants=labels if len(labels) <= SHOWN_LABELS else ())
    return shlex.join(participant_line(replace(config, selection=selection), force=force))


def participant_line(config: Config, force: bool = False) -> list[str]:
    """Words of the command that processes what a Config selects, whatever this one was for."""
    behaviour = replace(
        config.behaviour,
        force=force or config.behaviour.force,
        dry_run=False,
        reports_only=False,
        boilerplate_only=False,
        clean_work_dir=False,
        as_json=False,
        require_complete=False,
        launcher=None,
    )
    return command_line(replace(config, levels=("participant",), behaviour=behaviour))
