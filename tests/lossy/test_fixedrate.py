import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import FixedRate, Quantize, TensorSpec  # noqa: E402
from lossy_contract import bits, check  # noqa: E402


def decoded(codec, x):
    return codec.decode(codec.encode(x), TensorSpec.of(x))


def settings_of():
    return st.one_of(
        st.builds(FixedRate, st.integers(3, 16), st.just(1)),
        st.builds(FixedRate, st.integers(1, 16), st.sampled_from([2, 3])),
    )


@settings(max_examples=150, deadline=None)
@given(
    codec=settings_of(),
    shape=st.lists(st.integers(0, 9), min_size=3, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    scale=st.floats(-44, 37),
    kind=st.sampled_from(["noise", "smooth", "zeros among", "one value"]),
    seed=st.integers(0, 99),
    plain=st.booleans(),
)
def test_the_stated_error_and_size_hold(codec, shape, dtype, scale, kind, seed, plain):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator) * 10.0**scale
    if kind == "smooth":
        x = x.cumsum(-1).cumsum(-2) / 100
    if kind == "zeros among":
        x = x.relu()
    if kind == "one value" and x.numel():
        x = torch.full_like(x, float(x.flatten()[0]))
    largest = float(torch.finfo(dtype).max) / 16
    x = x.clamp(-largest, largest).to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWBITS_LOSSY", "torch" if plain else "native")
        check(codec, x)


@pytest.mark.parametrize(
    ("codec", "shape", "size"),
    [
        (FixedRate(8), (3, 8, 12), 3 * 8 * 12),
        (FixedRate(3), (5, 7), 2 * 2 * 16 * 3 // 8),
        (FixedRate(5, 3), (2, 4, 5, 6), 2 * 4 * 64 * 5 // 8),
        (FixedRate(3, 1), (4, 3), 5),
        (FixedRate(4, 1), (2, 7), 8),
        (FixedRate(4), (0, 4, 4), 0),
    ],
)
def test_the_size_is_bits_times_values(form, codec, shape, size):
    x = torch.randn(shape)
    assert codec.nbytes(TensorSpec.of(x)) == codec.encode(x)[0].nbytes == size


def test_more_bits_lose_less(form):
    x = torch.randn(2, 20, 20, generator=torch.Generator().manual_seed(1)).cumsum(-1).cumsum(-2)
    for dims, least in ((1, 4), (2, 2), (3, 2)):
        errors = [
            float((decoded(FixedRate(rate, dims), x) - x).square().mean()) ** 0.5
            for rate in range(least, 15, 2)
        ]
        # A bit halves the error; two, by a factor of 4.
        assert all(b < a / 3 for a, b in itertools.pairwise(errors)), (dims, errors)


def test_smooth_maps_keep_more_than_quantized_groups_do(form):
    x = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(2)).cumsum(-1).cumsum(-2)
    lost = [float((decoded(codec, x) - x).square().mean()) for codec in (FixedRate(4), Quantize(4))]
    assert lost[0] < lost[1] / 5


def test_blocks_of_zeros_stay_zeros(form):
    x = torch.zeros(8, 8)
    x[4:, 4:] = torch.randn(4, 4)
    y = decoded(FixedRate(6), x)
    assert (y[:4] == 0).all()
    assert (y[:, :4] == 0).all()
    assert (y[4:, 4:] != 0).any()


def test_what_is_not_finite_breaks_its_block_only(form):
    x = torch.randn(8, 8)
    clean = decoded(FixedRate(6), x)
    x[1, 1], x[6, 6] = torch.inf, torch.nan
    y = decoded(FixedRate(6), x)
    assert y[:4, :4].isnan().all()
    assert y[4:, 4:].isnan().all()
    assert torch.equal(bits(y[:4, 4:]), bits(clean[:4, 4:]))
    assert FixedRate(6).allowed_error(x)[0, 0] == math.inf


@pytest.mark.slow
def test_exports():
    class Model(torch.nn.Module):
        def forward(self, x):
            return FixedRate(6).decode(FixedRate(6).encode(x), TensorSpec.of(x))

    x = torch.randn(3, 9, 8)
    exported = torch.export.export(Model(), (x,))
    assert torch.equal(bits(exported.module()(x)), bits(decoded(FixedRate(6), x)))


def test_any_bytes_decode_to_something(form):
    generator = torch.Generator().manual_seed(3)
    for codec, shape in (
        (FixedRate(5), (9, 9)),
        (FixedRate(3, 1), (50,)),
        (FixedRate(2, 3), (4, 9, 5)),
    ):
        spec = TensorSpec(shape, torch.float32)
        for _ in range(20):
            payload = torch.randint(
                0, 256, (codec.nbytes(spec),), dtype=torch.uint8, generator=generator
            )
            assert codec.decode((payload,), spec).shape == shape
        with pytest.raises(ValueError, match="payload"):
            codec.decode((payload[:-1],), spec)


def test_what_it_refuses():
    assert "float64" in FixedRate(8).refusal(TensorSpec((8, 8), torch.float64))
    assert "2 dimensions" in FixedRate(8).refusal(TensorSpec((8,), torch.float32))
    with pytest.raises(TypeError, match="2 dimensions"):
        FixedRate(8).encode(torch.zeros(8))
    assert FixedRate(8, 1).refusal(TensorSpec((), torch.float32)) is None
    check(FixedRate(8, 1), torch.tensor(1.5))
    for bad in ((0,), (17,), (2, 1), (8, 4), (8.0,)):
        with pytest.raises(ValueError, match="must be"):
            FixedRate(*bad)
