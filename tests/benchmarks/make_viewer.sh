#!/bin/sh
# Make bids_hsf/data/viewer/niivue.js.gz, the viewer of --report-3d, from npm's packages (needs node, npm and a network).
#
#     tests/benchmarks/make_viewer.sh bids_hsf/data/viewer
#
# The same versions give the same bytes; their checksum stands in NOTICE, and tests/reports/test_turning.py holds the
# file against it. For another version of NiiVue change the numbers here and there, and look into the licences again.
set -eu
target=$(cd "$1" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact esbuild@0.25.12 @niivue/niivue@0.69.0 \
    gl-matrix@3.4.4 nifti-reader-js@0.8.0 fflate@0.8.3 @ungap/structured-clone@1.4.0 @lukeed/uuid@2.0.1 array-equal@1.0.2

# Zarr stores are not among what the pages show; their decoders are a megabyte of WebAssembly.
cat > no-zarr.js <<'END'
const missing = () => { throw new Error("Zarr is not part of this build"); };
export const root = missing, open = missing, get = missing, FetchStore = missing, slice = missing, registry = new Map();
END
echo 'export { Niivue, NVImage } from "@niivue/niivue";' > entry.js
node_modules/.bin/esbuild entry.js --bundle --minify --format=iife --global-name=niivue --target=es2022 \
    --alias:zarrita=./no-zarr.js --legal-comments=none --outfile=niivue.js
gzip --best --no-name --stdout niivue.js > "$target/niivue.js.gz"
sha256sum niivue.js
grep -q "$(sha256sum niivue.js | cut -d ' ' -f 1)" "$target/NOTICE" || echo "NOTICE names another checksum" >&2
