"""Sessions of ONNX Runtime: how every one of them is opened, and by whom it is kept."""

import io
import math
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from bids_hsf.errors import DeviceError, FetchError, ModelError
from bids_hsf.networks.bounds import endable, limited_memory
from bids_hsf.networks.onnx_file import NetworkFacts, examine, refuse_unsafe

CPU = "CPUExecutionProvider"

# A multiple of every usual pad_multiple; 32768 voxels take some 10 ms.
PROBE_SIZE = 32

# What opening and a pass may take, by far more than any was seen to; it is there against those that know no measure.
OPENING_SECONDS = 1800.0  # some providers compile for minutes
PASS_SECONDS = 600.0
PASS_SECONDS_A_VOXEL = 2e-3  # forty times what HSF's largest network takes on one old core
OPENING_BYTES = 512 << 20
OPENING_BYTES_A_FILE_BYTE = 16
PASS_BYTES_A_VOXEL_AND_MAP = 160

MAX_FILE_BYTES = 2**31  # of a protobuf message
MAX_DECLARED_VOXELS = 2**24  # 256 an axis; the largest crop is a tenth of it
HEAD_BYTES = 64

FATAL = 4  # of ONNX Runtime's logs

CHECKSUMS: dict[str, Callable[[bytes], Any]] = {"sha256": sha256, "xxh3_64": xxhash.xxh3_64}

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class SessionSettings:
    """How a session is opened.

    Attributes
    ----------
    provider : str
        As ONNX Runtime has it.
    options : mapping of str to str
        Provider options.
    n_threads : int
        Threads of the session.
    """

    provider: str
    options: Mapping[str, str]
    n_threads: int


