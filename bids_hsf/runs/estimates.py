"""How long a scan will take and how much memory, from its header and the model's card: rough, and said so."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from bids_hsf.bids.provenance import read_provenance
from bids_hsf.errors import DeviceError, MemoryLimitError, StorageError, UnreadableImageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import is_packaged
from bids_hsf.images import open_scan
from bids_hsf.networks.device import candidates
from bids_hsf.networks.memory import HSF_FILE_BYTES, USUAL_CROP_VOXELS, NetworkMemory, peak_bytes
from bids_hsf.runs.config import Behaviour, Config
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.pace import slowness
from bids_hsf.runs.planning import options_of

# Headers that are read before a run: those of ten thousand scans would take minutes.
SAMPLED_SCANS = 20
SAMPLED_RECORDS = 500  # of what finished scans took
USUAL_VOXELS = 8_000_000  # a head of 1 mm
FLOP_PER_VOXEL_AND_WEIGHT_BYTE = 0.018
# Processor seconds beside the networks, of a head of 1 mm: localization, files, figures, the report; and for each label
# that it is carried, measured and drawn. All seconds are those of a machine whose `pace.slowness` is 1.
SECONDS_BESIDE_THE_NETWORK = 1.2
SECONDS_A_LABEL = 0.22
SECONDS_A_RANDOM_VIEW = 0.03  # to draw one of a hippocampus, and to carry its votes back
# What networks of this kind get out of one core with AVX2 or more, or of a whole graphics processor.
FLOP_PER_SECOND = {"cpu": 130e9, "openvino": 250e9}
FLOP_PER_SECOND_ON_GPU = 5e12
# A weight of an int8 network takes a byte instead of four; how many times as fast its passes are with VNNI or AMX.
INT8_WEIGHTS = 4
COORDINATES_BYTES = 80 << 20  # of their network and the maps around the hippocampi, whatever the scan's size
INT8_GAIN = {"cpu": 1.2, "openvino": 2.0}


def memory_mb(n_voxels: int, card: ModelCard, n_augmentations: int, behaviour: Behaviour | None = None) -> int:
    """Peak memory of one process at work on a scan of `n_voxels`, in MB; one network is open at a time.

    By `behaviour`, the probabilities of all structures or coordinates may be written.
    """
    network = NetworkMemory.guess(max(float_sizes(card)), len(card.labels) + 1)
    has_views = n_augmentations > 0 and not card.recipe.mirrors_alone
    peak = peak_bytes(network, n_voxels, card.recipe.sampling if has_views else None)
    written = behaviour or Behaviour()
    volumes = 2 * len(card.labels) * n_voxels if written.write_probabilities else 0  # a byte each
    coordinates = COORDINATES_BYTES if written.write_coordinates else 0
    return round((peak + volumes + coordinates) / 2**20)


def seconds(
    n_voxels: int, card: ModelCard, n_augmentations: int, n_threads: int, voxel_mm3: float = 1.0, device: str = "cpu"
) -> float:
    """Seconds of one scan, both hippocampi, once the networks are open, on the machine that they were measured on.

    Parameters
    ----------
    n_voxels : int
        Of the scan.
    card : ModelCard
    n_augmentations : int
    n_threads : int
    voxel_mm3 : float
        Volume of its voxels, which the networks see where their own are "native".
    device : str
        Name of the execution provider.
    """
    flop = flop_of(card, n_augmentations, voxel_mm3)
    rate = FLOP_PER_SECOND.get(device)
    if rate is not None and card.precision == "int8":
        rate *= INT8_GAIN[device]
    network = flop / FLOP_PER_SECOND_ON_GPU if rate is None else flop / (rate * n_threads)
    n_random = 0 if card.recipe.mirrors_alone else n_augmentations
    size = max(1.0, n_voxels / USUAL_VOXELS)
    beside = (SECONDS_BESIDE_THE_NETWORK + SECONDS_A_LABEL * len(card.labels)) * math.sqrt(size)
    return beside + network + 2 * n_random * SECONDS_A_RANDOM_VIEW / n_threads


def flop_of(card: ModelCard, n_augmentations: int, voxel_mm3: float = 1.0) -> float:
    """Operations of all passes over both hippocampi."""
    volume = voxel_mm3 if card.voxel_size_mm is None else card.voxel_size_mm**3
    crop = USUAL_CROP_VOXELS / volume
    return 2 * (1 + n_augmentations) * crop * FLOP_PER_VOXEL_AND_WEIGHT_BYTE * sum(float_sizes(card))


def usual_device(request: str) -> str:
    """Name of the provider that a request most likely gets; the request itself where this machine is another one."""
    try:
        return next((provider.name for provider in candidates(request)), "cpu")
    except DeviceError:  # a login node, which has not what its workers have
        return request


def mean_seconds(
    kinds: Iterable[tuple[int, float]], card: ModelCard, n_augmentations: int, n_threads: int, device: str
) -> float:
    """Mean of the seconds that scans take on this machine, told by the number of their voxels and their mm3."""
    counts = Counter(kinds) or Counter([(USUAL_VOXELS, 1.0)])  # most scans of a dataset are alike
    total = sum(
        count * seconds(n_voxels, card, n_augmentations, n_threads, voxel_mm3, device)
        for (n_voxels, voxel_mm3), count in counts.items()
    )
    return slowness() * total / counts.total()


def seconds_so_far(provenances: Sequence[Path]) -> float | None:
    """Median of the seconds that finished scans took, of many those of some; None where there are none."""
    totals = []
    for path in provenances[:: math.ceil(len(provenances) / SAMPLED_RECORDS) or 1]:
        stages = read_provenance(path).seconds
        if stages:
            totals.append(sum(stages.values()))
    return statistics.median(totals) if totals else None


def float_sizes(card: ModelCard) -> list[int]:
    """Bytes of the members with weights of float32; of those that nobody knows, of a network of HSF's."""
    scale = INT8_WEIGHTS if card.precision == "int8" else 1
    return [HSF_FILE_BYTES if size is None else size * scale for size in known_sizes(card)]


