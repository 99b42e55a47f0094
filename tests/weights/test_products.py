"""Fused products equal the plain ones but for rounding, on every instruction set alike."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import fewbits  # noqa: E402
from fewbits import _kernels, weights  # noqa: E402
from fewbits.weights.packed import pack_weight  # noqa: E402
from fewbits.weights.products import fusable, multiplied  # noqa: E402
from fewbits.weights.quantized import quantize_weight, scheme_named  # noqa: E402
from fewbits.weights.settings import Settings  # noqa: E402
from fewbits.weights.unpacker import Unpacker  # noqa: E402
from weights.models import layers  # noqa: E402


@pytest.fixture
def every_simd():
    before = _kernels.simd()
    yield _kernels.available_simd()
    _kernels.set_simd(before)


def packed_of(weight, codec=None):
    return pack_weight("w", weight, codec or fewbits.Lossless(), 1)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 300),
    count=st.integers(1, 9),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.int8]),
    short=st.booleans(),  # vectors of bfloat16, which some processors multiply by themselves
    seed=st.integers(0, 1000),
)
def test_products_are_those_of_the_unpacked_matrix(rows, columns, count, dtype, short, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = 40 if dtype == torch.int8 else 0.1
    matrix = (torch.randn(rows, columns, generator=generator) * scale).clamp(-127, 127).to(dtype)
    vectors = torch.randn(count, columns, generator=generator)
    if short:
        vectors = vectors.bfloat16().float()
    found = multiplied(packed_of(matrix), Unpacker(Settings(threads=1)), vectors)
    expected = vectors.double() @ matrix.double().T
    bound = vectors.abs().double() @ matrix.abs().double().T * 2.0**-20
    assert bool(((found - expected).abs() <= bound).all())


@pytest.mark.parametrize("count", [2, 7])
def test_all_instruction_sets_and_threads_give_the_same_bits(every_simd, count):
    generator = torch.Generator().manual_seed(0)
    rows = torch.logspace(-3, 3, 300)[torch.randperm(300, generator=generator)][:, None]
    normal = torch.randn(300, 2500, generator=generator)
    for matrix in (
        (normal * rows).to(torch.bfloat16),  # classes of rows
        (normal * 0.1).to(torch.bfloat16),
        normal,
        (normal * 30).clamp(-127, 127).to(torch.int8),
    ):
        packed, vectors = packed_of(matrix), torch.randn(count, 2500, generator=generator)
        assert packed.tensor.header.blocks > 1 or matrix.dtype == torch.int8
        found = []
        for name in every_simd:
            _kernels.set_simd(name)
            for threads in (1, 2):
                unpacker = Unpacker(Settings(threads=threads))
                found.append(multiplied(packed, unpacker, vectors))
        assert all(torch.equal(other, found[0]) for other in found)


def test_infinities_and_nans_come_out():
    matrix = torch.randn(64, 128).to(torch.bfloat16)
    matrix[3, 5], matrix[4, 7] = torch.inf, torch.nan
    vectors = torch.ones(5, 128)
    vectors[1, 100] = torch.inf
    found = multiplied(packed_of(matrix), Unpacker(Settings()), vectors)
    assert found[0, 3] == torch.inf and bool(found[0, 4].isnan()) and found[0, :3].isfinite().all()
    assert not found[1].isfinite().any() and found[2, :3].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_fused_layer_is_within_rounding_and_unpacks_nothing(dtype, mode):
    plain = layers(256, 512, 256).to(dtype)
    x = torch.randn(1, 2, 256).to(dtype)
    expected = plain(x)
    model = weights.attach(plain, fused=True)
    with mode():
        found = model(x)
    assert found.dtype == dtype and found.shape == expected.shape
    torch.testing.assert_close(found, expected.detach(), atol=2e-2, rtol=2e-2)
    counts = weights.report(model).counts
    assert counts.fused == 2 and counts.unpacked == 0
    many = torch.randn(64, 256).to(dtype)
    model(many)
    assert weights.report(model).counts.unpacked == 2


def test_a_fused_layer_has_gradients():
    plain = layers(256, 256)
    x = torch.randn(2, 256, requires_grad=True)
    plain(x).sum().backward()
    expected, x.grad = x.grad, None
    weights.attach(plain, fused=True)(x).sum().backward()
    torch.testing.assert_close(x.grad, expected)


def test_int8_with_scales_is_fused():
    weight = torch.randn(96, 512).to(torch.bfloat16)
    packed = quantize_weight("w", weight, scheme_named("int8"), 1)
    assert fusable(packed) and not fusable(quantize_weight("w", weight, scheme_named("int4"), 1))
    vectors = torch.randn(3, 512)
    codes = torch.from_numpy(packed.tensor.unpack())
    expected = vectors.double() @ (codes.double() * packed.scales.double()).T
    found = multiplied(packed, Unpacker(Settings()), vectors)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_tiles_multiply_a_part_at_a_time():
    plain = torch.nn.Linear(512, 4096)
    x = torch.randn(5, 512)
    expected = plain(x)
    model = weights.attach(plain, tile_bytes=1 << 20)
    found = model(x)
    torch.testing.assert_close(found, expected.detach())
    assert weights.report(model).most_scratch_bytes < 1.1 * (1 << 20)


def test_the_kernel_refuses_what_does_not_fit():
    header = packed_of(torch.randn(8, 700)).tensor.header
    payload = np.zeros(10, np.uint8)
    index = (header.modes, header.lengths, header.checksums)
    plan, arrangement = header.plan.kernel, header.arrangement

    def call(number, columns, vectors, out):
        values = np.zeros(vectors, np.float32), np.zeros(out, np.float32)
        return plan.multiply(arrangement, payload, *index, number, columns, *values, True, 1)

    with pytest.raises(ValueError, match="vectors do not go with the matrix"):
        call(1, 0, 700, 8)
    with pytest.raises(ValueError, match="vectors do not go with the matrix"):
        call(1, 699, 699, 8)
    with pytest.raises(ValueError, match="not a product for each row"):
        call(1, 700, 700, 9)
    with pytest.raises(ValueError, match="no matrix of such numbers"):
        call(2, 700, 700, 8)
    assert call(1, 700, 700, 8) >= 0  # the payload is not that of the index
