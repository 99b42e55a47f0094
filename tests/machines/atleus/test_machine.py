import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from fewbits.errors import FewbitsError
from fewbits.machines.atleus import traffic, work
from fewbits.machines.atleus.baselines import (
    CALIBRATED,
    GPUS,
    MEMORIES,
    STACKS,
    all_constants,
    all_points,
    needs,
)
from fewbits.machines.atleus.constants import CONSTANTS
from fewbits.machines.atleus.machine import Job, build, simulate
from fewbits.machines.atleus.mapping import matrices
from fewbits.machines.atleus.models import find
from fewbits.machines.parts.flits import deliver, packets_of
from fewbits.machines.transformers import of_config

from .jobs import job


def run(what, **values):
    return simulate(what, CONSTANTS.with_values(values))


def test_share_on_reram_is_the_papers():
    # 91.9 % for GPT-2 Medium at 1024 tokens: causal pairs, LoRA of rank 32 on query and value
    # counted once for each target (d * r products a token)
    net = find("gpt2-medium")[1]
    lora = 1024 * 32 * (1024 + 1024)
    assert round(100 * work.share_on_reram(net, 1024, lora), 1) == 91.9
    assert round(100 * work.share_on_reram(net, 1024, 0), 2) == 92.31
    full = run(job("gpt2-medium", 1024, mode="finetune")).extra["share_on_reram"]
    assert round(100 * full, 1) == 91.4


def test_without_scipy_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("fewbits.machines.atleus.machine.find_spec", lambda name: None)
    with pytest.raises(FewbitsError, match=r"need SciPy: pip install 'fewbits\[machines\]'"):
        simulate(job())


def test_macs_are_those_of_the_common_workload():
    name, net = find("bert-large")
    got = run(job()).extra["kernel_macs"]
    layers = of_config(net, tokens=512).products()
    assert got["reram"] == sum(op.macs for op in layers.operations if op.kind == "linear") - (
        net.hidden * net.hidden  # the pooler, which is no layer
    )
    assert got["attention"] == sum(op.macs for op in layers.operations if op.kind == "product")
    assert name == "bert_large"


def test_causal_attention_counts_about_half_by_blocks_of_rows():
    net = find("gpt2-medium")[1]
    got = work.macs(list(work.attention(net, 1024, 1024, 128)))
    full = 2 * net.heads * 1024 * 1024 * net.head
    assert got == pytest.approx(full * (1 + 128 / 1024) / 2)
    assert work.softmax_elements(net, 4, 4) == net.heads * (1 + 2 + 3 + 4)
    assert work.softmax_elements(net, 1, 9) == net.heads * 9


def test_backward_counts_scores_again_and_four_gradients():
    net = find("bert-large")[1]
    forward = work.macs(list(work.attention(net, 64, 64, 128)))
    # 64 tokens of heads of 64: scores and context have one shape, none may be taken for the other
    assert work.macs(list(work.attention_backward(net, 64, 128))) == 2.5 * forward
    trained = job(mode="finetune").trained
    side = work.macs(list(work.adapters(net, trained, 64)))
    assert work.macs(list(work.adapters_backward(net, trained, 64))) == 2 * side


def test_latency_of_a_layer_by_hand():
    # 512 tokens, 8 input bits, 100 ns: 409.6 us before the barrier and 409.6 after, and fill
    result = run(job())
    layer = result.total_latency_s / 24
    assert layer == pytest.approx(2 * 512 * 8 * 100e-9, rel=0.02)
    assert layer > 2 * 512 * 8 * 100e-9
    causal = run(job("gpt2-medium", 1024)).total_latency_s / 24
    assert causal == pytest.approx(1024 * 8 * 100e-9, rel=0.02)


def test_energy_adds_up_and_has_every_part():
    result = run(job("gpt2-medium", 256, batch=2, mode="finetune"))
    parts = {name: float(values.sum()) for name, values in result.energy_j.items()}
    assert sum(parts.values()) == pytest.approx(result.total_energy_j)
    assert set(parts) == {
        "reram", "dequantize", "systolic", "buffers", "softmax and norms", "network", "memory",
        "leakage",
    }  # fmt: skip
    assert min(parts.values()) > 0
    moved = sum(float(values.sum()) for values in result.traffic_bytes.values())
    assert parts["memory"] == pytest.approx(moved * 8 * 3.9e-12)
    power = np.array(result.extra["core_w"]).sum()
    beside = result.total_energy_j - parts["memory"]
    assert power == pytest.approx(beside / result.total_latency_s)


