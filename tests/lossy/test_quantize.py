import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import Quantize, TensorSpec, fidelity  # noqa: E402
from lossy_contract import check  # noqa: E402

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def values(count, dtype, scale=1.0, offset=0.0, zeros=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dtype=torch.float64, generator=generator) * scale + offset
    x = x * (torch.rand(count, generator=generator) >= zeros)
    limit = torch.finfo(dtype).max if dtype != torch.float64 else torch.finfo(torch.float32).max
    return x.clamp(-limit, limit).to(dtype)


codecs = st.builds(
    Quantize,
    st.integers(1, 8),
    st.sampled_from([8, 64, 256, 1000]),
    st.sampled_from(["nearest", "stochastic"]),
    st.booleans(),
)
tensors = st.builds(
    values,
    st.sampled_from([0, 1, 7, 64, 65, 256, 1300]),
    st.sampled_from(FLOATS),
    st.sampled_from([1.0, 1e4, 1e-3, 1e-7, 1e-40, 1e36]),
    st.sampled_from([0.0, 1.0, -100.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 5),
)


@given(codecs, tensors, st.integers(0, 2**64))
@settings(max_examples=150, deadline=None)
def test_contract_holds(codec, x, seed):
    decoded = check(codec, x, seed)
    if codec.zeros:
        assert torch.equal(decoded == 0, x == 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_contract_holds_in_the_plain_form(dtype, form):
    for bits in (1, 3, 4, 8):
        for zeros in (False, True):
            check(Quantize(bits, 64, "stochastic", zeros), values(200, dtype))
            check(Quantize(bits, 64, "nearest", zeros), values(200, dtype, 0.1, 100.0))


def test_sizes_are_those_of_the_bits_and_four_bytes_a_group():
    spec = TensorSpec((1024, 1024), torch.float32)
    for bits in range(1, 9):
        assert Quantize(bits).nbytes(spec) * 8 == (bits + 0.125) * 2**20
    assert Quantize(4, 64).nbytes(spec) * 8 == (4 + 0.5) * 2**20


def test_more_bits_and_smaller_groups_are_closer(form):
    x = values(100_000, torch.float32, zeros=0)
    scores = [fidelity(x, check(Quantize(bits), x)) for bits in range(1, 9)]
    assert scores == sorted(scores)
    assert scores[3] > 0.88 and scores[7] > 0.99
    assert fidelity(x, check(Quantize(4, 32), x)) > scores[3]


def test_stochastic_rounding_is_right_on_average(form):
    x = values(512, torch.float32, zeros=0)
    codec, seeds = Quantize(3, rounding="stochastic"), 400
    parts = [codec.encode(x, seed=seed) for seed in range(seeds)]
    mean = sum(codec.decode(part, TensorSpec.of(x)).double() for part in parts) / seeds
    step = codec.allowed_error(x)
    # An error is at most a step, so its mean over 400 has a deviation of half a 20th at most.
    assert float(((mean - x).abs() / step).max()) < 5 * 0.5 / math.sqrt(seeds)
    assert float(((mean - x) / step).mean().abs()) < 5 * 0.5 / math.sqrt(seeds * 512)
    nearest = check(Quantize(3), x).double()
    assert float(((nearest - x).abs() / step).max()) > 0.4


def test_seeds_differ_and_repeat(form):
    x, codec = values(1000, torch.float32), Quantize(2, rounding="stochastic")
    one, again, other = (codec.encode(x, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_what_lies_on_a_level_stays_there_with_stochastic_rounding(form):
    x = torch.arange(256.0)  # low 0, step 1
    for seed in range(20):
        assert torch.equal(check(Quantize(8, rounding="stochastic"), x, seed), x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_keep_masks_where_groups_mix_signs(dtype, form):
    x = torch.cat([torch.linspace(-1, 1, 129), torch.zeros(30), -torch.zeros(30)]).to(dtype)
    for bits in range(1, 9):
        for rounding in ("nearest", "stochastic"):
            decoded = check(Quantize(bits, 64, rounding, zeros=True), x)
            assert torch.equal(decoded == 0, x == 0)
            assert not torch.signbit(decoded[decoded == 0]).any()


def test_zeros_keep_the_smallest_numbers_from_becoming_zero(form):
    for dtype, tiny in (
        (torch.float16, 2.0**-24),
        (torch.bfloat16, 2.0**-133),
        (torch.float32, 2.0**-149),
        (torch.float64, 1e-300),
    ):
        x = torch.tensor([tiny, -tiny, 0.0, 1.0, -1.0, 0.0], dtype=dtype)
        decoded = check(Quantize(4, zeros=True), x)
        assert (decoded == 0).tolist() == [False, False, True, False, False, True]


def test_bfloat16_of_the_grid_holds_what_it_can(form):
    for constant in (0.0, 1.0, -3.5, 2.0**-126, 448.0):
        x = torch.full((300,), constant)
        assert torch.equal(check(Quantize(1), x), x)
    x = torch.full((300,), 0.1)  # no bfloat16
    assert float((check(Quantize(4), x) - x).abs().max()) < 1e-4


def test_the_ends_of_each_type_stay_finite(form):
    for dtype in FLOATS:
        largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
        for ends in ([0.0, largest], [-largest, 0.0], [largest * 0.7, largest]):
            for bits in (1, 4, 8):
                x = torch.tensor(ends, dtype=dtype)
                codec = Quantize(bits)
                decoded = codec.decode(codec.encode(x), TensorSpec.of(x))
                if largest > 1e38 and dtype != torch.bfloat16 and (ends[0] < 0 or bits == 1):
                    continue  # no bfloat16 is as low, or a step as large: see the next tests
                assert torch.isfinite(decoded).all(), (dtype, ends, bits)


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, torch.finfo(torch.float32).min], ids=str
)
def test_a_group_that_cannot_be_held_is_nan_and_others_are_not_touched(bad, form):
    x = values(1000, torch.float32)
    for zeros in (False, True):
        codec = Quantize(4, zeros=zeros)
        whole = check(codec, x)
        broken = x.clone()
        broken[300] = bad
        parts = codec.encode(broken)
        decoded = codec.decode(parts, TensorSpec.of(x))
        group = slice(256, 512)
        gone = decoded[group].isnan()
        assert torch.equal(gone, broken[group] != 0) if zeros else bool(gone.all())
        assert torch.equal(decoded[:256], whole[:256])
        assert torch.equal(decoded[512:], whole[512:])
        assert torch.isfinite(parts[1]).all(1).tolist() == [True, False, True, True]


def test_a_range_beyond_float32_is_not_held(form):
    x = torch.tensor([-3e38, 3e38])
    codec = Quantize(8)
    assert codec.decode(codec.encode(x), TensorSpec.of(x)).isnan().all()
    assert codec.allowed_error(x).isinf().all()


def test_any_strides_and_gradients_will_do(form):
    x = values(24 * 30, torch.float32).view(24, 30)
    for view in (
        x.t(),
        x[::2],
        x[:, ::3],
        x.view(2, 3, 4, 30).to(memory_format=torch.channels_last),
    ):
        assert torch.equal(check(Quantize(4), view), check(Quantize(4), view.contiguous()))
    check(Quantize(4), x.clone().requires_grad_())
    check(Quantize(4), torch.tensor(3.25))


def test_a_view_that_is_negated_when_read_will_do(form):
    x = torch.complex(values(300, torch.float32), values(300, torch.float32, seed=1))
    view = x.conj().imag
    assert view.is_neg()
    assert torch.equal(check(Quantize(4), view), check(Quantize(4), -x.imag))


def test_wrong_settings_are_named():
    for settings_, fault in (
        ({"bits": 0}, "1 to 8 bits, not 0"),
        ({"bits": 9}, "1 to 8 bits, not 9"),
        ({"bits": "4"}, "1 to 8 bits, not '4'"),
        ({"bits": 4.0}, "1 to 8 bits, not 4.0"),
        ({"bits": 4, "group": 12}, "multiple of 8 up to 65536, not 12"),
        ({"bits": 4, "group": 0}, "multiple of 8"),
        ({"bits": 4, "rounding": "up"}, "'nearest' or 'stochastic', not 'up'"),
    ):
        with pytest.raises(ValueError, match=fault):
            Quantize(**settings_)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_what_is_no_float_is_refused(dtype):
    assert str(dtype) in Quantize(4).refusal(TensorSpec((3,), dtype))


def test_parts_of_another_size_are_refused():
    codec, x = Quantize(4), values(1000, torch.float32)
    codes, grids = codec.encode(x)
    spec = TensorSpec.of(x)
    with pytest.raises(ValueError, match="not those of 1000 elements"):
        codec.decode((codes[:-1], grids), spec)
    with pytest.raises(ValueError, match="not those of 1000 elements"):
        codec.decode((codes, grids[1:]), spec)
