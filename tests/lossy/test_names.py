import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy import (  # noqa: E402
    DCT,
    Bits,
    Bounded,
    Cast,
    Exact,
    FixedRate,
    Lossless,
    Mask,
    PoolIndices,
    Quantize,
    Shape,
    codec,
    name_of,
)

NAMES = {
    "int4": Quantize(4),
    "int1": Quantize(1),
    "int8-stochastic": Quantize(8, rounding="stochastic"),
    "int2-zeros": Quantize(2, zeros=True),
    "int3g64-stochastic-zeros": Quantize(3, 64, "stochastic", True),
    "dct4": DCT(4),
    "dct3t-tile64": DCT(3, "triangle", 64),
    "bounded:0.01": Bounded(0.01),
    "bounded:1e-09:range": Bounded(1e-9, "range"),
    "bounded:2.0:std:dither": Bounded(2, "std", dither=True),
    "bounded:1e22": Bounded(1e22),
    "fixed8": FixedRate(8),
    "fixed4-1d": FixedRate(4, 1),
    "bf16": Cast("bf16"),
    "fp16": Cast("fp16"),
    "fp8": Cast("fp8_e4m3"),
    "fp8-e5m2": Cast("fp8_e5m2"),
    "mask": Mask(),
    "bits": Bits(),
    "shape": Shape(),
    "lossless": Lossless(),
    "exact": Exact(),
    "dct4t+int8": DCT(4, "triangle") + Quantize(8),
    "mask+int4+lossless": Mask() + Quantize(4) + Lossless(),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_codecs_give_each_other(name):
    assert codec(name) == NAMES[name]
    assert name_of(codec(name)) == name
    kinds = (Bits, Bounded, Cast, DCT, Exact, FixedRate, Lossless, Mask, Quantize, Shape)
    scope = {kind.__name__: kind for kind in kinds}
    assert eval(repr(codec(name)), scope) == codec(name)


def test_masks_come_first_wherever_they_are_named():
    assert codec("int8 + mask") == codec("mask+int8")


@pytest.mark.parametrize("name", ["", "int9", "int4-up", "INT4", "int4++mask", "gzip", "int4,mask"])
def test_unknown_names_list_those_there_are(name):
    with pytest.raises(ValueError, match=r"unknown codec .*there are: int4 .*bf16.*lossless"):
        codec(name)


def test_settings_in_names_are_checked():
    with pytest.raises(ValueError, match="multiple of 8 up to 65536, not 12"):
        codec("int4g12")


def test_a_codec_without_a_name_gives_its_repr():
    pool = PoolIndices((8,), (2,), (2,), (0,), (1,))
    assert name_of(pool) == repr(pool)
    assert name_of(pool + Lossless()) == repr(pool + Lossless())
