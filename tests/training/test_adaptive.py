# ruff: noqa: E402  (what needs PyTorch is imported where it is there)
"""The policy that learns: it meets its target or budget, settles, and watches the gradients."""

import gc

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from torch import nn

from fewbits.lossy.bounded import Bounded
from fewbits.lossy.codec import TensorSpec, packed_nbytes
from fewbits.lossy.dct import DCT
from fewbits.lossy.fidelity import fidelity
from fewbits.lossy.lossless import Exact
from fewbits.lossy.names import codec as codec_of
from fewbits.lossy.policy import SavedTensor
from fewbits.lossy.quantize import Quantize
from fewbits.training import auto
from fewbits.training.adaptive import CANDIDATES, Adaptive
from fewbits.training.gradients import Switch, Witness, backward_twice, cosine, leaves
from fewbits.training.hooks import pack_activations
from fewbits.training.trades import SAMPLE, maps_of, measure, runs_of
from fewbits.training.unbiased import unbiased

torch.set_num_threads(1)
CHEAP = ("int8", "int4", "int2")


def saved(tensor, key="layer:op:0", custom=False):
    return SavedTensor("op", "layer", tuple(tensor.shape), tensor.dtype, key, tensor, custom)


def step(policy, tensors, others=0):
    """One forward pass over tensors by key; the codecs chosen."""
    policy.begin()
    chosen = {key: policy.choose(saved(tensor, key)) for key, tensor in tensors.items()}
    policy.held(held_by(chosen, tensors) + others)
    return chosen


def held_by(chosen, given):
    pairs = zip(chosen.values(), given.values(), strict=True)
    return sum(packed_nbytes(codec.encode(tensor)) for codec, tensor in pairs)


def spec_of(tensor):
    return TensorSpec.of(tensor)


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(64, 256, generator=generator)
    return {"plain": plain, "tails": plain**3, "sparse": plain.relu()}


def score_of(chosen, given):
    found = [
        (t.nbytes, fidelity(t, c.decode(c.encode(t), spec_of(t))))
        for c, t in zip(chosen.values(), given.values(), strict=True)
    ]
    return sum(n * f for n, f in found) / sum(n for n, _ in found)


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4)
    )


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(64, 16, generator=generator), torch.randint(4, (64,), generator=generator)


# What candidates do to a tensor.


@pytest.mark.parametrize("codec", [Quantize(3), Bounded(0.5, "std")], ids=str)
def test_a_sample_tells_of_the_whole(codec):
    tensor = torch.randn(300, 1000, generator=torch.Generator().manual_seed(1)) * 3
    found = measure(tensor, [codec], floor=0.0).options[-1]
    parts = codec.encode(tensor)
    held = sum(part.nbytes for part in parts)
    whole = fidelity(tensor, codec.decode(parts, spec_of(tensor)))
    assert found.codec == codec
    assert found.fidelity == pytest.approx(whole, abs=0.01)
    assert found.nbytes == pytest.approx(held, rel=0.02)


def test_samples_are_small_and_keep_their_shape():
    assert runs_of(torch.randn(1 << 18)).numel() <= SAMPLE
    assert runs_of(torch.randn(10, 10)).shape == (100,)
    maps = maps_of(torch.randn(64, 8, 16, 24))
    assert maps.shape[1:] == (1, 16, 24)
    assert 0 < maps.numel() <= SAMPLE + 16 * 24


def test_candidates_that_refuse_are_left_out():
    options = measure(torch.randn(64, 64), [DCT(2)], floor=0.0).options
    assert [option.codec for option in options] == [Exact()]
    options = measure(torch.ones(8, 4, 16, 16), [DCT(2)], floor=0.0).options
    assert DCT(2) in [option.codec for option in options]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_as_it_is(bad):
    tensor = torch.randn(1000)
    tensor[::100] = bad
    assert measure(tensor, [Quantize(4)], floor=0.5).smallest(0.5).codec == Exact()


# Choosing.


