"""Outputs of cheap functions are computed again instead of held, and nothing else changes."""

import weakref

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from fewbits.lossy import Quantize  # noqa: E402
from fewbits.lossy.policy import Policy, Rule  # noqa: E402
from fewbits.training import Adaptive, pack_activations  # noqa: E402
from fewbits.training.cheap import FUNCTIONS  # noqa: E402
from fewbits.training.rebuilt import MOST_FUNCTIONS  # noqa: E402

torch.set_num_threads(1)
WIDTH = 24
vector = torch.linspace(0.5, 1.5, WIDTH)


def _attention(x, **options):
    heads = x.view(2, -1, 2, WIDTH // 2).transpose(1, 2)
    y = F.scaled_dot_product_attention(heads, heads * 2, heads + 1, **options)
    return y.transpose(1, 2).reshape(x.shape)


#: Each is given the output of a layer, and its own output goes into another.
CHEAP = {
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "elu": lambda x: F.elu(x, 0.7),
    "selu": F.selu,
    "celu": F.celu,
    "leaky_relu": lambda x: F.leaky_relu(x * x, 0.1),
    "hardswish": F.hardswish,
    "hardsigmoid": lambda x: F.hardsigmoid(x.square()),
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "sigmoid": lambda x: torch.sigmoid(x.square()) + 1,
    "tanh": lambda x: torch.tanh(x.square()) * 2,
    "relu": lambda x: F.relu(x.square() - 1),
    "relu in place": lambda x: F.layer_norm(x, (WIDTH,)).relu_(),
    "dropout": lambda x: F.dropout(F.gelu(x), 0.3),
    "layer_norm": lambda x: F.layer_norm(x, (WIDTH,), vector, vector),
    "rms_norm": lambda x: F.rms_norm(x, (WIDTH,), vector),
    "group_norm": lambda x: F.group_norm(x, 4),
    "batch_norm": lambda x: F.batch_norm(x, None, None, vector, training=True),
    "add": lambda x: x.square() + vector,
    "add in place": lambda x: x.square().add_(1),
    "mul": lambda x: 3 * x.square(),
    "mul of two": lambda x: F.silu(x) * x.square(),
    "sub": lambda x: x.square() - vector,
    "rsub": lambda x: 1 - x.square(),
    "neg": lambda x: -x.square(),
    "pow": lambda x: x**3,
    "to": lambda x: x.square().to(torch.bfloat16).float(),
    "half": lambda x: x.square().half().bfloat16().to(torch.float32),
    "attention": _attention,
    "attention, dropout": lambda x: _attention(x, dropout_p=0.2),
    "a view of it": lambda x: F.gelu(x).view(8, -1).view_as(x),
    "a transposed one": lambda x: F.gelu(x.t()).t(),
    "a copy of it": lambda x: F.gelu(x).t().contiguous().t().clone(),
    "reshaped": lambda x: F.gelu(x).t().reshape(-1, 2).flatten().view(WIDTH, -1).t(),
    "tanh approximation by hand": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3))),
}


def gradients(function, policy=None, dtype=torch.float32, **options):
    """Gradients of two layers with a function between them, and the report."""
    torch.manual_seed(0)
    first, second = nn.Linear(WIDTH, WIDTH).to(dtype), nn.Linear(WIDTH, WIDTH).to(dtype)
    x = torch.randn(64, WIDTH, dtype=dtype)
    if policy is None:
        second(function(first(x))).square().mean().backward()
        report = None
    else:
        with pack_activations(policy, **options) as packed:
            loss = second(function(first(x))).square().mean()
        loss.backward()
        report = packed.report()
    return [p.grad for p in (*first.parameters(), *second.parameters())], report


def rebuilt(report):
    return [row for row in report.rows if row.note.startswith("rebuilt")]


@pytest.mark.parametrize("name", CHEAP)
def test_the_second_layers_input_is_rebuilt_to_the_bit(name):
    exact, _ = gradients(CHEAP[name])
    packed, report = gradients(CHEAP[name], "lossless")
    assert all(map(torch.equal, exact, packed))
    assert "linear" in {row.op for row in rebuilt(report)}
    assert not any(row.after for row in rebuilt(report))


