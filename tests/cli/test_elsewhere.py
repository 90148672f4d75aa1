"""Every option of the programs that people come from is taken, or answered: none meets a guess or silence."""

import doctest
import re

import pytest

from bids_hsf.cli import elsewhere
from bids_hsf.cli.arguments import build_parser, parse
from bids_hsf.cli.elsewhere import ELSEWHERE
from bids_hsf.errors import UnknownAnalysisLevelError, UsageError

PATHS = ["/bids", "/out", "participant"]

# All options of their help but those of Pandoc, in the spelling with hyphens.
PROGRAMS = {
    "fMRIPrep 25": """--anat-only --aggregate-session-reports --bids-database-dir --bids-filter-file --bold2anat-dof
        --bold2anat-init --boilerplate-only --cifti-output --clean-workdir --config-file --country-code --debug
        --derivatives -d --dummy-scans --dvars-spike-threshold --echo-idx --fallback-total-readout-time
        --fd-spike-threshold --fmap-bspline --fmap-no-demean --force --force-bbr --force-no-bbr --force-syn
        --fs-license-file --fs-no-reconall --fs-no-resume --fs-subjects-dir --ignore --level --longitudinal --low-mem
        --md-only-boilerplate --me-output-echos --me-t2s-fit-method --medial-surface-nan --mem --mem-mb --msm --n-cpus
        --nipype-plugin-file --no-msm --no-submm-recon --notrack --nprocs --nthreads --omp-nthreads --output-layout
        --output-spaces --participant-label --project-goodvoxels --random-seed --reports-only --resource-monitor
        --return-all-components --session-label --skip-bids-validation --skull-strip-fixed-seed --skull-strip-t1w
        --skull-strip-template --slice-time-ref --sloppy --stop-on-first-crash --subject-anatomical-reference
        --submm-recon --task-id -t --track-carbon --track-sessions --use-plugin --use-syn-sdc --verbose -v --version
        --work-dir -w --write-graph""",
    "sMRIPrep": """--cifti-output --derivatives --fast-track --fs-no-resume --longitudinal --mem-gb --output-spaces
        --run-uuid --skull-strip-mode --skull-strip-fixed-seed --skull-strip-template --sloppy --use-plugin
        --subject-anatomical-reference""",
    "MRIQC 24": """--ants-float --ants-nthreads --ants-settings --bids-database-wipe --crashfile-format --deoblique
        --despike --dry-run --dsname --email --fd-thres --fft-spikes-detector --float32 -m --mem-gb --min-bold-length
        --min-dwi-length --modalities --no-datalad-get --no-sub --notrack --pdb --profile --reports-only
        --resource-monitor --run-id --session-id --species --start-idx --stop-idx --task-id --testing --upload-strict
        --verbose-reports --webapi-port --webapi-url --write-graph""",
    "QSIPrep": """--anat-biascorrect --anat-modality --anatomical-template --b0-motion-corr-to --b0-threshold
        --b0-to-anat-transform --b0-to-t1w-transform --b1-biascorrect-stage --boilerplate --denoise-after-combining
        --denoise-method --diffprep-config --distortion-group-merge --dwi-denoise-window --dwi-no-biascorr --dwi-only
        --eddy-config --gpu --hmc-model --hmc-transform --infant --intramodal-template-iters
        --intramodal-template-transform --no-b0-harmonization --output-resolution --pepolar-method
        --prefer-dedicated-fmaps --report-output-level --separate-all-dwis --shoreline-iters
        --skip-anat-based-spatial-normalization --tortoise-gpu-cpu-ratio --unringing-method""",
    "HippUnfold 1.5": """--participant-label --exclude-participant-label --modality --template --inject-template
        --use-template-seg --template-seg-smoothing-factor --derivatives --skip-preproc --skip-coreg
        --skip-inject-template-labels --inject-template-smoothing-factor --rigid-reg-template --no-reg-template
        --t1-reg-template --crop-native-res --crop-native-box --atlas --no-unfolded-reg --generate-myelin-map --use-gpu
        --nnunet-enable-tta --output-spaces --output-density --hemi --laminar-coords-method --autotop-labels
        --keep-work --force-nnunet-model --filter-T1w --filter-T2w --wildcards-T1w --path-T1w --path-T2w --cores -c -n
        --force-output --pybidsdb-dir --pybidsdb-reset --skip-bids-validation --use-singularity --use-conda
        --rerun-incomplete --keep-going --profile --help-snakemake""",
    "FreeSurfer": """-i -s -subject -subjid -sd -all -autorecon1 -autorecon2 -autorecon3 -T2 -T2pial -FLAIR -FLAIRpial
        -hippocampal-subfields-T1 -hippocampal-subfields-T2 -brainstem-structures -parallel -openmp -threads -qcache
        -cw256 -hires -3T -base -long -tp -debug -no-isrunning""",
    "FreeSurfer's BIDS App": """--acquisition-label --allow-lowresT2 --bids-validator-config --hires-mode
        --license-file --measurements --multiple-sessions --n-cpus --parcellations --qcache --reconstruction-label
        --refine-pial --refine-pial-acquisition-label --session-label --skip-bids-validator --stages --steps
        --template-name""",
    "FastSurfer": """--t1 --t2 --sid --sd --seg-only --surf-only --vox-size --fs-license --device --viewagg-device
        --threads --batch --py --no-cereb --no-biasfield --no-hypothal --no-cc --parallel --3T --allow-root""",
    "SynthSeg": "--i --o --parc --robust --fast --vol --qc --post --resample --crop --threads --cpu --ct",
}


