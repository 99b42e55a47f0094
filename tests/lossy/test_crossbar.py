import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import CrossbarQuantize, Quantize, TensorSpec, codec, fidelity, name_of  # noqa: E402
from lossy_contract import check  # noqa: E402

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def weights(*shape, dtype=torch.float32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, dtype=torch.float64, generator=generator) * scale
    limit = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    return x.clamp(-limit, limit).to(dtype)


codecs = st.builds(
    CrossbarQuantize,
    st.integers(2, 8),
    st.sampled_from([1, 16, 128]),
    st.sampled_from([8, 30, 128]),
    st.integers(1, 4),
)
tensors = st.builds(
    lambda shape, **how: weights(*shape, **how),
    st.sampled_from([(0, 3), (3, 0), (1, 1), (40, 130), (129, 17), (5, 3, 2, 2)]),
    dtype=st.sampled_from(FLOATS),
    scale=st.sampled_from([0.0, 1.0, 1e-4, 1e-40, 1e37]),
    seed=st.integers(0, 4),
)


@given(codecs, tensors)
@settings(max_examples=60, deadline=None)
def test_contract_holds(codec, x):
    decoded = check(codec, x)
    assert torch.equal(decoded[x == 0], x[x == 0].abs())


@given(codecs)
@settings(max_examples=50, deadline=None)
def test_names_make_the_codec(made):
    assert codec(name_of(made)) == made
    assert eval(repr(made)) == made


def test_a_block_is_a_crossbar():
    assert CrossbarQuantize(8).block == (32, 128)
    assert CrossbarQuantize(4).block == (64, 128)
    assert CrossbarQuantize(3).block == (64, 128)  # two cells of 2 bits
    assert CrossbarQuantize(2).block == (128, 128)
    assert CrossbarQuantize(8, 64, 64, cell_bits=4).block == (32, 64)


def test_size_counts_scales():
    spec = TensorSpec((1024, 1024), torch.float32)
    assert CrossbarQuantize(8).nbytes(spec) == 2**20 + 2 * (1024 // 32) * 8
    assert CrossbarQuantize(4).nbytes(spec) == 2**19 + 2 * (1024 // 64) * 8
    assert (
        CrossbarQuantize(8).nbytes(TensorSpec((33, 129), torch.float32))
        == (33 * 129 // 8 + 1) * 8 + 2 * 2 * 2
    )


def test_each_crossbar_has_its_own_scale():
    x = torch.zeros(64, 256)
    x[:32, :128], x[:32, 128:], x[32:, :128] = 127.0, 12.7, 0.001
    made = CrossbarQuantize(8)
    whole, scales = made.integers(made.encode(x), TensorSpec.of(x))
    assert (whole[:32] == 127).all() or (whole[:32] >= 126).all()
    assert scales.shape == (2, 2)
    assert float(scales[0, 0]) == 1.0
    assert float(scales[1, 1]) == 0.0
    assert 0.1 <= float(scales[0, 1]) <= 0.1 * (1 + 2**-7)
    assert float((check(made, x) - x).abs().max()) < 0.06


def test_integers_and_scales_are_what_is_decoded():
    x = weights(70, 300)
    made = CrossbarQuantize(6, 128, 128)
    spec, parts = TensorSpec.of(x), made.encode(x)
    whole, scales = made.integers(parts, spec)
    outputs, inputs = made.block
    for row in (0, 41, 42, 69):
        for column in (0, 127, 128, 299):
            value = float(whole[row, column]) * float(scales[row // outputs, column // inputs])
            assert made.decode(parts, spec)[row, column] == pytest.approx(value)
    assert int(whole.abs().max()) <= made.largest == 31


def test_more_bits_are_closer_and_a_crossbar_beats_one_scale_for_all():
    x = weights(512, 512) * torch.exp(weights(512, 1, seed=1))
    scores = [fidelity(x, check(CrossbarQuantize(bits), x)) for bits in range(2, 9)]
    assert scores == sorted(scores)
    whole = CrossbarQuantize(6, 65536, 65536)
    assert whole._blocks(TensorSpec.of(x)) == (1, 1)
    assert scores[4] > fidelity(x, check(whole, x)) + 0.01


def test_small_groups_are_closer_than_a_crossbar_but_larger():
    x = weights(256, 256)
    spec = TensorSpec.of(x)
    made, grouped = CrossbarQuantize(4), Quantize(4, 64)
    assert made.nbytes(spec) < grouped.nbytes(spec)
    assert fidelity(x, check(made, x)) < fidelity(x, check(grouped, x))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_block_that_cannot_be_held_is_nan_and_others_are_not_touched(bad):
    x, made = weights(64, 256), CrossbarQuantize(8)
    whole = check(made, x)
    broken = x.clone()
    broken[40, 130] = bad
    decoded = made.decode(made.encode(broken), TensorSpec.of(x))
    assert decoded[32:, 128:].isnan().all()
    assert torch.equal(decoded[:32], whole[:32])
    assert torch.equal(decoded[32:, :128], whole[32:, :128])
    assert made.allowed_error(broken)[40, 130] == math.inf


def test_stands_before_other_codecs():
    x = weights(64, 256)
    made = codec("xbar4+lossless")
    parts = made.encode(x)
    assert torch.equal(made.decode(parts, TensorSpec.of(x)), check(CrossbarQuantize(4), x))


def test_what_is_no_matrix_of_floats_is_refused():
    made = CrossbarQuantize(4)
    assert "no matrix" in made.refusal(TensorSpec((5,), torch.float32))
    assert "torch.int8" in made.refusal(TensorSpec((5, 5), torch.int8))
    with pytest.raises(TypeError, match="no matrix"):
        made.encode(torch.zeros(5))


def test_wrong_settings_are_named():
    for settings_, fault in (
        ({"bits": 1}, "2 to 8 bits, not 1"),
        ({"bits": 9}, "2 to 8 bits, not 9"),
        ({"bits": 4, "cell_bits": 5}, "1 to 4 bits, not 5"),
        ({"bits": 4, "rows": 0}, "1 to 65536 rows, not 0"),
        ({"bits": 8, "columns": 3}, "takes 4 cells of 2 bits, more than a crossbar's 3 columns"),
    ):
        with pytest.raises(ValueError, match=fault):
            CrossbarQuantize(**settings_)


def test_parts_of_another_size_are_refused():
    x, made = weights(64, 256), CrossbarQuantize(4)
    codes, scales = made.encode(x)
    with pytest.raises(ValueError, match="not those of 16384 elements"):
        made.decode((codes[:-1], scales), TensorSpec.of(x))
    with pytest.raises(ValueError, match=r"scales of shape \(1, 1\), not \(1, 2\)"):
        made.decode((codes, scales[:, :1]), TensorSpec.of(x))