def test_the_first_steps_are_left_alone():
    policy = Adaptive(warmup=3, candidates=CHEAP)
    for _ in range(3):
        assert set(step(policy, tensors()).values()) == {Exact()}
    assert Exact() not in step(policy, tensors()).values()


@pytest.mark.parametrize("target", [0.6, 0.85, 0.99])
def test_the_target_is_met(target):
    policy, given = Adaptive(target, warmup=1), tensors()
    step(policy, given)
    chosen = step(policy, given)
    assert score_of(chosen, given) >= target - 0.02  # dithering differs from sample to whole
    assert policy.history[-1].score >= target
    assert policy.history[-1].ratio > 1


def test_a_lower_target_takes_fewer_bytes():
    ratios = []
    for target in (0.95, 0.8, 0.65):
        policy = Adaptive(target, warmup=1)
        step(policy, tensors())
        ratios.append(policy.history[-1].ratio)
    assert ratios == sorted(ratios)
    assert ratios[0] < ratios[-1]


def test_no_tensor_is_ruined_for_the_others():
    given = {"large": torch.randn(400, 256), "small": torch.randn(4, 256)}
    policy = Adaptive(0.8, warmup=1)
    step(policy, given)
    chosen = step(policy, given)
    for codec, tensor in zip(chosen.values(), given.values(), strict=True):
        assert fidelity(tensor, codec.decode(codec.encode(tensor), spec_of(tensor))) >= 0.5


def test_a_target_of_one_loses_nothing():
    policy = Adaptive(1.0, warmup=1)
    step(policy, tensors())
    assert score_of(step(policy, tensors()), tensors()) == 1.0


def test_choices_are_made_ever_more_seldom():
    policy = Adaptive(warmup=2, every=40, candidates=CHEAP)
    for _ in range(150):
        step(policy, {"a": torch.zeros(64)})
    assert [tuning.step for tuning in policy.history] == [1, 11, 31, 71, 111]


def test_a_choice_stays_while_it_is_good():
    policy = Adaptive(warmup=1, candidates=[f"int{bits}" for bits in range(1, 9)])
    first = (step(policy, tensors(0)), step(policy, tensors(0)))[1]
    for seed in range(1, 40):  # other values, the same distributions
        last = step(policy, tensors(seed))
    assert len(policy.history) > 2
    assert last == first


def test_a_choice_goes_when_it_misses_the_target():
    policy = Adaptive(0.9, warmup=1, candidates=CHEAP)
    step(policy, {"a": torch.randint(2, (64, 64)).float()})
    assert step(policy, {"a": torch.zeros(64, 64)})["a"] == Quantize(2)
    for _ in range(12):
        last = step(policy, {"a": torch.randn(64, 64) ** 3})
    assert last["a"] != Quantize(2)


def test_new_tensors_and_odd_shapes_are_no_surprise():
    policy = Adaptive(0.85, warmup=1, candidates=["int8", "dct2"])
    maps = torch.ones(8, 4, 16, 16) * torch.randn(8, 4, 1, 1)
    step(policy, {"maps": maps})
    assert step(policy, {"maps": maps})["maps"] == DCT(2)
    found = step(policy, {"maps": maps[..., :4], "new": torch.randn(100, 100)})
    assert found["maps"] == Exact()
    assert found["new"] == Quantize(8)


def test_what_only_its_author_knows_is_left_alone():
    policy = Adaptive(warmup=0)
    policy.begin()
    assert policy.choose(saved(torch.randn(100), custom=True)) == Exact()
    assert policy.choose(saved(torch.empty(0))) == Exact()


# Budgets.


