"""The C++ and the Triton kernels give the bytes of the plain form."""

import importlib.util
import itertools

import pytest

torch = pytest.importorskip("torch")

from fewbits import _kernels  # noqa: E402
from fewbits.lossy import Quantize, native_quantize, torch_quantize  # noqa: E402
from lossy_contract import bits as bits_of  # noqa: E402
from lossy_contract import compiles_without_fusing  # noqa: E402

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (extra gpu)"
)
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
KINDS = list(itertools.product(("nearest", "stochastic"), (False, True)))


@pytest.fixture(params=_kernels.available_simd())
def simd(request):
    before = _kernels.simd()
    _kernels.set_simd(request.param)
    yield request.param
    _kernels.set_simd(before)


def hard(count, dtype, seed=0):
    """Numbers of all sizes, zeros of both signs, subnormals, and what is not finite."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dtype=torch.float64, generator=generator)
    scales = torch.tensor([1.0, 1e-3, 1e3, 1e-6, 1e30, 1e-39, 2e38, 1.0])
    x = x * scales[torch.arange(count) // 131 % len(scales)]
    x[::5] = 0.0
    x[1::11] = -0.0
    x = x.to(dtype)
    if count > 600:
        x[301], x[-1] = torch.nan, -torch.inf
    return x


def same_parts(ours, plain):
    for mine, expected in zip(ours, plain, strict=True):
        if mine.dtype != expected.dtype or mine.shape != expected.shape:
            return False
        if not torch.equal(bits_of(mine), bits_of(expected)):
            return False
    return True


def same_values(mine, expected):
    return torch.equal(mine.isnan(), expected.isnan()) and torch.equal(
        bits_of(mine.nan_to_num()), bits_of(expected.nan_to_num())
    )


def check(form, codec, x, seed):
    plain = torch_quantize.encode(codec, x, seed)
    assert same_parts(form.encode(codec, x, seed), plain), codec
    decoded = torch_quantize.decode(codec, plain, x.numel(), x.dtype)
    assert same_values(form.decode(codec, plain, x.numel(), x.dtype), decoded), codec


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_kernels_of_every_instruction_set(simd, bits, dtype):
    for (rounding, zeros), group, count in itertools.product(KINDS, (256, 40), (3, 256, 1003)):
        check(native_quantize, Quantize(bits, group, rounding, zeros), hard(count, dtype), 9)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_16_bit_number_goes_through_alike(simd, dtype):
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    x = x.view(dtype) if dtype != torch.float32 else x.view(torch.float16).float()
    x = torch.where(torch.isfinite(x), x, 0.0)
    for zeros in (False, True):
        check(native_quantize, Quantize(8, 16, zeros=zeros), x, 0)


def test_threads_change_nothing():
    x = hard((1 << 19) + 77, torch.float32)[:-1]
    codec = Quantize(4, rounding="stochastic")
    torch.set_num_threads(1)
    alone = native_quantize.encode(codec, x, 3)
    torch.set_num_threads(4)
    assert same_parts(native_quantize.encode(codec, x, 3), alone)
    decoded = native_quantize.decode(codec, alone, x.numel(), x.dtype)
    torch.set_num_threads(1)
    assert same_values(native_quantize.decode(codec, alone, x.numel(), x.dtype), decoded)


@needs_triton
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter computes with NumPy
@pytest.mark.parametrize(
    ("bits", "rounding", "zeros", "dtype"),
    [
        (1, "nearest", False, torch.float32),
        (1, "nearest", True, torch.bfloat16),
        (2, "stochastic", True, torch.float16),
        (3, "nearest", True, torch.float32),
        (4, "stochastic", False, torch.bfloat16),
        (6, "nearest", False, torch.float16),
        (8, "stochastic", True, torch.float32),
        (8, "nearest", False, torch.bfloat16),
    ],
)
def test_triton_kernels(bits, rounding, zeros, dtype):
    from fewbits.lossy import triton_quantize

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for group, count in ((256, 1003), (40, 77)):
        codec, x = Quantize(bits, group, rounding, zeros), hard(count, dtype)
        plain = torch_quantize.encode(codec, x, 5)
        ours = triton_quantize.encode(codec, x.to(device), 5)
        assert same_parts([part.cpu() for part in ours], plain)
        decoded = triton_quantize.decode(codec, ours, count, dtype).cpu()
        assert same_values(decoded, torch_quantize.decode(codec, plain, count, dtype))


@needs_triton
@pytest.mark.slow
def test_triton_kernels_compile_for_a_gpu_without_fusing():
    compiles_without_fusing(COMPILE)


COMPILE = """
import re, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fewbits.lossy import triton_mask, triton_quantize

def ptx(kernel, **constants):
    types = dict(x="*bf16", out="*bf16", codes="*u8", bits="*u8", below="*u8", grids="*i16",
                 inverse_steps="fp32")
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]

block = dict(ROWS=16, RUN=32)
text = ptx(triton_mask._pack, **block) + ptx(triton_mask._apply, LEAST=2.0**-126, **block)
for bits in (1, 4, 8):
    for zeros in (False, True):
        steps = 2**bits - 1 - zeros
        text += ptx(triton_quantize._encode, BITS=bits, STEPS=steps, ZEROS=zeros,
                    STOCHASTIC=zeros, **block)
        text += ptx(triton_quantize._decode, BITS=bits, ZEROS=zeros, LARGEST=3e38,
                    LEAST=2.0**-126, VANISHING=0.0, **block)
print("fused", len(re.findall(r"fma\\.rn\\.f32", text)), "flushing", text.count(".ftz"),
      "approximate", len(re.findall(r"div\\.(full|approx)|rcp\\.approx", text)))
"""
