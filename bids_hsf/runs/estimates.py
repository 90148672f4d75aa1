"""How long a scan will take and how much memory, from its header and the model's card: rough, and said so."""

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bids_hsf.bids.provenance import read_provenance
from bids_hsf.errors import MemoryLimitError, StorageError, UnreadableImageError
from bids_hsf.hub.cards import ModelCard
from bids_hsf.hub.models import is_packaged
from bids_hsf.images import open_scan
from bids_hsf.networks.memory import HSF_FILE_BYTES, USUAL_CROP_VOXELS, NetworkMemory, peak_bytes
from bids_hsf.runs.config import Config
from bids_hsf.runs.jobs import Job
from bids_hsf.runs.planning import options_of

# Headers that are read before a run: those of ten thousand scans would take minutes.
SAMPLED_SCANS = 20
USUAL_VOXELS = 8_000_000  # a head of 1 mm
FLOP_PER_VOXEL_AND_WEIGHT_BYTE = 0.018
FLOP_PER_SECOND_AND_CORE = 40e9
SECONDS_BESIDE_THE_NETWORK = 7.0  # localization, files, figures of a 1 mm scan on two cores


def memory_mb(n_voxels: int, card: ModelCard, n_augmentations: int) -> int:
    """Peak memory of one process at work on a scan of `n_voxels`, in MB; one network is open at a time."""
    network = NetworkMemory.guess(max(member_sizes(card)), len(card.labels) + 1)
    with_torch = n_augmentations > 0 and not card.recipe.mirrors_alone
    return round(peak_bytes(network, n_voxels, with_torch=with_torch) / 2**20)


def seconds(n_voxels: int, card: ModelCard, n_augmentations: int, n_threads: int) -> float:
    """Seconds of one scan on the CPU, both hippocampi."""
    passes = 2 * (1 + n_augmentations)
    flop = passes * USUAL_CROP_VOXELS * FLOP_PER_VOXEL_AND_WEIGHT_BYTE * sum(member_sizes(card))
    size = max(1.0, n_voxels / USUAL_VOXELS)
    return SECONDS_BESIDE_THE_NETWORK * math.sqrt(size) + flop / (FLOP_PER_SECOND_AND_CORE * n_threads)


def seconds_so_far(provenances: Sequence[Path]) -> float | None:
    """Median of the seconds that finished scans took, None where there are none."""
    totals = []
    for path in provenances:
        stages = read_provenance(path).seconds
        if stages:
            totals.append(sum(stages.values()))
    return statistics.median(totals) if totals else None


def member_sizes(card: ModelCard) -> list[int]:
    """Bytes of the members, as the card states them or as they lie beside it."""
    sizes = []
    for member in card.members:
        path = card.path.parent / member.source
        on_disk = path.stat().st_size if is_packaged(member) and path.is_file() else None
        sizes.append(member.size or on_disk or HSF_FILE_BYTES)
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
    return memory_mb(n_voxels, card, options_of(config).augmentations_of(card))
