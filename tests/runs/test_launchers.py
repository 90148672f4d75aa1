"""Launchers: each is run by a shell, or read by the parser, that would take it; variables play the scheduler."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bids_hsf.runs.config import LAUNCHERS
from bids_hsf.runs.launchers import KINDS, MAX_TASKS, Launch, Needs, launcher_of

FILTERS = '{"t1w": {"run": null}}'
FAILS = 'case "$*" in *"--shard 2/3") exit "$CODE";; esac\n'
COMMAND = ("bids-hsf", "/data/my study", "/out", "participant", "--bids-filter-file", FILTERS, "-m", "T1w", "T2w")
TASKS = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "lsf": "LSB_JOBINDEX", "sge": "SGE_TASK_ID"}


def needs(n_scans: int = 100_000, n_participants: int = 100_000, seconds: float = 30.0) -> Needs:
    return Needs(n_scans, n_participants, seconds, at_once=2, cores=2, memory_mb=2000, source="a guess")


def launch(**changes: float) -> Launch:
    return Launch(needs(**changes), COMMAND, "/data/my study", "/out")


def run(script: str, folder: Path, *words: str, **environ: str) -> list[list[str]]:
    """Run a script with a stand-in that writes down what bids-hsf would be called with."""
    (folder / "launcher.sh").write_text(script)
    fake = folder / "bids-hsf"
    fake.write_text('#!/bin/bash\nprintf "%s\\0" "$@" >>"$CALLS"; printf "\\n" >>"$CALLS"\n')
    fake.chmod(0o755)
    calls = folder / "calls"
    path = f"{folder}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(calls), **environ}
    subprocess.run(["bash", str(folder / "launcher.sh"), *words], check=True, env=environment)
    return [line.rstrip("\0").split("\0") for line in calls.read_text().splitlines()]


def test_all_kinds_that_can_be_asked_for_are_there() -> None:
    assert set(KINDS) == set(LAUNCHERS)


@pytest.mark.parametrize("kind", TASKS)
def test_a_script_runs_the_shard_of_its_task_with_the_same_words(kind: str, tmp_path: Path) -> None:
    script = launcher_of(kind, launch())
    assert script.startswith("#!/bin/bash\n")
    (call,) = run(script, tmp_path, **{TASKS[kind]: "7"})
    n_tasks = needs().n_tasks
    assert call == [*COMMAND[1:], "--shard", f"7/{n_tasks}"]
    (tmp_path / "calls").unlink()
    assert run(script, tmp_path, "group") == [["/data/my study", "/out", "group"]]
    environment = {name: value for name, value in os.environ.items() if name != TASKS[kind]}
    alone = subprocess.run(["bash", str(tmp_path / "launcher.sh")], check=False, capture_output=True, env=environment)
    assert alone.returncode  # outside an array nothing is taken for the first shard


# What a scheduler finds the array by, and what it tells a task, beside its number.
ARRAYS = {
    "slurm": (r"^#SBATCH --array=1-(\d+)", {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_JOB_ID": "12"}),
    "pbs": (r"^#PBS -J 1-(\d+)", {"PBS_JOBID": "12[].server", "PBS_O_WORKDIR": "/"}),
    "lsf": (r"^#BSUB -J \"bids-hsf\[1-(\d+)\]", {"LSB_JOBID": "12", "LSB_JOBNAME": "bids-hsf"}),
    "sge": (r"^#\$ -t 1-(\d+)", {"JOB_ID": "12", "SGE_TASK_FIRST": "1", "SGE_TASK_STEPSIZE": "1"}),
}
# Those that give a job nothing of the shell that submits it, unless they are told to.
FORGETFUL = {"pbs": r"^#PBS .*-V\b", "sge": r"^#\$ .*-V\b"}


def submit(kind: str, script: Path, environ: dict[str, str]) -> None:
    """Run all tasks of an array, as a scheduler would start them: far from the shell of who submits it."""
    pattern, told = ARRAYS[kind]
    text = script.read_text()
    (count,) = re.findall(pattern, text, re.M)
    exported = environ if kind not in FORGETFUL or re.search(FORGETFUL[kind], text, re.M) else {}
    for number in range(1, int(count) + 1):
        job = {"PATH": "/usr/bin:/bin", "HOME": "/", **exported, **told, TASKS[kind]: str(number)}
        words, given = (["bash"], text) if kind == "lsf" else (["bash", str(script)], "")  # bsub < launcher.sh
        subprocess.run(words, check=True, env=job, cwd="/", input=given, text=True)


@pytest.mark.parametrize("kind", ARRAYS)
def test_every_task_of_an_array_finds_the_app_of_the_shell_that_submits_it(kind: str, tmp_path: Path) -> None:
    fake = tmp_path / "an app" / "bids-hsf"
    fake.parent.mkdir()
    fake.write_text('#!/bin/bash\necho "${@: -2}" >>"$CALLS"\n')
    fake.chmod(0o755)
    script = tmp_path / "launcher.sh"
    script.write_text(launcher_of(kind, launch(n_scans=4, n_participants=4, seconds=7200)))
    subprocess.run(["bash", "-n", str(script)], check=True)
    calls = tmp_path / "calls"
    submit(kind, script, {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "CALLS": str(calls)})
    n_tasks = needs(n_scans=4, n_participants=4, seconds=7200).n_tasks
    assert calls.read_text().splitlines() == [f"--shard {k}/{n_tasks}" for k in range(1, n_tasks + 1)]
    calls.unlink()
    container = {"BIDS_HSF": "env bids-hsf --cleanenv", "CALLS": str(calls), "PATH": f"{fake.parent}:/usr/bin:/bin"}
    submit(kind, script, container)
    assert len(calls.read_text().splitlines()) == n_tasks


@pytest.mark.parametrize("kind", TASKS)
def test_a_path_with_a_new_line_is_one_word_and_no_command(kind: str, tmp_path: Path) -> None:
    odd = f"/data/a\ntouch {tmp_path}/made\n#"
    command = ("bids-hsf", odd, "/out", "participant")
    script = launcher_of(kind, Launch(needs(), command, odd, "/out"))
    # Words are told apart by null characters, calls by new lines.
    calls = run(script, tmp_path, **{TASKS[kind]: "1"})
    assert "\n".join("\0".join(call) for call in calls).split("\0")[0] == odd
    assert not (tmp_path / "made").exists()


# What plays the command that submits the group level: it runs what it is given, behind its own options.
SUBMITTERS = {
    "pbs": ("qsub", "bash"),
    "sge": ("qsub", 'while [ "$1" != y ]; do shift; done; shift; "$@"'),
    "lsf": ("bsub", 'shift 2; "$@"'),
}


GROUP_ENDS = {"pbs": ":mem=3gb", "sge": " /out group", "lsf": " /out group"}


@pytest.mark.parametrize("kind", SUBMITTERS)
@pytest.mark.parametrize("app", ["bids-hsf", "env bids-hsf --cleanenv"])
def test_the_line_for_the_group_level_runs_it_in_a_container_as_well(kind: str, app: str, tmp_path: Path) -> None:
    name, does = SUBMITTERS[kind]
    for program, script in ((name, does), ("bids-hsf", 'printf "%s\\0" "$@" >>"$CALLS"')):
        (tmp_path / program).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / program).chmod(0o755)
    script = launcher_of(kind, launch())
    (line,) = [line[2:] for line in script.splitlines() if line.startswith("# ") and line.endswith(GROUP_ENDS[kind])]
    calls = tmp_path / "calls"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "array": "12[]"}
    environment |= {"BIDS_HSF": app} if " " in app else {}
    subprocess.run(["bash", "-c", line], check=True, env=environment)
    assert calls.read_text().split("\0")[-4:] == ["/data/my study", "/out", "group", ""]


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            "slurm",
            ["#SBATCH --array=1-209%50", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=3G", "#SBATCH --time=04:10:00"],
        ),
        ("pbs", ["#PBS -J 1-209%50", "#PBS -l select=1:ncpus=2:mem=3gb", "#PBS -l walltime=04:10:00"]),
        ("lsf", ['#BSUB -J "bids-hsf[1-209]%50"', "#BSUB -n 2", "#BSUB -W 4:10"]),
        ("sge", ["#$ -t 1-209", "#$ -tc 50", "#$ -pe smp 2", "#$ -l h_vmem=4G", "#$ -l h_rt=04:10:00"]),
    ],
)
def test_time_and_memory_are_those_of_the_estimate(kind: str, lines: list[str]) -> None:
    script = launcher_of(kind, launch()).splitlines()
    assert [line for line in lines if line not in script] == []


def test_arrays_stay_below_what_schedulers_allow_and_shards_below_the_participants() -> None:
    assert needs(seconds=3000).n_tasks == MAX_TASKS
    assert needs(n_scans=12, n_participants=3, seconds=30_000).n_tasks == 3
    assert needs(n_scans=4, n_participants=2, seconds=1).n_tasks == 1
    # A shard of several scans a participant has time for all of them.
    few = needs(n_scans=12, n_participants=3, seconds=3600)
    assert few.task_minutes >= 60 * 2 * few.n_scans / few.n_tasks / few.at_once


def test_one_task_is_an_array_to_no_pbs(tmp_path: Path) -> None:
    script = launcher_of("pbs", launch(n_scans=4, n_participants=2, seconds=1))
    assert "#PBS -J" not in script
    assert run(script, tmp_path)[0][-2:] == ["--shard", "1/1"]


def test_babs_reads_its_configuration() -> None:
    content = yaml.safe_load(launcher_of("babs", launch()))
    arguments = content["bids_app_args"]
    assert arguments["$SUBJECT_SELECTION_FLAG"] == "--participant-label"
    assert shlex.split(arguments["--bids-filter-file"]) == [FILTERS]
    assert arguments["-m"] == "T1w T2w"
    assert content["cluster_resources"]["hard_memory_limit"] == "3G"
    assert content["cluster_resources"]["number_of_cpus"] == "2"


def test_nipoppy_reads_its_files_and_knows_their_names() -> None:
    content = json.loads(launcher_of("nipoppy", launch()))
    settings = content["invocation.json"]
    descriptor = json.loads((Path(__file__).parents[2] / "docker/nipoppy/descriptor.json").read_text())
    assert set(settings) <= {known["id"] for known in descriptor["inputs"]}
    assert (settings["modalities"], settings["bids_filter_file"]) == (["T1w", "T2w"], FILTERS)
    assert content["hpc.json"]["CORES"] == "2"


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed: pip install snakemake")
@pytest.mark.parametrize(("code", "ends"), [(0, True), (1, True), (65, True), (137, False)])
def test_snakemake_runs_its_file_and_failed_scans_do_not_end_it(tmp_path: Path, code: int, ends: bool) -> None:
    command = ("bids-hsf", "/data/my study", str(tmp_path / "my out"), *COMMAND[3:])
    small = needs(n_scans=3, n_participants=3, seconds=14_000)
    (tmp_path / "Snakefile").write_text(launcher_of("snakemake", Launch(small, command, command[1], command[2])))
    fake = tmp_path / "bids-hsf"
    fake.write_text('#!/bin/bash\nprintf "%s\\0" "$@" >>"$CALLS"; printf "\\n" >>"$CALLS"\n' + FAILS)
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(tmp_path / "calls"), "CODE": str(code)}
    words = ["snakemake", "--snakefile", "Snakefile", "--cores", "2", "--keep-going"]
    done = subprocess.run(words, check=False, capture_output=True, env=environment, cwd=tmp_path)
    calls = [line.rstrip("\0").split("\0") for line in (tmp_path / "calls").read_text().splitlines()]
    shards = [[*command[1:], "--shard", f"{number}/3"] for number in (1, 2, 3)]
    assert sorted(calls[:3]) == shards
    assert calls[3:] == ([[command[1], command[2], "group"]] if ends else [])
    assert (done.returncode == 0) == ends, done.stderr.decode()


def test_snakefile_keeps_the_words(tmp_path: Path) -> None:
    snakefile = launcher_of("snakemake", launch())
    # A rule is its own language around Python's literals.
    shells = [line.strip() for line in snakefile.splitlines() if line.strip().startswith(("'bids-hsf", '"bids-hsf'))]
    group, participants = map(eval, shells)
    assert shlex.split(group) == ["bids-hsf", "/data/my study", "/out", "group"]
    filled = participants.format(wildcards=type("Wildcards", (), {"shard": 7}))
    assert f" --shard 7/{needs().n_tasks} || " in filled
    assert shlex.split(filled.partition(" --shard")[0]) == list(COMMAND)
