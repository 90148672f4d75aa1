#!/bin/sh
# Run an image as its users do, with Docker or Podman: docker/smoke_test.sh IMAGE [OUTPUT_DIR]
# A user id that nobody has, read-only files, no network. (Without a daemon: make test-container.)
set -eu
image=${1:?an image}
output=${2:-$(mktemp -d)}
engine=$(command -v docker || command -v podman)
dataset=$(cd "$(dirname "$0")/.." && pwd)/tests/data/bids
mkdir -p "$output"
chmod a+rwx "$output"

app() {
  "$engine" run --rm --read-only --network none --user 54321:54321 \
    -v "$dataset:/bids:ro" -v "$output:/out" "$@"
}

app "$image" --version
app "$image" --bids-exec-spec >/dev/null
app "$image" /bids /out participant --model longaxis_single_fast --device cpu
app "$image" /bids /out group
app --env DENO_DIR=/out/.deno --entrypoint bids-validator-deno "$image" /out

maps=$(find "$output" -name '*_dseg.nii.gz' | wc -l)
[ "$maps" -eq 3 ] || { echo "expected 3 label maps, found $maps" >&2; exit 1; }
[ "$(wc -l <"$output/group_volumes.tsv")" -eq 4 ] || { echo "group_volumes.tsv has not one row a scan" >&2; exit 1; }
echo "good: $output"
