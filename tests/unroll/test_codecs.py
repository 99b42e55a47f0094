"""Codecs as generated source carries them against `fewbits.lossy`."""

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402

from fewbits.errors import FewbitsError
from fewbits.lossy.codec import TensorSpec
from fewbits.lossy.names import codec
from fewbits.unroll import codec_helpers, helpers
from fewbits.unroll.codecs import CodecChoice, Emitted
from fewbits.unroll.emit import emit
from fewbits.unroll.generate import unroll
from fewbits.unroll.verify import load

torch.set_num_threads(1)
SHAPES = [(2, 3, 16, 24), (1, 2, 9, 13), (3, 100), (257,), (8,)]


def functions(name, profile="torch"):
    """The two functions that a file generated with this codec has."""
    model = (
        "input x 2 4 16 16\nc = conv2d x out=4 kernel=1\nr = gelu c\ns = square r\nloss = mean s\n"
    )
    names = load(unroll(model, codec=name, profile=profile).source)
    (pack,) = [value for key, value in names.items() if key.startswith("compress_")]
    (take,) = [value for key, value in names.items() if key.startswith("decompress_")]
    return pack, take


def tensors(shape):
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(shape, generator=generator)
    yield plain
    yield plain.relu()
    yield plain * 1e-20
    yield plain * 1e20 + 1e21
    yield torch.full(shape, 0.3)
    yield torch.zeros(shape)
    yield plain.abs().log2().round().exp2()  # on the edges of binades


@pytest.mark.parametrize("profile", ["torch", "portable"])
@pytest.mark.parametrize(
    "name",
    [
        *(f"int{bits}" for bits in range(1, 9)),
        "int4g64",
        "int4-zeros",
        "int8-zeros",
        "bf16",
        "fp16",
        "fp8",
        "fp8-e5m2",
        "int4-stochastic",
        "int3g64-stochastic",
        "fixed1",
        "fixed4",
        "fixed8",
        "fixed16",
        "fixed3-1d",
        "fixed5-1d",
        "fixed4-3d",
    ],
)
def test_emitted_codecs_give_the_library_s_bytes(name, profile):
    reference = codec(name)
    chance = [5] if "stochastic" in name else []
    if profile == "portable" and (chance or "fp8" in name or "fixed" in name):
        with pytest.raises(FewbitsError, match="the portable profile"):
            functions(name, profile)
        return
    pack, take = functions(name, profile)
    for shape in [(4, 3, 40, 36), *SHAPES] if "fixed" in name else SHAPES:
        if reference.refusal(TensorSpec(shape, torch.float32)):
            continue
        for x in tensors(shape):
            expected = reference.encode(x, seed=5)
            parts = pack(x, *chance)
            parts = parts if isinstance(parts, tuple) else (parts,)
            for ours, theirs in zip(parts, expected, strict=True):
                assert ours.dtype == theirs.dtype
                same, wanted = (part.flatten().view(torch.uint8) for part in (ours, theirs))
                assert torch.equal(same, wanted)
            back = take(parts if len(parts) > 1 else parts[0], shape)
            assert torch.equal(back, reference.decode(expected, TensorSpec.of(x)))


def test_a_step_with_a_fixed_rate_is_checked():
    from fewbits.unroll.verify import check

    text = "input x 2 3 16 16\na = conv2d x out=4 kernel=3\ns = silu a\n"
    text += "b = conv2d s out=4 kernel=3\nt = square b\nloss = mean t\n"
    made = unroll(text, codec="fixed8")
    report = check(made)
    assert report.fine and min(report.cosines.values()) > 0.99


@pytest.mark.slow
def test_dynamo_takes_a_fixed_rate_without_a_break():
    pack, take = functions("fixed8")
    x = torch.randn(2, 4, 14, 14)
    there = torch.compile(pack, fullgraph=True, backend="eager")(x)
    assert torch.equal(there, pack(x))
    back = torch.compile(take, fullgraph=True, backend="eager")(there, x.shape)
    assert torch.equal(back, take(there, x.shape))


def test_broken_blocks_of_a_fixed_rate_are_those_of_the_library():
    pack, take = functions("fixed4")
    x = torch.randn(2, 3, 16, 24)
    x[0, 0, 3, 3], x[1, 1, 0, 0] = float("nan"), float("inf")
    (expected,) = codec("fixed4").encode(x)
    assert torch.equal(pack(x), expected)
    back = codec("fixed4").decode((expected,), TensorSpec.of(x))
    torch.testing.assert_close(take(expected, x.shape), back, rtol=0, atol=0, equal_nan=True)
    assert int(back.isnan().sum()) == 2 * 16


def test_what_is_not_finite_stays_in_its_group():
    pack, take = functions("int4")
    x = torch.randn(600)
    x[300] = float("inf")
    back = take(pack(x), (600,))
    assert (
        back[256:512].isnan().all() and back[:256].isfinite().all() and back[512:].isfinite().all()
    )


