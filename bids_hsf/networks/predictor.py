"""One network of an ensemble: crop in, class probabilities out.

Crops are padded to the next multiple that the network needs and no further: networks normalise over
all voxels, so that each further layer of zeros changes labels (8 more voxels an axis: 0.1-0.2 % of
them), while a new shape costs a provider 0.1 s once.
"""

import logging
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_hsf.errors import MemoryLimitError, ModelError
from bids_hsf.geometry import next_multiple, pad_to_shape, unpad
from bids_hsf.hub.cards import ModelCard
from bids_hsf.networks.device import Device
from bids_hsf.networks.memory import NetworkMemory, resting_bytes
from bids_hsf.networks.probabilities import SUM_TOLERANCE, are_probabilities, softmax
from bids_hsf.networks.sessions import MemberFile, member_file
from bids_hsf.networks.tiling import Tiling, plan_tiles, predict_tiled

logger = logging.getLogger(__name__)


FloatArray = NDArray[np.float32]


class OnnxPredictor:
    """A network of an ensemble, opened once.

    Whether its scores need a softmax is settled once, by the card and one small pass over noise, and the same for
    all crops: no scan's result depends on those before it.

    Parameters
    ----------
    model : Path or MemberFile
        ONNX file with one input (batch, 1, x, y, z) float32 of any name; a `MemberFile` is proved by its checksums.
    card : ModelCard
        Its normalisation, padding and number of labels.
    device : Device
        Where it runs.

    Raises
    ------
    ModelError
        The file is no such network, is not the one that its checksums name, or does not fit its card.
    """

    def __init__(self, model: Path | MemberFile, card: ModelCard, device: Device) -> None:
        self._file = member_file(model)
        self._path = self._file.path
        self._device = device
        self._warned_of_tiles = False
        self._pad_multiple = card.pad_multiple
        self._n_channels = len(card.labels) + 1
        self._network = self._file.open(device.session_settings)
        self._memory = NetworkMemory.of(self._network.facts, self._n_channels, device.provider)
        self._resting_bytes = resting_bytes(self._memory, card.recipe.sampling)
        self._check_tensors()
        self._in_probabilities = self._decide(card.output)
        self._forced = card.output == "probabilities" and not self._in_probabilities
        self._network.memory_bytes = device.memory_bytes

    def __call__(self, crop: FloatArray) -> FloatArray:
        """Predict class probabilities.

        Parameters
        ----------
        crop : array, (X, Y, Z) floating
            Intensities in any unit, RAS+.

        Returns
        -------
        array, (C, X, Y, Z) float32
            Probabilities, background first; they sum to 1. Where the crop was padded it is a window of a larger array.
        """
        shape = tuple(next_multiple(n, self._pad_multiple) for n in crop.shape)
        padded, pads = pad_to_shape(normalize(crop), shape)
        tiling = self._plan(shape)
        probabilities = self._run(padded) if tiling.n_tiles == 1 else predict_tiled(self._run, padded, tiling)
        return unpad(probabilities, pads)

    @property
    def open_bytes(self) -> int:
        """Bytes that the network takes as long as it is open: its weights and, of the largest pass so far, its maps."""
        return self._memory.open_bytes

    @property
    def softmax_forced(self) -> bool:
        """Whether the network returns no probabilities though the card says so, and a softmax makes them."""
        return self._forced

    def describe(self) -> str:
        """Names and shapes of the tensors, such as "image [1, 1, x, y, z] -> labels [1, 6, x, y, z]"."""
        session = self._network.session
        source, target = session.get_inputs()[0], session.get_outputs()[0]
        return " -> ".join(f"{t.name} [{', '.join(map(str, t.shape))}]" for t in (source, target))

    def _run(self, padded: FloatArray) -> FloatArray:
        """Turn normalised intensities (X, Y, Z) into probabilities (C, X, Y, Z): one pass."""
        scores = self._network.run(np.ascontiguousarray(padded[None, None], dtype=np.float32))
        self._check_shape(scores, padded.shape)
        return self._to_probabilities(scores[0])

    def _plan(self, shape: tuple[int, ...]) -> Tiling:
        """Take a crop whole where it fits into the memory, else in the fewest voxels of tiles."""
        allowed, per_voxel = self._device.memory_bytes, self._memory.pass_bytes_per_voxel
        # Tiles or not, the votes on the whole crop are there.
        fixed = self._resting_bytes + self._memory.vote_bytes_per_voxel * math.prod(shape)
        tiling = plan_tiles(shape, max(0, allowed - fixed) // per_voxel, self._pad_multiple)
        needed = (fixed + per_voxel * math.prod(shape)) >> 20
        if tiling is None:
            raise MemoryLimitError(
                f"{self._path}: a crop of {shape} voxels needs about {needed} MB, of which {allowed >> 20} MB are "
                "allowed; not even its smallest tile fits",
                "Allow more memory (--mem-mb), fewer scans at once (--nprocs), or choose a smaller model.",
            )
        if tiling.n_tiles > 1 and not self._warned_of_tiles:
            logger.warning(
                "%s: a crop of %s voxels needs about %d MB, %d MB are allowed: it is run in %d tiles of %s",
                self._path.name,
                shape,
                needed,
                allowed >> 20,
                tiling.n_tiles,
                tiling.tile,
            )
            self._warned_of_tiles = True
        return tiling

    def _check_tensors(self) -> None:
        """Require one input, and declared shapes that fit the card."""
        session = self._network.session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 5:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"{self._path}: expected one input (batch, 1, x, y, z) of tensor(float), got {found}",
                "Export the network under the contract of models_hub/README.md",
            )
        self._check_channels(outputs[0].shape)

    def _check_channels(self, shape: list[int | str]) -> None:
        known = isinstance(shape[1], int) if len(shape) == 5 else True
        if len(shape) != 5 or (known and shape[1] != self._n_channels):
            raise ModelError(
                f"{self._path}: expected an output of 5 dimensions with {self._n_channels} channels "
                f"(background and {self._n_channels - 1} labels), got {list(shape)}",
                "Correct the labels of the model card, or the member that it names",
            )

    def _check_shape(self, scores: FloatArray, shape: tuple[int, ...]) -> None:
        """Require the crop's shape, whatever the file declared."""
        self._check_channels(list(scores.shape))
        if scores.shape[2:] != shape:
            raise ModelError(f"{self._path}: expected an output of {shape} voxels, got {scores.shape[2:]}")

    def _check_finite(self, scores: FloatArray) -> None:
        if not np.isfinite(scores).all():
            raise ModelError(
                f"{self._path}: the network returned values that are not finite",
                "Try --device cpu; if it stays, the file or the scan is damaged.",
            )

    def _decide(self, stated: str) -> bool:
        """Settle whether the network gives probabilities: as its card says, unless its answer to noise denies it."""
        if stated == "logits":
            logger.info("%s: softmax applied to its logits, as its card says", self._path)
            return False
        if self._file.in_probabilities is None:
            scores = self._network.probed(self._pad_multiple)
            self._check_channels(list(scores.shape))
            self._check_finite(scores)
            self._file.in_probabilities = are_probabilities(scores[0])
            if not self._file.in_probabilities:
                logger.warning("%s: its card says probabilities, but they do not sum to 1; softmax applied", self._path)
        return self._file.in_probabilities

    def _to_probabilities(self, scores: FloatArray) -> FloatArray:
        """Apply softmax to (C, X, Y, Z) scores unless the network answers in probabilities; then they must be some."""
        if self._in_probabilities and are_probabilities(scores):
            return scores
        self._check_finite(scores)
        if not self._in_probabilities:
            return softmax(scores)
        total = scores.sum(axis=0)
        raise ModelError(
            f"{self._path}: expected probabilities, as its card says and as it gave for noise, got values from "
            f"{scores.min():.3g} on with sums of {total.min():.3g} to {total.max():.3g} for a crop of "
            f"{scores.shape[1:]} voxels; {SUM_TOLERANCE:g} is allowed for",
            "Try --device cpu, and look at the scan; if it stays, try the model: hsf-hub validate",
        )


def normalize(crop: FloatArray) -> FloatArray:
    """Z-scores over the whole crop (X, Y, Z), with the unbiased standard deviation as HSF has it.

    >>> normalize(np.array([[[1.0, 2.0, 3.0]]])).tolist()
    [[[-1.0, 0.0, 1.0]]]
    """
    centred = crop.astype(np.float64)
    centred -= centred.mean()
    deviation = np.sqrt(np.einsum("xyz,xyz->", centred, centred) / max(centred.size - 1, 1))
    if deviation > 0:
        centred /= deviation
    return np.asarray(centred, dtype=np.float32)
