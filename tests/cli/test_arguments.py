import contextlib
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bids_hsf.bids.selection import Selection
from bids_hsf.cli import arguments
from bids_hsf.cli.arguments import build_parser, config_of, parse
from bids_hsf.errors import NoInputError, UnknownAnalysisLevelError, UsageError
from bids_hsf.runs.command_line import FLAGS
from bids_hsf.runs.config import Behaviour, Config, Method, Resources

PATHS = ["/bids", "/out"]


def config(*words: str) -> Config:
    return config_of(parse(words), words)


class TestPositionals:
    def test_paths_become_absolute_and_links_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        monkeypatch.chdir(tmp_path)
        settings = config("link/../link", "out", "participant")
        assert (settings.bids_dir, settings.output_dir) == (tmp_path / "link", tmp_path / "out")

    @pytest.mark.parametrize(
        "words",
        [
            "/bids /out participant group --participant-label 01 02 -m T1w",
            "--participant-label 01 02 -m T1w -- /bids /out participant group",
            "--participant-label 01 02 /bids /out participant group -m T1w",
            "/bids --participant-label 01 02 /out participant group -m T1w",
            "/bids /out --participant-label 01 02 participant group -m T1w",
            "/bids /out -m T1w --participant-label 01 02 participant group",
            "-m T1w --participant-label 01 02 /bids /out participant group",
            "--participant-label 01 02 -m T1w /bids /out participant group",
            "/bids /out participant -m T1w --participant-label 01 --participant_label sub-02 -v group",
        ],
    )
    def test_stand_anywhere(self, words: str) -> None:
        settings = config(*words.split())
        assert (str(settings.bids_dir), str(settings.output_dir)) == ("/bids", "/out")
        assert settings.levels == ("participant", "group")
        assert settings.selection.participants == ("01", "02")
        assert settings.selection.modalities == ("T1w",)

    def test_labels_may_be_one_quoted_text(self) -> None:
        settings = config(*PATHS, "participant", "--participant-label", "sub-01 sub-02, 03")
        assert settings.selection.participants == ("01", "02", "03")

    def test_participants_may_be_called_like_levels(self) -> None:
        settings = config(*PATHS, "participant", "--participant-label", "group", "status")
        assert settings.levels == ("participant",)
        assert settings.selection.participants == ("group", "status")

    def test_levels_given_twice_run_once(self) -> None:
        assert config(*PATHS, "group", "participant", "group").levels == ("group", "participant")

    @pytest.mark.parametrize("level", ["subject", "Participant", "participants", "-"])
    def test_unknown_level(self, level: str) -> None:
        with pytest.raises(UnknownAnalysisLevelError, match="Unknown analysis level") as caught:
            parse([*PATHS, level])
        assert "participant, group, status" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("words", "meant"),
        [
            ([*PATHS, "participant,group"], "Levels are words of their own: participant group. "),
            (["participant", *PATHS], f"The level stands behind the folders: bids-hsf {' '.join(PATHS)} participant. "),
            ([*PATHS, "GROUP"], "Did you mean group? "),
        ],
    )
    def test_levels_in_other_places_and_spellings(self, words: list[str], meant: str) -> None:
        with pytest.raises(UnknownAnalysisLevelError) as caught:
            parse(words)
        assert caught.value.hint == f"{meant}Known levels: participant, group, status"

    def test_a_dataset_behind_the_output_folder(self, tmp_path: Path) -> None:
        (tmp_path / "study/sub-01").mkdir(parents=True)
        description = tmp_path / "study/dataset_description.json"
        description.write_text('{"Name": "x"}')
        words = [f"{tmp_path}/out", f"{tmp_path}/study", "participant"]
        with pytest.raises(NoInputError) as caught:
            parse(words)
        assert caught.value.hint == f"The dataset comes first: bids-hsf {words[1]} {words[0]} participant"
        for other in ('{"Name": "x", "DatasetType": "derivative"}', "[]", "{"):
            description.write_text(other)
            parse(words)  # told later, by those who look for the dataset

    def test_an_output_that_is_called_like_an_image(self, tmp_path: Path) -> None:
        image = tmp_path / "a.nii.gz"
        image.touch()
        with pytest.raises(UsageError, match=r"b\.nii\.gz is the name of an image; the output is a folder") as caught:
            parse([str(image), f"{tmp_path}/b.nii.gz"])
        assert caught.value.hint == f"Such as: bids-hsf {image} b"

    def test_a_near_word_for_a_command(self) -> None:
        with pytest.raises(UsageError, match="compar is no command, and no folder") as caught:
            parse(["compar", "/out"])
        assert (caught.value.hint or "").startswith("Did you mean compare? ")

    def test_a_level_with_hyphens(self) -> None:
        with pytest.raises(UsageError) as caught:
            parse([*PATHS, "participant", "--group"])
        assert (caught.value.hint or "").startswith("--group: the level is a word without hyphens: group. ")

    @pytest.mark.parametrize(
        ("words", "message", "line"),
        [
            ([], "Neither an image nor a dataset is named", "bids-hsf IMAGE.nii.gz OUTPUT_DIR."),
            (
                ["/bids"],
                "the output folder and the level are missing",
                "bids-hsf /bids /bids/derivatives/bids-hsf",
            ),
            (
                PATHS,
                "the level is missing: participant, group or status",
                f"bids-hsf {' '.join(PATHS)} participant seg",
            ),
            ([*PATHS, "--participant-label", "01", "02"], "the level is missing", "participant segments the scans"),
            (["segment", "a b.nii.gz"], "segment before a b.nii.gz is no image", "bids-hsf 'a b.nii.gz' OUTPUT_DIR"),
            (
                ["/fs/orig.mgz", "/out"],
                "/fs/orig.mgz is no NIfTI image",
                "First: mri_convert /fs/orig.mgz orig.nii.gz. Then",
            ),
            (["/data/a.nrrd", "/out"], "/data/a.nrrd is no NIfTI image", "Then: bids-hsf a.nii.gz OUTPUT_DIR"),
            (["/data/1.dcm", "/out", "participant"], "/data/1.dcm is no NIfTI image", "First: DICOM: convert it"),
            (["/a_T1w.nii", "/data/a.mnc", "/out"], "/data/a.mnc is no NIfTI image", "MINC: convert it with mnc2nii"),
            (["list"], "list is a command of hsf-hub", "hsf-hub list --help"),
            (["validate", "mylab.yaml"], "validate is a command of hsf-hub", "hsf-hub validate"),
            (["/data/a_T2w.nii"], "the output folder is missing", "bids-hsf /data/a_T2w.nii results"),
        ],
    )
    def test_missing_ones_are_named_with_the_line_that_is_meant(
        self, words: list[str], message: str, line: str
    ) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            parse(words)
        assert line in (caught.value.hint or "")

    def test_help_may_be_asked_for_by_its_word(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as left:
            parse(["help"])
        assert left.value.code == 0
        assert "--participant-label" in capsys.readouterr().out
        # A folder of that name is a dataset.
        (tmp_path / "help").mkdir()
        with pytest.raises(UsageError, match="the level is missing"):
            parse(["help", "out"])
        with pytest.raises(UsageError, match="the output folder and the level are missing"):
            parse(["help"])


class TestFlags:
    def test_every_flag_in_both_spellings(self) -> None:
        values = {
            "resources.mem_mb": "4G",
            "behaviour.launcher": "slurm",
            "behaviour.uncertainty": "full",
            "behaviour.export_lut": "itksnap",
            "selection.modalities": "T1w",
            "method.derivatives": "freesurfer=/fs",
        }
        for action in build_parser()._actions:
            for flag in action.option_strings:
                if (
                    not flag.startswith("--")
                    or "-" not in flag[2:]
                    or action.dest
                    in (
                        "bids_exec_spec",
                        "print_completion",
                        "help",
                    )
                ):
                    continue
                if action.dest == "selection.filters":
                    continue
                words = [*PATHS, "participant", flag, *([] if action.nargs == 0 else [values.get(action.dest, "3")])]
                spelled = [word.replace("-", "_").replace("__", "--", 1) if word == flag else word for word in words]
                assert spelled != words
                assert parse(words) == parse(spelled)

    @pytest.mark.parametrize(
        ("words", "place", "expected"),
        [
            ("--participant-labels sub-01 01 02", "selection.participants", ("01", "02")),
            ("--exclude-participant-label sub-3", "selection.excluded_participants", ("3",)),
            ("--session-id ses-1 2", "selection.sessions", ("1", "2")),
            ("--participant-label 01,sub-02, 03", "selection.participants", ("01", "02", "03")),
            ("--session-label 1,2", "selection.sessions", ("1", "2")),
            ("--run-id run-1 --run-label 2,3", "selection.runs", ("1", "2", "3")),
            ("-m t1,T2w", "selection.modalities", ("T1w", "T2w")),
            ("--modality T1w", "selection.modalities", ("T1w",)),
            ("--export-lut itksnap,fsleyes", "behaviour.export_lut", ("itksnap", "fsleyes")),
            ("--write-xfm", "behaviour.write_transforms", True),
            ("--report-3d", "behaviour.report_3d", True),
            ("--clean_workdir", "behaviour.clean_work_dir", True),
            ("-m t1w UNIT1", "selection.modalities", ("T1w", "UNIT1")),
            ("-m T1w", "selection.modalities_asked", True),
            ("", "selection.modalities_asked", False),
            ("", "selection.modalities", ("T1w", "T2w")),
            ("--skip-bids-validation", "behaviour.validate", False),
            ("", "behaviour.validate", True),
            ("--bids-database-dir /db", "bids_database_dir", Path("/db")),
            # Of another folder the same word would be another card: a job's, or the one from which status is asked.
            ("--model hsf.yaml", "method.model", str(Path.cwd() / "hsf.yaml")),
            ("--model ../hsf.yml:tiny", "method.model", f"{Path.cwd().parent / 'hsf.yml'}:tiny"),
            ("segmentation=lab/hsf.yaml", "method.model", str(Path.cwd() / "lab/hsf.yaml")),
            ("segmentation=single_fast", "method.model", "single_fast"),
            ("--participant-label 01 segmentation=single_fast", "method.model", "single_fast"),
            ("--participant-label 01 segmentation=single_fast", "selection.participants", ("01",)),
            ("--hub-dir /a /b", "hub_dirs", (Path("/a"), Path("/b"))),
            ("--ca-mode 1/23", "method.ca_mode", "1/23"),
            ("--tta 0", "method.n_augmentations", 0),
            ("--tta auto", "method.n_augmentations", "auto"),
            ("--tta auto --tta-tolerance 0.5", "method.volume_tolerance", 0.5),
            ("--random-seed -5", "method.seed", -5),
            ("--box-margin-mm 4", "method.box_margin_mm", 4.0),
            ("--keep-islands", "method.keep_islands", True),
            ("--reduced-precision", "method.reduced_precision", True),
            ("--uncertainty full", "behaviour.full_uncertainty", True),
            ("--write-probseg", "behaviour.write_probabilities", True),
            ("--write-coords", "behaviour.write_coordinates", True),
            ("--export-lut itksnap fsleyes", "behaviour.export_lut", ("itksnap", "fsleyes")),
            ("--force", "behaviour.force", True),
            ("--reports-only", "behaviour.reports_only", True),
            ("--boilerplate-only", "behaviour.boilerplate_only", True),
            ("--dry-run", "behaviour.dry_run", True),
            ("--device cuda", "resources.device", "cuda"),
            ("--n-cpus 8", "resources.nthreads", 8),
            ("--nprocs 2", "resources.nprocs", 2),
            ("--omp-nthreads 4", "resources.omp_nthreads", 4),
            ("--mem 8000", "resources.mem_mb", 8000),
            ("--mem-mb 8G", "resources.mem_mb", 8192),
            ("--mem-gb 8", "resources.mem_mb", 8192),
            ("--mem 512000KB", "resources.mem_mb", 500),
            ("--mem=1.5g", "resources.mem_mb", 1536),
            ("-w /work", "work_dir", Path("/work")),
            ("--stop-on-first-crash", "behaviour.stop_on_first_crash", True),
            ("-vv", "behaviour.verbosity", 2),
            ("--notrack", "behaviour.verbosity", 0),
        ],
    )  # fmt: skip
    def test_reaches_its_setting(self, words: str, place: str, expected: object) -> None:
        value: Any = config(*PATHS, "participant", *words.split())
        for name in place.split("."):
            value = getattr(value, name)
        assert value == expected
        assert type(value) is type(expected)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--tta many", "--tta"),
            ("--tta -1", "--tta must not be negative"),
            ("--tta 1001", "--tta must be at most 1000, got 1001"),
            ("--tta-tolerance 0", "--tta-tolerance must be within 0.01 and 100 per cent"),
            ("--tta 20 --tta-tolerance 2", "--tta-tolerance says nothing without --tta auto"),
            ("--nprocs 0", "--nprocs must be at least 1"),
            ("--mem 4", "4 is 4 MB, in which no scan has room; 4G would be gigabytes"),
            ("--mem lots", "not a size: 'lots'"),
            ("--mem 1e999", "not a size"),
            ("--participant-label", "expected at least one argument"),
            ("--participant-label=", "argument --participant-label: nothing is named"),
            ("--session-label=,", "argument --session-label: nothing is named"),
            ("--uncertainty some", "invalid choice"),
            ("--dry-run=yes", "argument --dry-run: takes no value, got 'yes'"),
            ("--export-lut word", "invalid choice"),
            ("--unknown-flag", "unrecognized arguments: --unknown-flag"),
            ("--bids-filter-file {", "--bids-filter-file"),
            ("--partic 01", "unrecognized arguments: --partic"),
            ("--model a segmentation=b", "segmentation=b contradicts --model a"),
            ("--bids-filter-file /nowhere.json", "cannot be read"),
            ("--config-file /nowhere.toml", "cannot be read"),
            ("--work-dir /bids/work", "lies inside the BIDS folder"),
        ],
    )
    def test_wrong_values_are_usage_errors(self, words: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            config(*PATHS, "participant", *words.split())
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("content", ["[1]", '{"t1w": 3}', "{", "\xff"])
    def test_filter_file_must_hold_objects(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "filter.json"
        path.write_text(content, encoding="latin-1")
        with pytest.raises(UsageError, match="--bids-filter-file"):
            parse([*PATHS, "participant", "--bids-filter-file", str(path)])

    def test_saved_run_stands_for_all_and_the_command_line_wins(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text(
            'bids_dir = "/saved"\noutput_dir = "/out"\nlevels = ["group"]\n'
            'selection = {participants = ["01"], modalities = ["T2w"], modalities_asked = true}\n'
            'method = {model = "saved", seed = 7}\n'
        )
        alone = config("--config-file", str(path))
        assert (alone.bids_dir, alone.levels, alone.method.model) == (Path("/saved"), ("group",), "saved")
        mixed = config("/bids", "/out", "participant", "--config-file", str(path), "--random-seed", "8", "--force")
        assert (mixed.bids_dir, mixed.levels) == (Path("/bids"), ("participant",))
        assert (mixed.method.model, mixed.method.seed, mixed.selection.participants) == ("saved", 8, ("01",))
        assert mixed.behaviour.force
        assert mixed.command[0] == "bids-hsf"
        path.write_text(path.read_text().replace("seed = 7", 'members = {"a.onnx" = "12"}'))
        assert config("--config-file", str(path)).method.members == {"a.onnx": "12"}
        assert not config("--config-file", str(path), "--model", "saved").method.members
        path.write_text('bids_dir = "/saved"')
        with pytest.raises(UsageError, match="lacks OUTPUT_DIR, LEVEL"):
            config("--config-file", str(path))

    def test_filter_file_keys_are_case_insensitive(self, tmp_path: Path) -> None:
        path = tmp_path / "filter.json"
        path.write_text('{"T1w": {"session": null}, "flair": {}}')
        filters = config(*PATHS, "participant", "--bids-filter-file", str(path)).selection.filters
        assert filters == {"t1w": {"session": None}, "flair": {}}

    def test_only_compatibility_flags_do_nothing(self) -> None:
        """Every flag changes the Config, all but those that other programs have."""
        idle = [
            action.option_strings
            for action in build_parser()._actions
            if action.option_strings and action.nargs == 0 and "--bids-exec-spec" not in action.option_strings
            and "--help" not in action.option_strings and "--version" not in action.option_strings
            and config(*PATHS, "participant", action.option_strings[-1]).as_record()["behaviour"]
            == config(*PATHS, "participant").as_record()["behaviour"]
            and config(*PATHS, "participant", action.option_strings[-1]).method == config(*PATHS, "participant").method
        ]  # fmt: skip
        given = {"--low-mem", "--notrack", "--no-sub", "--resource-monitor", "--track-carbon"}
        given |= {"--anat-only", "--fs-no-reconall", "--longitudinal", "--no-submm-recon", "--write-graph"}
        assert {flag for flags in idle for flag in flags} == given
        assert config(*PATHS, "participant", "--low-mem").resources.nprocs == 1

    @pytest.mark.parametrize(
        ("words", "meant"),
        [
            ("--modle x", "Did you mean --model? "),
            ("--participant_lable 01", "Did you mean --participant-label? "),
            ("--nthread=3", "Did you mean --nthreads? "),
            ("--zzz", "See bids-hsf --help"),
            ("--MODEL x", "Did you mean --model? "),
            ("--cores 4", "--cores: --nthreads N is the number of cores"),
            ("--fs-subjects-dir /fs", "--fs-subjects-dir: --derivatives freesurfer=DIR"),
            ("--output_spaces MNI", "--output-spaces: label maps lie on the voxels of each scan"),
        ],
    )
    def test_mistyped_flags_are_told_which_is_near(self, words: str, meant: str) -> None:
        with pytest.raises(UsageError, match="unrecognized arguments") as caught:
            parse([*PATHS, "participant", *words.split()])
        assert (caught.value.hint or "").startswith(meant)

    @pytest.mark.parametrize(
        ("words", "meant"),
        [
            ("--uncertainty ful", "Did you mean full? "),
            ("--reference T1", "Did you mean T1w? "),
            ("--export-lut itksnp", "Did you mean itksnap? "),
            ("-m Tw1", "Expected T1w, T2w or UNIT1"),
            ("--tta many", "See bids-hsf --help"),
            ('--bids-filter-file {"t1":{}}', "Did you mean t1w?"),
        ],
    )
    def test_mistyped_values_are_told_which_is_near(self, words: str, meant: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse([*PATHS, "participant", *words.split()])
        assert (caught.value.hint or "").startswith(meant)

    def test_filters_may_be_given_as_text(self) -> None:
        filters = config(*PATHS, "participant", "--bids-filter-file", '{"T1w": {"acq": null}}').selection.filters
        assert filters == {"t1w": {"acq": None}}

    def test_every_setting_has_a_flag(self) -> None:
        sections = {"selection": Selection, "method": Method, "resources": Resources, "behaviour": Behaviour}
        settings = {field.name for field in fields(Config)} - set(sections)
        settings |= {f"{name}.{field.name}" for name, section in sections.items() for field in fields(section)}
        without = {
            "bids_dir",
            "output_dir",
            "levels",
            "images",
            "command",
            "method.members",
            "selection.modalities_asked",
        }
        assert settings - set(FLAGS) == without
        assert set(FLAGS) <= settings


class TestHelp:
    def test_descriptor_and_parser_know_the_same_flags(self) -> None:
        path = Path(arguments.__file__).parents[1] / "data" / "bids_hsf.boutiques.json"
        inputs = json.loads(path.read_text())["inputs"]
        described = {entry["command-line-flag"] for entry in inputs if "command-line-flag" in entry}
        known = {flag for action in build_parser()._actions for flag in action.option_strings}
        assert described <= known
        # What ends the run at once, or says nothing, is no input of a pipeline.
        ours = {action.dest for action in build_parser()._actions if not described & set(action.option_strings)}
        words = {"bids_dir", "output_dir", "levels", "low_mem", "debug", "habits"}
        assert ours <= {"help", "version", "bids_exec_spec", "print_completion", *words}

    def test_help_names_every_flag_in_groups(self) -> None:
        done = subprocess.run([sys.executable, "-m", "bids_hsf", "--help"], capture_output=True, text=True, check=True)
        for action in build_parser()._actions:
            assert all(flag in done.stdout for flag in action.option_strings)
        for title in ("which scans:", "model:", "outputs:", "resources:", "run:", "exit codes:"):
            assert title in done.stdout
        assert "fmriprep calls --nprocs" in done.stdout
        assert all(len(line) <= 120 for line in done.stdout.splitlines())

    def test_help_tells_every_default(self) -> None:
        takes_a_value = [
            action
            for action in build_parser()._actions
            if action.option_strings
            and action.nargs != 0
            and action.dest not in ("habits", "debug", "print_completion")
        ]
        assert len(takes_a_value) > 20
        assert [action.dest for action in takes_a_value if "default" not in (action.help or "")] == []

    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; from bids_hsf.cli.arguments import build_parser\n"
            "build_parser().format_help(); print(*sys.modules)"
        )
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        heavy = {"numpy", "torch", "nibabel", "bids", "SimpleITK", "onnxruntime", "scipy", "pandas", "tqdm", "pydantic"}
        assert not heavy & set(loaded)


SETTINGS = "bids_dir output_dir levels work_dir hub_dirs participants filters t1w seed model members nprocs verbosity x"
TOML_KEYS = st.sampled_from(["selection", "method", "resources", "behaviour", "run", *SETTINGS.split()])
TOML = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.sampled_from(["/b", "\0", "participant", "group"]),
        st.dates(),
        st.datetimes(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TOML_KEYS, inner, max_size=4)),
    max_leaves=12,
)


class TestHostileSettings:
    """Whatever a file says, it gives a Config or a UsageError."""

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(record=st.dictionaries(TOML_KEYS, TOML, max_size=6), named=st.booleans())
    def test_wrong_types_everywhere(self, record: dict[str, Any], named: bool, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text(tomli_w.dumps(record), encoding="utf-8")
        with contextlib.suppress(UsageError):
            found = config(
                *([*PATHS, "participant", "--force", "-m", "T1w"] if named else []), "--config-file", str(path)
            )
            assert isinstance(found, Config)

    @pytest.mark.parametrize("content", ["a = " + "[" * 5000, "a" * 2**21, "a = 1\na = 2", "\xff", "method = 1"])
    def test_nested_huge_and_broken_files(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text(content, encoding="latin-1")
        for words in ([], [*PATHS, "participant", "--force"]):
            with pytest.raises(UsageError):
                config(*words, "--config-file", str(path))

    def test_endless_files_and_folders(self, tmp_path: Path) -> None:
        for path in ("/dev/zero", str(tmp_path)):
            with pytest.raises(UsageError, match="--config-file"):
                config("--config-file", path)
