"""Arguments of ``bids-hsf``: what people type, turned into a Config."""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from bids_hsf import __version__
from bids_hsf.cli.console import show
from bids_hsf.errors import UnknownAnalysisLevelError, UsageError
from bids_hsf.hub import DEFAULT_MODEL
from bids_hsf.runs.config import LEVELS, REFERENCES, UNCERTAINTIES, VIEWERS, Config, Method, config_from

USAGE = "bids-hsf BIDS_DIR OUTPUT_DIR {participant,group,status} [{participant,group,status} ...] [options]"

DESCRIPTION = """Segment hippocampal subfields in the T1w and T2w images of a BIDS dataset.

  bids-hsf /data/study /data/study/derivatives/bids-hsf participant
  bids-hsf /data/study /data/study/derivatives/bids-hsf group
  bids-hsf /data/study /data/study/derivatives/bids-hsf status

For research use only; not for clinical use."""

EPILOG = """exit codes: 0 all done; 1 some scans failed, the rest are whole; 2 bad arguments; 16 not a BIDS dataset;
17 unknown analysis level; 18 nothing selected; 65 every scan failed; 66 no such input; 69 a model or device
that cannot be had; 70 internal error; 73 output cannot be created; 74 reading or writing failed;
130 Ctrl-C; 143 SIGTERM.

Flags may be spelled with hyphens or underscores. Models: see `hsf-hub list`.
Documentation: https://github.com/clementpoiret/bids-hsf"""

SUFFIXES = {"t1w": "T1w", "t2w": "T2w", "unit1": "UNIT1"}

MEMORY_UNITS = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}


