"""Options under which providers agree, keep what they compile, and stay within their threads."""

import json

import pytest

from bids_hsf.networks import providers
from bids_hsf.networks.providers import PROVIDERS, provider_options


def test_what_takes_long_to_compile_is_kept_in_the_work_folder(tmp_path) -> None:
    for provider in PROVIDERS:
        folder = tmp_path / provider.name
        options = provider_options(provider, 2, folder)
        slow = provider.name in ("tensorrt", "migraphx", "openvino-gpu", "coreml")
        assert (str(folder) in options.values()) == folder.is_dir() == slow
        without = provider_options(provider, 2)
        assert {name: options[name] for name in without} == without


@pytest.mark.parametrize(("features", "hint"), [(("AMX", "AVX512"), "bf16"), (("AVX512", "AVX2"), "f32")])
def test_bfloat16_only_where_the_cpu_has_units_for_it(monkeypatch, features, hint) -> None:
    monkeypatch.setattr(providers, "cpu_features", lambda: features)
    openvino = next(provider for provider in PROVIDERS if provider.name == "openvino")
    options = provider_options(openvino, 2, reduced_precision=True)
    assert json.loads(options["load_config"])["CPU"]["INFERENCE_PRECISION_HINT"] == hint


def test_fewer_bits_than_float32_only_if_asked_for() -> None:
    for provider in PROVIDERS:
        full = provider_options(provider, 2)
        reduced = provider_options(provider, 2, reduced_precision=True)
        if provider.name in ("openvino", "openvino-gpu"):
            assert "f32" in full["load_config"]
            assert '"f16"' in reduced["load_config"] or provider.name == "openvino"
        elif provider.name == "cuda":
            assert (full["use_tf32"], reduced["use_tf32"]) == ("0", "1")
        else:
            assert reduced == full