def test_a_budget_holds_from_the_first_step_on():
    given = tensors()
    whole = sum(tensor.nbytes for tensor in given.values())
    policy = Adaptive(budget=whole // 5, candidates=[f"int{bits}" for bits in range(1, 9)])
    for _ in range(15):
        chosen = step(policy, given)
        held = held_by(chosen, given)
        assert held <= whole // 5
    assert held > whole // 7  # not smaller than needed
    assert not policy.log


def test_what_others_hold_counts_as_budget():
    given = tensors()
    whole = sum(tensor.nbytes for tensor in given.values())
    policy = Adaptive(budget=whole // 4, candidates=[f"int{bits}" for bits in range(1, 9)])
    for _ in range(25):
        chosen = step(policy, given, others=whole // 8)
    held = held_by(chosen, given)
    assert whole // 10 < held <= whole // 4 - whole // 8


def test_a_budget_that_was_missed_is_met_in_the_next_step():
    policy, whole = Adaptive(budget="20kB", candidates=[f"int{b}" for b in range(1, 9)]), tensors()
    for _ in range(3):
        step(policy, whole)
    step(policy, whole, others=8_000)  # masks that came with the codecs, say
    assert held_by(step(policy, whole, others=8_000), whole) <= 12_000
    assert not policy.log


def test_a_budget_that_cannot_be_met_is_said():
    policy = Adaptive(budget="1kB", candidates=CHEAP)
    for _ in range(3):
        chosen = step(policy, tensors())
    assert set(chosen.values()) == {Quantize(2)}
    assert len(policy.log) == 1
    assert "budget of 1,000 bytes cannot be met" in str(policy)


# Gradients.


def test_a_witness_decodes_to_either():
    tensor, switch = torch.randn(10, 10), Switch()
    codec = Witness(Quantize(2), switch)
    parts = codec.encode(tensor)
    assert len(parts) == codec.part_count
    assert not torch.equal(codec.decode(parts, spec_of(tensor)), tensor)
    switch.exact = True
    assert torch.equal(codec.decode(parts, spec_of(tensor)), tensor)


def test_gradients_are_those_of_packed_activations_after_a_comparison():
    net, (x, y), switch = model(), batch(0), Switch()
    with pack_activations("int2", step=0):
        loss = F.cross_entropy(net(x), y)
    loss.backward()
    wanted = [p.grad.clone() for p in net.parameters()]

    with pack_activations(Witness(Quantize(2), switch), step=0):
        loss = F.cross_entropy(net(x), y)
    cosines = [found for _, found in backward_twice(loss, switch)]
    assert len(cosines) == len(wanted)
    assert all(0.5 < found <= 1 for found in cosines)
    assert min(cosines) < 0.9999
    assert not switch.exact
    for parameter, grad in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * grad)  # added to what was there


def test_leaves_are_found_once():
    net = model()
    found = leaves((net(torch.randn(2, 16)) + net(torch.randn(2, 16))).sum())
    assert {id(p) for p in found} == {id(p) for p in net.parameters()}
    assert len(found) == len(list(net.parameters()))


def test_cosines():
    x = torch.tensor([3.0, 4.0])
    assert cosine(x, 2 * x) == pytest.approx(1)
    assert cosine(x, torch.tensor([4.0, -3.0])) == pytest.approx(0)
    assert cosine(x, 0 * x) == 0
    assert cosine(0 * x, 0 * x) == 1
    assert cosine(x, x * float("nan")) == 0


def train(policy, steps, net=None):
    net = net or model()
    for number in range(steps):
        x, y = batch(number)
        with pack_activations(policy, min_bytes=0) as packed:
            loss = F.cross_entropy(net(x), y)
        packed.policy.backward(loss, net)
    return packed


def test_gradients_of_rounding_do_not_count():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 4))
    x, y = batch(0)
    with pack_activations(Witness(Quantize(4), switch := Switch()), min_bytes=0):
        loss = F.cross_entropy(net(x), y)
    found = dict(backward_twice(loss, switch))
    names = {name for name, p in net.named_parameters() if any(p is q for q in found)}
    assert names == {"0.weight", "1.weight", "1.bias", "2.weight", "2.bias"}  # and not "0.bias"


def test_gradients_are_checked_when_due():
    policy = Adaptive(warmup=2, check_every=5)
    train(policy, 20)
    assert [event.step for event in policy.log] == [3, 8, 13, 18]
    assert all("gradient cosine" in event.what for event in policy.log)
    assert policy.target == 0.85


