"""``bids-hsf hsf`` and ``hsf-compat``: HSF's own command lines, told and run in this app's words.

No script is called ``hsf``: that is the real HSF's, which may lie in the same environment, and of two scripts of one
name the one that was installed last would win. Who has HSF no more may write ``alias hsf=hsf-compat``.
"""

import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence

from bids_hsf.cli.answers import report_error
from bids_hsf.cli.console import Advice, complain, exit_code_of, show
from bids_hsf.cli.hsf_inputs import find_runs
from bids_hsf.cli.hydra import Override, read_overrides
from bids_hsf.errors import UsageError
from bids_hsf.runs.signals import stoppable
from bids_hsf.text_table import near

HELP = """HSF's command lines, run by bids-hsf; the line that stands for each is shown first.

  bids-hsf hsf files.path=~/MRI files.pattern="**/*T2w.nii.gz" roiloc.contrast=t2 segmentation=bagging_accurate
  hsf-compat ...   is the same; for a while one may write: alias hsf=hsf-compat

Where files.path lies in a BIDS dataset, its images are processed as such, into derivatives/bids-hsf of the dataset.
Other images are taken one by one, and have their results beside them, in files.output_dir (default: hsf_outputs).

understood: files.path, files.pattern, files.output_dir, files.overwrite, roiloc.contrast, segmentation,
segmentation.ca_mode, segmentation.models_path, segmentation.segmentation.test_time_augmentation and
.test_time_num_aug, hardware, hardware.engine_settings.execution_providers and .num_cores,
multispectrality.pattern (in a BIDS dataset). What else HSF has is answered.

Options of bids-hsf may be added, with "=" before their values: --dry-run, --nprocs=2. All of them: bids-hsf --help"""

ADVICE = Advice(
    stopped="Nothing was begun.",
    out_of_memory="Close other programs.",
    internal="Please report it, with the command line.",
)

CACHE_VARIABLE = "BIDS_HSF_CACHE"  # the hub's, which is not imported before it is needed

REQUIRED = ("files.path", "files.pattern")

# What HSF has, and what its settings are called, for near words.
UNDERSTOOD = (
    *REQUIRED,
    "files.output_dir",
    "files.overwrite",
    "roiloc.contrast",
    "roiloc.roi",
    "segmentation",
    "segmentation.ca_mode",
    "segmentation.models_path",
    "segmentation.models",
    "segmentation.segmentation.test_time_augmentation",
    "segmentation.segmentation.test_time_num_aug",
    "hardware.engine_settings.execution_providers",
    "hardware.engine_settings.num_cores",
    "multispectrality.pattern",
)

# What changes nothing here; a name stands for all that begins with it.
PASSED_OVER: Mapping[str, str] = {
    "files.mask_pattern": "no brain mask is needed to find the hippocampi",
    "files": "",
    "roiloc.margin": "crops have the model's own margin, in mm; --box-margin-mm=MM sets another",
    "roiloc": "the hippocampi are found by this app's own registration; the report shows the boxes",
    "hardware.engine_settings.batch_size": "views are shown to the networks one by one",
    "hardware": "the fastest provider that works is found by itself; --device=NAME sets one",
    "multispectrality.same_space": "the second contrast is always registered",
    "multispectrality": "the second contrast is registered rigidly, and judged",
    "augmentation": "views are drawn as the model's card says: for HSF's models by HSF's defaults",
    "hydra": "",
}

ONE_RUN = "One run takes all images; --dry-run shows what it would do."
ALL_ON_THE_LINE = "What stands in a file of yours goes onto the command line here: segmentation=single_fast."
HYDRAS_OWN: Mapping[str, str] = {
    **dict.fromkeys(("-m", "--multirun", "-r", "--run", "--experimental-rerun"), ONE_RUN),
    **dict.fromkeys(("-c", "--cfg", "-p", "--package", "--resolve", "-i", "--info", "--hydra-help"), ONE_RUN),
    **dict.fromkeys(("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"), ALL_ON_THE_LINE),
    **dict.fromkeys(("-sc", "--shell-completion"), "`bids-hsf --print-completion SHELL` prints this app's own."),
}

CA_MODES = {"": "whole", "1/2/3": None, "1/23": "1/23", "123": "123"}

PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "OpenVINOExecutionProvider": "openvino",
    "MIGraphXExecutionProvider": "migraphx",
    "CoreMLExecutionProvider": "coreml",
    "DmlExecutionProvider": "directml",
}


def is_hsf(words: Sequence[str]) -> bool:
    """Whether words for ``bids-hsf`` are a command line of HSF's, with or without ``hsf`` before it.

    >>> is_hsf(["hsf", "files.path=x"]), is_hsf(["files.path=x"]), is_hsf(["hsf", "out", "participant"])
    (True, True, False)
    """
    if words[:1] == ["hsf"]:
        return len(words) == 1 or "=" in words[1] or words[1].startswith("-")
    return bool(words) and re.match(r"\+{0,2}files\.[a-z_]+=", words[0]) is not None


def translate(words: Sequence[str]) -> tuple[list[list[str]], int]:
    """Say a command line of HSF's in this app's words; or print help, or what is wrong with it.

    Returns
    -------
    runs : list of list of str
        Words for ``bids-hsf``, one list a run.
    code : int
        Exit code where there is nothing to run.
    """
    if {"-h", "--help"} & set(words):
        show(HELP)
        return [], 0
    runs: list[list[str]] = []

    def work() -> int:
        options, overrides = split(words)
        settings = settings_of(overrides)
        runs.extend(find_runs(settings, [*words_of(settings), *options]))
        return 0

    with stoppable() as stop:
        code = exit_code_of(work, lambda error: report_error(error, as_json=False), stop, ADVICE)
    models = os.environ.get(CACHE_VARIABLE)
    place = f"{CACHE_VARIABLE}={shlex.quote(models)} " if models else ""
    for number, run in enumerate(runs, 1):
        count = f" ({number} of {len(runs)})" if len(runs) > 1 else ""
        complain(f"In the words of bids-hsf{count}: {place}{shlex.join(['bids-hsf', *run])}")
    return runs, code