class Network:
    """An ONNX file that has been opened: a session, what it learnt from its last pass, and its answer to the probe.

    Parameters
    ----------
    path : Path
        The file, to be named in errors.
    session : onnxruntime.InferenceSession
    facts : NetworkFacts

    Attributes
    ----------
    memory_bytes : int or None
        A pass may take no more on a CPU; None for what a network of its width and its crop may need.
    """

    def __init__(self, path: Path, session: Any, facts: NetworkFacts) -> None:
        self.path = path
        self.session = session
        self.facts = facts
        self.memory_bytes: int | None = None
        self._last_shape: tuple[int, ...] | None = None
        self._probed: FloatArray | None = None

    def run(self, tensor: FloatArray) -> FloatArray:
        """Run the network on (1, 1, X, Y, Z) float32 and give its first output.

        The CPU provider learns from the first pass of a shape how the feature maps fit into one block, but keeps what
        it took meanwhile: that is given back, and all further passes share the block. A pass over 48x64x56 voxels
        then holds 100 MB instead of 245 MB, and takes a sixth less time.

        Raises
        ------
        ModelError
            ONNX Runtime cannot run it on such a tensor, or not within the bounds of time and memory.
        """
        name = self.session.get_inputs()[0].name
        options = self._run_options(tensor.shape)
        seconds = PASS_SECONDS + PASS_SECONDS_A_VOXEL * tensor.size

        def work() -> FloatArray:
            scores: FloatArray = self.session.run(None, {name: tensor}, options)[0]
            return scores

        def end() -> None:
            options.terminate = True

        try:
            with _bounded(self.session.get_providers()[0], self.memory_bytes or self._pass_bytes(tensor.size)):
                scores = endable(work, end, seconds)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            raise ModelError(
                f"{self.path}: the network fails on a crop of {tensor.shape[2:]} voxels ({first_line(error)})",
                "Try --device cpu; if it stays, the file is damaged or breaks the contract: hsf-hub validate",
            ) from error
        return scores

    def probe(self, multiple: int = 1) -> FloatArray:
        """Run the network on z-scores of pure noise, always the same; the answer is remembered.

        The crop has the shape that the file declares, else `PROBE_SIZE` or the next multiple of `multiple` an axis.

        Raises
        ------
        ModelError
            ONNX Runtime cannot run it on such a crop, or it is larger than any crop is.
        """
        size = PROBE_SIZE
        if PROBE_SIZE % multiple:
            from bids_hsf.geometry import next_multiple  # with SciPy behind it, which a rehearsal need not wait for

            size = next_multiple(PROBE_SIZE, multiple)
        declared = self.session.get_inputs()[0].shape
        axes = [n if isinstance(n, int) and n > 0 else size for n in declared[2:]]
        if math.prod(axes) > MAX_DECLARED_VOXELS:
            raise ModelError(
                f"{self.path}: its input is declared as {list(declared)}, expected crops of at most "
                f"{MAX_DECLARED_VOXELS} voxels",
                "Export the network with axes of any size",
            )
        crop = np.random.default_rng(0).standard_normal([1, 1, *axes], dtype=np.float32)
        self._probed = self.run(crop)
        return self._probed

    def probed(self, multiple: int = 1) -> FloatArray:
        """Give the answer to the probe, without a pass where there was one."""
        return self.probe(multiple) if self._probed is None else self._probed

    def _pass_bytes(self, n_voxels: int) -> int:
        """Bytes beyond which no pass of a network of this width would be an honest one."""
        width = min(self.facts.width, self.facts.size)  # a shape alone is easily written
        return OPENING_BYTES + PASS_BYTES_A_VOXEL_AND_MAP * width * n_voxels

    def _run_options(self, shape: tuple[int, ...]) -> Any:
        """Options of one pass: memory is given back after the first one of a shape."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        if self.session.get_providers()[0] == CPU and self._last_shape != shape:
            self._last_shape = shape
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


class MemberFile:
    """An ONNX file that is opened when it is needed, each time proved to be the one that its card names.

    It owns what outlives a session: a network that was opened to try a provider and now waits for whoever opens the
    file next, and whether the network answers in probabilities. In another process the file begins anew.

    Parameters
    ----------
    path : Path
    checksums : mapping of str to str, optional
        What the file must have: hexadecimal, by algorithm, "sha256" or "xxh3_64"; empty where nobody has stated any.
    """

    def __init__(self, path: Path, checksums: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.checksums = dict(checksums or {})
        self.in_probabilities: bool | None = None  # not known before the first probe
        self._spare: tuple[SessionSettings, Network] | None = None

    def __reduce__(self) -> tuple[type, tuple[Path, dict[str, str]]]:
        return MemberFile, (self.path, self.checksums)

    def open(self, settings: SessionSettings) -> Network:
        """Take the network that waits, if it was opened under these settings, else open the file.

        Raises
        ------
        ModelError
            The file cannot be read, is another one than its checksums say, is unsafe, or cannot be loaded.
        DeviceError
            This provider cannot load it, or ONNX Runtime took another one.
        """
        spare = self._spare
        self._spare = None
        if spare is not None and spare[0] == settings:
            return spare[1]
        return open_session(self.path, settings, self.checksums)

    def keep(self, network: Network, settings: SessionSettings) -> None:
        """Let an open network wait for whoever opens the file next."""
        self._spare = (settings, network)

    def let_go(self) -> None:
        """Close the network that waits, if one does."""
        self._spare = None


def member_file(source: Path | MemberFile) -> MemberFile:
    """Take a plain path for a file without checksums."""
    return source if isinstance(source, MemberFile) else MemberFile(source)


def compiled_providers() -> list[str]:
    """List the providers that ONNX Runtime was compiled with; whether they work is another matter."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def open_session(path: Path, settings: SessionSettings, checksums: Mapping[str, str] | None = None) -> Network:
    """Open an ONNX file on an execution provider, or fail: never on another one, and never another file.

    Parameters
    ----------
    path : Path
    settings : SessionSettings
    checksums : mapping of str to str, optional
        By algorithm, "sha256" or "xxh3_64": of the very bytes that are loaded.

    Raises
    ------
    ModelError
        The file cannot be read, is unsafe, or not even the CPU provider can load it.
    FetchError
        It is not the file that the checksums name.
    DeviceError
        This provider cannot load it, or ONNX Runtime took another one.
    """
    model = _read(path)
    refuse_other(model, path, checksums or {})
    facts = examine(model, path)
    refuse_unsafe(facts, path)
    return Network(path, _load(model, path, settings), facts)


