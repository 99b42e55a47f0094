"""A packed step, in every situation: exact with exact codecs, close with lossy ones."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from fewbits.training import pack_activations  # noqa: E402
from training.models import (  # noqa: E402
    Recurrent,
    Residual,
    Vision,
    classify,
    cosine,
    gradients,
    images,
    labels,
    same,
)

TOKENS = torch.randint(50, (4, 12), generator=torch.Generator().manual_seed(1))


def autocast(dtype):
    def loss_of(model):
        def loss():
            with torch.autocast("cpu", dtype):
                return classify(model)()

        return loss

    return loss_of


def channels_last(model):
    model.to(memory_format=torch.channels_last)
    x = images().to(memory_format=torch.channels_last)
    return lambda: F.cross_entropy(model(x), labels())


def odd_batches_accumulated(model):
    x, y = images(7), labels(7)
    return lambda: F.cross_entropy(model(x[:4]), y[:4]) + F.cross_entropy(model(x[4:]), y[4:])


def words(model):
    return lambda: F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())


def tokens_squared(model):
    x = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(4))
    return lambda: model(x).square().mean()


class Attention(nn.Module):
    def __init__(self, **call):
        super().__init__()
        self.inner = nn.Linear(32, 32)
        self.attention = nn.MultiheadAttention(32, 4, dropout=0.1, batch_first=True)
        self.call = call

    def forward(self, x):
        x = self.inner(x)
        return self.attention(x, x, x, **self.call)[0]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.inner, self.reentrant = Vision(dropout=0.1), reentrant

    def forward(self, x):
        x = self.inner.patch(x).flatten(2).transpose(1, 2)
        for block in self.inner.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return self.inner.head(x.mean(1))


def encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def shared():
    layer = nn.Linear(32, 32)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Tanh(), layer)


SITUATIONS = {
    "residual network": (Residual, classify),
    "channels last": (Residual, channels_last),
    "batches of two sizes": (Residual, odd_batches_accumulated),
    "bfloat16 autocast": (Residual, autocast(torch.bfloat16)),
    "float16 autocast": (Vision, autocast(torch.float16)),
    "vision transformer": (Vision, classify),
    "vision transformer with dropout": (lambda: Vision(0.1), classify),
    "transformer in bfloat16 autocast": (Vision, autocast(torch.bfloat16)),
    "GRU": (lambda: Recurrent(nn.GRU), words),
    "LSTM": (lambda: Recurrent(nn.LSTM), words),
    "attention that returns weights": (lambda: Attention(need_weights=True), tokens_squared),
    "attention that does not": (lambda: Attention(need_weights=False), tokens_squared),
    "encoder of torch": (encoder, tokens_squared),
    "one layer three times": (shared, tokens_squared),
    "checkpoint, reentrant": (lambda: Checkpointed(True), classify),
    "checkpoint": (lambda: Checkpointed(False), classify),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_gradients(name):
    torch.manual_seed(0)
    make, loss_of = SITUATIONS[name]
    model = make()
    loss = loss_of(model)
    exact = gradients(model, loss)
    assert same(gradients(model, loss), exact), "the step itself must repeat"
    for codec in ("exact", "lossless"):
        assert same(gradients(model, loss, codec), exact), codec
    for codec, least in (("int8", 0.998), ("int4", 0.98)):
        assert cosine(gradients(model, loss, codec), exact) > least, codec


def test_loss_and_functions_inside_forward():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(32, 32))

        def forward(self, x, *, target):
            x = torch.sigmoid(x @ self.weight) * torch.tanh(x)
            return F.mse_loss(F.gelu(x), target)

    model, x, y = Whole(), torch.randn(20, 32), torch.randn(20, 32)
    exact = gradients(model, lambda: model(x, target=y))
    assert same(gradients(model, lambda: model(x, target=y), "lossless"), exact)
    assert cosine(gradients(model, lambda: model(x, target=y), "int8"), exact) > 0.999


def test_gradient_of_the_gradient():
    model, x = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)), torch.randn(9, 32)

    def penalty(context):
        x.requires_grad_()
        with context:
            out = model(x).square().sum()
            (slope,) = torch.autograd.grad(out, x, create_graph=True)
            loss = slope.square().sum()
        return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    exact = penalty(contextlib.nullcontext())
    packed = penalty(pack_activations("lossless", min_bytes=1))
    for a, b in zip(exact, packed, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_backward_twice():
    torch.manual_seed(0)
    model = Residual()
    with pack_activations("int4", min_bytes=1):
        loss = classify(model)()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in model.parameters()]
    loss.backward()
    for first, p in zip(once, model.parameters(), strict=True):
        assert torch.equal(p.grad, first + first)


def test_backward_inside():
    torch.manual_seed(0)
    model = Checkpointed(False)
    exact = gradients(model, classify(model))
    model.zero_grad()
    torch.manual_seed(11)
    with pack_activations("lossless", min_bytes=1):
        classify(model)().backward()
    assert same({n: p.grad for n, p in model.named_parameters()}, exact)


def test_nothing_is_packed_without_grad():
    with torch.no_grad(), pack_activations("int4") as packed:
        Residual()(images())
    assert packed.report().rows == ()


def test_random_numbers_are_not_disturbed():
    model = Vision(0.1)
    torch.manual_seed(5)
    classify(model)()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    with pack_activations("int4-stochastic", min_bytes=1):
        loss = classify(model)()
    assert torch.equal(torch.get_rng_state(), after)
    loss.backward()
    assert torch.equal(torch.get_rng_state(), after)


def test_seeds_and_steps_reproduce():
    torch.manual_seed(0)
    model = Residual()

    def step(**settings):
        return gradients(model, classify(model), "int2-stochastic", **settings)

    first = step(seed=1, step=0)
    assert same(step(seed=1, step=0), first)
    assert not same(step(seed=1, step=1), first)
    assert not same(step(seed=2, step=0), first)