def test_energy_of_the_crossbars_by_hand():
    # 73728 crossbars, 512 vectors of 8 bits, 344 pJ a cycle
    result = run(job())
    cycle = build(job()).hardware.crossbar.cycle_j
    assert float(result.energy_j["reram"].sum()) == pytest.approx(73728 * 512 * 8 * cycle)


def test_m8f4_saves_more_than_m4f8_and_bits_save_less_than_they_are():
    def energy(m, f):
        bits = {"attention_bits": m, "feedforward_bits": f, "most_copies": 1}
        return run(job(), **bits).total_energy_j

    whole = energy(8, 8)
    assert energy(8, 4) < energy(4, 8) < whole
    # Nearly linear in bits with a slope below one: half the bits save less than half. Six bits
    # waste two of 128 columns, so their point lies a little high.
    points = np.array([energy(bits, bits) / whole for bits in (2, 4, 6, 8)])
    slope, start = np.polyfit([0.25, 0.5, 0.75, 1.0], points, 1)
    assert 0.5 < slope < 1
    assert points == pytest.approx(start + slope * np.array([0.25, 0.5, 0.75, 1.0]), abs=0.02)
    assert points[1] > 0.5


def test_lora_writes_no_cell_and_full_training_wears_them_out():
    lora = run(job(mode="finetune"))
    assert lora.extra["reram_writes_a_cell"] == 0
    assert lora.extra["lifetime_s"] == float("inf")
    assert "programming" not in lora.energy_j
    full = run(job(mode="finetune", tuning="full"))
    assert full.extra["reram_writes_a_cell"] == 4
    lifetime = 1e6 / 4 * full.total_latency_s
    assert full.extra["lifetime_s"] == pytest.approx(lifetime)
    assert full.energy_j["programming"].sum() > 0
    # keys and values in ReRAM, one sequence after another: about 5.5 hours (19.8 ms each)
    assert run(job()).extra["keys_in_reram_lifetime_s"] == pytest.approx(5.5 * 3600, rel=0.01)


def test_adapters_and_ranks():
    small, large = (run(job(mode="finetune", rank=rank)) for rank in (8, 64))
    assert large.total_energy_j > small.total_energy_j
    adapter = run(job(mode="finetune", tuning="adapter", rank=64))
    # two adapters of 2 * 1024 * 64 products a token and layer, forward and twice backward
    assert adapter.extra["kernel_macs"]["adapters"] == 3 * 24 * 512 * 2 * 2 * 1024 * 64
    assert adapter.traffic_bytes["optimizer"].sum() == 24 * 2 * 2 * 1024 * 64 * 4 * 6


def test_duplicated_weights_take_twice_the_crossbars():
    one = run(job("bert-base", mode="finetune"))
    two = run(job("bert-base", mode="finetune", backward="duplicated"))
    assert two.extra["crossbars_needed"] == 2 * one.extra["crossbars_needed"]
    assert one.extra["copies"] == 3 and two.extra["copies"] == 1
    weights = 12 * 12 * 768 * 768
    assert two.extra["programming_j"] == pytest.approx(2 * weights * 8 * 2.3e-12 * 4)
    assert two.total_latency_s > one.total_latency_s


values = st.fixed_dictionaries(
    {},
    optional={
        "read_s": st.floats(1e-9, 1e-6),
        "input_bits": st.integers(2, 16),
        "attention_bits": st.integers(2, 8),
        "feedforward_bits": st.integers(2, 8),
        "clock_hz": st.floats(1e8, 2e9),
        "hbm_bytes_per_s": st.floats(1e10, 1e12),
        "systolic_place": st.integers(0, 3),
        "activation_ratio": st.floats(0.2, 1),
    },
)
jobs = st.builds(
    job,
    st.sampled_from(["gpt2", "bert-base", "minilm"]),
    st.integers(1, 512),
    st.integers(1, 9),
    st.sampled_from(["prefill", "finetune"]),
)


