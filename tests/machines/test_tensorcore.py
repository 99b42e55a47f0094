"""The tensor-core accelerator: by hand, conserved, monotone, and as it was."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits.errors import FewbitsError
from fewbits.machines import networks
from fewbits.machines.result import compare
from fewbits.machines.tensorcore import constants, simulate
from fewbits.machines.traffic import NONE, Traffic, of_training
from fewbits.machines.workload import Workload, linear, product

NET = Workload("n", (linear("a", 64, 256, 1024), linear("b", 1, 4096, 4096)))


def test_two_layers_by_hand() -> None:
    found = simulate(NET)
    # 16 * 256 tiles on 64 cores, 64 steps; then 1024 tiles, 1024 steps
    assert found.busy_s["compute"].tolist() == [64 * 64e-9, 16 * 1024e-9]
    sizes = [(262144, 16384, 65536), (16777216, 4096, 4096)]
    moved = [sum(size) / (0.9 * 51.2e9) for size in sizes]
    assert found.busy_s["memory"] == pytest.approx(moved)
    assert found.latency_s == pytest.approx([moved[0], moved[1]])
    assert found.bounds.tolist() == ["memory", "memory"] and found.bound == "memory"
    assert found.energy_j["mac"] == pytest.approx([0.45e-12 * 64 * 256 * 1024, 0.45e-12 * 2**24])


def test_packing_moves_less_and_engines_bind() -> None:
    packed = simulate(NET, Traffic("apack", 0.5, 0.25))
    assert packed.traffic_bytes["weights"].tolist() == [131072, 8388608]
    assert packed.traffic_bytes["inputs"].tolist() == [4096, 1024]
    assert packed.busy_s["engine"] == pytest.approx([344064 / 64e9, 16785408 / 64e9])
    assert packed.bounds[1] == "engine"
    ratio = (16785408 / 64e9) / ((8388608 + 2048) / 46.08e9)
    assert packed.shortage("engine") == pytest.approx(ratio)
    fast = constants().with_values({"engines": 1024})
    assert simulate(NET, Traffic("apack", 0.5, 0.25), fast).bounds[1] == "memory"


def test_policies_move_less_and_less() -> None:
    net = networks.load("googlenet")
    everything, reads, fit = (simulate(net, policy=p) for p in ("all", "reads", "fit"))
    assert everything.total_traffic_bytes == net.weight_bytes + net.input_bytes + net.output_bytes
    assert reads.total_traffic_bytes == net.weight_bytes + net.input_bytes
    # All activations fit the buffer: the image comes in, the classes go out; weights do not fit.
    first, last = net.operations[0], net.operations[-1]
    assert fit.traffic_bytes["inputs"].sum() == first.input_bytes
    assert fit.traffic_bytes["outputs"].sum() == last.output_bytes
    assert fit.traffic_bytes["weights"].sum() == net.weight_bytes
    small = Workload("s", (linear("a", 1, 1000, 1000),))
    assert simulate(small, policy="fit").traffic_bytes["weights"].sum() == 0
    with pytest.raises(FewbitsError, match="unknown policy"):
        simulate(net, policy="none")  # type: ignore[arg-type]


shares = st.floats(0.05, 1.5)


@settings(max_examples=25)
@given(shares, shares, st.sampled_from(["alexnet", "mobilenet_v3", "q8bert"]))
def test_what_goes_in_comes_out(weights: float, activations: float, name: str) -> None:
    net = networks.load(name)
    found = simulate(net, Traffic("apack", weights, activations))
    total = weights * net.weight_bytes + activations * (net.input_bytes + net.output_bytes)
    assert found.total_traffic_bytes == pytest.approx(total)
    assert found.total_energy_j == pytest.approx(sum(v.sum() for v in found.energy_j.values()))
    assert (found.latency_s >= np.maximum.reduce(list(found.busy_s.values())) * (1 - 1e-12)).all()
    assert sum(found.bound_shares().values()) == pytest.approx(1)


@settings(max_examples=40)
@given(
    st.sampled_from(
        ["engines", "engine_clock_hz", "clock_hz", "cores", "dram_channels", "dram_efficiency"]
    ),
    st.floats(1.0, 4.0),
    st.floats(0.1, 1.0),
)
def test_more_of_anything_is_never_slower(name: str, factor: float, share: float) -> None:
    base = constants().with_values({"dram_efficiency": 0.25})
    more = base.with_values({name: base[name] * factor})
    traffic = Traffic("apack", share, share)
    net = networks.load("mobilenet_v2")
    slow, fast = (simulate(net, traffic, c).latency_s for c in (base, more))
    assert (fast <= slow * (1 + 1e-12)).all()


@given(shares, shares)
def test_less_traffic_is_never_slower(one: float, other: float) -> None:
    net = networks.load("alexnet")
    less, more = sorted((one, other))
    fast, slow = (simulate(net, Traffic("apack", s, s)).total_latency_s for s in (less, more))
    assert fast <= slow


def test_a_sweep_is_one_pass_with_the_same_numbers() -> None:
    net = networks.load("resnet18")
    engines = np.array([16.0, 64.0, 200.0])
    swept = simulate(
        net, Traffic("apack", 0.6, 0.5), constants().with_values({"engines": engines[:, None]})
    )
    assert swept.latency_s.shape == (3, len(net))
    for index, count in enumerate(engines):
        alone = simulate(
            net, Traffic("apack", 0.6, 0.5), constants().with_values({"engines": count})
        )
        assert swept.latency_s[index].tolist() == alone.latency_s.tolist()
        assert swept.total_energy_j[index] == pytest.approx(alone.total_energy_j)
        assert swept.bound[index] == alone.bound


def test_traffic_by_name_and_from_training() -> None:
    named = Traffic("apack", 0.5, 0.5, {"a": 0.1}, {"b": 0.2})
    assert named.weights_of(NET).tolist() == [0.1, 0.5]
    assert named.inputs_of(NET).tolist() == [0.5, 0.2]
    assert named.outputs_of(NET).tolist() == [0.2, 0.5]  # what b reads is what a wrote
    assert named.weights_of(NET.training()).tolist() == [0.1, 0.5, 0.5, 0.5, 0.1, 0.1]
    report = {"tensors": [{"module": "a", "before": 100, "after": 25},
                          {"module": "", "before": 100, "after": 100}]}  # fmt: skip
    found = of_training(report)
    assert found.inputs_by_name == {"a": 0.25, "": 1.0} and found.activations == 0.625
    with pytest.raises(FewbitsError, match="no report"):
        of_training({"rows": []})
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(FewbitsError, match="not above 0"):
            Traffic("apack", wrong)


def test_dynamic_products_have_no_weights_to_pack() -> None:
    net = Workload("attention", (product("scores", 12, 128, 128, 64),))
    found = simulate(net, Traffic("apack", 0.1, 1.0))
    assert found.traffic_bytes["weights"].sum() == 0
    assert compare({"plain": simulate(net), "packed": found})["packed"]["traffic"] == 1.0


def test_four_bits_move_half_the_bytes_and_as_many_values() -> None:
    eight, four = networks.load("resnet18"), networks.load("resnet18_pact")
    a, b = (simulate(net, Traffic("apack", 1.0, 1.0)) for net in (eight, four))
    assert b.traffic_bytes["weights"].sum() < 0.55 * a.traffic_bytes["weights"].sum()
    assert b.busy_s["engine"].sum() == pytest.approx(a.busy_s["engine"].sum(), rel=1e-6)


GOLDEN = {
    # seconds and joules, plain and packed (0.60, 0.48), at the default constants
    "alexnet": (0.0014355, 0.0060796, 0.0010788, 0.0044228),
    "resnet50": (0.00127684, 0.0090594, 0.00112446, 0.0078021),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_results_are_as_they_were(name: str) -> None:
    net = networks.load(name)
    plain, packed = simulate(net, NONE), simulate(net, Traffic("apack", 0.60, 0.48))
    found = (
        plain.total_latency_s,
        plain.total_energy_j,
        packed.total_latency_s,
        packed.total_energy_j,
    )
    assert found == pytest.approx(GOLDEN[name], rel=1e-3)


def test_a_result_lists_the_constants_it_used() -> None:
    found = simulate(NET, Traffic("apack", 0.5, 0.5))
    names = {constant.name for constant in found.constants}
    assert {"clock_hz", "engines", "dram_idd4r_a", "dram_streaming_pj_per_bit"} <= names
    assert "weight_traffic" not in names  # nobody read it
    assert "engines" not in {constant.name for constant in simulate(NET).constants}
    assert all(c.unit is not None and c.source for c in found.constants)


def test_results_have_one_number_a_layer() -> None:
    found = simulate(NET)
    with pytest.raises(ValueError, match="2 layers"):
        replace(found, latency_s=np.zeros(3))
    rows = found.rows()
    assert [row["layer"] for row in rows] == ["a", "b"]
    assert sum(row["latency_s"] for row in rows) == pytest.approx(found.totals()["latency_s"])
