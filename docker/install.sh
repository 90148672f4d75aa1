#!/bin/sh
# Install the app, its locked dependencies and its models: docker/install.sh PREFIX, from the root of the sources.
#
# The Dockerfile and the Singularity definition that builds from scratch share it. Variables:
#   ONNXRUNTIME  openvino | cpu | cuda (docker/onnxruntime-*.lock)
#   TORCH_INDEX  address of an index with torch's CPU build for x86-64; empty to take it from pip's own configuration
#   MODELS       models to have inside; the longaxis family always is
set -eu
prefix=$1
runtime=${ONNXRUNTIME:-openvino}
locks=$(dirname "$0")
builder=$(mktemp -d)
trap 'rm -rf "$builder"' EXIT

if [ "$runtime" = openvino ] && [ "$(uname -m)" != x86_64 ]; then
  echo "onnxruntime-openvino has no wheels for $(uname -m): taking the CPU build"
  runtime=cpu
fi

# pip lives in a throw-away environment and installs into the other one, which never holds pip. Packages that come
# as sources alone are built by the locked tools of the first.
python3 -m venv "$builder"
python3 -m venv --without-pip "$prefix"
pip() { "$builder/bin/python" -m pip --no-input --disable-pip-version-check -qq "$@"; }
collect() { pip wheel --no-deps --no-build-isolation --wheel-dir "$builder/wheels" "$@"; }

pip install --no-deps --require-hashes -r "$locks/build.lock"
collect --require-hashes -r "$locks/requirements.lock" -r "$locks/onnxruntime-$runtime.lock"
# On other machines than x86-64 the common index has the CPU build itself.
[ "$(uname -m)" = x86_64 ] || TORCH_INDEX=
collect --require-hashes ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r "$locks/torch.lock"
collect .
pip --python "$prefix/bin/python" install --no-deps --no-compile --no-index "$builder"/wheels/*.whl

# What no run needs: tests, headers and build files. torch starts a program of its bin folder, so that one stays.
packages=$(echo "$prefix"/lib/python3*/site-packages)
find "$packages" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
rm -rf "$packages/torch/include" "$packages/torch/share" "$packages/numpy/_core/include" "$prefix/include" "$prefix/share"
find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete
find "$packages" -type f \( -name '*.a' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' \
  -o -name '*.hpp' -o -name '*.c' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -delete
# The wheels' temporary folder, in each package's metadata; and nothing of the caller's environment reaches Python.
find "$packages" -name direct_url.json -delete
find "$prefix/bin" -mindepth 1 ! -name 'python*' ! -name bids-hsf ! -name hsf-hub ! -name bids-validator-deno \
  ! -name deno -delete
sed -i "1s|^#!$prefix/bin/python.*|#!$prefix/bin/python -I|" \
  "$prefix/bin/bids-hsf" "$prefix/bin/hsf-hub" "$prefix/bin/bids-validator-deno"
# By content, not by time: the files are the same whenever and wherever they are made. (A file of torch is for newer
# Pythons alone.)
"$prefix/bin/python" -m compileall -q -j 0 -x py312_ --invalidation-mode unchecked-hash "$packages"
"$prefix/bin/python" -I -c 'import bids, jinja2, nibabel, onnxruntime, scipy.ndimage, SimpleITK, torchio'

export BIDS_HSF_CACHE="$prefix/models"
mkdir -p "$BIDS_HSF_CACHE"
for model in ${MODELS:-longaxis}; do
  [ "$model" = longaxis ] || "$prefix/bin/hsf-hub" fetch "$model"
done

"$prefix/bin/python" -c 'import bids_hsf; print(bids_hsf.__version__)' >"$prefix/version"
chmod -R a+rX,go-w "$prefix"