def split(words: Sequence[str]) -> tuple[list[str], list[Override]]:
    """Take options of this app apart from overrides.

    Raises
    ------
    UsageError
        An option is Hydra's.
    """
    options = [word for word in words if word.startswith("-")]
    for option in options:
        name = option.partition("=")[0]
        if name in HYDRAS_OWN:
            raise UsageError(f"{option} is Hydra's own, which this app does not have", HYDRAS_OWN[name])
    return options, read_overrides([word for word in words if not word.startswith("-")])


def settings_of(overrides: Sequence[Override]) -> dict[str, Override]:
    """Sort overrides by name, the last of each; what changes nothing is answered and left out.

    Raises
    ------
    UsageError
        One is unknown, or the images are not named.
    """
    settings: dict[str, Override] = {}
    for override in overrides:
        name = override.name
        if name in UNDERSTOOD:
            settings[name] = override
            continue
        dotted = f"{name.replace('/', '.')}."  # hydra/launcher=...
        prefix = max((known for known in PASSED_OVER if dotted.startswith(f"{known}.")), key=len, default=None)
        if prefix is None or (prefix == "files" and name != "files"):
            raise UsageError(f"HSF has no setting {name}", near(name, (*UNDERSTOOD, *PASSED_OVER)) or HELP_HINT)
        if PASSED_OVER[prefix]:
            complain(f"warning: {override.word} changes nothing: {PASSED_OVER[prefix]}", logging.WARNING)
    missing = [name for name in REQUIRED if name not in settings]
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be given, as for HSF", HELP_HINT)
    return settings


HELP_HINT = 'Such as: bids-hsf hsf files.path=~/MRI files.pattern="**/*T2w.nii.gz"; see bids-hsf hsf --help'


def words_of(settings: Mapping[str, Override]) -> list[str]:
    """Turn all settings but those of the images into options of this app.

    Raises
    ------
    UsageError
        A wish has no counterpart here, and leaving it out would do something else.
    """
    values = {name: override.value for name, override in settings.items()}
    if str(values.get("roiloc.roi") or "hippocampus").lower() != "hippocampus":
        raise UsageError(f"{settings['roiloc.roi'].word}: only hippocampi are segmented")
    if "segmentation.models" in settings:
        raise UsageError(
            "segmentation.models: a model of your own has a card here",
            "`hsf-hub new FILE.onnx` begins it; then segmentation=CARD.yaml",
        )
    words = []
    model = values.get("segmentation")
    if model is not None:
        if re.search(r",|\(", str(model)):  # Hydra's sweeps
            raise UsageError(f"{settings['segmentation'].word}: a run has one model", "One line for each model.")
        # HSF keeps the generation before under the ending .prev.
        name = re.sub(r"\.prev$", "_3.0.0", str(model))
        words += ["--model", {"single_sq_3.0.0": "single_sq", "bagging_sq_3.0.0": "bagging_sq"}.get(name, name)]
    words += _ca_mode(settings)
    augmented = _yes_or_no(settings, "segmentation.segmentation.test_time_augmentation")
    number = values.get("segmentation.segmentation.test_time_num_aug")
    if augmented is False:
        words += ["--tta", "0"]
    elif number is not None:
        words += ["--tta", str(number)]
    words += _device(settings)
    if values.get("hardware.engine_settings.num_cores"):
        words += ["--nthreads", str(values["hardware.engine_settings.num_cores"])]
    if _yes_or_no(settings, "files.overwrite"):
        words.append("--force")
    if values.get("segmentation.models_path"):
        os.environ[CACHE_VARIABLE] = os.path.expanduser(str(values["segmentation.models_path"]))  # noqa: PTH111
    return words


def _yes_or_no(settings: Mapping[str, Override], name: str) -> bool | None:
    """Read a setting that is on or off, None where it is not given: any other word must not pass for "on"."""
    value = settings[name].value if name in settings else None
    if value not in (None, True, False):  # 1 and 0, too
        raise UsageError(f"{settings[name].word}: expected true or false")
    return None if value is None else bool(value)


def _ca_mode(settings: Mapping[str, Override]) -> list[str]:
    """Labels to join."""
    override = settings.get("segmentation.ca_mode")
    if override is None:
        return []
    text = "" if override.value is None else str(override.value)
    if text not in CA_MODES:
        known = [mode for mode in CA_MODES if mode]
        raise UsageError(f"{override.word}: HSF has the modes {', '.join(known)} and ''", near(text, known) or None)
    mode = CA_MODES[text]
    return ["--ca-mode", mode] if mode else []


def _device(settings: Mapping[str, Override]) -> list[str]:
    """Choose a device for providers in the order of precedence; one alone is asked for by name."""
    override = settings.get("hardware.engine_settings.execution_providers")
    if override is None:
        return []
    listed = override.value if isinstance(override.value, list) else [override.value]
    names = [str(provider[0] if isinstance(provider, list) and provider else provider) for provider in listed]
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown:
        raise UsageError(f"{override.word}: unknown provider {unknown[0]}", near(unknown[0], PROVIDERS) or None)
    if any(isinstance(provider, list) for provider in listed):
        complain("warning: options of providers change nothing: this app has its own", logging.WARNING)
    # Of several the first that works is taken: what --device auto does.
    return ["--device", PROVIDERS[names[0]]] if len(names) == 1 else []
