import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy import Cast, TensorSpec, fidelity  # noqa: E402
from lossy_contract import check  # noqa: E402

NAMES = ["bf16", "fp16", "fp8_e4m3", "fp8_e5m2"]
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def values(count, dtype, scale, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dtype=torch.float64, generator=generator) * scale
    limit = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    return x.clamp(-limit, limit).to(dtype)


@given(
    st.sampled_from(NAMES),
    st.sampled_from(FLOATS),
    st.sampled_from([0, 1, 255, 256, 700]),
    st.sampled_from([1.0, 1e-3, 1e4, 1e-8, 1e-40, 1e38, 0.0]),
)
@settings(max_examples=120, deadline=None)
def test_contract_holds_and_finite_stays_finite(name, dtype, count, scale):
    decoded = check(Cast(name), values(count, dtype, scale))
    assert torch.isfinite(decoded).all()


@pytest.mark.parametrize(("name", "worst"), [("fp8_e4m3", 2**-4), ("fp8_e5m2", 2**-3)])
def test_fp8_is_relative_at_any_scale(name, worst):
    for scale in (1e-30, 1.0, 1e30):
        x = values(10_000, torch.float32, scale)
        x = x[x.abs() > x.abs().max() * 2**-12]
        error = (check(Cast(name), x) - x).abs() / x.abs()
        assert worst / 2 < float(error.max()) <= worst


def test_groups_of_other_sizes_do_not_disturb_each_other():
    x = torch.cat([values(256, torch.float32, 1e-9), values(256, torch.float32, 1e9)])
    decoded = check(Cast("fp8_e4m3"), x)
    assert fidelity(x[:256], decoded[:256]) > 0.95
    assert fidelity(x[256:], decoded[256:]) > 0.95


def test_sizes():
    spec = TensorSpec((1024,), torch.float32)
    assert [Cast(name).nbytes(spec) for name in NAMES] == [2048, 2048, 1028, 1028]
    assert Cast("fp8_e4m3", group=32).nbytes(spec) == 1024 + 32


def test_what_is_not_finite_is_kept_where_the_type_can():
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0, 1e30, 0.0])
    for name in NAMES:
        codec = Cast(name)
        decoded = codec.decode(codec.encode(x), TensorSpec.of(x))
        assert decoded[0].isnan()
        if name == "fp8_e4m3":
            assert decoded[1:3].isnan().all()
        else:
            assert decoded[1:3].tolist() == [math.inf, -math.inf]
        assert torch.isfinite(decoded[3:]).all()
    assert Cast("fp16").encode(x)[0][4] == torch.finfo(torch.float16).max


def test_a_cast_that_widens_changes_nothing():
    x = values(100, torch.float16, 1.0)
    assert torch.equal(Cast("fp16").decode(Cast("fp16").encode(x), TensorSpec.of(x)), x)
    x = x.to(torch.bfloat16)
    assert torch.equal(Cast("bf16").decode(Cast("bf16").encode(x), TensorSpec.of(x)), x)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="bf16, fp16, fp8_e4m3, fp8_e5m2, not to 'int3'"):
        Cast("int3")
    with pytest.raises(ValueError, match="1 to 65536 elements, not 0"):
        Cast("fp8_e4m3", group=0)
    assert "int64" in Cast("bf16").refusal(TensorSpec((1,), torch.int64))
