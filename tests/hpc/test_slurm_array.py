"""Arrays of a real Slurm: the script of `singularity/` as it is, and the launcher that the app prints."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fast_app import write_card, write_dataset
from slurm import Slurm
from toy_runs import APP, assert_whole, contents, leftovers, run_here, wait_until

pytestmark = pytest.mark.hpc

SCRIPT = Path(__file__).parents[2] / "singularity/slurm_array.sh"
N_SUBJECTS = 6

# In the place of apptainer: undoes the binds and runs the app of this environment, with no variable but Slurm's.
APPTAINER = """#!/bin/bash
[ "$1" = run ] || exit 2; shift
binds=()
while [[ $1 == -* ]]; do
  case $1 in -B) binds+=("$2"); shift 2 ;; *) shift ;; esac
done
shift  # the image
words=()
for word in "$@"; do
  for bind in "${{binds[@]}}"; do IFS=: read -r host inside _ <<<"$bind"; [ "$word" = "$inside" ] && word=$host; done
  words+=("$word")
done
exec env PYTHONPATH={path} FAST_APP_GATE={gate} {python} {app} "${{words[@]}}"
"""

FAST = """#!/bin/bash
exec env PYTHONPATH={path} FAST_APP_GATE={gate} {python} {app} "$@"
"""


class Cluster:
    """A dataset, a Slurm, and what the scripts need to run there."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        self.bids_dir = write_dataset(folder / "bids", N_SUBJECTS)
        self.card = write_card(folder)
        self.out, self.gate = folder / "out", folder / "gate"
        programs = folder / "programs"
        programs.mkdir()
        path, python = os.pathsep.join(sys.path), sys.executable
        (programs / "apptainer").write_text(APPTAINER.format(path=path, gate=self.gate, python=python, app=APP))
        (programs / "bids-hsf").write_text(FAST.format(path=path, gate=self.gate, python=python, app=APP))
        for program in programs.iterdir():
            program.chmod(0o755)
        self.environ = {
            "PATH": f"{programs}:{slurm.environ['PATH']}",
            "BIDS_DIR": self.bids_dir,
            "OUTPUT_DIR": self.out,
            "IMAGE": "none.sif",
        }
        self.model = ["--model", f"{self.card}:toy_fast", "--device", "cpu", "--skip-bids-validation"]
        self.model += ["--omp-nthreads", "1", "--nprocs", "1"]

    def sbatch(self, *words: object, **environ: object) -> str:
        return self.slurm.run(
            "sbatch",
            "--parsable",
            "--cpus-per-task=1",
            "--mem=1G",
            "--output=bids-hsf_%A_%a.log",
            *words,
            cwd=self.folder,
            **self.environ,
            **environ,
        )

    def array(self, numbers: str, **environ: object) -> str:
        return self.sbatch(f"--array={numbers}", SCRIPT, *self.model, **environ)

    def open_gate(self) -> None:
        self.gate.touch()

    def status(self, *words: str) -> tuple[int, dict[str, Any]]:
        done = run_here(str(self.bids_dir), str(self.out), "status", "--json", *self.model, *words)
        (found,) = json.loads(done.stdout)["models"]
        return done.returncode, found

    def said(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))


