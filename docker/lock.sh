#!/bin/sh
# Renew the pinned versions and checksums of the images: docker/lock.sh (needs uv).
# The locks name no index: where packages come from is the builder's choice. torch stands apart (torch.lock),
# since its CPU build lies on an index of its own: its checksums are those of both indices' files for Python 3.11.
set -eu
cd "$(dirname "$0")"
# Empty where torch's CPU build comes from elsewhere, for example UV_FIND_LINKS.
backend=${UV_TORCH_BACKEND-cpu}
unset UV_TORCH_BACKEND

compile() {
  output=$1
  shift
  uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_36 --generate-hashes \
    --no-header --no-annotate --output-file "$output" "$@"
}

only() {
  output=$1 requirement=$2 package=${2%%[>=[]*}
  echo "$requirement" | compile "$output" --constraint requirements.lock --no-deps -
  grep -q "^$package" "$output"
}

torch=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' torch.lock)
echo "torch==$torch" > torch.constraint
trap 'rm -f torch.constraint' EXIT
compile requirements.lock ../pyproject.toml ${backend:+--torch-backend $backend} \
  --constraint torch.constraint \
  --no-emit-package torch --no-emit-package onnxruntime --no-emit-package onnxruntime-openvino
compile build.lock - <<REQUIREMENTS
hatchling>=1.27
setuptools
REQUIREMENTS
# Each index's checksum for each machine, as pip would take the file; without one, the old lock stays.
torch_hash() {
  python3 -m pip install --quiet --dry-run --no-deps --target unused --only-binary :all: --implementation cp \
    --python-version 3.11 --platform "manylinux_2_28_$1" --index-url "$2" --report - "torch==$torch" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["install"][0]["download_info"]["archive_info"]["hash"])'
}
common=${UV_DEFAULT_INDEX:-https://pypi.org/simple}
if cpu=$(torch_hash x86_64 https://download.pytorch.org/whl/cpu) && arm=$(torch_hash aarch64 "$common"); then
  {
    sed -n '/^#/p' torch.lock
    echo "torch==$torch \\"
    printf '    --hash=%s \\\n    --hash=%s\n' "$cpu" "$arm" | sed 's/=sha256=/=sha256:/'
  } >torch.new
  mv torch.new torch.lock
fi
only onnxruntime-openvino.lock "onnxruntime-openvino>=1.24"
only onnxruntime-cpu.lock "onnxruntime>=1.28"
# With the CUDA and cuDNN libraries themselves: the host brings the driver alone.
# shellcheck disable=SC2046  # one word a flag
compile onnxruntime-cuda.lock --constraint requirements.lock - \
  $(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock) <<REQUIREMENTS
onnxruntime-gpu[cuda,cudnn]>=1.28
REQUIREMENTS
