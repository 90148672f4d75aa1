"""The network passes of a run and nothing else: what the app's passes are measured against.

    python bare_loop.py onnxruntime|openvino PROVIDER THREADS PASSES.json

PASSES.json holds [[network path, [x, y, z]], ...] as `speed.py` records them. Needs numpy and the one runtime, so it
can be run in an environment that has no more. Every distinct shape is run once before the clock starts. Prints the
seconds of all passes.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Run = Callable[[np.ndarray], object]


def main() -> None:
    runtime, provider, n_threads, passes_path = sys.argv[1:]
    passes = [(path, tuple(shape)) for path, shape in json.loads(Path(passes_path).read_text())]
    crops = {shape: np.random.default_rng(0).normal(size=(1, 1, *shape)).astype(np.float32) for _, shape in passes}
    if runtime == "onnxruntime":
        opened = {path: open_onnxruntime(path, provider, int(n_threads)) for path, _ in passes}
        runs = {(path, shape): opened[path] for path, shape in passes}
    else:
        runs = {(path, shape): open_openvino(path, shape, int(n_threads)) for path, shape in set(passes)}
    for path, shape in set(passes):
        runs[path, shape](crops[shape])
    started = time.perf_counter()
    for path, shape in passes:
        runs[path, shape](crops[shape])
    print(time.perf_counter() - started)


def open_onnxruntime(path: str, provider: str, n_threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    # In float32 as the app: where the CPU has AMX, OpenVINO would take bfloat16.
    openvino = {
        "device_type": "CPU",
        "num_of_threads": str(n_threads),
        "load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": "NO"}}),
    }
    device = openvino if provider.startswith("OpenVINO") else {}
    session = onnxruntime.InferenceSession(path, options, providers=[(provider, device)])
    name = session.get_inputs()[0].name
    return lambda crop: session.run(None, {name: crop})


def open_openvino(path: str, shape: tuple[int, ...], n_threads: int) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, 1, *shape])  # static: the best that OpenVINO can do
    settings = {"INFERENCE_NUM_THREADS": n_threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda crop: request.infer([crop])


if __name__ == "__main__":
    main()
