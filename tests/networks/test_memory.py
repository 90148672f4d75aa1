"""The one model of memory: against peaks that were measured, and against itself."""

from pathlib import Path

import pytest

from bids_hsf.networks.memory import (
    HSF_FILE_BYTES,
    HSF_WIDTH,
    USUAL_CROP_VOXELS,
    NetworkMemory,
    peak_bytes,
    resting_bytes,
)
from bids_hsf.networks.onnx_file import NetworkFacts, examine

NETWORK = Path(__file__).parents[2] / "models_hub" / "longaxis" / "single.onnx"
FACTS = NetworkFacts(size=10_000_000, width=16, operators=frozenset({"Conv"}), has_external_data=False)


def test_cpu_provider_holds_more_maps_than_the_others():
    on_cpu = NetworkMemory.of(FACTS, 3, "CPUExecutionProvider")
    elsewhere = NetworkMemory.of(FACTS, 3, "OpenVINOExecutionProvider")
    assert on_cpu.pass_bytes_per_voxel == 4 * (17 * 16 + 3 * 3)
    assert elsewhere.pass_bytes_per_voxel == 4 * (9 * 16 + 3 * 3)
    assert on_cpu.vote_bytes_per_voxel == elsewhere.vote_bytes_per_voxel


def test_guess_grows_with_the_root_of_the_weights():
    assert NetworkMemory.guess(HSF_FILE_BYTES, 6).width == HSF_WIDTH
    assert NetworkMemory.guess(HSF_FILE_BYTES // 16, 6).width == HSF_WIDTH // 4
    assert NetworkMemory.guess(1, 6).width == 1


def test_guess_from_the_card_errs_on_the_side_of_too_much_for_the_packaged_network():
    facts = examine(NETWORK.read_bytes(), NETWORK)
    known = NetworkMemory.of(facts, 3, "OpenVINOExecutionProvider")
    guessed = NetworkMemory.guess(facts.size, 3)
    assert known.open_bytes <= guessed.open_bytes < 2 * known.open_bytes


# Of processes at work on one scan, the larger of CPU provider and OpenVINO: the packaged network, and residual U-Nets
# of six classes with random weights, 16, 32 and 64 maps wide, that see random views.
@pytest.mark.parametrize(
    ("file_bytes", "n_channels", "n_voxels", "measured_mb"),
    [
        (5_007_599, 3, 193 * 229 * 193, 285),
        (5_007_599, 3, 276 * 327 * 276, 400),
        (5_954_641, 6, 193 * 229 * 193, 461),
        (23_786_241, 6, 193 * 229 * 193, 543),
        (95_096_865, 6, 193 * 229 * 193, 1003),
    ],
)
def test_peaks_that_were_measured_are_not_exceeded(file_bytes, n_channels, n_voxels, measured_mb):
    network = NetworkMemory.guess(file_bytes, n_channels)
    needed_mb = peak_bytes(network, n_voxels, None if n_channels == 3 else "sobol") >> 20
    assert measured_mb < needed_mb < 1.4 * measured_mb


def test_peak_is_the_sum_of_its_parts():
    network = NetworkMemory.guess(HSF_FILE_BYTES, 6)
    passing = network.pass_bytes_per_voxel * USUAL_CROP_VOXELS
    assert network.open_bytes == network.session_bytes + passing
    assert peak_bytes(network, 0, "sobol") == resting_bytes(network) + passing
    assert peak_bytes(network, 100, "sobol") - peak_bytes(network, 0, "sobol") == 1000
    without = resting_bytes(network, None)
    assert resting_bytes(network) - without == 60 << 20
    assert resting_bytes(network, "random") - without == 230 << 20  # torch
