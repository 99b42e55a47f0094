import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy import (  # noqa: E402
    Bits,
    Cast,
    Chain,
    Exact,
    Lossless,
    Mask,
    Quantize,
    TensorSpec,
    chain,
)
from lossy_contract import check  # noqa: E402


def test_parts_are_the_last_payload_and_what_the_others_leave():
    x = torch.randn(1000).relu()
    parts = (Mask() + Quantize(4)).encode(x, seed=3)
    _, bits, below = Mask().encode(x)
    codes, grids = Quantize(4).encode(x, seed=3)
    assert len(parts) == 4
    for part, expected in zip(parts, (codes, grids, bits, below), strict=True):
        assert torch.equal(part, expected)


@pytest.mark.parametrize(
    "codec",
    [
        Mask() + Quantize(4),
        Mask() + Cast("fp8_e5m2"),
        Cast("bf16") + Lossless(),
        Exact() + Exact() + Lossless(),
        Bits() + Lossless(),
    ],
    ids=repr,
)
def test_sizes_shapes_and_values(codec):
    x = torch.randn(7, 33).relu()
    for some in (x, x[:0], x.to(torch.bfloat16)):
        decoded = check(codec, some)
        assert torch.equal(decoded == 0, some == 0)


def test_a_chain_is_what_its_stages_are():
    assert (Exact() + Lossless()).exact and not (Quantize(4) + Lossless()).exact
    assert (Mask() + Quantize(4)).flat
    assert (Mask() + Quantize(4)).part_count == 4
    assert chain(Quantize(4)) == Quantize(4)
    assert (Mask() + Quantize(4)) + Lossless() == Mask() + (Quantize(4) + Lossless())
    assert isinstance(Quantize(4) + Lossless(), Chain)


def test_masks_move_to_the_front():
    assert (Quantize(4) + Lossless() + Mask()).stages == (Mask(), Quantize(4), Lossless())


def test_nothing_stands_on_what_has_no_size():
    codec, spec = Lossless() + Quantize(4), TensorSpec((9,), torch.float32)
    assert "size depends on the values" in codec.refusal(spec)
    assert codec.nbytes(spec) is None
    with pytest.raises(TypeError, match=r"Quantize.* cannot hold this tensor: torch.uint8"):
        codec.encode(torch.randn(9))
    with pytest.raises(ValueError, match="size depends on the values"):
        codec.decode(Quantize(4).encode(torch.randn(9)), spec)


def test_a_stage_refuses_what_the_one_before_leaves():
    why = (Quantize(4) + Quantize(4)).refusal(TensorSpec((9,), torch.float32))
    assert "uint8" in why
    assert (Mask() + Quantize(4)).refusal(TensorSpec((9,), torch.int64)) is not None
    assert (Mask() + Quantize(4)).refusal(TensorSpec((9,), torch.float32)) is None
