"""Network passes and nothing else: what the app's passes are measured against.

    python bare_loop.py onnxruntime|openvino PROVIDER THREADS

Each line that it is given, a JSON list of a network's path and the three lengths of a crop, is one pass, answered by a
line with its seconds; whoever gives them one by one has each pass beside what it is compared with, where the machine's
speed is the same. A network's first pass on a shape is made twice, and told the second time. Needs numpy and the one
runtime, so it can be run in an environment that has no more.
"""

import functools
import importlib
import json
import sys
import time
from collections.abc import Callable

import numpy as np

Run = Callable[[np.ndarray], object]
NO_RUNTIME = 3  # how it ends where the package is not there


def main() -> None:
    runtime, provider, n_threads = *sys.argv[1:3], int(sys.argv[3])
    warm: dict[tuple[str, tuple[int, ...]], Run] = {}
    crops: dict[tuple[int, ...], np.ndarray] = {}
    try:
        print(f"{runtime} {importlib.import_module(runtime).__version__}", flush=True)
    except ModuleNotFoundError:
        sys.exit(NO_RUNTIME)
    for line in sys.stdin:
        path, lengths = json.loads(line)
        shape = tuple(lengths)
        if (path, shape) not in warm:
            crops[shape] = np.random.default_rng(0).normal(size=(1, 1, *shape)).astype(np.float32)
            by_openvino = runtime == "openvino"
            run = open_openvino(path, shape, n_threads) if by_openvino else open_onnxruntime(path, provider, n_threads)
            run(crops[shape])
            warm[path, shape] = run
        started = time.perf_counter()
        warm[path, shape](crops[shape])
        print(time.perf_counter() - started, flush=True)


@functools.cache
def open_onnxruntime(path: str, provider: str, n_threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # into what comes next on these cores
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