@given(jobs, values)
@settings(max_examples=30, deadline=None)
def test_every_answer_is_sound(what, settings_):
    result = run(what, **settings_)
    total = result.total_latency_s
    assert np.isfinite(total) and total > 0
    assert result.total_energy_j > 0
    assert all((part >= 0).all() for part in result.energy_j.values())
    assert result.extra["hottest_c"] >= 45
    assert 0 < result.extra["fill"] <= 1
    # no resource is needed for longer than the run takes
    assert all(part.sum() <= total * (1 + 1e-9) for part in result.busy_s.values())


@given(jobs, st.sampled_from(["read_s", "input_bits", "tokens", "batch"]))
@settings(max_examples=15, deadline=None)
def test_more_to_do_is_never_faster(what, more):
    before = run(what).total_latency_s
    if more == "read_s":
        after = run(what, read_s=200e-9).total_latency_s
    elif more == "input_bits":
        after = run(what, input_bits=9).total_latency_s
    else:
        grown = {more: min(getattr(what, more) * 2, 512)}
        after = simulate(Job(**{**vars(what), **grown})).total_latency_s
    assert after >= before * (1 - 1e-9)


@given(jobs)
@settings(max_examples=10, deadline=None)
def test_faster_parts_are_never_slower(what):
    before = run(what).total_latency_s
    for name, value in (("read_s", 50e-9), ("hbm_bytes_per_s", 1e12), ("flit_bits", 512)):
        assert run(what, **{name: value}).total_latency_s <= before * (1 + 1e-9)


def test_traffic_is_conserved():
    machine = build(job("gpt2-medium", 1024))
    net, tokens = machine.job.net, 1024
    flows = machine.flows(3)[0]
    outputs = sum(matrix.n for matrix in matrices(net))
    into = net.hidden + net.attention + net.hidden  # query, key, value share theirs; up goes across
    assert flows.bits.sum() == pytest.approx(8 * tokens * (into + outputs))
    level = 16
    to_systolic = flows.bits[flows.targets >= 3 * level].sum()
    assert to_systolic == pytest.approx(8 * tokens * (3 + 1 + 1) * net.hidden)
    back = traffic.backwards(flows, 2.0)
    assert back.bits.sum() == pytest.approx(2 * flows.bits.sum())
    assert (back.sources == flows.targets).all()


@pytest.mark.parametrize("curves", [True, False])
def test_the_load_of_the_network_is_what_flits_take(curves):
    pytest.importorskip("networkx")
    machine = build(job("gpt2-medium", 4))
    net, wires = traffic.network(machine.hardware, curves=curves), machine.hardware.wires
    routes, flows = net.routes(wires), machine.flows(5)[0]
    load = routes.load(flows, wires)
    packets = packets_of(flows, routes, wires)
    assert sum(packet.flits for packet in packets) * 256 == flows.bits.sum()
    done = deliver(net, routes, wires, packets)
    assert max(done.link_flits.values()) * 256 == load.link_bits.max()
    assert done.cycles == pytest.approx(load.time_s * 1e9, rel=0.05)


def test_a_token_is_decoded_stage_after_stage():
    result = run(job("gpt2-medium", 512, mode="decode"))
    assert result.total_latency_s < 1e-3
    assert result.traffic_bytes["cache"].sum() == 24 * 2 * 1024 * 16 / 8 * 514
    longer = run(job("gpt2-medium", 1000, mode="decode"))
    assert longer.total_latency_s > result.total_latency_s


def test_packed_activations_lighten_links_and_memory():
    plain = run(job("gpt2-medium", 1024, batch=32, mode="finetune"))
    packed = run(job("gpt2-medium", 1024, batch=32, mode="finetune"), activation_ratio=0.5)
    assert packed.extra["stage_s"]["network"] == pytest.approx(
        plain.extra["stage_s"]["network"] / 2
    )
    assert packed.traffic_bytes["activations"].sum() == pytest.approx(
        plain.traffic_bytes["activations"].sum() / 2
    )
    assert packed.total_latency_s < plain.total_latency_s
    assert packed.total_energy_j < plain.total_energy_j