@pytest.mark.parametrize("name", CHEAP)
def test_it_is_no_worse_than_packed(name):
    exact, _ = gradients(CHEAP[name])
    cosines, held = [], []
    for rebuild in (False, True):
        packed, report = gradients(CHEAP[name], "int8", rebuild=rebuild)
        held.append(report.after)
        cosines.append(
            [
                F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
                for a, b in zip(exact, packed, strict=True)
                if a.norm() > 1e-6  # a bias before a norm has a gradient of rounding only
            ]
        )
    assert held[1] < held[0]
    assert min(cosines[1]) > 0.99
    assert min(cosines[1]) > min(cosines[0]) - 0.003


def test_every_function_of_the_table_is_tried():
    tried = {name.split()[0].rstrip(",") for name in CHEAP}
    assert set(FUNCTIONS) - tried <= {
        "scaled_dot_product_attention", "bfloat16", "float", "iadd", "radd", "imul", "rmul",
        "isub", "multiply", "square", "clone", "contiguous", "reshape", "flatten",
    }  # fmt: skip


def test_it_can_be_turned_off():
    _, report = gradients(F.gelu, "int4", rebuild=False)
    assert not rebuilt(report)


def test_what_is_rebuilt_is_not_kept_alive():
    kept = []

    def function(x):
        y = F.gelu(x)
        kept.append(weakref.ref(y.untyped_storage()))
        return y

    layers = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    with pack_activations("int4"):
        loss = layers[1](function(layers[0](torch.randn(64, WIDTH)))).sum()
        assert kept[0]() is None
    loss.backward()


def test_zeros_of_a_relu_stay_zeros_and_others_do_not_come():
    x, inputs = torch.randn(64, WIDTH), []
    layer = nn.Linear(WIDTH, WIDTH)

    class Second(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            inputs.append(ctx.saved_tensors[0])
            return grad * 2

    policy = Policy((Rule(Quantize(1), op="Second"),), default=Quantize(1))
    with pack_activations(policy) as packed:
        y = F.relu(F.layer_norm(layer(x), (WIDTH,)))
        loss = Second.apply(y).sum()
    assert [row.op for row in rebuilt(packed.report())] == ["Second"]
    loss.backward()
    assert not inputs[0][y == 0].any()


def test_running_statistics_move_once():
    means = []
    for rebuild in (False, True):
        torch.manual_seed(0)
        norm, layer = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)
        with pack_activations("int4", rebuild=rebuild) as packed:
            loss = layer(norm(layer(torch.ones(4, 3, 9, 9) * torch.arange(9)))).sum()
        loss.backward()
        means.append(norm.running_mean)
        assert bool(rebuilt(packed.report())) is rebuild
    assert torch.equal(*means)


def test_a_norm_in_evaluation_uses_its_statistics():
    norm = nn.BatchNorm1d(WIDTH)
    norm.running_mean += 0.5
    norm.eval()
    exact, _ = gradients(norm)
    packed, report = gradients(norm, "lossless")
    assert all(map(torch.equal, exact, packed))
    assert rebuilt(report)


def test_channels_last():
    def function(x):
        return F.gelu(x.view(2, 4, 8, WIDTH).to(memory_format=torch.channels_last)).reshape(64, -1)

    exact, _ = gradients(function)
    packed, _ = gradients(function, "lossless")
    assert all(map(torch.equal, exact, packed))


def test_copies_of_autocast_are_rebuilt_too():
    def run(rebuild):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(),
            nn.Linear(WIDTH, WIDTH),
        )  # fmt: skip
        with (
            torch.autocast("cpu", torch.bfloat16),
            pack_activations("lossless", rebuild=rebuild) as packed,
        ):
            loss = model(torch.randn(64, WIDTH)).float().square().mean()
        loss.backward()
        return [p.grad for p in model.parameters()], packed.report()

    (exact, before), (packed, after) = run(False), run(True)
    assert all(map(torch.equal, exact, packed))
    assert [row.module for row in rebuilt(after)] == ["2", "4"]
    assert after.after < before.after


