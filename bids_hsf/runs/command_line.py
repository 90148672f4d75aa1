"""Settings as flags: the one table that the argument parser reads, and the command line that a Config stands for."""

import json
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from bids_hsf.runs.config import Config

# Setting to its flags, in the order of the help.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "selection.participants": ("--participant-label", "--participant-labels"),
    "selection.excluded_participants": ("--exclude-participant-label",),
    "selection.shard": ("--shard",),
    "selection.sessions": ("--session-label", "--session-id"),
    "selection.runs": ("--run-label", "--run-id"),
    "selection.modalities": ("-m", "--modalities", "--modality"),
    "selection.filters": ("--bids-filter-file",),
    "bids_database_dir": ("--bids-database-dir",),
    "behaviour.validate": ("--skip-bids-validation",),
    "method.model": ("--model",),
    "hub_dirs": ("--hub-dir",),
    "method.ca_mode": ("--ca-mode",),
    "method.n_augmentations": ("--tta",),
    "method.volume_tolerance": ("--tta-tolerance",),
    "method.seed": ("--random-seed",),
    "method.box_margin_mm": ("--box-margin-mm",),
    "method.derivatives": ("-d", "--derivatives"),
    "method.multispectral": ("--multispectral",),
    "method.reference": ("--reference",),
    "method.keep_islands": ("--keep-islands",),
    "behaviour.uncertainty": ("--uncertainty",),
    "behaviour.write_probabilities": ("--write-probseg",),
    "behaviour.write_coordinates": ("--write-coords",),
    "behaviour.write_transforms": ("--write-xfm",),
    "behaviour.split_long_axis": ("--split-long-axis",),
    "behaviour.report_3d": ("--report-3d",),
    "behaviour.export_lut": ("--export-lut",),
    "behaviour.ratings": ("--ratings",),
    "behaviour.leave_out_excluded": ("--leave-out-excluded",),
    "behaviour.force": ("--force",),
    "behaviour.reports_only": ("--reports-only",),
    "behaviour.boilerplate_only": ("--boilerplate-only",),
    "resources.device": ("--device",),
    "method.reduced_precision": ("--reduced-precision",),
    "resources.nthreads": ("--nthreads", "--n-cpus"),
    "resources.nprocs": ("--nprocs",),
    "resources.omp_nthreads": ("--omp-nthreads",),
    "resources.mem_mb": ("--mem", "--mem-mb", "--mem-gb"),
    "resources.executor": ("--executor",),
    "resources.dask_scheduler": ("--dask-scheduler",),
    "resources.dask_jobqueue": ("--dask-jobqueue",),
    "resources.dask_wait": ("--dask-wait",),
    "work_dir": ("-w", "--work-dir"),
    "behaviour.dry_run": ("--dry-run",),
    "behaviour.clean_work_dir": ("--clean-workdir",),
    "behaviour.stop_on_first_crash": ("--stop-on-first-crash",),
    "behaviour.launcher": ("--print-launcher",),
    "behaviour.as_json": ("--json",),
    "behaviour.require_complete": ("--require-complete",),
    "behaviour.verbosity": ("-v", "--verbose"),
}


def command_line(config: Config) -> list[str]:
    """Words of which `cli.arguments` makes the same Config: every setting that differs from its default.

    Two have no flag: `command` itself, and the checksums in `method.members`, which saved runs alone have.
    """
    inputs = config.images or (config.bids_dir,)
    words = ["bids-hsf", *map(str, inputs), str(config.output_dir), *config.levels]
    default = Config(config.bids_dir, config.output_dir, config.levels)
    for setting, flags in FLAGS.items():
        read = attrgetter(setting)
        # T1w and T2w that were asked for are more than the default: a model that lacks one is then an error.
        asked = setting == "selection.modalities" and config.selection.modalities_asked
        if asked or read(config) != read(default):
            words += _spelled(setting, flags[0], read(config))
    return words


def _spelled(setting: str, flag: str, value: Any) -> list[str]:
    """Write one setting with its flag."""
    if isinstance(value, bool):
        return [flag]
    if setting == "behaviour.verbosity":
        return [flag] * value
    if setting == "resources.mem_mb":
        return [flag, f"{value}M"]  # without its unit a small number is asked about
    if setting == "selection.filters":
        return [flag, json.dumps(value, default=str)]
    if isinstance(value, Mapping):
        return [flag, *(f"{name}={item}" for name, item in value.items())]
    if isinstance(value, tuple):
        return [flag, *map(str, value)]
    text = str(value)
    # What begins with a hyphen would be taken for a flag; -1 would not, but this serves both.
    return [f"--{flag.lstrip('-')}={text}"] if text.startswith("-") else [flag, text]
