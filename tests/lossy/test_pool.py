import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import PoolIndices, TensorSpec  # noqa: E402
from lossy_contract import check  # noqa: E402

POOLS = {
    1: torch.nn.functional.max_pool1d,
    2: torch.nn.functional.max_pool2d,
    3: torch.nn.functional.max_pool3d,
}


def of_each(dimensions, low, high):
    return st.tuples(*[st.integers(low, high)] * dimensions)


@st.composite
def pools(draw):
    n = draw(st.integers(1, 3))
    kernel = draw(of_each(n, 1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = draw(of_each(n, 1, 2))
    size = draw(of_each(n, 4, 9))
    for s, k, p, d in zip(size, kernel, padding, dilation, strict=True):
        assume(s + 2 * p >= (k - 1) * d + 1)
    return PoolIndices(size, kernel, draw(of_each(n, 1, 3)), padding, dilation)


@given(pools(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_indices_of_any_pool_come_back(codec, ceil_mode):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, *codec.input_size, generator=generator)
    _, indices = POOLS[len(codec.kernel)](
        x,
        codec.kernel,
        codec.stride,
        codec.padding,
        codec.dilation,
        ceil_mode,
        return_indices=True,
    )
    check(codec, indices)


def test_a_pool_of_two_by_two_takes_two_bits():
    codec = PoolIndices((32, 32), (2, 2), (2, 2), (0, 0), (1, 1))
    spec = TensorSpec((8, 16, 16, 16), torch.int64)
    assert codec.nbytes(spec) * 32 == spec.nbytes
    x = torch.rand(8, 16, 32, 32)
    _, indices = POOLS[2](x, 2, return_indices=True)
    check(codec, indices)
    check(codec, indices.to(memory_format=torch.channels_last))
    check(codec, indices[0])


def test_indices_of_another_pool_are_refused():
    _, indices = POOLS[2](torch.rand(1, 1, 8, 8), 2, return_indices=True)
    codec = PoolIndices((8, 8), (2, 2), (2, 2), (0, 0), (1, 1))
    for wrong in (indices + 1, indices - 64, indices.flip(-1), indices + 64):
        with pytest.raises(ValueError, match="outside its window"):
            codec.encode(wrong)


def test_wrong_settings_and_shapes_are_named():
    good = {"input_size": (8, 8), "kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    good["dilation"] = (1, 1)
    for key, value, fault in (
        ("stride", (2,), "for each spatial dimension"),
        ("kernel", (0, 2), "at least 1"),
        ("padding", (-1, 0), "at least 0"),
    ):
        with pytest.raises(ValueError, match=fault):
            PoolIndices(**{**good, key: value})
    codec = PoolIndices(**good)
    assert "int64, not torch.int32" in codec.refusal(TensorSpec((1, 4, 4), torch.int32))
    assert "fewer than the pool's 2" in codec.refusal(TensorSpec((4,), torch.int64))
    large = PoolIndices((40, 40), (17, 16), (1, 1), (0, 0), (1, 1))
    assert "more than 256 places" in large.refusal(TensorSpec((1, 4, 4), torch.int64))
