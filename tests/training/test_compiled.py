"""Under torch.compile, packing is part of the graph: memory falls, gradients stay close."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

from fewbits.training import Adaptive, Policy, pack_activations  # noqa: E402
from fewbits.training.compiled_attention import attend_compiled  # noqa: E402
from training.models import Residual, Vision, classify, cosine, images  # noqa: E402


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()


def saved_bytes(loss):
    """Bytes that the compiled graphs below a loss hold for backward, parameters aside."""
    seen, nodes, total = set(), [loss.grad_fn], 0
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "CompiledFunction" in type(node).__name__:
            kept = {t.untyped_storage().data_ptr(): t for t in node.saved_tensors}
            total += sum(t.nbytes for t in kept.values() if not isinstance(t, nn.Parameter))
        nodes += [below for below, _ in node.next_functions]
    return total


def step(model, run, context):
    model.zero_grad()
    with context as packed:
        loss = run()
    held = saved_bytes(loss)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}, held, packed


def compiled(model, **options):
    return torch.compile(model, backend="aot_eager", **options)


@pytest.mark.parametrize("make", [Residual, Vision])
def test_memory_falls_and_gradients_stay_close(make):
    torch.manual_seed(0)
    model = make().eval()  # without dropout, whose numbers differ under the compiler
    fast = compiled(model, fullgraph=True)
    run = classify(fast)
    exact, before, _ = step(model, run, contextlib.nullcontext())
    packed, after, active = step(model, run, pack_activations("int8", min_bytes=256))
    assert cosine(packed, exact) > 0.999
    assert after < before / 2  # the rest: indices, statistics
    assert active.report().compiled
    assert "in compiled graphs" in str(active.report())


def test_a_new_context_of_an_equal_policy_compiles_nothing():
    model = Vision().eval()
    run = classify(compiled(model))
    step(model, run, pack_activations("int4"))
    graphs = counters["stats"]["unique_graphs"]
    again, _, _ = step(model, run, pack_activations(Policy.of("int4")))
    assert counters["stats"]["unique_graphs"] == graphs
    other, _, _ = step(model, run, pack_activations("int8"))
    assert counters["stats"]["unique_graphs"] == graphs + 1
    assert cosine(again, other) < 0.99999


def test_codecs_of_no_fixed_size_leave_tensors_alone():
    model = Vision().eval()
    run = classify(compiled(model))
    exact, before, _ = step(model, run, pack_activations("exact"))
    packed, after, _ = step(model, run, pack_activations("lossless"))
    assert cosine(packed, exact) > 0.999999
    assert after == before


def test_eager_code_beside_a_compiled_function_is_packed_as_ever():
    torch.manual_seed(0)
    body, head = Vision().eval(), nn.Linear(64, 64)
    fast = compiled(body)
    with pack_activations("int4", min_bytes=64) as packed:
        loss = head(F.relu(fast(images()).repeat(1, 7)[:, :64])).square().sum()
    loss.backward()
    report = packed.report()
    assert any(row.op == "relu" and row.codec is not None for row in report.rows)
    assert report.compiled
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("scale", [1.0, 12.0])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"attn_mask": torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.3},
        {"attn_mask": torch.randn(9, 9, generator=torch.Generator().manual_seed(1))},
        {"scale": 0.1},
        {"enable_gqa": True},
    ],
    ids=["plain", "causal", "allowed", "added", "scaled", "grouped"],
)
def test_attention_and_its_gradient_are_those_of_the_fused_kernel(options, scale):
    generator = torch.Generator().manual_seed(2)
    heads = 2 if "enable_gqa" in options else 4
    shapes = [(2, 4, 9, 8), (2, heads, 9, 8), (2, heads, 9, 8)]
    mask = options.get("attn_mask")
    if mask is not None and mask.dtype is torch.bool:
        options = {**options, "attn_mask": mask | torch.eye(9, dtype=torch.bool)}
    results = []
    for attend in (F.scaled_dot_product_attention, attend_compiled):
        generator.manual_seed(2)
        q, k, v = ((scale * torch.randn(s, generator=generator)).requires_grad_() for s in shapes)
        out = attend(q, k, v, **options)
        out.square().sum().backward()
        results.append((out, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * scale**2)


def test_attention_with_dropout_drops_by_the_global_generator():
    q = torch.randn(1, 2, 16, 8, requires_grad=True)
    torch.manual_seed(5)
    first = attend_compiled(q, q, q, dropout_p=0.5)
    torch.manual_seed(5)
    second = attend_compiled(q, q, q, dropout_p=0.5)
    assert torch.equal(first, second)
    assert not torch.equal(first, attend_compiled(q, q, q, dropout_p=0.5))
    first.sum().backward()
    assert torch.isfinite(q.grad).all()


def test_auto_takes_one_codec_in_compiled_code_and_compiles_once():
    model = Vision().eval()
    run = classify(compiled(model))
    exact, before, _ = step(model, run, pack_activations("exact"))
    for _ in range(2):
        packed, after, _ = step(model, run, pack_activations("auto"))
        assert cosine(packed, exact) > 0.97
        assert after < before / 2
    assert counters["stats"]["unique_graphs"] == 2
    assert Adaptive(0.95).traced() == Policy.of("int8")


@pytest.mark.slow
def test_with_inductor():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 2048), nn.GELU(), nn.Linear(2048, 10))
    run = classify(torch.compile(model))
    exact, before, _ = step(model, run, contextlib.nullcontext())
    packed, after, _ = step(model, run, pack_activations("int4", min_bytes=256))
    assert 0.98 < cosine(packed, exact) < 0.9999999
    assert after < before / 2  # the graph's input stays as it is
