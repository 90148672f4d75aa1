from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bids_hsf.bids.selection import Selection
from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.runs.command_line import command_line
from bids_hsf.runs.config import LEVELS, REFERENCES, UNCERTAINTIES, VIEWERS, Behaviour, Config, Method, Resources

WORDS = st.from_regex(r"[A-Za-z0-9][\w .$'\"-]{0,8}", fullmatch=True)
LABELS = st.lists(st.from_regex(r"[A-Za-z0-9]{1,6}", fullmatch=True), max_size=3, unique=True).map(tuple)
PATHS = st.from_regex(r"/data[\w $'-]{1,6}", fullmatch=True).map(Path)
COUNTS = st.none() | st.integers(1, 10**6)
FILTERS = st.dictionaries(
    st.sampled_from(["t1w", "t2w"]), st.dictionaries(LABELS.map("".join), st.none() | st.integers() | WORDS, max_size=2)
)


def some(values: Any, **more: Any) -> Any:
    return st.lists(st.sampled_from(values), unique=True, **more).map(tuple)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    asked = draw(st.booleans())
    selection = st.builds(
        Selection,
        participants=LABELS,
        excluded_participants=LABELS,
        sessions=LABELS,
        runs=LABELS,
        modalities=some(("T1w", "T2w", "UNIT1"), min_size=1) if asked else st.just(("T1w", "T2w")),
        modalities_asked=st.just(asked),
        filters=FILTERS,
    )
    multispectral = draw(st.booleans())
    n_augmentations = draw(st.none() | st.integers(0, 1000) | st.just("auto"))
    method = st.builds(
        Method,
        model=WORDS | st.just("-odd"),
        ca_mode=st.none() | WORDS,
        n_augmentations=st.just(n_augmentations),
        volume_tolerance=st.floats(0.01, 100) if n_augmentations == "auto" else st.just(Method.volume_tolerance),
        seed=st.integers(),
        box_margin_mm=st.none() | st.floats(0, 100),
        derivatives=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), PATHS.map(str), max_size=2),
        keep_islands=st.booleans(),
        reduced_precision=st.booleans(),
        multispectral=st.just(multispectral),
        reference=st.sampled_from(REFERENCES) if multispectral else st.just(Method.reference),
    )
    switch = st.booleans()
    behaviour = st.builds(
        Behaviour,
        **dict.fromkeys(("validate", "dry_run", "reports_only", "boilerplate_only", "force"), switch),
        **dict.fromkeys(("stop_on_first_crash", "write_probabilities", "write_coordinates", "split_long_axis"), switch),
        **dict.fromkeys(("write_transforms", "clean_work_dir", "report_3d"), switch),
        uncertainty=st.sampled_from(UNCERTAINTIES),
        export_lut=some(VIEWERS),
        verbosity=st.integers(0, 3),
    )
    return Config(
        Path("/bids"),
        Path("/out put"),
        draw(some(LEVELS, min_size=1)),
        draw(selection),
        draw(method),
        draw(st.builds(Resources, COUNTS, COUNTS, COUNTS, COUNTS, WORDS)),
        draw(behaviour),
        work_dir=draw(st.none() | PATHS),
        hub_dirs=draw(st.lists(PATHS, max_size=2, unique=True).map(tuple)),
        bids_database_dir=draw(st.none() | PATHS),
    )


@settings(max_examples=200, deadline=None)
@given(configs())
def test_the_command_line_of_a_config_is_parsed_to_the_same(config: Config) -> None:
    _, *words = command_line(config)
    assert replace(config_of(parse(words), words), command=()) == config


def test_defaults_are_not_spelled_out() -> None:
    config = Config(Path("/bids"), Path("/out"), ("group",))
    assert command_line(config) == ["bids-hsf", "/bids", "/out", "group"]