def test_gradients_of_gradients():
    def second(policy):
        torch.manual_seed(0)
        first, last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        x = torch.randn(64, WIDTH, requires_grad=True)
        if policy:
            with pack_activations(policy) as packed:
                y = last(_attention(F.gelu(first(x))))
            assert len(rebuilt(packed.report())) >= 2
        else:
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no second derivative
                y = last(_attention(F.gelu(first(x))))
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        grad.square().sum().backward()
        return first.weight.grad

    assert torch.allclose(second(None), second("lossless"), rtol=1e-4, atol=1e-6)


def test_backward_may_run_twice():
    torch.manual_seed(0)
    first, last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    with pack_activations("int4"):
        loss = last(_attention(F.gelu(first(torch.randn(64, WIDTH))))).square().sum()
    loss.backward(retain_graph=True)
    once = first.weight.grad.clone()
    loss.backward()
    assert torch.equal(first.weight.grad, 2 * once)


def test_attention_runs_once_forward_and_once_backward():
    ran = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "scaled_dot_product" in str(func) and "backward" not in str(func):
                ran.append(func)
            return func(*args, **(kwargs or {}))

    first, last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    with Watch():
        with pack_activations("int4") as packed:
            loss = last(_attention(first(torch.randn(64, WIDTH)))).sum()
        assert "linear" in {row.op for row in rebuilt(packed.report())}
        assert len(ran) == 1
        loss.backward()
    assert len(ran) == 2


def test_a_parameter_that_changed_in_between_is_noticed():
    first, last, scale = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), torch.ones(700)
    scale = nn.Parameter(scale[:WIDTH].repeat(64, 1))
    with pack_activations("int4"):
        loss = last(first(torch.randn(64, WIDTH)).square() + scale).sum()
    with torch.no_grad():
        scale.mul_(2)
    with pytest.raises(RuntimeError, match=r"computed again, was modified .* rebuild=False"):
        loss.backward()


def test_a_policy_that_wants_another_codec_gets_it():
    policy = Policy((Rule(Quantize(8), op="linear"),), default=Quantize(2))
    _, report = gradients(F.gelu, policy)
    assert not rebuilt(report)
    assert {row.op: row.codec_name for row in report.rows if row.after} == {
        "gelu": "int2", "linear": "int8", "square": "int2",
    }  # fmt: skip
    _, report = gradients(F.gelu, "exact")
    assert not rebuilt(report)


def test_a_residual_stream_is_not_computed_from_its_beginning():
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(2 * MOST_FUNCTIONS)]
    x = torch.randn(64, WIDTH)
    with pack_activations("int8") as packed:
        for layer in layers:
            x = x + F.layer_norm(layer(x), (WIDTH,))
        loss = x.sum()
    inputs = [row for row in packed.report().rows if row.op == "linear" and row.before]
    packed_ones = [row for row in inputs if row.after]
    assert 0 < len(packed_ones) < len(inputs)
    loss.backward()


def test_auto_rebuilds_and_compares_with_exact_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
    policy = Adaptive(warmup=1, check_every=2)
    for _ in range(6):
        with pack_activations(policy) as packed:
            loss = model(torch.randn(64, WIDTH)).square().mean()
        policy.backward(loss, model)
        assert rebuilt(packed.report())
    assert "gradient cosine 0.9" in str(policy)
    assert not any("linear" in key for key in policy._curves)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(CHEAP)), min_size=2, max_size=6), st.booleans())
def test_any_chain_of_them_gives_the_same_gradients(names, residual):
    def function(x):
        for name in names:
            y = CHEAP[name](x) * 0.1
            x = x + y if residual else y
        return x

    exact, _ = gradients(function)
    packed, _ = gradients(function, "lossless")
    for a, b in zip(exact, packed, strict=True):
        assert torch.equal(a, b) or (~torch.isfinite(a)).any()