class Parser(argparse.ArgumentParser):
    """An argument parser that takes every flag in either spelling, and positionals in any place."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Put the positionals first before parsing, and ``--participant_label`` as ``--participant-label``."""
        return super().parse_known_args(self.arrange([_hyphens(argument) for argument in args or []]), namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the whole usage."""
        raise UsageError(message, "See bids-hsf --help")

    def arrange(self, arguments: Sequence[str]) -> list[str]:
        """Order arguments as positionals, then flags with their values.

        A flag with any number of values takes all words that follow, as argparse has it: of
        ``--participant-label 01 02 BIDS OUT participant`` the last three are given back if they are
        missing elsewhere.
        """
        words, flags = self._split(arguments)
        if len(words) < len(POSITIONALS):
            for flag in reversed([flag for flag in flags if self._takes_many(flag[0])]):
                taken = _swallowed(flag[1:], max(0, 2 - len(words)))
                if taken:
                    words += taken
                    del flag[-len(taken) :]
                    break
        return [*words, *(part for flag in flags for part in flag)]

    def _split(self, arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Tell positionals from flags, each flag with its values."""
        words: list[str] = []
        flags: list[list[str]] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            if argument == "--":
                words += rest
                break
            if not argument.startswith("-") or argument == "-":
                words.append(argument)
                continue
            flags.append([argument])
            if self._takes_many(argument):
                while rest and not rest[0].startswith("-"):
                    flags[-1].append(rest.pop(0))
            elif self._takes_one(argument) and rest:
                flags[-1].append(rest.pop(0))
        return words, flags

    def _takes_many(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs == "+"

    def _takes_one(self, flag: str) -> bool:
        action = self._option_string_actions.get(flag)
        return action is not None and action.nargs is None


def _hyphens(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _swallowed(values: list[str], n_paths: int) -> list[str]:
    """Positionals at the end of a flag's values: `n_paths` paths, then levels; none unless all of them are there."""
    n_levels = next((i for i, value in enumerate(reversed(values)) if value not in LEVELS), len(values))
    n_taken = n_levels + n_paths
    return values[-n_taken:] if n_levels and n_taken < len(values) else []


POSITIONALS = {"bids_dir": "BIDS_DIR", "output_dir": "OUTPUT_DIR", "levels": "LEVEL"}


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
    parser.add_argument("bids_dir", type=_path, nargs="?", default=None, metavar="BIDS_DIR", help="the BIDS dataset")
    parser.add_argument(
        "output_dir", type=_path, nargs="?", default=None, metavar="OUTPUT_DIR", help="where the derivatives go"
    )
    parser.add_argument("levels", nargs="*", default=[], metavar="LEVEL", help="participant: segment scans; "
                        "group: collect the volumes; status: tell done, failed and missing scans")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"bids-hsf v{__version__}")
    parser.add_argument("--bids-exec-spec", action=PrintSpec, nargs=0, help="print the Boutiques descriptor and exit")
    _add_selection(parser.add_argument_group("which scans").add_argument)
    _add_model(parser.add_argument_group("model").add_argument)
    _add_outputs(parser.add_argument_group("outputs").add_argument)
    _add_resources(parser.add_argument_group("resources").add_argument)
    _add_run(parser.add_argument_group("run").add_argument)
    return parser


Add = Callable[..., argparse.Action]


def _add_selection(add: Add) -> None:
    add("--participant-label", "--participant-labels", dest="selection.participants", nargs="+", action="extend",
        type=_label("sub-"), metavar="LABEL",
        help="participants to process, with or without sub- (default: all)")  # fmt: skip
    add("--exclude-participant-label", dest="selection.excluded_participants", nargs="+", action="extend",
        type=_label("sub-"), metavar="LABEL", help="participants to leave out")  # fmt: skip
    add("--session-label", "--session-id", dest="selection.sessions", nargs="+", action="extend",
        type=_label("ses-"), metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)")  # fmt: skip
    add("-m", "--modalities", dest="selection.modalities", nargs="+", type=_suffix, metavar="SUFFIX",
        help="images to segment: T1w, T2w, UNIT1 (default: T1w and T2w, as far as the model knows them)")  # fmt: skip
    add("--bids-filter-file", dest="selection.filters", type=read_filters, metavar="FILE",
        help='JSON with pybids filters under the keys t1w and t2w; null: entity absent, "*": any')  # fmt: skip
    add("--bids-database-dir", dest="bids_database_dir", type=_path, metavar="DIR",
        help="pybids index to reuse; a complete one is made if the folder has none")  # fmt: skip
    add("--skip-bids-validation", dest="behaviour.validate", action="store_false",
        help="do not run the BIDS validator on the input")  # fmt: skip


def _add_model(add: Add) -> None:
    add("--model", dest="method.model", metavar="NAME|CARD.yaml", help="model of the hub, or a card of your own; a "
        f"trailing segmentation=NAME means the same (default: {DEFAULT_MODEL}; without any download: "
        "longaxis_single_accurate)")  # fmt: skip
    add("--hub-dir", dest="hub_dirs", type=_path, nargs="+", action="extend", metavar="DIR",
        help="folders with further model cards")  # fmt: skip
    add("--ca-mode", dest="method.ca_mode", metavar="MODE",
        help="labels to join, as the model's card offers them: 1/2/3, 1/23, 123, whole")  # fmt: skip
    add("--tta", dest="method.n_augmentations", type=int, metavar="N",
        help="test-time augmentations (default: as the model's card says)")  # fmt: skip
    add("--random-seed", dest="method.seed", type=int, metavar="N",
        help=f"seed of the augmentations (default: {Method.seed})")  # fmt: skip
    add("--box-margin-mm", dest="method.box_margin_mm", type=float, metavar="MM",
        help="margin of the crop around the hippocampus")  # fmt: skip
    add("-d", "--derivatives", dest="method.derivatives", nargs="+", action=NamedFolders, metavar="NAME=PATH",
        help="put the boxes around the hippocampi of other software's label maps: folders of FreeSurfer or "
        "FastSurfer subjects, of fMRIPrep, or of SynthSeg's maps named after the scans")  # fmt: skip
    add("--multispectral", dest="method.multispectral", action="store_true",
        help="join the votes of the T1w and the T2w scan of each session")  # fmt: skip
    add("--reference", dest="method.reference", choices=REFERENCES,
        help=f"the contrast on whose voxels --multispectral joins them (default: {Method.reference})")  # fmt: skip
    add("--keep-islands", dest="method.keep_islands", action="store_true",
        help="keep pieces that lie far from the main body")  # fmt: skip


def _add_outputs(add: Add) -> None:
    add("--uncertainty", dest="behaviour.uncertainty", choices=UNCERTAINTIES,
        help="full: also mutual information, expected entropy and vote share (default: entropy)")  # fmt: skip
    add("--write-probseg", dest="behaviour.write_probabilities", action="store_true",
        help="also write the class probabilities")  # fmt: skip
    add("--split-long-axis", dest="behaviour.split_long_axis", action="store_true",
        help="also write a label map of head, body and tail")  # fmt: skip
    add("--export-lut", dest="behaviour.export_lut", nargs="+", action="extend", choices=VIEWERS, metavar="VIEWER",
        help=f"write label descriptions for {', '.join(VIEWERS)} into OUTPUT_DIR/logs")  # fmt: skip
    add("--force", dest="behaviour.force", action="store_true",
        help="redo finished scans, also those made with other settings")  # fmt: skip
    add("--reports-only", dest="behaviour.reports_only", action="store_true",
        help="only write the reports again, from the derivatives alone")  # fmt: skip
    add("--boilerplate-only", dest="behaviour.boilerplate_only", action="store_true",
        help="only write the methods text, OUTPUT_DIR/logs/CITATION.md, .html and .bib")  # fmt: skip


def _add_resources(add: Add) -> None:
    add("--device", dest="resources.device", action=Device, metavar="NAME",
        help="auto, cpu, openvino, cuda, ...; list: print what is here and exit (default: auto)")  # fmt: skip
    add("--reduced-precision", dest="method.reduced_precision", action="store_true",
        help="compute in bfloat16 (Intel CPUs with AMX), TF32 (NVIDIA), half precision (Intel GPUs): several times as "
        "fast there, but labels of single voxels then depend on the machine")  # fmt: skip
    add("--nthreads", "--n-cpus", dest="resources.nthreads", type=int, metavar="N",
        help="cores in total (what fmriprep calls --nprocs; default: all that are allowed)")  # fmt: skip
    add("--nprocs", dest="resources.nprocs", type=int, metavar="N", help="scans at once")
    add("--omp-nthreads", dest="resources.omp_nthreads", type=int, metavar="N",
        help="threads a scan; --nprocs x --omp-nthreads <= --nthreads")  # fmt: skip
    add("--mem", "--mem-mb", "--mem-gb", dest="resources.mem_mb", action=Memory, metavar="SIZE",
        help="memory in total: a number of MB, or with K, M, G or T; --mem-gb in GB")  # fmt: skip
    add("-w", "--work-dir", dest="work_dir", type=_path, metavar="DIR",
        help="scratch folder (default: in $TMPDIR, else OUTPUT_DIR/.work)")  # fmt: skip


def _add_run(add: Add) -> None:
    add("--dry-run", dest="behaviour.dry_run", action="store_true",
        help="print which scans would be processed, with time and memory; write nothing")  # fmt: skip
    add("--stop-on-first-crash", dest="behaviour.stop_on_first_crash", action="store_true",
        help="start no further scan after the first failure")  # fmt: skip
    add("--config-file", dest="config_file", type=_path, metavar="FILE",
        help="settings of a saved run, OUTPUT_DIR/logs/config_*.toml; what the command line says wins")  # fmt: skip
    add("-v", "--verbose", dest="behaviour.verbosity", action="count", default=0, help="more log; -vv for all")
    add("--notrack", dest="notrack", action="store_true",
        help="accepted for compatibility; the app never phones home")  # fmt: skip


class PrintSpec(argparse.Action):
    """Print the Boutiques descriptor that ships with the package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and leave."""
        show((Path(__file__).parents[1] / "data" / "bids_hsf.boutiques.json").read_text(encoding="utf-8").rstrip())
        parser.exit()


class Device(argparse.Action):
    """Remember the device, or print the table of devices where it is "list"."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, value: Any, _: str | None = None) -> None:
        """Print and leave, or store."""
        if value == "list":
            from bids_hsf.networks.device import format_devices

            show(format_devices())
            parser.exit()
        setattr(namespace, self.dest, value)


class NamedFolders(argparse.Action):
    """Folders by name, such as freesurfer=/data/derivatives/freesurfer."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, value: Any, flag: str | None = None) -> None:
        """Add to those that were given before."""
        folders = dict(getattr(namespace, self.dest, {}))
        for word in value:
            name, equals, path = word.partition("=")
            if not (name and equals and path):
                parser.error(f"argument {flag}: expected NAME=PATH, for example freesurfer=/data/fs, got {word!r}")
            folders[name] = str(_path(path))
        setattr(namespace, self.dest, folders)


class Memory(argparse.Action):
    """A size with a suffix to MB."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, value: Any, flag: str | None = None) -> None:
        """Store the number of MB."""
        text = str(value).strip().upper().removesuffix("B")
        default = "G" if flag == "--mem-gb" else "M"
        number, unit = (text[:-1], text[-1]) if text[-1:] in MEMORY_UNITS else (text, default)
        try:
            setattr(namespace, self.dest, round(float(number) * MEMORY_UNITS[unit]))
        except (ValueError, OverflowError):
            parser.error(f"argument {flag}: not a size: {value!r}, expected for example 8000, 8G or 500M")


def _path(text: str) -> Path:
    """Absolute path, links kept: a mounted dataset keeps the name that the user knows."""
    path = Path(text)
    with suppress(RuntimeError):  # "~" of a user without a home stays as it is
        path = path.expanduser()
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _label(prefix: str) -> Callable[[str], str]:
    return lambda text: text.removeprefix(prefix)


def _suffix(text: str) -> str:
    return SUFFIXES.get(text.lower(), text)


def read_filters(text: str) -> dict[str, Any]:
    """Content of ``--bids-filter-file``, keys in lower case; unknown keys are left alone."""
    try:
        content = json.loads(_path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--bids-filter-file {text} cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise UsageError(f"--bids-filter-file {text}: expected an object of objects", 'Such as {"t1w": {"run": 1}}')
    return {key.lower(): value for key, value in content.items()}


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse the command line, HSF's habit ``segmentation=NAME`` included; only what is given is returned.

    Raises
    ------
    UsageError
        A flag is unknown or lacks its value.
    UnknownAnalysisLevelError
        A level is not known; argparse would say 2, the BIDS execution specification says 17.
    """
    habit = [argument for argument in arguments if argument.startswith("segmentation=")]
    options = vars(build_parser().parse_args([argument for argument in arguments if argument not in habit]))
    for word in habit:
        name = word.partition("=")[2]
        if options.setdefault("method.model", name) != name:
            raise UsageError(f"{word} contradicts --model {options['method.model']}")
    given = {name: value for name, value in options.items() if value is not None and value != []}
    unknown = [level for level in given.get("levels", []) if level not in LEVELS]
    if unknown:
        raise UnknownAnalysisLevelError(f"Unknown analysis level: {unknown[0]}", f"Known levels: {', '.join(LEVELS)}")
    missing = [metavar for name, metavar in POSITIONALS.items() if name not in given]
    if missing and "config_file" not in given:
        raise UsageError(f"the following arguments are required: {', '.join(missing)}", f"usage: {USAGE}")
    return given


def config_of(options: dict[str, Any], command: Sequence[str]) -> Config:
    """Turn parsed options, over those of a saved run, into a Config."""
    from bids_hsf.runs.logs import read_config

    record = read_config(options["config_file"]) if "config_file" in options else {}
    for name, value in options.items():
        section, _, setting = name.rpartition(".")
        target = record.setdefault(section, {}) if section else record
        # Given twice is meant once.
        target[setting] = list(dict.fromkeys(value)) if isinstance(value, list) else value
    if "selection.modalities" in options:
        record["selection"]["modalities_asked"] = True
    for name in ("config_file", "notrack"):
        record.pop(name, None)
    missing = [metavar for name, metavar in POSITIONALS.items() if name not in record]
    if missing:
        raise UsageError(f"--config-file {options['config_file']} lacks {', '.join(missing)}")
    return config_from({**record, "command": ["bids-hsf", *command]})
