"""Sessions of ONNX Runtime: how every one of them is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import DeviceError, ModelError
from bids_hsf.networks.onnx_file import NetworkFacts, examine, refuse_unsafe

CPU = "CPUExecutionProvider"


@dataclass(frozen=True, eq=False)
class Network:
    """An ONNX file that has been opened.

    Attributes
    ----------
    path : Path
    session : onnxruntime.InferenceSession
    facts : NetworkFacts
    shapes : list of tuple of int
        Of the last tensor that was run.
    """

    path: Path
    session: Any
    facts: NetworkFacts
    shapes: list[tuple[int, ...]] = field(default_factory=list, compare=False, repr=False)

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on (1, 1, X, Y, Z) float32 and give its first output.

        The CPU provider learns from the first pass of a shape how the feature maps fit into one block, but keeps what
        it took meanwhile: that is given back, and all further passes share the block. A pass over 48x64x56 voxels
        then holds 100 MB instead of 245 MB, and takes a sixth less time.

        Raises
        ------
        ModelError
            ONNX Runtime cannot run it on such a tensor.
        """
        name = self.session.get_inputs()[0].name
        try:
            scores: NDArray[np.float32] = self.session.run(None, {name: tensor}, self._run_options(tensor.shape))[0]
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            raise ModelError(
                f"{self.path}: the network fails on a crop of {tensor.shape[2:]} voxels ({first_line(error)})",
                "Try --device cpu; if it stays, the file is damaged or breaks the contract: hsf-hub validate",
            ) from error
        return scores

    def _run_options(self, shape: tuple[int, ...]) -> Any:
        """Options of one pass: memory is given back after the first one of a shape."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        if self.session.get_providers()[0] == CPU and self.shapes != [shape]:
            self.shapes[:] = [shape]
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


def compiled_providers() -> list[str]:
    """List the providers that ONNX Runtime was compiled with; whether they work is another matter."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def open_session(path: Path, provider: str, options: Mapping[str, str], n_threads: int) -> Network:
    """Open an ONNX file on an execution provider, or fail: never on another one.

    Raises
    ------
    ModelError
        The file cannot be read, is unsafe, or not even the CPU provider can load it.
    DeviceError
        This provider cannot load it, or ONNX Runtime took another one.
    """
    import onnxruntime

    try:
        model = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", "Fetch it again: hsf-hub fetch") from error
    facts = examine(model, path)
    refuse_unsafe(facts, path)
    if provider == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    try:
        providers = [(provider, dict(options))]
        session = onnxruntime.InferenceSession(model, session_options(provider, n_threads), providers=providers)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        message = f"{path}: {provider} cannot load it ({first_line(error)})"
        if provider == CPU:
            raise ModelError(message, "Check the file: hsf-hub verify, hsf-hub validate") from error
        raise DeviceError(message, "Use --device cpu, or --device auto") from error
    used = session.get_providers()[0]
    if used != provider:
        raise DeviceError(
            f"{path}: expected a session of {provider}, ONNX Runtime took {used}", "See `bids-hsf --device list`"
        )
    return Network(path, session, facts)


def session_options(provider: str, n_threads: int) -> Any:
    """Options of every session: explicit threads, no hoarded memory, no spinning, the format that was examined."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    # The CPU provider's memory is kept small by Network.run; other providers have their own, and never fill this one.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = provider == CPU
    options.log_severity_level = 3
    # Python work alternates with the network: threads that spin between passes would take its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else ONNX Runtime would look whether the bytes could be its own format, which nobody has examined.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def first_line(error: Exception) -> str:
    """Cut what an exception says after its first line; ONNX Runtime's messages run to pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
