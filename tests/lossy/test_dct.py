import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import DCT, Quantize, TensorSpec  # noqa: E402
from lossy_contract import bits, check  # noqa: E402

KEEPS = ("square", "triangle")


def matrix():
    k, i = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    rows = 0.5 * torch.cos((2 * i + 1) * k * math.pi / 16).double()
    rows[0] = math.sqrt(1 / 8)
    return rows


def by_definition(maps):
    """Orthonormal coefficients of (..., 8h, 8w), float64, as (..., h, w, 8, 8)."""
    blocks = maps.double().unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    return matrix() @ blocks @ matrix().T


def maps_of(height, width, dtype, seed, smooth=True):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
    return (maps.cumsum(-1).cumsum(-2) if smooth else maps).to(dtype)


def decoded(codec, maps):
    return codec.decode(codec.encode(maps), TensorSpec.of(maps))


def energy(values):
    return float(values.double().square().sum())


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("chop", range(1, 9))
def test_payload_is_the_transform_over_8(form, chop, keep):
    maps = maps_of(16, 24, torch.float32, chop)
    codec = DCT(chop, keep)
    (payload,) = codec.encode(maps)
    expected = torch.stack([by_definition(maps)[..., u, v] for u, v in codec.frequencies]) / 8
    assert payload.shape == expected.shape
    assert torch.allclose(payload.double(), expected, atol=1e-5 * float(maps.abs().max()))
    kept = chop * chop if keep == "square" else chop * (chop + 1) // 2
    assert len(codec.frequencies) == kept == len(set(codec.frequencies))
    assert codec.nbytes(TensorSpec.of(maps)) == maps.nbytes * kept // 64


@settings(max_examples=40, deadline=None)
@given(
    chop=st.integers(1, 8),
    keep=st.sampled_from(KEEPS),
    height=st.integers(8, 33),
    width=st.integers(8, 33),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    smooth=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_error_is_what_was_dropped(chop, keep, height, width, dtype, smooth, seed):
    maps = maps_of(height, width, dtype, seed, smooth)
    codec = DCT(chop, keep)
    error = energy(check(codec, maps).double() - maps.double())
    rows = torch.arange(-(-height // 8) * 8).clamp(max=height - 1)
    columns = torch.arange(-(-width // 8) * 8).clamp(max=width - 1)
    coefficients = by_definition(maps[..., rows, :][..., columns])
    kept = sum(energy(coefficients[..., u, v]) for u, v in codec.frequencies)
    dropped = energy(coefficients) - kept
    rounding = 1e-5 * energy(coefficients) ** 0.5
    if height % 8 or width % 8:
        assert error <= (max(dropped, 0.0) ** 0.5 + rounding) ** 2
    else:
        assert abs(error**0.5 - max(dropped, 0.0) ** 0.5) <= rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_nothing_chopped_is_exact_up_to_rounding(form, dtype):
    maps = maps_of(19, 33, dtype, 1, smooth=False)
    error = (decoded(DCT(8), maps).double() - maps.double()).abs().max()
    assert error <= 32 * torch.finfo(dtype).eps


def test_what_is_constant_stays_exact(form):
    maps = torch.full((1, 2, 16, 9), 3.7)
    assert torch.equal(decoded(DCT(1), maps), maps)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("tile", [8, 16, 64])
def test_tiles_change_nothing(tile, keep, monkeypatch):
    monkeypatch.setenv("FEWBITS_LOSSY", "torch")
    maps = maps_of(40, 25, torch.float32, 2)
    whole, tiled = DCT(3, keep), DCT(3, keep, tile)
    (payload,), spec = whole.encode(maps), TensorSpec.of(maps)
    assert torch.equal(tiled.encode(maps)[0], payload)
    assert torch.equal(tiled.decode((payload,), spec), whole.decode((payload,), spec))


def test_what_is_not_finite_stays_in_its_block(form):
    maps = maps_of(16, 16, torch.float32, 3)
    maps[0, 0, 1, 1], maps[1, 2, 9, 15] = torch.nan, torch.inf
    broken = decoded(DCT(4), maps)
    touched = ~torch.isfinite(broken)
    assert touched.sum() == 128
    assert touched[0, 0, :8, :8].all()
    assert touched[1, 2, 8:, 8:].all()


def test_overshooting_does_not_leave_float16(form):
    maps = torch.full((1, 1, 8, 8), 65504.0, dtype=torch.float16)
    maps[..., 4:] = -65504.0
    assert torch.isfinite(decoded(DCT(2), maps)).all()


def test_any_strides_and_gradients(form):
    maps = maps_of(16, 16, torch.float32, 4)
    strided = maps.to(memory_format=torch.channels_last).requires_grad_()
    check(DCT(4), strided)
    assert torch.equal(DCT(4).encode(strided)[0], DCT(4).encode(maps)[0])
    assert not DCT(4).encode(strided)[0].requires_grad
    check(DCT(4), torch.empty(0, 3, 8, 8))


def test_groups_of_one_frequency_quantize_better():
    """Why frequencies come first: the same coefficients block by block lose far more."""
    maps = maps_of(64, 64, torch.float32, 5)
    (payload,) = DCT(4).encode(maps)
    by_block = payload.movedim(0, -1).contiguous()
    lost = [energy(check(Quantize(4), coefficients) - coefficients)
            for coefficients in (payload, by_block)]  # fmt: skip
    assert lost[0] < lost[1] / 2
    check(DCT(4) + Quantize(8), maps)


@pytest.mark.slow
def test_exports():
    class Model(torch.nn.Module):
        def forward(self, x):
            codec = DCT(4, "triangle")
            return codec.decode(codec.encode(x), TensorSpec.of(x))

    maps = maps_of(16, 20, torch.float32, 6)
    exported = torch.export.export(Model(), (maps,))
    assert torch.equal(bits(exported.module()(maps)), bits(decoded(DCT(4, "triangle"), maps)))


@pytest.mark.parametrize(
    ("shape", "dtype", "word"),
    [
        ((2, 7, 8), torch.float32, "4 dimensions"),
        ((16, 384), torch.float32, "4 dimensions"),
        ((1, 1, 7, 8), torch.float32, "7 x 8"),
        ((1, 1, 8, 8), torch.int8, "int8"),
    ],
)
def test_what_it_refuses(shape, dtype, word):
    assert word in DCT(4).refusal(TensorSpec(shape, dtype))
    with pytest.raises(TypeError, match=word):
        DCT(4).encode(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("bad", [{"chop": 0}, {"chop": 9}, {"chop": 4, "keep": "disk"},
                                 {"chop": 4, "tile": 12}, {"chop": 2.5}])  # fmt: skip
def test_settings_it_refuses(bad):
    with pytest.raises(ValueError, match="must be"):
        DCT(**bad)


def test_a_payload_of_another_shape(form):
    maps = maps_of(16, 16, torch.float32, 7)
    with pytest.raises(ValueError, match="payload"):
        DCT(4).decode(DCT(4).encode(maps), TensorSpec((2, 3, 16, 24), torch.float32))
