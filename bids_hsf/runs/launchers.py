"""Scripts that put a run on a cluster: an array of shards for a scheduler, or settings for a tool that makes arrays."""

import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MAX_TASKS = 1000  # Slurm's MaxArraySize is 1001 on most clusters, and its numbers end one below
AT_ONCE = 50
MAPPED_GB = 1.5  # that a process maps beside the memory that it takes: libraries, stacks, room for arrays
TASK_SECONDS = 2 * 3600.0  # so long that to start says nothing, so short that a node that fails costs little
START_SECONDS = 60.0
SAFETY = 2.0  # an estimate may be half of what a slow node takes; who is killed by the clock loses more than queueing


@dataclass(frozen=True)
class Needs:
    """What the scans of a run take, and how they are to be dealt out.

    Attributes
    ----------
    n_scans, n_participants : int
        That are to be done.
    scan_seconds : float
        Of one, on the cores that it is given.
    at_once : int
        Scans of a task at the same time.
    cores : int
        Of a task.
    memory_mb : int
        Of a task.
    source : str
        What the seconds rest on.
    """

    n_scans: int
    n_participants: int
    scan_seconds: float
    at_once: int
    cores: int
    memory_mb: int
    source: str

    @property
    def total_seconds(self) -> float:
        """All scans, one after the other."""
        return self.n_scans * self.scan_seconds

    @property
    def n_tasks(self) -> int:
        """Shards of about `TASK_SECONDS`, no more than there are participants or than an array may have."""
        wanted = math.ceil(self.total_seconds / self.at_once / TASK_SECONDS)
        return max(1, min(wanted, self.n_participants, MAX_TASKS))

    @property
    def task_minutes(self) -> int:
        """Time limit of one task, in whole ten minutes."""
        scans = math.ceil(self.n_scans / max(1, self.n_participants)) * math.ceil(self.n_participants / self.n_tasks)
        seconds = START_SECONDS + SAFETY * self.scan_seconds * math.ceil(scans / self.at_once)
        return 10 * max(1, math.ceil(seconds / 600))

    @property
    def task_gb(self) -> int:
        """Memory limit of one task, in whole GB, a quarter above what it is thought to need."""
        return max(2, math.ceil(self.memory_mb * 1.25 / 1024))

    @property
    def task_virtual_gb(self) -> float:
        """Virtual memory of all processes of one task, with the one that hands out scans."""
        return self.task_gb + MAPPED_GB * (self.at_once + 1)

    @property
    def told(self) -> str:
        """The reckoning, in one line."""
        return (
            f"{self.n_scans} scan(s) of {self.n_participants} participant(s), about {self.scan_seconds:.0f} s each "
            f"({self.source}): {self.n_tasks} task(s), {self.total_seconds / 3600:.1f} h one after the other"
        )


@dataclass(frozen=True)
class Launch:
    """What a launcher is made of.

    Attributes
    ----------
    needs : Needs
    command : tuple of str
        The command line of the participant level, with "bids-hsf", without a shard.
    bids_dir, output_dir : str
    """

    needs: Needs
    command: tuple[str, ...]
    bids_dir: str
    output_dir: str

    @property
    def options(self) -> tuple[str, ...]:
        """The words behind the folders and the level."""
        return self.command[4:]


def launcher_of(kind: str, launch: Launch) -> str:
    """Write a launcher of a kind in `KINDS`."""
    return KINDS[kind](launch)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


def _comment(text: str) -> str:
    """Comment of a shell script; what is behind a new line, which a path may hold, stays one."""
    return "# " + text.replace("\n", "\n# ")


def _script(launch: Launch, header: Sequence[str], task: str, submit: Sequence[str]) -> str:
    """Join the parts of a shell script that schedulers take; `task` is the variable with the number of a task."""
    needs = launch.needs
    run = " ".join(["${BIDS_HSF:-bids-hsf}", shlex.join(launch.command[1:])])
    lines = [
        "#!/bin/bash",
        *header,
        f"# {needs.told}",
        "#",
        *map(_comment, submit),
        "# The same line again does what is missing; so does a part of the array, for the shards are counted here.",
        _comment("What became of it: bids-hsf " + shlex.join([launch.bids_dir, launch.output_dir, "status", "--json"])),
        "# In a container: export BIDS_HSF='apptainer run --cleanenv -B /data bids_hsf.sif', folders as it sees them.",
        "set -euo pipefail",
        'if [ "${1:-}" = group ]; then',
        f"  exec {_group_line(launch)}",
        "fi",
        f'exec {run} --shard "${{{task}:?the number of the task}}/{needs.n_tasks}" "$@"',
    ]
    return "\n".join(lines)


