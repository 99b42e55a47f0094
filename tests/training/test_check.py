"""`check` finds what a policy does to gradients, and leaves the model as it was."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from fewbits.lossy import Exact, Quantize  # noqa: E402
from fewbits.training import Policy, Rule, check  # noqa: E402
from training.models import Residual, Vision, images, labels  # noqa: E402


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


BATCH = (images(), labels())


def test_exact_policies_turn_nothing():
    found = check(Residual(), BATCH, "exact", loss)
    assert all(
        row.cosine == pytest.approx(1) and row.growth == pytest.approx(1) for row in found.rows
    )
    assert found.cosine == pytest.approx(1)
    assert "fine" in found.suggestion


def test_worst_first_and_worse_with_fewer_bits():
    torch.manual_seed(0)
    model = Vision()
    coarse, fine = (check(model, BATCH, name, loss, min_bytes=1) for name in ("int1", "int8"))
    assert coarse.cosine < 0.99 < fine.cosine
    assert [row.cosine for row in coarse.rows] == sorted(row.cosine for row in coarse.rows)
    assert coarse.report.ratio > fine.report.ratio > 3
    assert coarse.rows[0].parameter in str(coarse)


def test_the_suggestion_names_the_layer():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(4)))

    class Zero(Quantize):
        def decode(self, parts, spec):
            return torch.flip(super().decode(parts, spec), [0])

    policy = Policy((Rule(Zero(8), module="2"),), default=Exact())
    found = check(model, torch.randn(16, 32), policy, lambda m, x: m(x * 1).square().sum())
    assert found.rows[0].parameter == "2.weight"
    assert 'module = "2*"' in found.suggestion
    policy = Policy((Rule(Exact(), module="3"),), default=Zero(8))
    every = check(model, torch.randn(16, 32), policy, lambda m, x: m(x * 1).square().sum())
    assert "finer codec" in every.suggestion


def test_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = Residual()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    gradients = [(p.grad, p.grad.clone()) for p in model.parameters()]
    random = torch.get_rng_state()
    check(model, BATCH, "int4", loss)
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    for p, (same, value) in zip(model.parameters(), gradients, strict=True):
        assert p.grad is same
        assert torch.equal(p.grad, value)
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(TypeError, match="one element, not \\(6, 10\\): give loss="):
        check(model, images(), "int4")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is same for p, (same, _) in zip(model.parameters(), gradients, strict=True))


def test_batches_by_name_and_by_position():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x, y):
            return F.mse_loss(torch.tanh(self.inner(x)), y)

    model, x, y = Model(), torch.randn(5, 8), torch.randn(5, 8)
    assert check(model, {"x": x, "y": y}, "int8").rows == check(model, (x, y), "int8").rows


def test_frozen_models_are_an_error():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).requires_grad_(False)
    x = torch.randn(2, 8, requires_grad=True)
    with pytest.raises(ValueError, match="no parameter got a gradient"):
        check(model, x, "int8", lambda m, x: m(x).sum())
