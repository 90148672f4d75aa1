#!/bin/bash
# Shards of a dataset, one a task, then one group run; of 100 participants or of 100,000:
#
#   export BIDS_DIR=/data/study OUTPUT_DIR=/data/study/derivatives/bids-hsf IMAGE=/data/images/bids_hsf.sif
#   tasks=$(sbatch --parsable --array=1-500%50 singularity/slurm_array.sh)
#   sbatch --dependency="afterany:$tasks" singularity/slurm_array.sh
#
# Task k of 500 does the k-th of 500 slices of the participants, %50 of them at a time. Most clusters allow numbers up
# to 1000. As many tasks as make one take an hour or two; with fewer scans a task, starting takes the larger part:
# bids-hsf ... participant --print-launcher slurm reckons it, with time and memory.
# Further words go to bids-hsf: sbatch ... singularity/slurm_array.sh --model longaxis_bagging_fast
# A failed scan does not stop the others, and the same line again does what is missing. To run some tasks of an array
# again, say how many shards there are: SHARDS=500 sbatch --array=3,17 singularity/slurm_array.sh
#SBATCH --job-name=bids-hsf
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --output=bids-hsf_%A_%a.log
set -euo pipefail

: "${BIDS_DIR:?the BIDS dataset}" "${OUTPUT_DIR:?where the derivatives go}" "${IMAGE:?bids_hsf.sif}"
engine=$(command -v apptainer || command -v singularity)
cores=${SLURM_CPUS_PER_TASK:-1}
scratch=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/bids-hsf.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$OUTPUT_DIR"

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  first=${SLURM_ARRAY_TASK_MIN:-1}
  if [ -n "${SHARDS:-}" ]; then
    first=1
  elif [ $((SLURM_ARRAY_TASK_MAX - first + 1)) -ne "$SLURM_ARRAY_TASK_COUNT" ]; then
    echo "The numbers of this array have gaps: SHARDS must say how many shards there are" >&2
    exit 2
  fi
  level=(participant --shard "$((SLURM_ARRAY_TASK_ID - first + 1))/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}")
else
  level=(group)
fi

# --cleanenv keeps the login shell's Python settings out; the three binds are all that the app sees of the host.
# Models of your own: add -B /data/models:/models:ro and the words --hub-dir /models.
# The signal of Slurm before its time is up goes to the app, which then tells that it was stopped.
"$engine" run --cleanenv --containall --no-home \
  -B "$BIDS_DIR:/bids:ro" -B "$OUTPUT_DIR:/out" -B "$scratch:/work" \
  "$IMAGE" /bids /out "${level[@]}" --work-dir /work --nthreads "$cores" "$@" &
app=$!
trap 'kill -TERM "$app" 2>/dev/null' TERM INT
code=0
wait "$app" || code=$?
# A trap ends the first wait; the app is then still at work on its end.
while kill -0 "$app" 2>/dev/null; do wait "$app" || code=$?; done
exit "$code"