def _slurm(launch: Launch) -> str:
    needs = launch.needs
    header = [
        "#SBATCH --job-name=bids-hsf",
        f"#SBATCH --array=1-{needs.n_tasks}%{AT_ONCE}",
        "#SBATCH --nodes=1 --ntasks=1",
        f"#SBATCH --cpus-per-task={needs.cores}",
        f"#SBATCH --mem={needs.task_gb}G",
        f"#SBATCH --time={_clock(needs.task_minutes)}",
        "#SBATCH --output=bids-hsf_%A_%a.log",
    ]
    submit = [
        "array=$(sbatch --parsable launcher.sh)",
        'sbatch --dependency="afterany:$array" --array=1 launcher.sh group',
    ]
    return _script(launch, header, "SLURM_ARRAY_TASK_ID", submit)


def _pbs(launch: Launch) -> str:
    needs = launch.needs
    header = [
        "#PBS -N bids-hsf",
        "#PBS -V",  # PATH and BIDS_HSF of the shell that submits; Slurm and LSF take them by themselves
        *([f"#PBS -J 1-{needs.n_tasks}%{AT_ONCE}"] if needs.n_tasks > 1 else []),
        f"#PBS -l select=1:ncpus={needs.cores}:mem={needs.task_gb}gb",
        f"#PBS -l walltime={_clock(needs.task_minutes)}",
        "#PBS -j oe",
    ]
    # As a script, which a shell finds the app for; `qsub --` wants the path of a program.
    group = f'echo {shlex.quote(_group_line(launch))} | qsub -V -N bids-hsf-group -W depend="afterany:$array"'
    submit = ["array=$(qsub launcher.sh)", f"{group} -l select=1:ncpus=1:mem={needs.task_gb}gb"]
    script = _script(launch, header, "PBS_ARRAY_INDEX", submit)
    # An array of one task is none to PBS.
    return script if needs.n_tasks > 1 else script.replace("${PBS_ARRAY_INDEX:?the number of the task}", "1")


def _lsf(launch: Launch) -> str:
    needs = launch.needs
    header = [
        f'#BSUB -J "bids-hsf[1-{needs.n_tasks}]%{AT_ONCE}"',
        f"#BSUB -n {needs.cores}",
        f'#BSUB -R "span[hosts=1] rusage[mem={needs.task_gb}GB]"',
        f"#BSUB -W {needs.task_minutes // 60}:{needs.task_minutes % 60:02d}",
        "#BSUB -o bids-hsf_%J_%I.log",
    ]
    submit = ["bsub < launcher.sh", f"bsub -w 'ended(bids-hsf)' {_group_line(launch)}"]
    return _script(launch, header, "LSB_JOBINDEX", submit)


def _sge(launch: Launch) -> str:
    needs = launch.needs
    header = [
        "#$ -N bids-hsf -S /bin/bash -cwd -j y -V",
        f"#$ -t 1-{needs.n_tasks}",
        f"#$ -tc {AT_ONCE}",
        f"#$ -pe smp {needs.cores}",
        # Of a slot, and of what its processes map: beyond it they are killed.
        f"#$ -l h_vmem={math.ceil(needs.task_virtual_gb / needs.cores)}G",
        f"#$ -l h_rt={_clock(needs.task_minutes)}",
    ]
    submit = ["qsub launcher.sh", f"qsub -V -hold_jid bids-hsf -b y {_group_line(launch)}"]
    return _script(launch, header, "SGE_TASK_ID", submit)


def _group_line(launch: Launch) -> str:
    return f"${{BIDS_HSF:-bids-hsf}} {shlex.join([launch.bids_dir, launch.output_dir, 'group'])}"


def _snakemake(launch: Launch) -> str:
    """Write a Snakefile: a job a shard, then the group level; failed scans end no job, the status tells of them."""
    needs = launch.needs

    def rule(words: Sequence[str], more: str = "") -> str:
        # Snakemake fills braces in.
        return repr(shlex.join(words).replace("{", "{{").replace("}", "}}") + more)

    done = f"{launch.output_dir}/logs/shards/{{shard}}_of_{needs.n_tasks}.done"
    # Some scans failed, or all of them.
    shard = f" --shard {{wildcards.shard}}/{needs.n_tasks} || case $? in 1|65) ;; *) exit 1;; esac"
    return "\n".join(
        [
            f"# {needs.told}",
            f"# snakemake --snakefile Snakefile --cores {needs.cores}",
            f"# snakemake --snakefile Snakefile --executor slurm --jobs {AT_ONCE}  (snakemake-executor-plugin-slurm)",
            "rule group:",
            "    input:",
            f"        expand({done!r}, shard=range(1, {needs.n_tasks + 1})),",
            "    shell:",
            f"        {rule(['bids-hsf', launch.bids_dir, launch.output_dir, 'group'])}",
            "",
            "rule participants:",
            "    output:",
            f"        touch({done!r}),",
            f"    threads: {needs.cores}",
            "    resources:",
            f"        mem_mb={needs.task_gb * 1024},",
            f"        runtime={needs.task_minutes},",
            "    shell:",
            f"        {rule(launch.command, shard)}",
        ]
    )