@pytest.mark.parametrize("name", ["dct7", "dct4", "dct4t", "dct1"])
def test_dct_gives_the_library_s_numbers(name):
    pack, take = functions(name)
    reference = codec(name)
    for shape in [s for s in SHAPES if len(s) == 4]:
        for x in (torch.randn(shape), torch.ones(shape)):
            (expected,) = reference.encode(x)
            ours = pack(x)
            assert ours.shape == expected.shape
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(
                take(ours, shape),
                reference.decode((expected,), TensorSpec.of(x)),
                rtol=1e-5,
                atol=1e-5,
            )


def test_a_chain_packs_the_coefficients():
    pack, take = functions("dct4+int8")
    reference = codec("dct4+int8")
    x = torch.nn.functional.interpolate(torch.randn(2, 3, 4, 4), size=(16, 16), mode="bilinear")
    ours, theirs = pack(x), reference.encode(x)
    assert [part.shape for part in ours] == [part.shape for part in theirs]
    held = sum(part.nbytes for part in ours)
    assert (
        held == reference.nbytes(TensorSpec.of(x)) == Emitted(reference, "").nbytes((2, 3, 16, 16))
    )
    # Sums in another order may move a coefficient by one code.
    off = (take(ours, x.shape) - reference.decode(theirs, TensorSpec.of(x))).abs().max()
    assert float(off) < 0.05


def test_what_a_codec_cannot_hold_passes_the_rest_of_the_chain():
    choose = CodecChoice("dct4+int8")
    assert choose("c", "conv2d", (2, 3, 16, 16)).name == "dct4_int8"
    assert choose("l", "linear", (64, 100)).name == "int8"
    assert CodecChoice("dct4")("l", "linear", (64, 100)) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bounded:0.1", "its size depends on the values"),
        ("int4+lossless", "its size depends on the values"),
        ("int1-zeros", "one bit"),
    ],
)
def test_codecs_that_a_step_cannot_carry_are_refused(name, why):
    with pytest.raises(FewbitsError, match=f"cannot carry .*{why}"):
        CodecChoice(name)


def test_chance_in_a_step_comes_from_its_seed():
    text = "input x 8 512\na = linear x out=512\nr = gelu a\nb = linear r out=512\nloss = mean b\n"
    made = unroll(text, codec="int2-stochastic")
    assert "def training_step(parameters, x, seed):" in made.source
    assert "def forward(parameters, x):" in made.source
    names = load(made.source)
    parameters, x = names["new_parameters"](), torch.randn(8, 512)
    first, again, other = (names["training_step"](parameters, x, s)[1] for s in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["a.weight"], other["a.weight"])
    found = [names["training_step"](parameters, x, seed)[1]["b.weight"] for seed in range(60)]
    (exact,) = [load(unroll(text).source)["training_step"](parameters, x)[1]["b.weight"]]
    one = float((found[0] - exact).norm() / exact.norm())
    many = float((torch.stack(found).mean(0) - exact).norm() / exact.norm())
    assert many < one / 4  # right on average


def test_a_codec_with_chance_is_checked():
    from fewbits.unroll.verify import check

    text = "input x 8 512\na = linear x out=512\nr = gelu a\nb = linear r out=512\nloss = mean b\n"
    report = check(unroll(text, codec="int8-stochastic"))
    assert report.fine and min(report.cosines.values()) > 0.99


def test_an_unknown_codec_is_refused_with_those_there_are():
    with pytest.raises(FewbitsError, match=r"unknown codec 'int9'.*int4"):
        CodecChoice("int9")


def test_a_policy_gives_operations_codecs_of_their_own(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('default = "int4"\nrules = [{ op = "gelu", codec = "exact" }]\n')
    text = (
        "input x 8 64\na = linear x out=64\nb = linear a out=64\nc = gelu b\nd = linear c out=64\n"
        "e = square d\nloss = mean e\n"
    )
    plan = unroll(text, codec=str(policy)).planned.schedule.plan
    assert plan["c"].how == "keep"  # made by gelu
    assert plan["a"].codec.name == "int4" and plan["b"].codec.name == "int4"


def test_bits_come_back():
    for shape in [(3, 5), (8,), (1,), (2, 4, 4)]:
        mask = torch.rand(shape) > 0.5
        packed = helpers.pack_bits(mask)
        assert packed.numel() == -(-mask.numel() // 8)
        assert torch.equal(helpers.unpack_bits(packed, shape), mask)


def test_bfloat16_neighbours_are_those_of_the_portable_form():
    x = torch.randn(10000) * torch.exp2(torch.randint(-60, 60, (10000,)).float())
    x = torch.cat([x, torch.exp2(torch.arange(-60, 60).float()), torch.zeros(1)])
    below, above = codec_helpers.bfloat16_below, codec_helpers.bfloat16_above
    assert torch.equal(below(x), codec_helpers.bfloat16_below_portable(x))
    assert torch.equal(above(x.abs()), codec_helpers.bfloat16_above_portable(x.abs()))
    assert (below(x) <= x).all() and (above(x.abs()) >= x.abs()).all()


def test_zeros_of_a_relu_stay_zeros():
    text = "input x 8 256\na = linear x out=256\nr = relu a\nb = linear r out=256\nloss = mean b\n"
    made = unroll(text, codec="int2")
    assert "decompress_int2(r_packed, (8, 256)).mul_(r_mask)" in made.source
    assert emit(made.planned.schedule, source="model") == made.source
