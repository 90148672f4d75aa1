"""Arguments of ``bids-hsf``: what people type, turned into a Config."""

import argparse
import json
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from bids_hsf import __version__
from bids_hsf.bids.selection import is_image_name
from bids_hsf.cli.actions import (
    Device,
    Memory,
    NamedFolders,
    PrintCompletion,
    PrintSpec,
    Words,
    label,
    model_of,
    number_or_auto,
    one_of,
    path_of,
    shard_here,
    suffix_of,
)
from bids_hsf.cli.first_words import (
    asked_for_help,
    level_meant,
    no_output_folder,
    refuse_images_behind,
    refuse_other_formats,
    refuse_swapped,
    too_few,
)
from bids_hsf.cli.habits import add_habits, take_habits
from bids_hsf.cli.parser import POSITIONALS, Parser
from bids_hsf.errors import UnknownAnalysisLevelError, UsageError
from bids_hsf.hub import DEFAULT_MODEL, OFFLINE_MODEL
from bids_hsf.runs.command_line import FLAGS
from bids_hsf.runs.config import (
    EXECUTORS,
    LAUNCHERS,
    LEVELS,
    REFERENCES,
    UNCERTAINTIES,
    VIEWERS,
    Config,
    Method,
    Resources,
    config_from,
)
from bids_hsf.text_table import near

USAGE = (
    "bids-hsf BIDS_DIR OUTPUT_DIR {participant,group,status} [{participant,group,status} ...] [options]\n"
    "       bids-hsf IMAGE.nii.gz [IMAGE.nii.gz ...] OUTPUT_DIR [options]"
)

DESCRIPTION = """Segment hippocampal subfields in the T1w and T2w images of a BIDS dataset.

  bids-hsf /data/study /data/study/derivatives/bids-hsf participant
  bids-hsf /data/study /data/study/derivatives/bids-hsf group
  bids-hsf /data/study /data/study/derivatives/bids-hsf status

or in images that belong to no dataset; the results lie beside each other in the output folder:

  bids-hsf scan_T1w.nii.gz results

or compare two models on the same scans, from their results (bids-hsf compare --help):

  bids-hsf compare /data/study/derivatives/bids-hsf

For research use only; not for clinical use."""

EPILOG = """exit codes: 0 all done; 1 some scans failed, the rest are whole; 2 bad arguments; 16 not a BIDS dataset;
17 unknown analysis level; 18 nothing selected; 65 every scan failed; 66 no such input; 69 a model or device
that cannot be had; 70 internal error; 73 output cannot be created; 74 reading or writing failed;
129 SIGHUP; 130 Ctrl-C; 143 SIGTERM.

Flags may be spelled with hyphens or underscores. Models: see `hsf-hub list`.
Documentation: https://github.com/clementpoiret/bids-hsf"""

FILTER_KEYS = ("t1w", "t2w", "unit1")

SHELLS = ("bash", "zsh", "tcsh")


