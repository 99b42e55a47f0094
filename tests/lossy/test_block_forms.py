"""The C++ and the Triton kernels of the block codecs give the bytes of the plain form."""

import importlib.util

import pytest

torch = pytest.importorskip("torch")

from fewbits import _kernels  # noqa: E402
from fewbits.lossy import DCT, Bounded, FixedRate, TensorSpec  # noqa: E402
from lossy_contract import bits, compiles_without_fusing  # noqa: E402

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (extra gpu)"
)
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
FEW = [
    DCT(1), DCT(4), DCT(3, "triangle"), Bounded(0.02), Bounded(0.3, "std", dither=True),
    FixedRate(4), FixedRate(3, 1), FixedRate(5, 1), FixedRate(8, 3),
]  # fmt: skip
MORE = [
    *(DCT(chop, keep) for chop in range(1, 9) for keep in ("square", "triangle")),
    *(Bounded(bound, "range", dither) for bound in (1e-5, 0.01, 0.3) for dither in (False, True)),
    *(FixedRate(rate, dims) for rate in (3, 4, 7, 12, 16) for dims in (1, 2, 3)),
    FixedRate(1),
]


@pytest.fixture(params=_kernels.available_simd())
def simd(request):
    before = _kernels.simd()
    _kernels.set_simd(request.param)
    yield request.param
    _kernels.set_simd(before)


def hard(dtype):
    """Maps of all kinds: noise, smooth, rectified, large, subnormal, constant, not finite."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(8, 2, 19, 11, generator=generator)
    maps[1] = maps[1].cumsum(-1)
    maps[2] = maps[2].relu()
    maps[3] *= 1e4
    maps[4] *= 1e-41
    maps[5] = 3.3
    maps[6] = 0.0
    maps[7, 0, 0, 0], maps[7, 1, 18, 10] = torch.nan, -torch.inf
    maps[7, 1, 2, 2] = -0.0
    return maps.to(dtype)


def same(mine, plain):
    """Bit by bit, where NaN is NaN."""
    if mine.dtype != plain.dtype or mine.shape != plain.shape:
        return False
    if not plain.is_floating_point():
        return torch.equal(mine, plain)
    number = ~plain.isnan()
    return torch.equal(mine.isnan(), ~number) and torch.equal(
        bits(mine[number]), bits(plain[number])
    )


def check_forms(codec, x, form, monkeypatch):
    spec = TensorSpec.of(x)
    monkeypatch.setenv("FEWBITS_LOSSY", "torch")
    plain = codec.encode(x, seed=5)
    values = codec.decode(plain, spec)
    monkeypatch.setenv("FEWBITS_LOSSY", form)
    device = "cuda" if form == "triton" and torch.cuda.is_available() else "cpu"
    ours = codec.encode(x.to(device), seed=5)
    assert all(same(part.cpu(), other) for part, other in zip(ours, plain, strict=True)), codec
    parts = tuple(part.to(device) for part in plain)
    assert same(codec.decode(parts, spec).cpu(), values), codec


@pytest.mark.parametrize("dtype", FLOATS)
def test_kernels_of_every_instruction_set(simd, dtype, monkeypatch):
    x = hard(dtype)
    for codec in FEW:
        check_forms(codec, x, "native", monkeypatch)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", MORE, ids=repr)
def test_kernels_with_every_setting(codec, dtype, monkeypatch):
    check_forms(codec, hard(dtype), "native", monkeypatch)


def test_threads_change_nothing():
    x = torch.randn(16, 8, 50, 60)
    spec = TensorSpec.of(x)
    for codec in (DCT(4), FixedRate(5), FixedRate(3, 1)):
        alone = codec.encode(x)
        torch.set_num_threads(3)
        several, back = codec.encode(x), codec.decode(alone, spec)
        torch.set_num_threads(1)
        assert torch.equal(alone[0], several[0])
        assert torch.equal(back, codec.decode(alone, spec))


@needs_triton
@pytest.mark.parametrize("dtype", FLOATS)
def test_triton_kernels(dtype, monkeypatch):
    x = hard(dtype)[::3, :1].contiguous() if dtype != torch.float32 else hard(dtype)[1:, :1]
    for codec in FEW:
        check_forms(codec, x, "triton", monkeypatch)


@needs_triton
@pytest.mark.slow
def test_triton_kernels_compile_for_a_gpu_without_fusing():
    compiles_without_fusing(COMPILE)


COMPILE = r"""
import re, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fewbits.lossy import triton_bounded, triton_dct, triton_fixedrate

def ptx(kernel, types, **constants):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]

text = ""
for kind, element_bits in (("*bf16", 16), ("*fp32", 32)):
    types = dict(x=kind, out=kind, coefficients=kind, slots="*i32", forward="*fp32",
                 inverse="*fp32")
    text += ptx(triton_dct._encode, types, CHOP=4, BLOCKS=64)
    text += ptx(triton_dct._decode, types, CHOP=4, BLOCKS=64)
    types = dict(x=kind, entries="*u8", words="*i32", starts="*i64", scale="*fp32", step="*fp32")
    constants = dict(ELEMENT_BITS=element_bits, BLOCKS=32)
    for write in (False, True):
        text += ptx(triton_bounded._encode, types, DITHER=write, WRITE=write, **constants)
    text += ptx(triton_bounded._decode, types, **constants)
names = "codes exponent falls widths starts firsts"
types = dict.fromkeys(names.split(), "*i32") | dict(payload="*u8")
text += ptx(triton_fixedrate._pack, types, GROUPS=10, ELEMENTS=64, BYTES=256)
text += ptx(triton_fixedrate._unpack, types | dict(starts="*i64"), CODES=512)
print("fused", len(re.findall(r"fma\.rn", text)), "flushing", text.count(".ftz"),
      "approximate", len(re.findall(r"div\.(full|approx)|rcp\.approx", text)))
"""