def options_of_other_programs() -> list[tuple[str, str]]:
    return [(program, flag) for program, flags in PROGRAMS.items() for flag in flags.split()]


def test_example_of_the_docstring() -> None:
    assert doctest.testmod(elsewhere) == (0, 1)


def test_each_option_is_taken_or_answered() -> None:
    known = build_parser()._option_string_actions
    assert len(options_of_other_programs()) > 250
    assert not [each for each in options_of_other_programs() if each[1] not in known and each[1] not in ELSEWHERE]
    assert not set(known) & set(ELSEWHERE)


def test_no_flag_has_two_answers() -> None:
    flags = [flag for each in elsewhere.GROUPS.values() for flag in each.split()]
    assert sorted(ELSEWHERE) == sorted(flags)


def test_options_that_answers_speak_of_are_there() -> None:
    known = build_parser()._option_string_actions
    told = {flag for answer in ELSEWHERE.values() for flag in re.findall(r"--[a-z][a-z0-9-]*", answer)}
    assert "--derivatives" in told
    assert not told - set(known)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            "--ignore slicetiming --dummy-scans 2 --output-spaces MNI152NLin2009cAsym:res-2",
            "--ignore, --dummy-scans: only anatomical images are looked at: leave it out. --output-spaces: label maps",
        ),
        ("--use_gpu --hemi L", "--use-gpu: --device cuda computes on a GPU, --device list tells what is here. --hemi"),
        ("-i scan.nii.gz -s sub01 -all", "-i: images are given by name: bids-hsf IMAGE.nii.gz OUTPUT_DIR. -s: "),
        ("-hippocampal-subfields-T1", "-hippocampal-subfields-T1: --model subfields_single_accurate"),
        ("-debug", "-debug: -vv"),
        (
            "--hemi=L --modle=x",
            "--hemi: both hippocampi are segmented; the tables have a row a side: leave it out. Did",
        ),
    ],
)
def test_all_of_a_line_is_answered_at_once(words: str, hint: str) -> None:
    with pytest.raises(UsageError, match="unrecognized arguments") as caught:
        parse([*PATHS, *words.split()])
    assert (caught.value.hint or "").startswith(hint)


def test_the_word_behind_force_is_no_level() -> None:
    with pytest.raises(UnknownAnalysisLevelError, match="syn-sdc") as caught:
        parse([*PATHS, "--force", "syn-sdc"])
    assert "--force takes no word here" in (caught.value.hint or "")


def test_what_stands_behind_two_hyphens_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    given = parse(["--", "-all.nii.gz", "-out"])
    assert [str(path) for path in (*given["images"], given["output_dir"])] == ["/tmp/-all.nii.gz", "/tmp/-out"]
