"""What one run leaves in ``logs/``: its log, its settings."""

import hashlib
import logging
import secrets
import time
import tomllib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from bids_hsf import __version__
from bids_hsf.bids.names import log_folder
from bids_hsf.errors import UsageError
from bids_hsf.files import read_json, read_text, write_json, write_text
from bids_hsf.hub.cards import ModelCard
from bids_hsf.runs.config import Config
from bids_hsf.runs.provenance import package_versions

logger = logging.getLogger(__name__)


MAX_CONFIG_BYTES = 2**20
SECTIONS = ("selection", "method", "resources", "behaviour")

# Settings that concern one run alone.
OF_ONE_RUN = (
    "dry_run",
    "reports_only",
    "boilerplate_only",
    "force",
    "clean_work_dir",
    "as_json",
    "require_complete",
    "launcher",
)
LATEST = "latest_configs.json"  # the settings that were saved last, by model
CONFIG_NOTE = "# Settings of one run of bids-hsf; to run it again: bids-hsf --config-file THIS_FILE\n"


def new_run_id() -> str:
    """Name of a run: when it began, and four random digits, for many may begin in one second."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}_{secrets.token_hex(2)}"


def log_path(output_dir: Path, run_id: str, subjects: Collection[str] = ()) -> Path:
    """Where the log of a run goes: beside all that is known of its subject, where that is the only one."""
    folder = log_folder(output_dir, f"sub-{next(iter(subjects))}") if len(subjects) == 1 else output_dir / "logs"
    return folder / f"run_{run_id}.log"


def config_path(output_dir: Path, run_id: str) -> Path:
    """Where the settings of a run go."""
    return output_dir / "logs" / f"config_{run_id}.toml"


def save_config(config: Config, card: ModelCard, run_id: str) -> Path:
    """Save the settings of a run; returns their path.

    Runs on some participants alone, such as the jobs of an array, share one file as long as they differ in nothing
    else but their scratch folders: it is that of the first of them.
    """
    path, latest = config_path(config.output_dir, run_id), config.output_dir / "logs" / LATEST
    everybody = replace(config.selection, participants=(), excluded_participants=(), shard=None)
    shared = _text_of(replace(config, selection=everybody, command=(), work_dir=None), card)
    digest = hashlib.sha256(shared.encode("utf-8", "replace")).hexdigest()[:16]
    known = read_json(latest) or {}
    model = f"{card.name} {config.method.ca_mode}"
    match known.get(model):
        case {"Digest": str(same), "Name": str(name)} if same == digest and config.selection != everybody:
            saved = latest.with_name(Path(name).name)
            if saved.is_file():
                return saved
    write_config(path, config, card)
    write_json(latest, {**known, model: {"Name": path.name, "Digest": digest}})
    return path


def write_config(path: Path, config: Config, card: ModelCard) -> None:
    """Save the settings of a run, with the checksums of the model's files, for ``--config-file``."""
    # TOML knows no bytes that are no text: a folder of such a name has to be given again.
    write_text(path, CONFIG_NOTE + _text_of(config, card).encode("utf-8", "replace").decode("utf-8"))


def _text_of(config: Config, card: ModelCard) -> str:
    """Write settings as TOML."""
    members = {member.filename: member.sha256 or member.xxh3_64 or "" for member in card.members}
    record = replace(config, method=replace(config.method, members=members)).as_record()
    # TOML has no null, which filters may hold.
    filters = record["selection"].pop("filters")
    if filters:
        record["selection"]["filters"] = _nulls_to_words(filters)
    run = {"version": __version__, "command": record.pop("command"), "packages": package_versions(card.recipe.sampling)}
    for name in OF_ONE_RUN:
        record["behaviour"].pop(name)
    record["selection"].pop("shard")  # of an array's jobs, which share their settings
    return tomli_w.dumps({**_without_none(record), "run": run})


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a saved run, as plain values for `config_from`.

    Raises
    ------
    UsageError
        The file cannot be read, is not TOML, or has values where there should be sections.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise UsageError(f"--config-file {path}: expected at most {MAX_CONFIG_BYTES} bytes")
        record = tomllib.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--config-file {path} cannot be read: {error}") from error
    for name in SECTIONS:
        if not isinstance(record.get(name, {}), dict):
            raise UsageError(f"--config-file {path}: expected a section [{name}], got {record[name]!r:.200}")
    run = record.pop("run", {})
    version = run.get("version", __version__) if isinstance(run, dict) else __version__
    if version != __version__:
        logger.warning("%s is of bids-hsf %s, this is %s: results may differ", path, version, __version__)
    selection = record.get("selection", {})
    if "filters" in selection:
        selection["filters"] = _words_to_nulls(selection["filters"])
    return record


def latest_configs(output_dir: Path) -> list[Path]:
    """Paths of the settings of the last run of each model, and of each of its sets of labels; the newest first."""
    found = [path for path in (output_dir / "logs").glob("config_*.toml") if path.is_file()]
    latest: dict[tuple[str, str], Path] = {}
    for path in sorted(found, key=_age, reverse=True):
        latest.setdefault(_model_of(path), path)
    return list(latest.values())


def _age(path: Path) -> tuple[str, int]:
    """Sort key: the second that is in the name, since copies have other times; within it, when it was written."""
    written = 0
    with suppress(OSError):
        written = path.stat().st_mtime_ns
    return path.name.rpartition("_")[0], written


def _model_of(path: Path) -> tuple[str, str]:
    """Model and labels of a saved run, told without a word; whoever reads all of it says what is wrong with it."""
    try:
        method = tomllib.loads(read_text(path))["method"]
        return str(method["model"]), str(method.get("ca_mode"))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return "", ""


# What filter files of nipreps write for "entity absent" where null cannot be written.
ABSENT = "Query.NONE"


def _nulls_to_words(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nulls_to_words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nulls_to_words(item) for item in value]
    return ABSENT if value is None else value


def _words_to_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _words_to_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_words_to_nulls(item) for item in value]
    return None if value == ABSENT else value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
