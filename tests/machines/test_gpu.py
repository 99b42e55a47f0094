"""GPUs by their rooflines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits.errors import FewbitsError
from fewbits.machines import networks
from fewbits.machines.gpu import constants, names, simulate, title
from fewbits.machines.traffic import NONE, Traffic
from fewbits.machines.workload import Workload, linear


def test_a_matrix_by_hand() -> None:
    net = Workload("n", (linear("a", 1, 8192, 8192),)).with_bits(16, 16)
    found = simulate(net, NONE, constants("a100"))
    assert found.busy_s["compute"][0] == pytest.approx(2 * 8192**2 / (0.7 * 312e12))
    assert found.busy_s["memory"][0] == pytest.approx(
        2 * 8192**2 / (0.85 * 2039e9)
    )  # the rest fits
    assert found.latency_s[0] == pytest.approx(found.busy_s["memory"][0] + 2e-6)
    packed = simulate(net, Traffic("rans", 0.5), constants("a100"))
    rate = 300e9 * 2039 / 1555  # DietGPU's 600 GB/s of 16-bit values, with the memory's bandwidth
    assert packed.busy_s["engine"][0] == pytest.approx(8192**2 / rate)


def test_a_token_takes_as_long_as_reading_the_weights() -> None:
    net = networks.load("llama-3-8b", mode="decode").with_bits(16, 16)
    found = simulate(net, NONE, constants("h100"))
    least = net.weight_bytes / (0.85 * 3350e9)
    assert least < found.total_latency_s < 1.2 * least


def test_scores_stay_on_the_chip_and_the_cache_of_tokens_does_not() -> None:
    short, long = (
        simulate(networks.load("llama-3-8b", mode="decode", context=n).with_bits(16, 16))
        for n in (100, 1100)
    )
    more = long.traffic_bytes["inputs"].sum() - short.traffic_bytes["inputs"].sum()
    assert more == 1000 * 32 * 2 * 8 * 128 * 2  # keys and values of 32 layers, 8 heads of 128
    prefill = simulate(networks.load("gpt2-medium", tokens=1024).with_bits(16, 16))
    scores = [i for i, name in enumerate(prefill.layers) if name.endswith(".scores")]
    assert prefill.traffic_bytes["outputs"][scores].sum() == 0


def test_packed_activations_let_more_train() -> None:
    net = networks.load("resnet50", batch=256, mode="training").with_bits(16, 16)
    c = constants("orin-nano").with_values({"memory_bytes": 8e9})
    plain, packed = (simulate(net, t, c).extra for t in (NONE, Traffic("int4", 1.0, 0.25)))
    assert packed["saved_activation_bytes"] == pytest.approx(plain["saved_activation_bytes"] / 4)
    assert not plain["fits_memory"] and packed["fits_memory"]
    assert plain["weight_memory_bytes"] == 2 * 25_502_912


@pytest.mark.parametrize("name", names())
def test_sheets_are_sound(name: str) -> None:
    c = constants(name)
    assert title(name).startswith("NVIDIA")
    assert 50 < c["peak_flops"] / c["dram_peak_bytes_per_s"] < 400
    assert 0.05 < c["flop_pj"] < 2


@settings(max_examples=30)
@given(
    st.sampled_from(["peak_flops", "dram_peak_bytes_per_s", "cache_bytes", "unpack_values_per_s"]),
    st.floats(1.0, 100.0),
)
def test_more_of_anything_is_never_slower(name: str, factor: float) -> None:
    base = constants("orin-agx")
    net = networks.load("resnet18", batch=8).with_bits(16, 16)
    packed = Traffic("rans", 0.6, 0.7)
    slow, fast = (
        simulate(net, packed, c).latency_s
        for c in (base, base.with_values({name: base[name] * factor}))
    )
    assert (fast <= slow * (1 + 1e-12)).all()


def test_bytes_and_energies_add_up() -> None:
    net = networks.load("vit-base", batch=16).with_bits(16, 16)
    plain, packed = (simulate(net, t) for t in (NONE, Traffic("x", 0.5, 0.25)))
    for name, share in (("weights", 0.5), ("inputs", 0.25), ("outputs", 0.25)):
        np.testing.assert_allclose(packed.traffic_bytes[name], share * plain.traffic_bytes[name])
    assert plain.total_energy_j == pytest.approx(sum(v.sum() for v in plain.energy_j.values()))


def test_results_are_as_they_were() -> None:
    found = simulate(
        networks.load("bert-large", batch=8).with_bits(16, 16), NONE, constants("a100")
    )
    assert (found.total_latency_s, found.total_energy_j) == pytest.approx(GOLDEN, rel=1e-3)


GOLDEN = (0.0126722, 2.87764)


def test_an_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(FewbitsError, match="did you mean 'h200'"):
        constants("h2000")