def _read(path: Path) -> bytes:
    """Bytes of a file that may be a stranger's: no pipe is waited for, nothing endless is read.

    Raises
    ------
    ModelError
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelError(f"{path}: cannot be read (no regular file)", "Fetch it again: hsf-hub fetch")
            if found.st_size > MAX_FILE_BYTES:
                raise ModelError(
                    f"{path}: expected an ONNX file of at most {MAX_FILE_BYTES} bytes, got {found.st_size}"
                )
            head = file.read(HEAD_BYTES)
            if head and not head.strip(b"\0"):  # before gigabytes of a hole are read
                raise ModelError(f"{path}: not an ONNX file ({found.st_size} bytes that begin with zeros)")
            return head + file.read(found.st_size - len(head))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", "Fetch it again: hsf-hub fetch") from error


def _bounded(provider: str, n_bytes: int) -> AbstractContextManager[None]:
    """Limit what this process takes; graphics processors map more than they ever use."""
    return limited_memory(n_bytes) if provider in (CPU, "OpenVINOExecutionProvider") else nullcontext()


def _load(model: bytes, path: Path, settings: SessionSettings) -> Any:
    """Make a session of examined bytes."""
    import onnxruntime

    provider = settings.provider
    if provider == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = session_options(settings)
    providers = [(provider, dict(settings.options))]

    def work() -> Any:
        # Before it tries again on the CPU it prints what was wrong, with a stranger's names as they are.
        with redirect_stdout(io.StringIO()):
            return onnxruntime.InferenceSession(model, options, providers=providers)

    def end() -> None:
        if hasattr(options, "set_load_cancellation_flag"):
            options.set_load_cancellation_flag(True)

    try:
        with _bounded(provider, OPENING_BYTES + OPENING_BYTES_A_FILE_BYTE * len(model)):
            session = endable(work, end, OPENING_SECONDS)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        message = f"{path}: {provider} cannot load it ({first_line(error)})"
        if provider == CPU:
            raise ModelError(message, "Check the file: hsf-hub verify, hsf-hub validate") from error
        raise DeviceError(message, "Use --device cpu, or --device auto") from error
    try:
        _ = [(tensor.name, tensor.shape) for tensor in (*session.get_inputs(), *session.get_outputs())]
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path}: the names of its tensors are no text ({error})", "Export the network again"
        ) from error
    used = session.get_providers()[0]
    if used != provider:
        raise DeviceError(
            f"{path}: expected a session of {provider}, ONNX Runtime took {used}", "See `bids-hsf --device list`"
        )
    return session


def refuse_other(model: bytes, path: Path, checksums: Mapping[str, str]) -> None:
    """Require that bytes have the checksums that are stated: a file may be exchanged after it was verified.

    Raises
    ------
    FetchError
    """
    for algorithm, expected in checksums.items():
        found = CHECKSUMS[algorithm](model).hexdigest()
        if found != expected:
            raise FetchError(
                f"{path}: expected {algorithm} {expected}, got {found} ({len(model)} bytes): "
                "it is not the file that the model card names, or no longer",
                "Fetch it again: hsf-hub fetch. Nothing may write there while scans are processed.",
            )


def session_options(settings: SessionSettings) -> Any:
    """Options of every session: explicit threads, no hoarded memory, no spinning, the format that was examined."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.n_threads
    options.inter_op_num_threads = 1
    # The CPU provider's memory is kept small by Network.run; other providers have their own, and never fill this one.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = settings.provider == CPU
    # What is wrong becomes an exception; the log would print a stranger's names as they are.
    options.log_severity_level = FATAL
    onnxruntime.set_default_logger_severity(FATAL)
    # Python work alternates with the network: threads that spin between passes would take its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else ONNX Runtime would look whether the bytes could be its own format, which nobody has examined.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def first_line(error: Exception) -> str:
    """Cut what an exception says after its first line; ONNX Runtime's messages run to pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
