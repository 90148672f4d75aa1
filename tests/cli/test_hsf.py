"""Every command line of HSF's own documentation, as a shell hands it over, and others of its kind."""

import json
import shlex
from pathlib import Path

import pytest
from bids_trees import write_tree
from fast_app import SEAMS, write_card, write_head

from bids_hsf.cli.app import hsf_main, main
from bids_hsf.cli.arguments import config_of, parse
from bids_hsf.cli.hsf import is_hsf, translate

HOME_FILES = [
    "Database/sub-00C/sub-00C_tse.nii.gz",
    "Database/sub-00C/sub-00C_t1w.nii.gz",
    "Database/sub-01C/sub-01C_tse.nii.gz",
    "Database/sub-01C/sub-01C_t1w.nii.gz",
    "Datasets/MRI/a/x_T2w.nii.gz",
    "Datasets/MRI/a/x_T2w_bet_mask.nii.gz",
    "Dataset/MRIs/y_T2w.nii",
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of HSF's documentation."""
    write_tree(tmp_path, HOME_FILES, None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BIDS_HSF_CACHE", "")
    return tmp_path


def lines(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """The new lines of a command line, each of which the parser takes, and what is said."""
    runs, code = translate(shlex.split(command)[1:])
    assert code == 0, capsys.readouterr().err
    for run in runs:
        config_of(parse(run), run)
    return [shlex.join(run) for run in runs], capsys.readouterr().err


# Command line of HSF's documentation, new lines with {home}, what is said beside.
DOCUMENTED = [
    (
        'hsf files.path="~/Database" files.pattern="**/*tse.nii.gz" roiloc.margin=[16,4,16]',
        [
            "{home}/Database/sub-00C/sub-00C_tse.nii.gz {home}/Database/sub-00C/hsf_outputs -m T2w",
            "{home}/Database/sub-01C/sub-01C_tse.nii.gz {home}/Database/sub-01C/hsf_outputs -m T2w",
        ],
        "roiloc.margin=[16,4,16] changes nothing: crops have the model's own margin",
    ),
    (
        'hsf files.path="~/Database" files.pattern="**/*t1w.nii.gz" roiloc.margin=[8,8,8] roiloc.contrast="t1"',
        [
            "{home}/Database/sub-00C/sub-00C_t1w.nii.gz {home}/Database/sub-00C/hsf_outputs -m T1w",
            "{home}/Database/sub-01C/sub-01C_t1w.nii.gz {home}/Database/sub-01C/hsf_outputs -m T1w",
        ],
        "--box-margin-mm",
    ),
    (
        'hsf files.path="~/Datasets/MRI/" files.pattern="**/*T2w.nii.gz" files.mask_pattern="*T2w_bet_mask.nii.gz"',
        ["{home}/Datasets/MRI/a/x_T2w.nii.gz {home}/Datasets/MRI/a/hsf_outputs -m T2w"],
        "no brain mask is needed",
    ),
    (
        'hsf files.path="~/Dataset/MRIs/" files.pattern="*T2w.nii" roiloc.contrast="t2" roiloc.margin=[10,2,10] '
        'segmentation=bagging_accurate segmentation.ca_mode="1/2/3"',
        ["{home}/Dataset/MRIs/y_T2w.nii {home}/Dataset/MRIs/hsf_outputs -m T2w --model bagging_accurate"],
        "",
    ),
]

# Lines that the documentation shortens: files.path and files.pattern are left out there.
SHORTENED = [
    ("segmentation=bagging_fast", "--model bagging_fast", ""),
    ("segmentation=single_accurate", "--model single_accurate", ""),
    ("segmentation=johndoe2021", "--model johndoe2021", ""),
    ("segmentation=bagging_accurate.prev", "--model bagging_accurate_3.0.0", ""),
    ("segmentation=bagging_sq.prev", "--model bagging_sq", ""),
    ("roiloc.margin=[16,8,16]", "", "changes nothing"),
    ("+augmentation.elastic.image_interpolation=sitkBSpline", "", "views are drawn as the model's card says"),
    (
        'hardware.engine_settings.execution_providers=["CUDAExecutionProvider","CPUExecutionProvider"]',
        "",
        "",
    ),
    ('hardware.engine_settings.execution_providers=["CPUExecutionProvider"]', "--device cpu", ""),
    (
        'hardware.engine_settings.execution_providers=[["CUDAExecutionProvider",{"device_id":0,'
        '"gpu_mem_limit":2147483648}],"CPUExecutionProvider"]',
        "",
        "options of providers change nothing",
    ),
    ("hardware=deepsparse", "", "--device=NAME sets one"),
    ("hardware=deepsparse segmentation=bagging_sq", "--model bagging_sq", ""),
    ("hardware=onnxruntime hardware.engine_settings.num_cores=4", "--nthreads 4", ""),
    ('segmentation.ca_mode=""', "--ca-mode whole", ""),
    ("segmentation.ca_mode=123", "--ca-mode 123", ""),
    ("segmentation=bagging_accurate segmentation.ca_mode=1/23", "--model bagging_accurate --ca-mode 1/23", ""),
    ("segmentation.segmentation.test_time_augmentation=False", "--tta 0", ""),
    ("segmentation.segmentation.test_time_num_aug=5", "--tta 5", ""),
    ("files.overwrite=True", "--force", ""),
    ("files.overwrite=1", "--force", ""),
    ("files.overwrite=null", "", ""),
    ("segmentation.segmentation.test_time_augmentation=0", "--tta 0", ""),
    ("hydra.run.dir=.", "", ""),
    ("hydra/launcher=joblib +hydra/job_logging=disabled hydra.verbose=true", "", ""),
    ("--dry-run --nprocs=2", "--dry-run --nprocs=2", ""),
]


@pytest.mark.parametrize(("command", "expected", "said"), DOCUMENTED)
def test_documented_lines(
    command: str, expected: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, told = lines(command, capsys)
    assert found == [line.format(home=home) for line in expected]
    assert said in told
    assert f"In the words of bids-hsf{' (1 of 2)' if len(found) > 1 else ''}: bids-hsf {found[0]}" in told


@pytest.mark.parametrize(("words", "expected", "said"), SHORTENED)
def test_shortened_lines(words: str, expected: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, told = lines(f'hsf files.path=~/Dataset/MRIs files.pattern="*.nii" {words}', capsys)
    start = f"{home}/Dataset/MRIs/y_T2w.nii {home}/Dataset/MRIs/hsf_outputs -m T2w"
    assert found == [f"{start} {expected}".strip()]
    assert said in told
    assert bool(said) == ("warning" in told) or "deepsparse" in words or "onnxruntime" in words


def test_place_of_models(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, told = lines('hsf files.path=~/Dataset/MRIs files.pattern="*.nii" segmentation.models_path=/mnt/models/', capsys)
    assert ": BIDS_HSF_CACHE=/mnt/models/ bids-hsf" in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("", 2, "files.path and files.pattern must be given"),
        ("segmentation=single_accurate", 2, "files.path and files.pattern must be given"),
        ("files.path=/nowhere files.pattern=*", 66, "there is no folder /nowhere"),
        ("files.path=~/Database files.pattern=*.nii.gz", 18, '"**/*T2w.nii.gz", in quotes, looks into all folders'),
        ("files.path=~/Database files.patern=*", 2, "Did you mean files.pattern?"),
        ("files.path=~ files.pattern=/abs/*", 2, "files.pattern=/abs/*"),
        ("files.path=~ files.pattern=*.nii segmentation.ca_mode=1/24", 2, "Did you mean 1/23?"),
        ("files.path=~ files.pattern=*.nii roiloc.roi=amygdala", 2, "only hippocampi are segmented"),
        ("files.path=~ files.pattern=**/*.nii roiloc.contrast=flair", 2, "expected t1 or t2"),
        (
            'files.path=~ files.pattern=*.nii segmentation.models={"custom_model.onnx":{"url":"https://url.to/'
            'your/model.onnx","xxh3_64":"f0f0f0f0f0f0f0f0"}}',
            2,
            "`hsf-hub new FILE.onnx` begins it",
        ),
        (
            "files.path=~/Datasets/MRI files.pattern=**/*T2w.nii.gz multispectrality.pattern=T1w_hires.nii.gz "
            "multispectrality.same_space=False +multispectrality.registration.aff_metric=meansquares",
            2,
            "two contrasts are joined in a BIDS dataset alone",
        ),
        ("files.path=~ files.pattern=*.nii --multirun", 2, "--multirun is Hydra's own"),
        ("--config-dir conf files.path=~ files.pattern=*.nii", 2, "--config-dir is Hydra's own"),
        ("-cn mine files.path=~ files.pattern=*.nii", 2, "goes onto the command line here"),
        ("files.path=~ files.pattern=*.nii ~roiloc.margin", 2, "~roiloc.margin takes a setting away"),
        ("files.path=~ files.pattern=*.nii files.overwrite=maybe", 2, "files.overwrite=maybe: expected true or false"),
        (
            "files.path=~ files.pattern=*.nii segmentation.segmentation.test_time_augmentation=off",
            2,
            "test_time_augmentation=off: expected true or false",
        ),
        (
            'files.path=~ files.pattern=*.nii hardware.engine_settings.execution_providers=["CudaExecutionProvider"]',
            2,
            "Did you mean CUDAExecutionProvider?",
        ),
        ("files.path=~ out participant", 2, "NAME=VALUE"),
        ("files.path = ~ files.pattern=*.nii", 2, "without blanks"),
        ("files.path=~ files.pattern=*.nii --nprocs 2", 2, "--nprocs=2"),
        ("files.path=[~/a,~/b] files.pattern=*.nii", 2, "files.path=[~/a,~/b]: expected one text"),
        ("files.path=~ 'files.pattern=[*.nii,*.gz]'", 2, "One line for each."),
        ("files.path=~/Dataset/MRIs/y_T2w.nii files.pattern=*", 66, "files.pattern=y_T2w.nii, or bids-hsf"),
        ("files.path=~ files.pattern=*.nii segmentation=single_fast,bagging_fast", 2, "a run has one model"),
        ("files.path=~ files.pattern=*.nii 'segmentation=choice(single_fast,x)'", 2, "a run has one model"),
    ],
)
def test_what_has_no_counterpart_is_answered(
    words: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translate(shlex.split(words)) == ([], code)
    assert said in capsys.readouterr().err


class TestInADataset:
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> Path:
        return write_tree(
            tmp_path / "study",
            [
                "sub-01/anat/sub-01_T1w.nii.gz",
                "sub-01/anat/sub-01_acq-hires_T2w.nii.gz",
                "sub-01/anat/sub-01_acq-low_T2w.nii.gz",
                "sub-02/ses-1/anat/sub-02_ses-1_acq-hires_T2w.nii.gz",
                "derivatives/x/sub-01/anat/sub-01_desc-preproc_T2w.nii.gz",
            ],
        )

    @pytest.mark.parametrize(
        ("where", "pattern", "expected"),
        [
            ("", "**/*T2w.nii.gz", "-m T2w"),
            ("", "sub-*/anat/*T1w.nii.gz", "--participant-label 01 -m T1w"),
            ("sub-02", "**/*.nii.gz", "--participant-label 02 -m T2w"),
            ("", "**/*_acq-hires_T2w.nii.gz", "FILTER -m T2w"),
        ],
    )
    def test_scans_are_processed_as_such(
        self, dataset: Path, where: str, pattern: str, expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found, told = lines(f"hsf files.path={dataset / where} 'files.pattern={pattern}'", capsys)
        assert ("1 image(s) that are no raw scans are left out" in told) == ("**/*T2w" in pattern)
        (line,) = found
        words = shlex.split(line)
        if "FILTER" in expected:
            place = words.index("--bids-filter-file")
            assert json.loads(words[place + 1])["t2w"]["acquisition"] == "hires"
            words[place : place + 2] = ["FILTER"]
        assert shlex.join(words) == f"{dataset} {dataset}/derivatives/bids-hsf participant {expected}"

    @pytest.mark.parametrize(("contrast", "contradicts"), [("t1", False), ("t2", True)])
    def test_names_tell_the_contrast(
        self, dataset: Path, contrast: str, contradicts: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = f"hsf files.path={dataset} 'files.pattern=sub-*/anat/*T1w.nii.gz' roiloc.contrast={contrast}"
        found, told = lines(command, capsys)
        assert found[0].endswith("-m T1w")
        assert ("names in a dataset tell the contrast" in told) == contradicts

    def test_what_cannot_be_told_apart_is_said(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_tree(dataset, ["sub-01/anat/sub-01_acq-hires_chunk-1_T2w.nii.gz"])
        pattern = "sub-01/anat/*acq-*[sw]_T2w.nii.gz"
        assert translate([f"files.path={dataset}", f"files.pattern={pattern}"])[1] == 2
        told = capsys.readouterr().err
        assert "cannot be told from others, such as sub-01/anat/sub-01_acq-hires_chunk-1_T2w.nii.gz" in told
        assert f"hint: bids-hsf {dataset} {dataset}/derivatives/bids-hsf participant -m T2w --bids-filter-file" in told

    def test_two_contrasts(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = f"hsf files.path={dataset} 'files.pattern=**/*T2w.nii.gz' multispectrality.pattern=*T1w.nii.gz"
        assert lines(command, capsys)[0][0].endswith("participant --multispectral --reference T2w")


class TestEntry:
    def test_which_lines_are_hsfs(self) -> None:
        assert is_hsf(["hsf"])
        assert is_hsf(["hsf", "--help"])
        assert is_hsf(["files.pattern=x", "files.path=y"])
        assert not is_hsf(["hsf", "out", "participant", "segmentation=single_fast"])
        assert not is_hsf(["/bids", "/out", "participant"])
        assert not is_hsf([])

    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["hsf", "--help"]) == hsf_main(["-h"]) == 0
        assert "hsf-compat" in capsys.readouterr().out

    def test_images_are_segmented_beside_themselves(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        card = write_card(tmp_path / "hub", contrasts="T1w, T2w")
        for name in ("a", "b"):
            write_head(tmp_path / "mri" / name / "tse.nii.gz")
        words = [f"files.path={tmp_path}/mri", "files.pattern=**/tse.nii.gz", f"segmentation={card}:toy_fast"]
        words.append("hardware.engine_settings.execution_providers=[CPUExecutionProvider]")
        assert main(["hsf", *words], SEAMS) == 0
        for name in ("a", "b"):
            assert (tmp_path / "mri" / name / "hsf_outputs" / "tse_seg-toyFast_dseg.nii.gz").is_file()
        capsys.readouterr()
        assert main(words, SEAMS) == 0
        assert capsys.readouterr().err.count("1 done before, 0 to do") == 2