def build_parser() -> Parser:
    """All arguments, in groups; each is stored under the name of its setting, if it is given."""
    parser = Parser(
        prog="bids-hsf",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    # Optional to argparse: a saved run holds them, and their lack is told in our own words.
    parser.add_argument(
        "bids_dir", type=path_of, nargs="?", default=None, metavar="BIDS_DIR", help="the BIDS dataset, or images"
    )
    parser.add_argument(
        "output_dir", type=path_of, nargs="?", default=None, metavar="OUTPUT_DIR", help="where the derivatives go"
    )
    parser.add_argument(
        "levels",
        nargs="*",
        default=[],
        metavar="LEVEL",
        help="participant: segment scans; group: collect the volumes; status: tell done, failed and missing scans",
    )
    parser.add_argument("--version", action="version", version=f"bids-hsf v{__version__}")
    parser.add_argument("--bids-exec-spec", action=PrintSpec, nargs=0, help="print the Boutiques descriptor and exit")
    text = f"print what lets a shell complete this command, and exit: {', '.join(SHELLS)}"
    parser.add_argument("--print-completion", action=PrintCompletion, choices=SHELLS, metavar="SHELL", help=text)
    _add_selection(parser.add_argument_group("which scans"))
    _add_model(parser.add_argument_group("model"))
    _add_outputs(parser.add_argument_group("outputs"))
    _add_resources(parser.add_argument_group("resources"))
    _add_run(parser.add_argument_group("run"))
    add_habits(parser.add_argument_group("accepted from other programs"))
    return parser


Group = argparse._ArgumentGroup

SWITCH = {"action": "store_true"}
NUMBER = {"type": int, "metavar": "N"}
LABELS = {"action": Words, "metavar": "LABEL"}


def _adder(group: Group) -> Callable[..., argparse.Action]:
    """Add an option by its setting; its flags are those of the table."""
    return lambda setting, text, **how: group.add_argument(*FLAGS[setting], dest=setting, help=text, **how)


def _add_selection(group: Group) -> None:
    add = _adder(group)
    text = "participants to process, with or without sub-, with spaces or commas between them (default: all)"
    add("selection.participants", text, reading=label("sub-"), **LABELS)
    add("selection.excluded_participants", "participants to leave out (default: none)", reading=label("sub-"), **LABELS)
    text = (
        "the K-th of N slices of the participants; auto: as the task of an array of Slurm, SGE or LSF has it; auto/N: "
        "of PBS, too, with an array of 1 to N (default: auto for a task of an array that names no participants; "
        "1/1 is all of them)"
    )
    add("selection.shard", text, type=shard_here, metavar="K/N|auto")
    text = "sessions to process, with or without ses- (default: all)"
    add("selection.sessions", text, reading=label("ses-"), **LABELS)
    text = "runs to process, with or without run- (default: all, also images without a run)"
    add("selection.runs", text, reading=label("run-"), **LABELS)
    text = "images to segment: T1w, T2w, UNIT1 (default: T1w and T2w, as far as the model knows them)"
    add("selection.modalities", text, action=Words, reading=suffix_of, metavar="SUFFIX")
    text = (
        'pybids filters under the keys t1w and t2w, a JSON file or its text; null: entity absent, "*": any '
        "(default: none)"
    )
    add("selection.filters", text, type=read_filters, metavar="FILE")
    text = "accepted, and not used any more: to list folders takes less time than an index (default: none)"
    add("bids_database_dir", text, type=path_of, metavar="DIR")
    add("behaviour.validate", "do not run the BIDS validator on the input", action="store_false")


def _add_model(group: Group) -> None:
    add = _adder(group)
    text = (
        "model of the hub, or a card of your own; a trailing segmentation=NAME means the same "
        f"(default: {DEFAULT_MODEL}; without any download: {OFFLINE_MODEL})"
    )
    add("method.model", text, type=model_of, metavar="NAME|CARD.yaml")
    add(
        "hub_dirs",
        "folders with further model cards (default: those in BIDS_HSF_HUB)",
        type=path_of,
        nargs="+",
        action="extend",
        metavar="DIR",
    )
    text = "labels to join, as the model's card offers them: 1/2/3, 1/23, 123, whole (default: all labels)"
    add("method.ca_mode", text, metavar="MODE")
    text = (
        "test-time augmentations, or auto: as many as it takes until volumes are steady "
        "(default: as the model's card says)"
    )
    add("method.n_augmentations", text, type=number_or_auto, metavar="N|auto")
    text = f"with --tta auto, how steady volumes have to be (default: {Method.volume_tolerance:g} per cent)"
    add("method.volume_tolerance", text, type=float, metavar="PERCENT")
    add("method.seed", f"seed of the augmentations (default: {Method.seed})", **NUMBER)
    add(
        "method.box_margin_mm",
        "margin of the crop around the hippocampus (default: the card's, else 4)",
        type=float,
        metavar="MM",
    )
    text = (
        "put the boxes around the hippocampi of other software's label maps: folders of FreeSurfer or FastSurfer "
        "subjects, of fMRIPrep, or of SynthSeg's maps named after the scans (default: the template's hippocampi)"
    )
    add("method.derivatives", text, nargs="+", action=NamedFolders, metavar="NAME=PATH")
    add("method.multispectral", "join the votes of the T1w and the T2w scan of each session", **SWITCH)
    text = f"the contrast on whose voxels --multispectral joins them (default: {Method.reference})"
    add("method.reference", text, choices=REFERENCES)
    add("method.keep_islands", "keep pieces that lie far from the main body", **SWITCH)


def _add_outputs(group: Group) -> None:
    add = _adder(group)
    text = "full: also mutual information, expected entropy and vote share (default: entropy)"
    add("behaviour.uncertainty", text, choices=UNCERTAINTIES)
    add("behaviour.write_probabilities", "also write the class probabilities", **SWITCH)
    text = "also write maps of unfolded coordinates AP, PD and IO, 0 to 1, where the model's card has them"
    add("behaviour.write_coordinates", text, **SWITCH)
    text = "also write the affine transforms between the scan and MNI152 (ITK's text format)"
    add("behaviour.write_transforms", text, **SWITCH)
    add("behaviour.split_long_axis", "also write a label map of head, body and tail", **SWITCH)
    add("behaviour.report_3d", "also write a page a scan on which the hippocampi can be turned, 0.8 MB", **SWITCH)
    text = f"write label descriptions for {', '.join(VIEWERS)} into OUTPUT_DIR (default: none)"
    add("behaviour.export_lut", text, action=Words, reading=one_of(VIEWERS), metavar="VIEWER")
    text = "group level: ratings of scans, qc.tsv as the review page exports it, for the column qc (default: none)"
    add("behaviour.ratings", text, type=path_of, metavar="QC.tsv")
    add("behaviour.leave_out_excluded", "group level: leave scans rated exclude out of the tables", **SWITCH)
    add("behaviour.force", "redo finished scans, also those made with other settings", **SWITCH)
    add("behaviour.reports_only", "only write the reports again, from the derivatives alone", **SWITCH)
    text = "only write the methods text, OUTPUT_DIR/logs/CITATION.md, .html and .bib"
    add("behaviour.boilerplate_only", text, **SWITCH)


def _add_resources(group: Group) -> None:
    add = _adder(group)
    text = "auto, cpu, openvino, cuda, ...; list: print what is here and exit (default: auto)"
    add("resources.device", text, action=Device, metavar="NAME")
    text = (
        "compute in bfloat16 (Intel CPUs with AMX), TF32 (NVIDIA), half precision (Intel GPUs): several times as "
        "fast there, but labels of single voxels then depend on the machine"
    )
    add("method.reduced_precision", text, **SWITCH)
    text = "cores in total (what fmriprep calls --nprocs; default: all that are allowed)"
    add("resources.nthreads", text, **NUMBER)
    add("resources.nprocs", "scans at once (default: as many as cores and memory take)", **NUMBER)
    add(
        "resources.omp_nthreads", "threads a scan; --nprocs x --omp-nthreads <= --nthreads (default: up to 4)", **NUMBER
    )
    text = "memory in total: a number of MB, or with K, M, G or T; --mem-gb in GB (default: what is allowed)"
    add("resources.mem_mb", text, action=Memory, metavar="SIZE")
    add("resources.executor", "where scans run (default: local)", choices=EXECUTORS)
    text = "a Dask cluster that runs: its address, or the file of its scheduler (default: none)"
    add("resources.dask_scheduler", text, metavar="ADDRESS|FILE.json")
    text = (
        "let Dask ask Slurm, PBS, SGE, LSF or HTCondor for up to --nprocs workers: dask-jobqueue's configuration "
        "(default: none)"
    )
    add("resources.dask_jobqueue", text, type=path_of, metavar="FILE.yaml")
    text = (
        "end the run (exit 69) after so many minutes without any worker of Dask and without any that waits in a queue "
        f"(default: {Resources.dask_wait:g})"
    )
    add("resources.dask_wait", text, type=float, metavar="MINUTES")
    add("work_dir", "scratch folder (default: in $TMPDIR, else OUTPUT_DIR/.work)", type=path_of, metavar="DIR")


def _add_run(group: Group) -> None:
    add = _adder(group)
    add("behaviour.dry_run", "print which scans would be processed, with time and memory; write nothing", **SWITCH)
    add("behaviour.clean_work_dir", "first remove what earlier runs left in the scratch folder", **SWITCH)
    add("behaviour.stop_on_first_crash", "start no further scan after the first failure", **SWITCH)
    text = "print a script, or settings, that run this on a cluster, and run nothing (default: run it)"
    add("behaviour.launcher", text, choices=LAUNCHERS)
    add("behaviour.as_json", "status level: print JSON, with the settings and all scans", **SWITCH)
    add("behaviour.require_complete", "status and group level: exit with 1 where scans are not done", **SWITCH)
    text = "settings of a saved run, OUTPUT_DIR/logs/config_*.toml; what the command line says wins (default: none)"
    group.add_argument("--config-file", type=path_of, metavar="FILE", help=text)
    add("behaviour.verbosity", "more log on the terminal: -v stages, -vv also other packages", action="count")


def read_filters(text: str) -> dict[str, Any]:
    """Content of ``--bids-filter-file``, or of the JSON itself; keys in lower case, unknown ones are left alone."""
    try:
        content = json.loads(text if text.lstrip().startswith("{") else path_of(text).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--bids-filter-file {text} cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise UsageError(f"--bids-filter-file {text}: expected an object of objects", 'Such as {"t1w": {"run": 1}}')
    filters = {key.lower(): value for key, value in content.items()}
    for key in filters:
        meant = near(key, FILTER_KEYS)
        if meant and key not in FILTER_KEYS:
            raise UsageError(f"--bids-filter-file {text}: {key!r} is the key of no image", meant)
    return filters


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse the command line, HSF's habit ``segmentation=NAME`` included; only what is given is returned.

    Raises
    ------
    UsageError
        A flag is unknown or lacks its value.
    UnknownAnalysisLevelError
        A level is not known; argparse would say 2, the BIDS execution specification says 17.
    """
    arguments = asked_for_help(arguments)
    habit = [argument for argument in arguments if argument.startswith("segmentation=")]
    options = vars(build_parser().parse_args([argument for argument in arguments if argument not in habit]))
    refuse_other_formats(_words(options))
    _take_images(options)
    take_habits(options)
    for word in habit:
        name = model_of(word.partition("=")[2])
        if options.setdefault("method.model", name) != name:
            raise UsageError(f"{word} contradicts --model {options['method.model']}")
    given = {name: value for name, value in options.items() if value is not None and value != []}
    unknown = [level for level in given.get("levels", []) if level not in LEVELS]
    if unknown:
        hint = f"{level_meant(given, unknown[0])}Known levels: {', '.join(LEVELS)}"
        if "behaviour.force" in given:  # of fMRIPrep, whose --force takes a word
            hint += ". --force takes no word here: it does finished scans again"
        raise UnknownAnalysisLevelError(f"Unknown analysis level: {unknown[0]}", hint)
    if any(name not in given for name in POSITIONALS) and "config_file" not in given:
        raise too_few(given)
    if given.get("levels") and not given.get("images"):
        refuse_swapped(given)
    return given


def _words(options: dict[str, Any]) -> list[Path]:
    """Gather what was typed without a flag."""
    words = [options["bids_dir"], options["output_dir"], *map(path_of, options["levels"])]
    return [word for word in words if word is not None]


def _take_images(options: dict[str, Any]) -> None:
    """Tell images given by name from a dataset: what comes behind the last of them is the output folder.

    Raises
    ------
    UsageError
        There is no word left for the output folder.
    """
    words = _words(options)
    images = list(takewhile(is_image_name, words))
    if not images:
        refuse_images_behind(words)
        return
    if len(images) == len(words):
        raise no_output_folder(images)
    rest = [word.name for word in words[len(images) + 1 :]]
    options |= {"images": images, "bids_dir": images[0].parent, "output_dir": words[len(images)]}
    options["levels"] = rest or ["participant"]


def config_of(options: dict[str, Any], command: Sequence[str]) -> Config:
    """Turn parsed options, over those of a saved run, into a Config."""
    from bids_hsf.runs.logs import read_config

    record: dict[str, Any] = read_config(options["config_file"]) if "config_file" in options else {}
    for name, value in options.items():
        section, _, setting = name.rpartition(".")
        target = record.setdefault(section, {}) if section else record
        # Given twice is meant once.
        target[setting] = list(dict.fromkeys(value)) if isinstance(value, list) else value
    if "selection.modalities" in options:
        record["selection"]["modalities_asked"] = True
    if "method.model" in options:  # whoever names the model takes its files as they are now
        record["method"].pop("members", None)
    record.pop("config_file", None)
    missing = [metavar for name, metavar in POSITIONALS.items() if name not in record]
    if missing:
        raise UsageError(f"--config-file {options['config_file']} lacks {', '.join(missing)}")
    return config_from({**record, "command": ["bids-hsf", *command]})
