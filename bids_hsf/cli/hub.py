"""``hsf-hub``: list, show, fetch, verify, validate and evaluate the models of the hub; begin the card of a new one."""

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_hsf import __version__
from bids_hsf.cli import quantize
from bids_hsf.cli.actions import PrintCompletion
from bids_hsf.cli.answers import Answer, plain, print_answer, report_error
from bids_hsf.cli.console import Advice, Console, OneLine, exit_code_of, settle_streams
from bids_hsf.cli.hub_list import list_models
from bids_hsf.cli.parser import HubParser
from bids_hsf.errors import BidsHsfError, UsageError
from bids_hsf.machine import keep_numpy_small, search_rarely_for_cycles
from bids_hsf.runs.signals import stoppable
from bids_hsf.text_table import text_table

if TYPE_CHECKING:
    from bids_hsf.segmentation.evaluation import Mean, Score

logger = logging.getLogger(__name__)


ADVICE = Advice(
    stopped="Nothing half-written was left; run the same command again.",
    out_of_memory="Close other programs, or use a smaller model.",
    internal="Please report it with what -v prints.",
)

DESCRIPTION = "Models that bids-hsf can run: list them, fetch them ahead, check and judge your own."
EPILOG = """environment: BIDS_HSF_CACHE: folder of downloaded models; BIDS_HSF_HUB: folders with further
cards, separated by ':'; BIDS_HSF_ALLOW_HTTP=1: take http:// addresses.

exit codes: 0 all well; 1 some cases could not be judged; 2 bad arguments; 65 none could; 66 no such input;
69 a model that cannot be had or fails its check; 74 reading or writing failed; 130 Ctrl-C; 143 SIGTERM."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    settle_streams()
    keep_numpy_small()
    search_rarely_for_cycles()
    options = build_parser().parse_args(argv)
    handler = Console()
    handler.setFormatter(OneLine("%(levelname)s: %(message)s"))
    levels = {"bids_hsf": logging.WARNING, "bids_hsf.hub.download": logging.INFO}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(logging.DEBUG if options.verbose else level)
    logging.getLogger("bids_hsf").addHandler(handler)
    try:
        with stoppable() as stop:
            return exit_code_of(
                lambda: print_answer(options.run(options), options.json),
                lambda error: report_error(error, options.json),
                stop,
                ADVICE,
            )
    finally:
        logging.getLogger("bids_hsf").removeHandler(handler)
        for name in levels:
            logging.getLogger(name).setLevel(logging.NOTSET)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with one sub-parser a command."""
    parser = HubParser(
        prog="hsf-hub",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hsf-hub (bids-hsf) v{__version__}")
    text = "print what lets a shell complete this command, and exit"
    parser.add_argument("--print-completion", action=PrintCompletion, choices=("bash", "zsh", "tcsh"), help=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "list", list_models, "show all models in a table")
    shown = _add(commands, "show", show_model, "show one model's card")
    shown.add_argument("model", metavar="NAME|CARD.yaml")
    fetch = _add(commands, "fetch", fetch_models, "download models ahead, for images and nodes without internet")
    fetch.add_argument("models", nargs="*", metavar="NAME|CARD.yaml")
    fetch.add_argument("--all", action="store_true", help="every model that `hsf-hub list` shows")
    fetch.add_argument(
        "--dest", type=Path, metavar="DIR", help="folder to fill; set BIDS_HSF_CACHE to it later (default: the cache)"
    )
    verify = _add(commands, "verify", verify_models, "check the files that are there against their checksums")
    verify.add_argument("models", nargs="*", metavar="NAME|CARD.yaml", help="default: all of which files are there")
    verify.add_argument(
        "--dest", type=Path, metavar="DIR", help="folder that `hsf-hub fetch --dest` filled (default: the cache)"
    )
    _add_new(commands)
    validate = _add(commands, "validate", validate_card, "check a card: schema, download, checksums, a trial run")
    validate.add_argument("card", type=Path, metavar="CARD.yaml")
    evaluate = _add(commands, "evaluate", evaluate_model, "judge a model on crops with manual labels")
    evaluate.add_argument("model", metavar="NAME|CARD.yaml")
    evaluate.add_argument("--images", type=Path, required=True, metavar="DIR", help="crops, NIfTI")
    evaluate.add_argument("--labels", type=Path, required=True, metavar="DIR", help="label maps of the same names")
    evaluate.add_argument("--output", type=Path, metavar="FILE.tsv", help="write the rows there (default: print them)")
    evaluate.add_argument("--nthreads", type=int, metavar="N", help="threads of the network (default: all allowed)")
    evaluate.add_argument("--reduced-precision", action="store_true", help="as bids-hsf computes by this option")
    quantized = quantize.add_command(partial(_add, commands))
    checksum = _add(commands, "checksum", checksum_files, "print a card's lines for an ONNX file")
    checksum.add_argument("files", nargs="+", type=Path, metavar="FILE.onnx")
    _add(commands, "schema", print_schema, "print the JSON schema of a card file, for editors")
    for command in (validate, evaluate, quantized):
        command.add_argument("--device", default="auto", help="auto, cpu, openvino, cuda, ... (default: %(default)s)")
    for command in (fetch, validate, evaluate, quantized):
        command.add_argument("--allow-http", action="store_true", default=None, help="take http:// addresses too")
    return parser


def _add_new(commands: Any) -> None:
    """Add the command that begins a card."""
    new = _add(commands, "new", new_card, "begin the card of an ONNX file: all that the file tells is filled in")
    new.add_argument("file", type=Path, metavar="FILE.onnx")
    text = "where to write it (default: beside the file, with the ending .yaml)"
    new.add_argument("--output", type=Path, metavar="CARD.yaml", help=text)
    text = "address from which others will have the file (default: none; the card then names the file beside it)"
    new.add_argument("--url", metavar="URL", help=text)


def show_model(options: argparse.Namespace) -> Answer:
    """Show one card in full, and where its files lie."""
    from bids_hsf.hub.models import find_card, find_damage, member_path

    card = find_card(options.model, options.hub_dir)
    members = []
    for member in card.files:
        path = member_path(member, card)
        problem = find_damage(path, member)
        members.append({**asdict(member), "source": member.shown_source, "path": str(path), "problem": problem})
    data = {**plain(card), "members": members}
    spoken = data | {"voxel_size_mm": card.voxel_size_mm or "native", "margin_mm": card.margin_mm or "default"}
    lines = [f"{key}: {_shown(value)}" for key, value in spoken.items() if key not in ("members", "labels", "merges")]
    lines += [f"label {x.index}: {x.abbreviation} ({x.name}, {x.color})" for x in card.labels]
    lines += [f"ca-mode {m.name}: {', '.join(x.abbreviation for x in m.labels)}" for m in card.merges]
    lines += [f"file: {m['filename']}: {m['problem'] or 'here'}, {m['source']}" for m in members]
    return Answer(data, "\n".join(lines))


def fetch_models(options: argparse.Namespace) -> Answer:
    """Download models; a model that cannot be had does not keep the others from coming."""
    from bids_hsf.errors import ModelError, StorageError
    from bids_hsf.hub.download import UnreachableError
    from bids_hsf.hub.models import fetch, find_card, list_cards, member_path

    if bool(options.models) == options.all:
        raise UsageError("hsf-hub fetch: expected names of models, or --all", "`hsf-hub list` shows the names.")
    cards = list_cards(options.hub_dir) if options.all else [find_card(m, options.hub_dir) for m in options.models]
    rows: list[dict[str, Any]] = []
    first_error: BidsHsfError | None = None
    network_seen = unreachable = False
    for card in cards:
        complete = all(member_path(member, card, options.dest).is_file() for member in card.files)
        if unreachable and not complete:
            rows.append({"model": card.name, "files": [], "error": "not tried: no connection", "hint": None})
            continue
        try:
            fetch(card, options.dest, allow_http=options.allow_http)
            paths = [member_path(member, card, options.dest) for member in card.files]
            network_seen = network_seen or not complete
            rows.append({"model": card.name, "files": [str(path) for path in paths], "error": None})
            print(f"{card.name}: {len(paths)} file(s) in {paths[0].parent}", file=sys.stderr)
        except (ModelError, StorageError) as error:
            first_error = first_error or error
            rows.append({"model": card.name, "files": [], "error": error.message, "hint": error.hint})
            if len(cards) > 1:
                logger.error("%s", error.message)
            # Without any network, each further model would take its half minute.
            unreachable = unreachable or (isinstance(error, UnreachableError) and not network_seen)
            if isinstance(error, StorageError):
                break
    if first_error and len(cards) == 1:
        raise first_error
    n_good = sum(row["error"] is None for row in rows)
    text = f"{n_good} of {len(cards)} model(s) are here" + (f"\nhint: {first_error.hint}" if first_error else "")
    return Answer({"models": rows}, text, first_error.exit_code if first_error else 0)


def verify_models(options: argparse.Namespace) -> Answer:
    """Check the files that are there; a missing one counts only where its model was named."""
    from bids_hsf.errors import ModelError
    from bids_hsf.hub.models import find_card, find_damage, list_cards, member_path

    named = [find_card(name, options.hub_dir) for name in options.models]
    rows = []
    for card in named or list_cards(options.hub_dir):
        for member in card.files:
            path = member_path(member, card, options.dest)
            rows.append({"model": card.name, "file": str(path), "problem": find_damage(path, member)})
    if not named:
        rows = [row for row in rows if row["problem"] != "missing"]
    bad = sum(row["problem"] is not None for row in rows)
    text = "\n".join(f"{row['model']}: {row['file']}: {row['problem'] or 'whole'}" for row in rows)
    summary = f"{len(rows) - bad} of {len(rows)} file(s) are whole"
    hint = "\nhint: `hsf-hub fetch` brings the rest." if bad else ""
    return Answer({"files": rows}, f"{text}\n{summary}{hint}".strip(), ModelError.exit_code if bad else 0)


def validate_card(options: argparse.Namespace) -> Answer:
    """Check a card file and all models of it."""
    from bids_hsf.errors import ModelError, NoInputError
    from bids_hsf.hub.models import fetch
    from bids_hsf.segmentation.model_check import check_card

    if not options.card.exists():
        hint = "It takes the file of a card, CARD.yaml; `hsf-hub verify NAME` checks the files of a model of the hub."
        raise NoInputError(f"{options.card}: no such file", hint)
    trial = check_card(options.card, options.device, partial(fetch, allow_http=options.allow_http))
    lines = [
        f"{'ok  ' if f.passed else 'FAIL'} {f.model + ': ' if f.model else ''}{f.step}: {f.detail}"
        for f in trial.findings
    ]
    if trial.passed:
        lines += ["", "For the pull request:", trial.table_line]
    return Answer(trial, "\n".join(lines), 0 if trial.passed else ModelError.exit_code)


def new_card(options: argparse.Namespace) -> Answer:
    """Begin the card of an ONNX file."""
    from bids_hsf.errors import ModelError, NoInputError
    from bids_hsf.files import write_text
    from bids_hsf.segmentation.card_draft import draft_card

    if not options.file.is_file():
        raise NoInputError(f"{options.file}: no such file")
    path = options.output or options.file.with_suffix(".yaml")
    if path.exists():
        raise UsageError(f"{path} is there already", "Give another name by --output, or remove it.")
    try:
        draft = draft_card(options.file, path, options.url)
    except ModelError as error:
        if error.hint and not error.hint.startswith("Fetch it again"):
            raise
        raise ModelError(error.message, "Expected a network, as torch.onnx.export writes it.") from error
    write_text(path, draft.text)
    lines = [
        f"{path} written.",
        *draft.findings,
        f"To do: fill in {', '.join(draft.open_fields)}, and name the labels.",
    ]
    lines.append(f"Then: hsf-hub validate {path}")
    return Answer({"card": str(path), "findings": draft.findings, "open_fields": draft.open_fields}, "\n".join(lines))


def evaluate_model(options: argparse.Namespace) -> Answer:
    """Judge a model on crops with manual labels."""
    from tqdm import tqdm

    from bids_hsf.errors import ScanError
    from bids_hsf.files import write_text
    from bids_hsf.hub.models import fetch, find_card
    from bids_hsf.segmentation.evaluation import evaluate, find_cases, summarize
    from bids_hsf.segmentation.model import open_ensemble

    card = find_card(options.model, options.hub_dir)
    cases = find_cases(options.images, options.labels)
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output {options.output}: its folder does not exist")
    ensemble = fetch(card, allow_http=options.allow_http)
    scores: list[Score] = []
    failures = {}
    with open_ensemble(
        ensemble, options.device, options.nthreads, reduced_precision=options.reduced_precision
    ) as model:
        for case in tqdm(cases, desc=card.name, unit="case", disable=None):
            try:
                scores += evaluate(case, model)
            except ScanError as error:
                failures[case.name] = error.message
                logger.error("%s: %s", case.name, error.message)
    means = summarize(scores)
    text = format_rows(scores)
    if options.output is not None:
        write_text(options.output, text)
        text = f"{len(cases) - len(failures)} case(s) -> {options.output}\n"
    exit_code = 0 if not failures else 1 if scores else ScanError.exit_code
    data = {"model": card.name, "cases": scores, "means": means, "failures": failures}
    return Answer(data, f"{text}\n{format_means(means)}", exit_code)


def checksum_files(options: argparse.Namespace) -> Answer:
    """Print what a card says of a file."""
    from bids_hsf.errors import NoInputError
    from bids_hsf.files import checksums

    rows = []
    for path in options.files:
        if not path.is_file():
            raise NoInputError(f"{path}: no such file")
        rows.append({"filename": path.name, "size": path.stat().st_size, **checksums(path)})
    blocks = ["\n".join(f'{key}: "{v}"' if isinstance(v, str) else f"{key}: {v}" for key, v in r.items()) for r in rows]
    return Answer({"files": rows}, "\n\n".join(blocks))


def print_schema(_: argparse.Namespace) -> Answer:
    """Print the JSON schema of a card file."""
    from bids_hsf.hub.card_file import card_schema

    schema = card_schema()
    return Answer(schema, json.dumps(schema, indent=2, ensure_ascii=False))


def format_rows(scores: "list[Score]") -> str:
    """Tab-separated table of scores; n/a where a measure does not exist."""
    lines = ["case\tlabel\tdice\thd95_mm\tvolume_similarity"]
    for score in scores:
        values = (score.dice, score.hd95_mm, score.volume_similarity)
        lines.append("\t".join((score.case, score.label, *(_number(value, 4) for value in values))))
    return "\n".join(lines) + "\n"


def format_means(means: "list[Mean]") -> str:
    """Table of means."""
    columns = ["label", "measure", "n", "mean", "sd", "standard_error"]
    cells = [[m.label, m.measure, str(m.n), *(_number(v, 4) for v in (m.mean, m.sd, m.standard_error))] for m in means]
    return "\n".join(text_table(columns, cells))


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], Answer], text: str) -> argparse.ArgumentParser:
    """Add a command with the flags that all have."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print JSON")
    text = "folders with further cards (default: those in BIDS_HSF_HUB)"
    command.add_argument("--hub-dir", type=Path, action="extend", nargs="+", default=[], metavar="DIR", help=text)
    command.add_argument("-v", "--verbose", action="store_true", help="more log")
    return command


def _shown(value: Any) -> str:
    """One value of a card for people."""
    if value is None:
        return "not stated"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _number(value: float, digits: int) -> str:
    """Write a number with so many digits, or n/a."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