def known_sizes(card: ModelCard) -> list[int | None]:
    """Bytes of the members, as the card states them or as they lie beside it; None for the others."""
    sizes = []
    for member in card.members:
        path = card.path.parent / member.source
        on_disk = path.stat().st_size if is_packaged(member) and path.is_file() else None
        sizes.append(member.size or on_disk or None)
    return sizes


def readable(total_seconds: float) -> str:
    """Round a duration for people.

    >>> [readable(s) for s in (8.2, 90, 5400, 200_000)]
    ['8 s', '2 min', '1.5 h', '2.3 days']
    """
    if total_seconds < 60:
        return f"{total_seconds:.0f} s"
    if total_seconds < 3600:
        return f"{total_seconds / 60:.0f} min"
    return f"{total_seconds / 3600:.1f} h" if total_seconds < 86400 else f"{total_seconds / 86400:.1f} days"


def check_memory(job: Job, card: ModelCard, config: Config, allowed_bytes: int) -> None:
    """Refuse a scan by its header when it would be killed half-way."""
    needed = expected_memory_mb(job, card, config)
    allowed = allowed_bytes >> 20
    if needed > allowed:
        raise MemoryLimitError(
            f"{job.scan.path} would take about {needed:,} MB, {allowed:,} MB are allowed",
            "Lower --nprocs, raise --mem-mb or the memory of the job, or resample the scan.",
        )


def expected_memory_mb(job: Job, card: ModelCard, config: Config) -> int:
    """Estimate the memory that a scan takes, from its header and the model's card; what cannot be read takes none."""
    n_voxels = 0
    for scan in job.scans if job.guide is None else (*job.scans, job.guide):
        with suppress(UnreadableImageError, StorageError):
            n_voxels += math.prod(open_scan(scan.path).shape)
    return memory_mb(n_voxels, card, options_of(config).augmentations_of(card), config.behaviour)