def test_the_order_of_tiers_changes_the_heat():
    last, first = (run(job(batch=32), systolic_place=place) for place in (3, 0))
    assert last.extra["hottest_reram_c"] != first.extra["hottest_reram_c"]
    assert last.extra["hottest_reram_c"] < first.extra["hottest_reram_c"]
    assert last.extra["read_noise"] < first.extra["read_noise"]
    warm = run(job("gpt2-medium", 1024, batch=32), sink_k_per_w=1.0)
    assert any("warning: hotter" in note for note in warm.notes)


def test_gtx_1060_takes_what_x_former_says():
    gtx = next(gpu for gpu in GPUS if gpu.name == "GTX 1060")
    assert 0.051 < gtx.run(job("bert-base")).latency_s < 0.054
    assert pytest.approx(0.4266, abs=1e-3) == CALIBRATED
    macs, weights = needs(job("bert-base"))
    assert 2 * macs == pytest.approx(96.6e9, rel=0.01)
    assert weights == 12 * 12 * 768 * 768


def test_baselines_are_sound_and_listed():
    points = all_points(job("gpt2-medium", 1024, mode="finetune"), CONSTANTS)
    assert set(points) == {one.name for one in (*GPUS, *STACKS, *MEMORIES)}
    assert all(point.latency_s > 0 and point.energy_j > 0 for point in points.values())
    haima, transpim = points["HAIMA-like"].latency_s, points["TransPIM-like"].latency_s
    assert transpim / haima == pytest.approx(1.45)
    assert (
        points["4 systolic tiers, 16 bits"].latency_s < points["1 systolic tier, 16 bits"].latency_s
    )
    assert len({constant.name for constant in all_constants()}) == len(all_constants())


def test_a_digital_stack_decodes_at_the_pace_of_its_memory():
    what = job("gpt2-medium", 512, mode="decode")
    got = STACKS[0].run(what, CONSTANTS)
    weights, cache = 12 * 1024 * 1024, 2 * 1024 * 513
    assert got.latency_s == pytest.approx(24 * (weights + cache) * 2 / 256e9)
    packed = STACKS[0].run(what, CONSTANTS.with_values({"weight_ratio": 0.5}))
    assert packed.latency_s == pytest.approx(24 * (weights / 2 + cache) * 2 / 256e9)


def test_the_pair_of_the_paper_is_reached_beside_a_gpu_without_tensor_cores():
    what = job("gpt2-medium", 1024)
    result, points = run(what), all_points(what, CONSTANTS)
    tx2, agx = points["Jetson TX2"], points["AGX Orin"]
    assert 45 < tx2.latency_s / result.total_latency_s < 70
    assert 55 < tx2.energy_j / result.total_energy_j < 75
    # ... and not beside one with
    assert agx.latency_s / result.total_latency_s < 10
    # ... and an all-digital stack is faster
    assert points["4 systolic tiers, 16 bits"].latency_s < result.total_latency_s


@pytest.mark.parametrize(
    ("settings_", "fault"),
    [
        ({"mode": "train"}, "unknown mode 'train': prefill, decode, finetune"),
        ({"tokens": 0}, "tokens: 0 is not 1 or more"),
        ({"batch": 0}, "batch: 0 is not 1 or more"),
        ({"tokens": 513}, "513 tokens, but bert_large has 512 positions"),
        ({"mode": "decode"}, "bert_large is an encoder"),
        ({"mode": "finetune", "rank": 0}, "rank 0 is not 1 or more"),
        ({"mode": "finetune", "targets": ()}, "LoRA needs a matrix to adapt"),
        ({"mode": "finetune", "targets": ()}, "LoRA needs a matrix to adapt"),
        ({"mode": "finetune", "tuning": "lara"}, "no tuning is called 'lara'.*'lora'"),
        ({"name": "vit-base"}, "takes images"),
    ],
)
def test_jobs_that_cannot_be_are_named(settings_, fault):
    with pytest.raises(FewbitsError, match=fault):
        job(**settings_)
