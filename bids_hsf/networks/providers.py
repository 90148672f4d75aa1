"""Execution providers of ONNX Runtime, and the options under which their answers agree."""

import json
from dataclasses import dataclass
from pathlib import Path

from bids_hsf.machine import cpu_features

# Options under which providers keep what they compiled in a folder, "{}". OpenVINO compiles for a CPU as fast as it
# would read it again.
CACHES = {
    "tensorrt": {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "{}",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "{}",
    },
    "migraphx": {"migraphx_model_cache_dir": "{}"},
    "openvino-gpu": {"cache_dir": "{}"},
    "coreml": {"ModelCacheDirectory": "{}"},
}


@dataclass(frozen=True)
class Provider:
    """An execution provider that this app knows how to use.

    Attributes
    ----------
    name : str
        As given to ``--device``.
    ort_name : str
        ONNX Runtime's name of it.
    package : str
        The build of ONNX Runtime that has it.
    gpu : str
        Vendor whose hardware it needs; "" for the CPU.
    automatic : bool
        Tried by ``--device auto``.
    note : str
        Why not, or what else to know.
    """

    name: str
    ort_name: str
    package: str
    gpu: str = ""
    automatic: bool = False
    note: str = ""


# The fastest first.
PROVIDERS = (
    Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu", "NVIDIA", automatic=True),
    Provider("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu", "NVIDIA", note="compiles anew for each shape"),
    Provider(
        "migraphx", "MIGraphXExecutionProvider", "onnxruntime-migraphx", "AMD", note="compiles anew for each shape"
    ),
    Provider("openvino-gpu", "OpenVINOExecutionProvider", "onnxruntime-openvino", "Intel", note="compiles for long"),
    Provider("coreml", "CoreMLExecutionProvider", "onnxruntime", "Apple", note="has no 3-D convolution"),
    Provider("directml", "DmlExecutionProvider", "onnxruntime-directml", "any", note="no longer developed"),
    Provider("openvino", "OpenVINOExecutionProvider", "onnxruntime-openvino", automatic=True),
    Provider("cpu", "CPUExecutionProvider", "any build", automatic=True),
)


def provider_options(
    provider: Provider, n_threads: int, cache_dir: Path | None = None, *, reduced_precision: bool = False
) -> dict[str, str]:
    """Options under which a provider gives the CPU provider's results (if not reduced), within its threads."""
    cached = {}
    if cache_dir is not None and provider.name in CACHES:
        cache_dir.mkdir(parents=True, exist_ok=True)
        cached = {name: value.format(cache_dir) for name, value in CACHES[provider.name].items()}
    if provider.ort_name == "OpenVINOExecutionProvider":
        kind = "GPU" if provider.gpu else "CPU"
        # Without a hint, OpenVINO computes in bfloat16 where the CPU has AMX: labels would depend on the machine.
        config = {"INFERENCE_PRECISION_HINT": _precision(kind) if reduced_precision else "f32"}
        if kind == "CPU":
            # Each process would bind its threads to the first of the cores: all scans that run at once to the same.
            config["ENABLE_CPU_PINNING"] = "NO"
        load_config = json.dumps({kind: config})
        return {"device_type": kind, "num_of_threads": str(n_threads), "load_config": load_config, **cached}
    if provider.name == "cuda":
        # Crops vary in shape: an exhaustive search for each would cost more than it wins.
        return {
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": str(int(reduced_precision)),
        }
    return cached


def _precision(kind: str) -> str:
    """Fewest bits in which OpenVINO gains time; without AMX, emulated bfloat16 takes up to four times as long."""
    if kind == "GPU":
        return "f16"
    return "bf16" if "AMX" in cpu_features() else "f32"
