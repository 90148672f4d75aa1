"""What a process takes in memory, from a network's file and the crop that it is shown: the one model of it.

It tells how many scans run at once, which scan is refused by its header, how many networks stay open, and
into which tiles a crop is cut. All figures are the most that was seen, so that it errs on the side of too
much. Where they come from: peaks of the resident set of whole processes (Linux, AVX2 cores, crops of
64x64x56 voxels) with the packaged longaxis networks and with residual U-Nets of HSF's layout and random
weights, 16 to 64 maps wide, on crops of 110,000 to 2,000,000 voxels, on the CPU provider and OpenVINO.
"""

import math
from dataclasses import dataclass

from bids_hsf.networks.onnx_file import NetworkFacts
from bids_hsf.networks.sessions import CPU

# The interpreter with as much of what the app imports as stays (`bids_hsf/libraries.py`), and the arrays that go with a
# crop of usual size.
BASE_BYTES = 180 << 20
# What random views are drawn, placed and carried back with, as a recipe samples them; TorchIO brings torch.
VIEWS_BYTES = {None: 0, "sobol": 60 << 20, "random": 230 << 20}
BYTES_PER_SCAN_VOXEL = 10  # the scan, its copies in other orders, maps and their files
SESSION_BYTES_PER_FILE_BYTE = 6

# Feature maps of full resolution and of the network's width at the peak of a pass. The CPU provider lays out the
# neighbourhood of each voxel for its convolutions.
MAPS_ALIVE = 9
MAPS_ALIVE_ON_CPU = 17
SCORES_ALIVE = 3  # the scores and their copies, each of all channels
FLOAT_BYTES = 4

USUAL_CROP_VOXELS = 64 * 64 * 56
VOTE_FIELDS = 7  # probabilities, votes and sums of them, each of all channels
PLAIN_FIELDS = 16  # intensities, positions and what resampling takes

# HSF's networks, whose files are not there before the first run. A U-Net's weights grow with its width squared.
HSF_FILE_BYTES = 150_000_000
HSF_WIDTH = 64


@dataclass(frozen=True)
class NetworkMemory:
    """What one network takes, by estimate.

    Attributes
    ----------
    file_bytes : int
        Of its ONNX file.
    width : int
        Feature maps at full resolution.
    n_channels : int
        Of its output, background included.
    maps_alive : int
        Such maps that are there at once at the peak of a pass.
    """

    file_bytes: int
    width: int
    n_channels: int
    maps_alive: int = MAPS_ALIVE

    @classmethod
    def of(cls, facts: NetworkFacts, n_channels: int, provider: str) -> "NetworkMemory":
        """Take the file's own facts, and ONNX Runtime's name of the provider that runs it."""
        maps_alive = MAPS_ALIVE_ON_CPU if provider == CPU else MAPS_ALIVE
        return cls(facts.size, facts.width, n_channels, maps_alive)

    @classmethod
    def guess(cls, file_bytes: int, n_channels: int) -> "NetworkMemory":
        """Guess the width from the size of the file, as a card states it before the file is there.

        >>> NetworkMemory.guess(HSF_FILE_BYTES // 4, 6).width
        32
        """
        return cls(file_bytes, math.ceil(HSF_WIDTH * math.sqrt(file_bytes / HSF_FILE_BYTES)), n_channels)

    @property
    def session_bytes(self) -> int:
        """Bytes of the open network before its first pass."""
        return SESSION_BYTES_PER_FILE_BYTE * self.file_bytes

    @property
    def pass_bytes_per_voxel(self) -> int:
        """Bytes that each voxel of a padded crop or tile takes during a pass: feature maps, scores and their copies."""
        return FLOAT_BYTES * (self.maps_alive * self.width + SCORES_ALIVE * self.n_channels)

    @property
    def vote_bytes_per_voxel(self) -> int:
        """Bytes that each voxel of a crop takes beside its passes: intensities, positions, votes and their sums."""
        return FLOAT_BYTES * (VOTE_FIELDS * self.n_channels + PLAIN_FIELDS)

    @property
    def open_bytes(self) -> int:
        """Bytes that the network keeps as long as it is open: its weights and, of a usual pass, its maps."""
        return self.session_bytes + self.pass_bytes_per_voxel * USUAL_CROP_VOXELS


def resting_bytes(network: NetworkMemory, sampling: str | None = "sobol") -> int:
    """Bytes of a process that has the network open, before it has read a scan; without random views, no sampling."""
    return BASE_BYTES + VIEWS_BYTES[sampling] + network.session_bytes


def peak_bytes(network: NetworkMemory, n_scan_voxels: int, sampling: str | None) -> int:
    """Peak of a process at work on a scan of so many voxels and crops of usual size, one network open at a time."""
    passing = network.pass_bytes_per_voxel * USUAL_CROP_VOXELS
    return resting_bytes(network, sampling) + passing + BYTES_PER_SCAN_VOXEL * n_scan_voxels
