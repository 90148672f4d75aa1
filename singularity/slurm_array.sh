#!/bin/bash
# One participant a task, then one group run:
#
#   export BIDS_DIR=/data/study OUTPUT_DIR=/data/study/derivatives/bids-hsf IMAGE=/data/images/bids_hsf.sif
#   find "$BIDS_DIR" -maxdepth 1 -type d -name 'sub-*' -printf '%f\n' | sort >participants.txt
#   participants=$(sbatch --parsable --array="1-$(wc -l <participants.txt)%50" singularity/slurm_array.sh participants.txt)
#   sbatch --dependency="afterany:$participants" singularity/slurm_array.sh
#
# Further words go to bids-hsf: sbatch ... singularity/slurm_array.sh participants.txt --model longaxis_bagging_fast
# A failed participant does not stop the others; run the same line again, and only what is missing is done.
#SBATCH --job-name=bids-hsf
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=bids-hsf_%A_%a.log
set -euo pipefail

: "${BIDS_DIR:?the BIDS dataset}" "${OUTPUT_DIR:?where the derivatives go}" "${IMAGE:?bids_hsf.sif}"
engine=$(command -v apptainer || command -v singularity)
cores=${SLURM_CPUS_PER_TASK:-1}
scratch=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/bids-hsf.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$OUTPUT_DIR"

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  list=${1:?a file with one participant a line}
  shift
  label=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$list")
  [ -n "$label" ] || { echo "$list has no line $SLURM_ARRAY_TASK_ID" >&2; exit 18; }
  level=(participant --participant-label "$label")
else
  level=(group)
fi

# --cleanenv keeps the login shell's Python settings out; the three binds are all that the app sees of the host.
# Models of your own: add -B /data/models:/models:ro and the words --hub-dir /models.
"$engine" run --cleanenv --containall --no-home \
  -B "$BIDS_DIR:/bids:ro" -B "$OUTPUT_DIR:/out" -B "$scratch:/work" \
  "$IMAGE" /bids /out "${level[@]}" --work-dir /work --nthreads "$cores" "$@"