@pytest.fixture
def cluster(slurm: Slurm, tmp_path: Path) -> Cluster:
    return Cluster(slurm, tmp_path)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one undisturbed run on all participants leaves."""
    folder = tmp_path_factory.mktemp("reference")
    bids_dir, card = write_dataset(folder / "bids", N_SUBJECTS), write_card(folder)
    words = [str(bids_dir), str(folder / "out"), "participant", "group", "--model", f"{card}:toy_fast"]
    done = run_here(*words, "--device", "cpu", "--skip-bids-validation", "--omp-nthreads", "1", "--nprocs", "1")
    assert done.returncode == 0, done.stderr
    return lasting(folder / "out")


def lasting(out: Path) -> dict[str, bytes]:
    """Results and pages, which hold no path of a dataset."""
    return contents(out, "sub-*/**/*.*", "sub-*.html", "group_volumes.tsv", "group_volumes.html")


def test_an_array_of_shards_and_the_group_behind_it_end_as_one_run_does(
    cluster: Cluster, reference: dict[str, bytes]
) -> None:
    cluster.open_gate()
    tasks = cluster.array("1-4%2")
    group = cluster.sbatch(f"--dependency=afterany:{tasks}", SCRIPT)
    assert set(cluster.slurm.wait(tasks, group)) == {"COMPLETED"}, cluster.said()
    assert lasting(cluster.out) == reference
    assert leftovers(cluster.out) == []
    for k in range(1, 5):
        assert f"Shard {k}/4: this run takes {2 if k < 3 else 1} of {N_SUBJECTS} participant(s)" in cluster.said()
    # Settings are saved once, or by each of those that began in one moment.
    assert 1 <= len(list(cluster.out.glob("logs/config_*.toml"))) <= 2
    assert cluster.status("--require-complete")[0] == 0


def test_what_is_cancelled_is_told_as_killed_and_the_same_line_does_the_rest(
    cluster: Cluster, reference: dict[str, bytes]
) -> None:
    tasks = cluster.array("1-2")
    # Both have begun with their first scan, and wait at the gate.
    wait_until(lambda: len(list(cluster.out.glob("logs/*/*_started.json"))) == 2)
    _, running = cluster.status()
    assert [scan["scan"] for scan in running["running"]] == ["sub-01_T1w", "sub-02_T1w"]
    cluster.slurm.run("scancel", f"{tasks}_1")
    wait_until(lambda: "CANCELLED" in cluster.slurm.states(tasks))
    wait_until(lambda: len(cluster.status()[1]["killed"]) == 1)
    code, found = cluster.status("--require-complete")
    assert (code, found["complete"]) == (1, False)
    (killed,) = found["killed"]
    assert killed["scan"] == "sub-01_T1w"
    assert f"job {tasks}_1 on " in killed["reason"]
    assert [scan["scan"] for scan in found["missing"]] == ["sub-03_T1w", "sub-04_T1w", "sub-05_T1w", "sub-06_T1w"]
    cluster.open_gate()
    cluster.slurm.wait(tasks)
    assert_whole(cluster.out)
    incomplete = run_here(str(cluster.bids_dir), str(cluster.out), "group", "--require-complete")
    assert incomplete.returncode == 1
    assert "sub-01_T1w is killed" in incomplete.stderr
    again = cluster.array("1-2")
    group = cluster.sbatch(f"--dependency=afterok:{again}", SCRIPT)
    assert set(cluster.slurm.wait(again, group)) == {"COMPLETED"}, cluster.said()
    assert lasting(cluster.out) == reference
    assert not list(cluster.out.glob("logs/*/*_started.json"))


def test_tasks_that_are_requeued_or_run_twice_do_no_harm(cluster: Cluster, reference: dict[str, bytes]) -> None:
    first = cluster.array("1-2")
    wait_until(lambda: len(list(cluster.out.glob("logs/*/*_started.json"))) == 2)
    cluster.slurm.run("scontrol", "requeue", f"{first}_2")
    wait_until(lambda: "PENDING" in cluster.slurm.states(first))
    # By itself it would wait for two minutes. Within the second of the requeue, though, the node refuses it:
    # "Job credential revoked".
    cluster.slurm.run("scontrol", "update", f"JobId={first}_2", "StartTime=now+3")
    second = cluster.array("2", SHARDS="2")  # the same shard, at the same time
    cluster.open_gate()
    assert set(cluster.slurm.wait(first, second)) == {"COMPLETED"}, cluster.said()
    group = cluster.sbatch(SCRIPT)
    cluster.slurm.wait(group)
    assert lasting(cluster.out) == reference
    assert leftovers(cluster.out) == []


def test_an_array_with_gaps_says_what_it_needs(cluster: Cluster) -> None:
    cluster.open_gate()
    tasks = cluster.array("1,3")
    assert set(cluster.slurm.wait(tasks)) == {"FAILED"}
    assert "SHARDS must say how many shards there are" in cluster.said()
    assert not cluster.out.exists() or not list(cluster.out.iterdir())


def test_the_printed_launcher_runs_as_it_is(cluster: Cluster, reference: dict[str, bytes]) -> None:
    cluster.open_gate()
    words = [str(cluster.bids_dir), str(cluster.out), "participant", *cluster.model, "--print-launcher", "slurm"]
    printed = run_here(*words)
    assert printed.returncode == 0, printed.stderr
    assert not cluster.out.exists()
    launcher = cluster.folder / "launcher.sh"
    # Fewer scans than would make three tasks of hours.
    launcher.write_text(printed.stdout.replace("--array=1-1%", "--array=1-3%").replace('}/1"', '}/3"'))
    assert subprocess.run(["bash", "-n", launcher], check=False).returncode == 0
    tasks = cluster.sbatch(launcher)
    group = cluster.sbatch(f"--dependency=afterany:{tasks}", "--array=1", launcher, "group")
    assert set(cluster.slurm.wait(tasks, group)) == {"COMPLETED"}, cluster.said()
    assert lasting(cluster.out) == reference


def test_a_task_without_labels_takes_its_slice_by_itself_and_one_with_labels_these(cluster: Cluster) -> None:
    cluster.open_gate()
    program = shutil.which("bids-hsf", path=cluster.environ["PATH"])
    words = " ".join([str(program), str(cluster.bids_dir), str(cluster.out), "participant", *cluster.model])
    tasks = cluster.sbatch("--array=1-3", "--wrap", words)
    cluster.slurm.wait(tasks)
    assert cluster.status("--require-complete")[0] == 0
    assert cluster.said().count(f"this run takes 2 of {N_SUBJECTS} participant(s)") == 3
    named = cluster.sbatch("--array=1-3", "--wrap", f"{words} --participant-label 01")
    cluster.slurm.wait(named)
    assert cluster.said().count("1 scan(s) selected: 1 done before, 0 to do") == 3
