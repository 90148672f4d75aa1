"""Options of other programs that are not taken here: what each is called here, or why it is to be left out."""

from collections.abc import Iterable, Mapping, Sequence

from bids_hsf.runs.config import LEVELS
from bids_hsf.text_table import near

ANATOMICAL = "only anatomical images are looked at: leave it out"
SURFACES = "there are no surfaces: leave it out"
VOXELS = "label maps lie on the voxels of each scan; --write-xfm writes the way to MNI152"
FREESURFER = "FreeSurfer is not needed: leave it out"
BOXES = "--derivatives freesurfer=DIR takes the boxes from FreeSurfer's label maps"
MASK = "no brain mask is needed: leave it out"
IMAGE = "images are given by name: bids-hsf IMAGE.nii.gz OUTPUT_DIR"
OUTPUT = "the output folder is given by name: bids-hsf IMAGE.nii.gz OUTPUT_DIR"
PARTICIPANTS = "--participant-label LABEL chooses participants"
CORES = "--nthreads N is the number of cores"
REGISTRATION = "the template is MNI152 and the registration is checked by itself: leave it out"
ITSELF = "each session is segmented by itself: leave it out"
FILTERS = "--bids-filter-file FILE chooses images by their entities"
RESUMED = "the same command goes on by itself with what is missing: leave it out"
CONTAINER = "no further containers or environments are needed: leave it out"
SENT = "nothing is ever sent anywhere: leave it out"
METHODS = "--boilerplate-only writes the methods text"
NOTHING = "there is nothing of the kind here: leave it out"

