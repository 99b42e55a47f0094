"""Fused attention under packing: gradients stay sound where its saved statistics would mislead."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch.autograd.graph import saved_tensors_hooks  # noqa: E402

from fewbits.lossy import Quantize  # noqa: E402
from fewbits.lossy.codec import TensorSpec  # noqa: E402
from fewbits.training import Policy, Rule, pack_activations  # noqa: E402

torch.set_num_threads(1)


def inputs(logit, length=48, heads=2, width=16, kv_heads=None):
    """q, k, v whose largest logit is about this."""
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, n, length, width) for n in (heads, kv_heads or heads, kv_heads or heads)]
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    if kv_heads is None:
        q *= logit / float((q @ k.transpose(-1, -2) / width**0.5).abs().max())
    return [t.requires_grad_() for t in (q, k, v)]


def gradients(tensors, policy, **options):
    """Of q, k and v, which reach attention as results of an operation, as they do in a model."""
    torch.manual_seed(1)

    def loss():
        out = F.scaled_dot_product_attention(*(t * 1 for t in tensors), **options)
        return (out * torch.linspace(-1, 1, out.shape[-1])).square().sum()

    if policy is None:
        value = loss()
    else:
        with policy if not isinstance(policy, str) else pack_activations(policy, min_bytes=1):
            value = loss()
    return torch.autograd.grad(value, tensors)


def naive(codec):
    """What hooks that know nothing of attention do."""
    return saved_tensors_hooks(
        lambda t: (codec.encode(t), TensorSpec.of(t)), lambda packed: codec.decode(*packed)
    )


def worst(found, exact):
    cosines = [
        F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        for a, b in zip(found, exact, strict=True)
    ]
    growth = [float(a.norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    return min(map(float, cosines)), max(growth)


@pytest.mark.parametrize(
    ("logit", "int4", "int8"), [(3, 0.97, 0.999), (14, 0.8, 0.99), (57, 0.5, 0.97)]
)
def test_gradients_stay_sound_at_large_logits(logit, int4, int8):
    tensors = inputs(logit)
    exact = gradients(tensors, None)
    for codec, least in (("int4", int4), ("int8", int8)):
        cosine, growth = worst(gradients(tensors, codec), exact)
        assert cosine > least, (codec, cosine)
        assert growth < 2, (codec, growth)
    _, growth = worst(gradients(tensors, naive(Quantize(4))), exact)
    if logit == 57:  # this is what must not happen, and does without care
        assert not growth < 10


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"dropout_p": 0.2},
        {"attn_mask": torch.ones(48, 48).tril().bool()},
        {"attn_mask": torch.zeros(48, 48).masked_fill(torch.ones(48, 48).triu(1) > 0, -torch.inf)},
        {"attn_mask": torch.ones(48, 48).tril().bool(), "dropout_p": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("codec", ["exact", "lossless"])
def test_every_option_is_exact(options, codec):
    tensors = inputs(3)
    exact = gradients(tensors, None, **options)
    for a, b in zip(gradients(tensors, codec, **options), exact, strict=True):
        assert torch.equal(a, b)


def test_grouped_queries():
    tensors = inputs(0, heads=4, kv_heads=2)
    exact = gradients(tensors, None, enable_gqa=True)
    for a, b in zip(gradients(tensors, "lossless", enable_gqa=True), exact, strict=True):
        assert torch.equal(a, b)


def test_a_mask_that_learns():
    q, k, v = inputs(3)
    bias = torch.randn(48, 48, requires_grad=True)

    def slope(context):
        with context:
            loss = F.scaled_dot_product_attention(q * 1, k * 1, v * 1, bias * 1).square().sum()
        return torch.autograd.grad(loss, [q, k, v, bias])

    exact = slope(torch.enable_grad())
    for a, b in zip(slope(pack_activations("lossless", min_bytes=1)), exact, strict=True):
        torch.testing.assert_close(a, b)


def test_one_tensor_as_query_key_and_value_and_its_second_derivative():
    (x,) = inputs(3)[:1]

    def slope(context):
        with context:
            y = torch.tanh(x)
            loss = F.scaled_dot_product_attention(y, y, y).square().sum()
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        return first, torch.autograd.grad(first.square().sum(), x)[0]

    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        exact = slope(torch.enable_grad())
    packed = slope(pack_activations("lossless", min_bytes=1))
    for a, b in zip(packed, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_only_q_k_v_are_held():
    q, k, v = (t * 1 for t in inputs(3))
    with pack_activations("int8", min_bytes=1) as packed:
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
    report = packed.report()
    assert [row.shape for row in report.rows] == [(2, 2, 48, 16)] * 3
    assert {row.op for row in report.rows} == {"scaled_dot_product_attention"}
    assert report.ratio == pytest.approx(3 * 4 / (3 * (1 + 4 / 256)))


def test_a_rule_for_attention():
    q, k, v = (t * 1 for t in inputs(3))
    policy = Policy((Rule(Quantize(8), op="scaled_dot*"),), default=Quantize(2))
    with pack_activations(policy, min_bytes=1) as packed:
        F.gelu(F.scaled_dot_product_attention(q, k, v))
    assert [row.codec_name for row in packed.report().rows] == ["int8"] * 3 + ["int2"]


def test_attention_that_is_not_rewritten_is_held_exact():
    """By the kernel's own name, which goes past the function that is replaced."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    tensors = inputs(57)

    def slope(context):
        with context:
            out, _ = kernel(*(t * 1 for t in tensors))
        return torch.autograd.grad(out.square().sum(), tensors)

    packed = pack_activations("int2", min_bytes=1)
    for a, b in zip(slope(packed), slope(torch.enable_grad()), strict=True):
        assert torch.equal(a, b)
    assert all(row.codec_name == "-" for row in packed.report().rows)