def _one_participant(launch: Launch) -> Needs:
    """Tell what one participant takes, for tools that make a job of each."""
    needs = launch.needs
    scans = math.ceil(needs.n_scans / max(1, needs.n_participants))
    return Needs(scans, 1, needs.scan_seconds, needs.at_once, needs.cores, needs.memory_mb, needs.source)


def _pairs(options: Sequence[str]) -> dict[str, list[str]]:
    """Tell flags from their values."""
    pairs: dict[str, list[str]] = {}
    flag = ""
    for word in options:
        if word.startswith("-"):
            flag, equals, value = word.partition("=")
            pairs[flag] = [value] if equals else []
        else:
            pairs[flag].append(word)
    return pairs


# What the tool itself gives to each job.
OF_THE_JOB = ("--participant-label", "--exclude-participant-label", "--session-label", "-w", "--work-dir")


def _babs(launch: Launch) -> str:
    """Write a configuration for ``babs init --container-config``."""
    needs = _one_participant(launch)
    given = {flag: values for flag, values in _pairs(launch.options).items() if flag not in OF_THE_JOB}
    given.setdefault("--skip-bids-validation", [])
    arguments = [f"    {flag}: {json.dumps(shlex.join(values) if values else '')}" for flag, values in given.items()]
    return "\n".join(
        [
            f"# {launch.needs.told}",
            "# babs init --container-config THIS_FILE ...; change the lines with FIXME.",
            "input_datasets:",
            "    BIDS:",
            '        required_files: ["anat/*_T[12]w.nii*"]',
            "        is_zipped: false",
            f"        origin_url: {json.dumps(launch.bids_dir)}",
            "        path_in_babs: inputs/data/BIDS",
            "bids_app_args:",
            '    $SUBJECT_SELECTION_FLAG: "--participant-label"',
            '    -w: "$BABS_TMPDIR"',
            f'    --nthreads: "{needs.cores}"',
            *(line for line in arguments if not line.startswith("    --nthreads:")),
            "singularity_args: [--containall, --cleanenv, --writable-tmpfs]",
            "all_results_in_one_zip: true",
            "zip_foldernames:",
            '    bids_hsf: "1"',
            "cluster_resources:",
            '    interpreting_shell: "/bin/bash"',
            f"    hard_memory_limit: {needs.task_gb}G",
            f'    hard_runtime_limit: "{_clock(needs.task_minutes)}"',
            "    temporary_disk_space: 10G",
            f"    number_of_cpus: {json.dumps(str(needs.cores))}",
            "script_preamble: |",
            '    source "${CONDA_PREFIX}"/bin/activate babs  # FIXME',
            'job_compute_space: "/path/to/temporary_compute_space"  # FIXME',
            "alert_log_messages:",
            '    stdout: ["Every scan failed", "Out of memory", "Internal error"]',
        ]
    )


def _nipoppy(launch: Launch) -> str:
    """Write the two files of a Nipoppy pipeline that say what it is run with, as one JSON object."""
    needs = _one_participant(launch)
    settings: dict[str, object] = {
        "bids_dir": "[[NIPOPPY_DPATH_BIDS]]",
        "output_dir": "[[NIPOPPY_DPATH_PIPELINE_OUTPUT]]",
        "analysis_level": ["participant"],
        "participant_label": ["[[NIPOPPY_PARTICIPANT_ID]]"],
        "session_label": ["[[NIPOPPY_SESSION_ID]]"],
        "work_dir": "[[NIPOPPY_DPATH_PIPELINE_WORK]]",
        "skip_bids_validation": True,
        "nthreads": needs.cores,
    }
    for flag, values in _pairs(launch.options).items():
        if flag not in OF_THE_JOB:
            name = NAMES.get(flag, flag.lstrip("-").replace("-", "_"))
            settings[name] = _value(name, values)
    resources = {
        "ACCOUNT": "[[HPC_ACCOUNT_NAME]]",
        "TIME": _clock(needs.task_minutes),
        "CORES": str(needs.cores),
        "MEMORY": f"{needs.task_gb}G",
        "ARRAY_CONCURRENCY_LIMIT": str(AT_ONCE),
    }
    return json.dumps({"invocation.json": settings, "hpc.json": resources}, indent=4)


# The descriptor's own names.
NAMES = {"-m": "modalities", "-d": "derivatives", "-v": "verbose", "--mem-mb": "mem", "--tta": "tta"}
LISTS = ("modalities", "hub_dir", "derivatives", "export_lut")


def _value(name: str, values: Sequence[str]) -> object:
    """Value of an option as the descriptor types it."""
    if not values:
        return True
    if name in LISTS:
        return list(values)
    if name == "mem" or not re.fullmatch(r"-?\d+(\.\d+)?", values[0]):
        return values[0]
    return float(values[0]) if "." in values[0] else int(values[0])


KINDS: Mapping[str, Callable[[Launch], str]] = {
    "slurm": _slurm,
    "pbs": _pbs,
    "lsf": _lsf,
    "sge": _sge,
    "babs": _babs,
    "nipoppy": _nipoppy,
    "snakemake": _snakemake,
}