def test_no_check_keeps_exact_activations_unless_it_can_be_made():
    policy = Adaptive(warmup=1)
    net, (x, y) = model(), batch(0)
    for _ in range(10):
        with pack_activations(policy, min_bytes=0) as packed:
            F.cross_entropy(net(x), y).backward()
    assert packed.report().ratio > 3
    assert not policy.log


def test_bad_gradients_tighten_the_target(monkeypatch):
    monkeypatch.setattr("fewbits.training.adaptive.ALARM", 0.9999)
    policy = Adaptive(0.6, warmup=1, check_every=3)
    loose = train(policy, 3).report().ratio
    after = train(policy, 12)
    assert policy.target > 0.85
    assert "the target is now 0.800" in str(policy)
    assert after.report().ratio < loose


def test_bad_gradients_within_a_budget_are_said(monkeypatch):
    monkeypatch.setattr("fewbits.training.adaptive.ALARM", 1.1)
    policy = Adaptive(budget="1MB", check_every=2)
    train(policy, 4)
    assert "the budget leaves no room" in str(policy)


# By name.


def test_auto_is_kept_with_its_model():
    net = model()
    first = train("auto", 8, net).policy
    assert first.step == 7
    assert first.history
    train("auto", 3)  # another model has its own
    assert train("auto", 1, net).policy.step == 8
    kept = len(auto._OF_MODEL)
    del net, first
    gc.collect()
    assert len(auto._OF_MODEL) < kept


def test_auto_before_its_first_step():
    policy = auto.Auto()
    assert "before its first step" in str(policy)
    with pytest.raises(AttributeError, match="no step was packed"):
        _ = policy.log
    x = torch.ones(2, requires_grad=True)
    policy.backward(x.sum())
    assert torch.equal(x.grad, torch.ones(2))


def test_auto_trains_as_well():
    losses = {}
    for name in ("exact", "auto"):
        net = model()
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        x, _ = batch(0)
        y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
        for _ in range(40):
            with pack_activations(name, min_bytes=0):
                loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses[name] = loss.item()
    assert losses["exact"] < 0.1
    assert losses["auto"] < losses["exact"] + 0.05


# Wrong input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 0}, "target must be above 0"),
        ({"target": 1.5}, "target must be above 0 and at most 1"),
        ({"target": 0.8, "budget": "1MB"}, "either a target or a budget"),
        ({"budget": "lots"}, "a budget is bytes"),
        ({"every": 0}, "every must be 1 or more"),
        ({"check_every": -1}, "check_every must be 0 or more"),
        ({"warmup": -1}, "warmup must be 0 or more"),
        ({"floor": 0.9}, "floor must be"),
        ({"candidates": []}, "no candidates"),
        ({"candidates": ["int9"]}, "unknown codec 'int9'"),
        ({"candidates": [3]}, "a codec or its name, not int"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Adaptive(**settings)


def test_candidates_by_name_are_the_same():
    assert Adaptive(candidates=["int4"]).candidates == (Quantize(4),)
    assert Quantize(4) in CANDIDATES


def test_probabilities_are_rounded_without_a_bias():
    """With int2 to the nearest, most of 64 probabilities would vanish, always the same ones."""
    scores, labels = torch.randn(64, 64, requires_grad=True), torch.arange(64)
    wanted = torch.softmax(scores.detach(), 1) - torch.eye(64)
    total = torch.zeros_like(wanted)
    for step in range(200):
        with pack_activations("int2", step=step):
            loss = F.cross_entropy(scores, labels, reduction="sum")
        total += torch.autograd.grad(loss, scores)[0]
    assert (total / 200 - wanted).abs().mean() < 0.005


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ("int4", "int4-stochastic"),
        ("mask+int8", "mask+int8-stochastic"),
        ("bounded:0.5:std", "bounded:0.5:std:dither"),
        ("bf16", "bf16"),
    ],
)
def test_codecs_without_a_bias(codec, expected):
    assert unbiased(codec_of(codec)) == codec_of(expected)
    switch = Switch()
    assert unbiased(Witness(codec_of(codec), switch)) == Witness(codec_of(expected), switch)