# Answer to the flags, in the spelling with hyphens, of fMRIPrep, sMRIPrep, MRIQC, QSIPrep, HippUnfold (Snakebids),
# FreeSurfer and its BIDS App, FastSurfer, SynthSeg.
GROUPS: Mapping[str, str] = {
    ANATOMICAL: """--ignore --dummy-scans --bold2anat-dof --bold2anat-init --bold2t1w-dof --bold2t1w-init
        --dvars-spike-threshold --fd-spike-threshold --fd-thres --return-all-components --echo-idx --force-bbr
        --fallback-total-readout-time --fmap-bspline --fmap-no-demean --force-no-bbr --force-syn --use-syn-sdc
        --use-aroma --me-output-echos --me-t2s-fit-method --slice-time-ref --topup-max-vols --min-bold-length
        --min-dwi-length --fft-spikes-detector --start-idx --stop-idx --correct-slice-timing --hmc-fsl --despike
        --deoblique --b0-motion-corr-to --b0-threshold --b0-to-anat-transform --b0-to-t1w-transform
        --b1-biascorrect-stage --denoise-after-combining --denoise-method --diffprep-config --distortion-group-merge
        --dwi-denoise-window --dwi-no-biascorr --dwi-only --eddy-config --hmc-model --hmc-transform
        --no-b0-harmonization --pepolar-method --prefer-dedicated-fmaps --separate-all-dwis --shoreline-iters
        --tortoise-gpu-cpu-ratio --unringing-method""",
    SURFACES: """--cifti-output --msm --no-msm --project-goodvoxels --medial-surface-nan --output-density
        --laminar-coords-method --no-unfolded-reg --generate-myelin-map --autotop-labels --surf-only --refine-pial
        --refine-pial-acquisition-label --refine-pial-reconstruction-label --parcellations --measurements --qcache
        -qcache -T2pial -FLAIRpial --parc""",
    VOXELS: "--output-spaces --output-space --output-resolution --crop-native-res --vox-size --resample",
    FREESURFER: """--submm-recon --fs-no-resume --fast-track --fs-license --license-file --hires-mode --steps --stages
        --3T -hires -3T -cw256 -autorecon1 -autorecon2 -autorecon3 -no-isrunning -all --no-cereb --no-hypothal --no-cc
        --no-biasfield""",
    BOXES: "--fs-subjects-dir --sd -sd",
    MASK: "--skull-strip-t1w --skull-strip-template --skull-strip-mode --skull-strip-fixed-seed",
    IMAGE: "--i -i --t1 --path-T1w",
    f"{IMAGE} -m T2w": "--t2 --path-T2w -T2",
    "T1w and T2w are looked at: leave it out": "-FLAIR --anat-modality --species --infant",
    "two contrasts of a session are joined by --multispectral": "--allow-lowresT2",
    OUTPUT: "--o -o",
    PARTICIPANTS: "--subject --subjects --sid -s --s -subject -subjid",
    CORES: "--cores -c --threads -threads -openmp -n-cpus --ants-nthreads",
    "--nprocs N is the number of scans at once": "--parallel -parallel --batch --jobs -j",
    "--dry-run tells what would be done": "-n --dryrun",
    "--model NAME chooses the networks: `hsf-hub list`": "--force-nnunet-model --atlas --list-models --model-name",
    "--model subfields_single_accurate segments the subfields": "-hippocampal-subfields-T1 -hippocampal-subfields-T2",
    "only hippocampi are segmented: leave it out": "-brainstem-structures -thalamic-nuclei --seg-only",
    "both hippocampi are segmented; the tables have a row a side: leave it out": "--hemi",
    "--model NAME_accurate, or --tta N, is test-time augmentation": "--nnunet-enable-tta",
    "--device cuda computes on a GPU, --device list tells what is here": "--gpu --use-gpu --viewagg-device",
    "--device cpu computes on the CPU": "--cpu",
    "--model subfields_single_fast is the quickest for subfields": "--sloppy --testing --fast --ants-float",
    REGISTRATION: """--template --inject-template --use-template-seg --template-seg-smoothing-factor
        --rigid-reg-template --inject-template-smoothing-factor --skip-inject-template-labels --no-reg-template
        --t1-reg-template --anatomical-template --intramodal-template-iters --intramodal-template-transform
        --ants-settings --skip-anat-based-spatial-normalization --template-name --robust""",
    "--box-margin-mm MM is the margin around the hippocampus": "--crop-native-box --crop",
    "images are taken as the scanner gives them, preprocessed or not: leave it out": """--skip-preproc --skip-coreg
        --anat-biascorrect --float32 --ct""",
    ITSELF: """--subject-anatomical-reference --aggregate-session-reports --track-sessions --multiple-sessions -base
        -long -tp""",
    FILTERS: """--filter-T1w --filter-T2w --wildcards-T1w --wildcards-T2w --acquisition-label --reconstruction-label""",
    RESUMED: "--rerun-incomplete --keep-going --force-output --bids-database-wipe --pybidsdb-dir --pybidsdb-reset",
    "nothing is kept in the work folder: leave it out": "--keep-work",
    CONTAINER: "--use-singularity --use-apptainer --use-conda --sdm --software-deployment-method --singularity-image",
    "a level is a word behind the folders: bids-hsf BIDS_DIR OUTPUT_DIR participant": "--level --analysis-level",
    SENT: "--email --webapi-port --webapi-url --upload-strict",
    METHODS: "--md-only-boilerplate --boilerplate",
    "volumes and quality are always written: leave it out": "--vol --qc --post",
    "-vv shows all that is logged": "-debug --pdb --verbose-reports --report-output-level",
    NOTHING: """--crashfile-format --dsname --no-datalad-get --allow-root --py --nipype-plugin-file --run-uuid --profile
        --help-snakemake""",
    "--skip-bids-validation leaves the validator out": "--skip-bids-validator --bids-validator-config",
}

ELSEWHERE: Mapping[str, str] = {flag: answer for answer, flags in GROUPS.items() for flag in flags.split()}


def answers(flags: Sequence[str], known: Iterable[str]) -> str:
    """Say what to type instead of flags that are not known here, one sentence for those that have the same answer.

    >>> answers(["--ignore", "--dummy-scans", "--modle"], ["--model"])
    '--ignore, --dummy-scans: only anatomical images are looked at: leave it out. Did you mean --model? '

    Parameters
    ----------
    flags : sequence of str
        As they were typed, without values.
    known : iterable of str
        Flags that are understood, for near words.
    """
    by_answer: dict[str, list[str]] = {}
    asked = []
    known = list(known)
    for flag in dict.fromkeys(flags):
        level = flag.lstrip("-")
        answer = ELSEWHERE.get(flag) or (f"the level is a word without hyphens: {level}" if level in LEVELS else None)
        if answer is not None:
            by_answer.setdefault(answer, []).append(flag)
        else:
            asked.append(near(flag, known))
    told = [f"{', '.join(same)}: {answer}. " for answer, same in by_answer.items()]
    return "".join([*told, *dict.fromkeys(asked)])
