import importlib.util
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits import _kernels  # noqa: E402
from fewbits.lossy import Bits, Mask, Quantize, Shape, TensorSpec, is_two_valued  # noqa: E402
from fewbits.lossy.mask import pack_mask, unpack_mask  # noqa: E402
from lossy_contract import bits as bits_of  # noqa: E402
from lossy_contract import check  # noqa: E402

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def relu_like(count, dtype, negative=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=generator)
    x = torch.where(x.abs() > 0.5, x if negative else x.abs(), 0.0)
    return x.to(dtype)


@given(
    st.sampled_from([0, 1, 8, 255, 256, 1000]),
    st.sampled_from(FLOATS),
    st.booleans(),
    st.sampled_from(["exact", "int1", "int2", "fp8", "int4+lossless"]),
)
@settings(max_examples=60, deadline=None)
def test_a_mask_survives_what_follows_it(count, dtype, negative, name):
    from fewbits.lossy import codec

    x, chained = relu_like(count, dtype, negative), Mask() + codec(name)
    spec = TensorSpec.of(x)
    decoded = chained.decode(chained.encode(x), spec)
    assert torch.equal(decoded == 0, x == 0)
    if not negative:
        assert torch.equal(decoded > 0, x > 0)


def test_a_mask_alone_is_exact_but_for_the_sign_of_zero(form):
    for dtype, negative in itertools.product(FLOATS, (False, True)):
        x = relu_like(300, dtype, negative)
        assert torch.equal(check(Mask(), x), x)


def test_lost_elements_become_small_and_positive(form):
    for dtype in FLOATS:
        x = torch.tensor([1.0, 2.0, 0.0, 3.0], dtype=dtype)
        _, *kept = Mask().encode(x)
        worse = torch.tensor([0.0, -2.0, -1.0, 5.0], dtype=dtype)
        decoded = Mask().decode((worse, *kept), TensorSpec.of(x))
        assert (decoded[:2] > 0).all() and float(decoded[0]) < 1e-7
        assert decoded[2:].tolist() == [0.0, 5.0]
        _, *kept = Mask().encode(x - 1.5)  # with elements below zero these are kept
        decoded = Mask().decode((worse, *kept), TensorSpec.of(x))
        assert decoded[1:].tolist() == [-2.0, -1.0, 5.0]


def test_what_is_not_finite_goes_through(form):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -1.0])
    decoded = Mask().decode(Mask().encode(x), TensorSpec.of(x))
    assert torch.equal(bits_of(decoded), bits_of(x))


def test_mask_costs_a_bit_an_element_and_a_byte():
    spec = TensorSpec((100, 100), torch.bfloat16)
    assert Mask().nbytes(spec) == 20_000 + 1250 + 1
    assert (Mask() + Quantize(4)).nbytes(spec) == Quantize(4).nbytes(spec) + 1251
    assert (Quantize(4) + Mask()).stages[0] == Mask()


@pytest.mark.parametrize("dtype", FLOATS)
def test_bits_are_exact_for_two_values(dtype, form):
    for value, count in itertools.product((1.25, -2.0), (0, 1, 999)):
        noise = (torch.arange(count) % 3 != 0).to(dtype) * value
        assert is_two_valued(noise)
        assert torch.equal(check(Bits(), noise), noise)
    x = relu_like(500, dtype)
    assert not is_two_valued(x)
    decoded = check(Bits(), x)
    assert torch.equal(decoded > 0, x > 0)
    assert set(decoded.tolist()) == {0.0, float(x.max())}


def test_bits_of_bool_and_of_nothing_but_zeros(form):
    flags = torch.arange(77) % 3 == 0
    assert torch.equal(check(Bits(), flags), flags)
    assert Bits().nbytes(TensorSpec.of(flags)) == 10 + 1
    for dtype in FLOATS:
        assert not check(Bits(), torch.zeros(9, dtype=dtype)).any()


def test_bits_take_an_eighth_of_a_byte():
    assert Bits().nbytes(TensorSpec((1 << 20,), torch.float32)) == (1 << 17) + 4


def test_shape_keeps_nothing():
    x = torch.randn(3, 4)
    assert Shape().nbytes(TensorSpec.of(x)) == 0
    assert not check(Shape(), x).any()
    assert check(Shape(), torch.arange(3)).dtype == torch.int64


def test_integers_have_no_mask():
    for codec in (Mask(), Bits()):
        assert "int64" in codec.refusal(TensorSpec((3,), torch.int64))


def test_bits_of_another_size_are_refused():
    x = relu_like(100, torch.float32)
    values, bits, below = Mask().encode(x)
    with pytest.raises(ValueError, match="not the bits of 100 elements"):
        Mask().decode((values, bits[:-1], below), TensorSpec.of(x))


@pytest.mark.parametrize("dtype", FLOATS[:3])
def test_forms_agree(dtype, monkeypatch):
    forms = [("torch", "portable"), *(("native", name) for name in _kernels.available_simd())]
    if importlib.util.find_spec("triton"):
        forms.append(("triton", "portable"))
    before, results = _kernels.simd(), []
    x, worse = relu_like(1003, dtype, negative=True), relu_like(1003, dtype, True, seed=1)
    x[5], worse[6], x[7] = float("nan"), float("nan"), 2.0**-130
    for form, simd in forms:
        monkeypatch.setenv("FEWBITS_LOSSY", form)
        _kernels.set_simd(simd)
        parts = [pack_mask(x)]
        for original in (x, x.abs()):
            _, *kept = Mask().encode(original)
            parts += [*kept, Mask().decode((worse, *kept), TensorSpec.of(x))]
        parts.append(Bits().decode((pack_mask(x), x[:1]), TensorSpec.of(x)))
        results.append([bits_of(part) for part in parts])
    _kernels.set_simd(before)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_unpacked_masks_are_bool_of_the_shape():
    x = relu_like(60, torch.float32).view(3, 4, 5)
    mask = unpack_mask(pack_mask(x), TensorSpec.of(x))
    assert torch.equal(mask, x != 0)
