"""What a network takes in memory, from its file and the crop that it is shown."""

from bids_hsf.networks.onnx_file import NetworkFacts
from bids_hsf.networks.sessions import CPU

# The most that U-Nets of 16 to 64 maps took, plain ones and ones of HSF's kind, on 110 000 to 2 000 000 voxels.
APP_BYTES = 450 << 20  # the interpreter with all that the app imports
SESSION_BYTES = 100 << 20
SESSION_BYTES_PER_FILE_BYTE = 6

# Feature maps of full resolution and of the network's width at the peak of a pass. The CPU provider lays out the
# neighbourhood of each voxel for its convolutions.
MAPS_ALIVE = 9
MAPS_ALIVE_ON_CPU = 17
USUAL_CROP_VOXELS = 64 * 64 * 56
VOTE_FIELDS = 7  # probabilities, votes and sums of them, each of all channels


def bytes_per_voxel(facts: NetworkFacts, n_channels: int, provider: str) -> int:
    """Bytes that each voxel of a padded crop or tile takes during a pass: feature maps, scores and their copies."""
    maps = MAPS_ALIVE_ON_CPU if provider == CPU else MAPS_ALIVE
    return 4 * (maps * facts.width + 3 * n_channels)


def bytes_per_vote(n_channels: int) -> int:
    """Bytes that each voxel of a crop takes beside its passes: intensities, positions, votes and their sums."""
    return 4 * (VOTE_FIELDS * n_channels + 16)


def fixed_bytes(facts: NetworkFacts) -> int:
    """Bytes of a process with one network open, before its first pass."""
    return APP_BYTES + SESSION_BYTES + SESSION_BYTES_PER_FILE_BYTE * facts.size
