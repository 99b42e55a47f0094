"""What each operation needs: with it and no more, gradients are what they were."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from fewbits.training import pack_activations  # noqa: E402

torch.set_num_threads(1)


def image(*shape):
    return torch.randn(*(shape or (2, 4, 12, 12)), generator=torch.Generator().manual_seed(0))


def both(function, x, policy="exact"):
    """The gradient of x through a function, exact and packed, and the report."""
    weigh = None
    found = []
    for pack in (False, True):
        x = x.detach().requires_grad_()
        torch.manual_seed(1)
        packed = pack_activations(policy, min_bytes=1)
        if pack:
            with packed:
                out = function(x * 1)
        else:
            out = function(x * 1)
        weigh = torch.linspace(-1, 1, out.numel()).view(out.shape) if weigh is None else weigh
        (out * weigh).sum().backward()
        found.append(x.grad)
    return (*found, packed.report())


# What is called, the names of what it saves, and the most bits for each element of its input.
CHEAP = {
    "relu": (F.relu, ["nonzero"], 1.2),
    "relu in place": (lambda x: F.relu(x, inplace=True), ["nonzero"], 1.2),
    "Tensor.relu": (lambda x: x.relu(), ["nonzero"], 1.2),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), ["positive"], 1.1),
    "relu6": (lambda x: F.relu6(x * 4), ["within"], 1.1),
    "hardtanh": (lambda x: F.hardtanh(x, -0.5, max_val=1.5), ["within"], 1.1),
    "clamp": (lambda x: x.clamp(-0.5, 0.7), ["between"], 1.1),
    "clamp from below": (lambda x: torch.clamp(x, min=0), ["between"], 1.1),
    "clamp from above, in place": (lambda x: x.clip_(max=0.1), ["between"], 1.1),
    "clamp_min": (lambda x: x.clamp_min(0.3), ["between"], 1.1),
    "dropout": (lambda x: F.dropout(x, 0.3), ["bits"], 1.2),
    "dropout of all": (lambda x: F.dropout(x, 1.0), ["bits"], 1.2),
    "dropout2d": (lambda x: F.dropout2d(x, 0.3), ["bits"], 0.2),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), ["shape", "poolindices"], 0.6),
    "max_pool2d, overlapping": (
        lambda x: F.max_pool2d(x, (3, 2), stride=(2, 1), padding=1, ceil_mode=True),
        ["shape", "poolindices"],
        2.5,
    ),
    "max_pool2d, dilated": (
        lambda x: F.max_pool2d(x, 3, stride=2, dilation=2),
        ["shape", "poolindices"],
        1.5,
    ),
    "max_pool2d with indices": (
        lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
        ["shape", "poolindices"],
        0.6,
    ),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), ["shape"], 0.0),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, 3), ["shape"], 0.0),
}


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_needs_are_exact(name):
    function, codecs, most = CHEAP[name]
    exact, packed, report = both(function, image(), "int2")
    rows = [row for row in report.rows if row.codec_name != "-"]
    assert torch.equal(exact, packed)
    assert [row.codec_name for row in rows] == codecs
    assert report.after * 8 <= most * image().numel() + 64


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "relu", "dropout"])
def test_cheap_needs_keep_the_order_of_memory(name):
    x = image().to(memory_format=torch.channels_last)
    exact, packed, _ = both(CHEAP[name][0], x, "int2")
    assert torch.equal(exact, packed)
    assert exact.stride() == packed.stride()


@pytest.mark.parametrize("dimensions", [1, 3])
def test_pools_of_other_dimensions(dimensions):
    x = image(2, 3, *[8] * dimensions)
    pool = (F.max_pool1d, None, F.max_pool3d)[dimensions - 1]
    exact, packed, report = both(lambda x: pool(x, 2), x, "int2")
    assert torch.equal(exact, packed)
    assert report.after * 8 <= dimensions * x.numel() / 2**dimensions + 64 * 8


def test_adaptive_max_pool_keeps_its_indices_without_loss():
    exact, packed, report = both(lambda x: F.adaptive_max_pool2d(x, 5), image(), "int2")
    assert torch.equal(exact, packed)
    assert [row.codec_name for row in report.rows] == ["shape", "lossless"]


EXACT = {
    "division": lambda x: torch.ones_like(x) / (x + 3),
    "reciprocal": lambda x: (x + 3).reciprocal(),
    "one over": lambda x: 1 / (x + 3),
    "logarithm": lambda x: (x.abs() + 1).log(),
    "square root": lambda x: (x.abs() + 1).sqrt(),
    "norm": lambda x: x.norm(dim=1),
    "normalize": F.normalize,
    "logsumexp": lambda x: x.logsumexp(1),
    "amax": lambda x: x.amax(1),
    "max": lambda x: x.max(1).values,
    "mse_loss": lambda x: F.mse_loss(x, image() + 0.01),
    "power of a half": lambda x: (x.abs() + 1) ** 0.5,
}


@pytest.mark.parametrize("name", EXACT)
def test_what_divides_or_cancels_is_held_exact(name):
    exact, packed, _ = both(EXACT[name], image(), "int1")
    zeros_and_signs = name in ("logarithm", "square root", "power of a half")  # abs saves too
    if zeros_and_signs:
        assert torch.nn.functional.cosine_similarity(exact.flatten(), packed.flatten(), dim=0) > 0.5
    else:
        assert torch.equal(exact, packed)


def test_a_clamp_between_tensors_or_close_bounds_is_of_values():
    low = torch.tensor(-0.5)
    for function in (lambda x: x.clamp(low), lambda x: x.clamp(1.0, 1.01)):
        _, _, report = both(function, image(), "int8")
        assert report.rows[0].codec_name == "int8"


def test_a_clamp_of_half_precision():
    for dtype in (torch.float16, torch.bfloat16):
        for low, high in ((0.1, None), (None, 0.1), (0.1, 0.2)):
            x = torch.linspace(0, 0.3, 4000).to(dtype)
            exact, packed, _ = both(lambda x, a=low, b=high: x.clamp(a, b), x, "int1")
            assert torch.equal(exact, packed), (dtype, low, high)


def test_norms_hold_statistics_exact():
    weight = torch.randn(12, requires_grad=True)
    for norm in (lambda x: F.layer_norm(x, (12,), weight), lambda x: F.rms_norm(x, (12,), weight)):
        _, _, report = both(norm, image(), "int4")
        statistics = [row for row in report.rows if row.shape == (2, 4, 12, 1)]
        assert statistics
        assert all(row.codec_name == "-" for row in statistics)
        assert any(row.codec_name == "int4" for row in report.rows)


def test_batch_norm_holds_statistics_exact():
    norm = torch.nn.BatchNorm2d(64)
    _, _, report = both(norm, image(4, 64, 5, 5), "int4")
    held = [row for row in report.rows if row.shape == (64,) and row.before]
    assert len(held) == 2
    assert all(row.codec_name == "-" for row in held)


def test_cross_entropy_is_packed_as_probabilities():
    logits = image(64, 1000) * 4
    target = torch.arange(64)
    exact, packed, report = both(lambda x: F.cross_entropy(x, target), logits, "int4")
    assert F.cosine_similarity(exact.flatten(), packed.flatten(), dim=0) > 0.995
    assert all(row.codec_name.startswith("exp+int4") for row in report.rows[:2])
    assert report.ratio > 7


def test_squares_are_values_and_powers_of_less_are_not():
    for power, codec in ((2, "int8"), (3.0, "int8"), (0.5, "-"), (-1, "-")):
        _, _, report = both(lambda x, power=power: (x.abs() + 1) ** power, image(), "int8")
        assert report.rows[-1].codec_name == codec, power


def test_integers_and_truth_values_lose_nothing():
    index = torch.randint(0, 4, (2, 4, 12, 12), generator=torch.Generator().manual_seed(0))
    mask = image() > 0
    for function in (lambda x: x.gather(1, index + 0), lambda x: x.masked_fill(mask | False, 0)):
        exact, packed, report = both(function, image(), "int1")
        assert torch.equal(exact, packed)
        assert report.ratio > 4


def test_a_relu_that_feeds_a_layer_is_held_once_with_its_zeros():
    weight = torch.randn(12, 12)
    exact, packed, report = both(lambda x: F.relu(x) @ weight.requires_grad_(), image(), "int4")
    first, second = [row for row in report.rows if row.codec_name != "-"]
    assert (first.op, first.codec_name) == ("relu", "int4-zeros")
    assert (second.note, second.after) == ("saved before", 0)
    assert torch.equal(exact, packed)  # x needs the mask only, and the weight


@pytest.mark.parametrize("codec", ["bf16", "mask+int4", "lossless"])
def test_every_codec_keeps_the_zeros_of_a_relu(codec):
    weight = torch.randn(12, 12)
    exact, packed, report = both(lambda x: F.relu(x) @ weight.requires_grad_(), image(), codec)
    assert torch.equal(exact, packed)
    assert report.after > 0
