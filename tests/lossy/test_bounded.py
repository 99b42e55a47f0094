import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import Bounded, TensorSpec, packed_nbytes  # noqa: E402
from lossy_contract import bits, check  # noqa: E402

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
MODES = ("absolute", "range", "std")
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def decoded(codec, x, seed=0):
    return codec.decode(codec.encode(x, seed=seed), TensorSpec.of(x))


@st.composite
def tensors(draw):
    """Any bits at all, or numbers of one scale with zeros among them."""
    dtype = draw(st.sampled_from(DTYPES))
    count, seed = draw(st.integers(0, 100)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    if count and draw(st.booleans()):
        size = dtype.itemsize
        raw = rng.integers(0, 256, count * size, dtype=np.uint8)
        return torch.from_numpy(raw).view(INTEGERS[size]).view(dtype)
    largest = math.log10(torch.finfo(dtype).max)
    scale = 10.0 ** draw(st.floats(-largest - 8, largest - 1))
    x = torch.from_numpy(rng.standard_normal(count) * scale + draw(st.sampled_from([0, scale])))
    x[torch.from_numpy(rng.random(count)) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0
    return x.to(dtype)


@settings(max_examples=300, deadline=None)
@given(
    x=tensors(),
    bound=st.floats(1e-9, 1e9),
    mode=st.sampled_from(MODES),
    dither=st.booleans(),
    plain=st.booleans(),
)
def test_the_bound_is_never_violated(x, bound, mode, dither, plain):
    codec = Bounded(bound, mode, dither)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWBITS_LOSSY", "torch" if plain else "native")
        y = decoded(codec, x, seed=7)
    assert TensorSpec.of(y) == TensorSpec.of(x)
    finite = torch.isfinite(x)
    assert torch.equal(bits(x[~finite]), bits(y[~finite]))
    assert (y[x == 0] == 0).all()
    allowed = float(codec.allowed_error(x))
    if math.isinf(allowed):
        return
    for mine, other in zip(x[finite].tolist(), y[finite].tolist(), strict=True):
        assert abs(Fraction(mine) - Fraction(other)) <= Fraction(allowed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_on_ordinary_numbers(form, mode, dtype):
    x = torch.randn(5, 7, 33, generator=torch.Generator().manual_seed(0)).to(dtype)
    y = check(Bounded(0.05, mode), x)
    assert not torch.equal(x, y)
    scale = {"absolute": 1.0, "range": float(x.amax() - x.amin()), "std": float(x.float().std())}
    assert (x.double() - y.double()).abs().max() <= 0.0501 * scale[mode]
    check(Bounded(0.05, mode), x.transpose(0, 2))


def test_the_size_is_what_blocks_need(form):
    x = torch.zeros(32 * 11)
    x[32:64] = torch.arange(32) * 7 % 32 / 31  # as is: 0 to 5 for a bound of 0.1, 3 bits
    x[64:96] = torch.where(torch.arange(32) % 2 > 0, 0.2, -0.2)  # zigzag: 1 and 2, 2 bits
    x[96:128] = torch.arange(32.0)  # differences of 5, zigzagged 10, 4 bits
    x[128] = torch.nan
    codec = Bounded(0.1)
    words, entries, step = codec.encode(x)
    assert [(int(e) & 63, int(e) >> 6) for e in entries[:6]] == [
        (0, 0), (3, 0), (2, 1), (4, 2), (0, 3), (0, 0),
    ]  # fmt: skip
    assert words.numel() == 3 + 2 + 4 + 32
    assert packed_nbytes((words, entries, step)) == 4 * 41 + 11 + 4
    assert codec.nbytes(TensorSpec.of(x)) is None
    assert codec.payload(TensorSpec.of(x)) is None


@pytest.mark.parametrize("value", [3.3, -1e-30, 65000.0, 0.0])
@pytest.mark.parametrize("mode", ["range", "std"])
def test_one_value_everywhere_is_exact_and_small(form, mode, value):
    x = torch.full((320,), value)
    codec = Bounded(0.1, mode)
    assert torch.equal(check(codec, x), x)
    assert packed_nbytes(codec.encode(x)) <= 54


def test_dithered_rounding_leans_nowhere(form):
    x = torch.tensor([0.1, -0.3, 0.49, 1.7, 0.0, -0.9]).repeat(512)
    codec = Bounded(1.0, dither=True)
    found = torch.stack([decoded(codec, x, seed) for seed in range(64)])
    assert (found - x).abs().max() <= 1.0
    mean = found.double().mean(0).reshape(-1, 6).mean(0)
    assert torch.allclose(mean, x[:6].double(), atol=5 * 0.5 / math.sqrt(64 * 512))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[3], decoded(codec, x, 3))


def test_threads_change_nothing():
    x = torch.randn(1 << 19)
    codec = Bounded(0.1, "std", dither=True)
    alone = codec.encode(x, seed=3)
    torch.set_num_threads(3)
    several = codec.encode(x, seed=3)
    back = codec.decode(alone, TensorSpec.of(x))
    torch.set_num_threads(1)
    assert all(map(torch.equal, alone, several))
    assert torch.equal(back, codec.decode(alone, TensorSpec.of(x)))


def test_parts_of_another_tensor_are_refused(form):
    x = torch.randn(100)
    words, entries, step = Bounded(0.1).encode(x)
    with pytest.raises(ValueError, match="entries are not those of 200"):
        Bounded(0.1).decode((words, entries, step), TensorSpec((200,), torch.float32))
    with pytest.raises(ValueError, match="words"):
        Bounded(0.1).decode((words[:-1], entries, step), TensorSpec.of(x))
    with pytest.raises(ValueError, match=r"words|32 bits"):
        Bounded(0.1).decode((words, entries | 63, step), TensorSpec.of(x))


@pytest.mark.parametrize("bound", [0, -1.0, math.inf, math.nan])
def test_bounds_it_refuses(bound):
    with pytest.raises(ValueError, match="bound must be above 0"):
        Bounded(bound)


def test_settings_it_refuses():
    with pytest.raises(TypeError, match="number"):
        Bounded("0.1")
    with pytest.raises(ValueError, match="relative_to"):
        Bounded(0.1, "mean")
    with pytest.raises(TypeError, match="int64"):
        Bounded(0.1).encode(torch.arange(5))
    assert "int8" in Bounded(0.1).refusal(TensorSpec((3,), torch.int8))
