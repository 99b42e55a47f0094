"""Packed models compute what plain ones do, bit for bit, and stay models in every other way."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import fewbits  # noqa: E402
from fewbits import weights  # noqa: E402
from weights.models import Everything, frozen_like, ids, layers  # noqa: E402

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(1)
    return Everything().eval()


@pytest.fixture
def packed(plain):
    return weights.attach(copy.deepcopy(plain))


def same(found, expected):
    return torch.equal(found, expected) and found.dtype == expected.dtype


def assert_same_weights(found, expected):
    pairs = zip(found.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(mine, its) for mine, its in pairs)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_outputs_are_identical(mode, plain, packed):
    with mode():
        expected = frozen_like(plain, packed)(ids())
        assert same(packed(ids()), expected)
        assert same(packed(ids()), expected)  # with the order of weights known


def test_training_mode_with_dropout_is_identical(plain, packed):
    expected = frozen_like(plain, packed).train()
    packed.train()
    for model in (packed, expected):
        torch.manual_seed(5)
        model.found = model(ids())
    assert same(packed.found, expected.found)


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "bfloat16", "float16", "complex64", "float8_e4m3fn", "float8_e5m2",
     "int8", "uint8", "int16", "int32", "int64"],
)  # fmt: skip
def test_every_dtype_comes_back(dtype):
    module = torch.nn.Module()
    values = torch.randn(64, 300) * 3
    as_type = getattr(torch, dtype)
    module.w = torch.nn.Parameter(values.to(as_type), requires_grad=False)
    plain = module.w.detach()
    weights.attach(module)
    assert isinstance(module.w, weights.PackedWeight)
    carrier = getattr(torch, f"int{8 * as_type.itemsize}") if as_type.itemsize < 8 else torch.int64
    assert module.w.unpack().dtype == as_type
    assert torch.equal(module.w.unpack().view(carrier), plain.view(carrier))


def test_tied_weights_stay_one_and_small_ones_and_buffers_stay_plain(plain, packed):
    assert packed.head.weight is packed.embed.weight
    assert not isinstance(packed.conv.bias, weights.PackedWeight)
    assert not isinstance(packed.norm.running_mean, weights.PackedWeight)
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in packed.named_parameters()] == names
    assert sum(p.numel() for p in packed.parameters()) == sum(p.numel() for p in plain.parameters())


def test_a_batch_unpacks_only_the_rows_of_its_embedding():
    model = torch.nn.Embedding(40_000, 64)  # ten blocks
    expected = model(torch.tensor([[3, 3], [39_999, 5]]))
    weights.attach(model)
    assert same(model(torch.tensor([[3, 3], [39_999, 5]])), expected)
    counts = model.weight.unpacker.counts
    assert counts.unpacked_bytes < 10_000  # two runs of rows
    with pytest.raises(IndexError):
        model(torch.tensor([40_000]))


def test_gradients_flow_through_frozen_weights(plain, packed):
    expected = frozen_like(plain, packed)
    found = []
    for model in (packed, expected):
        states = torch.linspace(-1, 1, 2 * 5 * 64).view(2, 5, 64).requires_grad_()
        x = model.lstm(model.block(states))[0] @ model.own.T
        model.head(x).square().sum().backward()
        found.append(states.grad)
    assert torch.equal(*found)


def test_autograd_keeps_the_packed_weight_for_backward():
    model = weights.attach(layers(512, 512))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(torch.randn(4, 512, requires_grad=True))
    large = [tensor for tensor in kept if tensor.numel() == 512 * 512]
    assert [type(tensor) for tensor in large] == [weights.PackedWeight]


def test_state_dict_copies_and_pickles(plain, packed):
    state = packed.state_dict()
    assert list(state) == list(plain.state_dict())
    fresh = Everything().eval()
    fresh.load_state_dict(state)
    assert all(
        torch.equal(a, b) for a, b in zip(*(m.parameters() for m in (fresh, plain)), strict=True)
    )
    twin = copy.deepcopy(packed)
    assert twin.own.packed is packed.own.packed and twin.own.unpacker is not packed.own.unpacker
    assert twin.own.unpacker is twin.embed.weight.unpacker
    through = pickle.loads(pickle.dumps(packed))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    saved = torch.load(file)
    expected = frozen_like(plain, packed)(ids())
    for model in (twin, through):
        assert model.head.weight is model.embed.weight
        assert same(model(ids()), expected)
    assert isinstance(saved["own"], weights.PackedWeight)
    assert torch.equal(saved["own"].unpack(), plain.own)


def test_load_state_dict_packs_what_it_is_given(plain, packed):
    torch.manual_seed(9)
    other = Everything().eval()
    packed.load_state_dict(other.state_dict())
    assert isinstance(packed.own, weights.PackedWeight)
    assert same(packed(ids()), frozen_like(other, packed)(ids()))
    with pytest.raises(RuntimeError, match=r"size mismatch for own"):
        packed.load_state_dict(other.state_dict() | {"own": torch.zeros(2, 2)})


def test_half_casts_and_attach_packs_again(plain, packed):
    expected = frozen_like(plain, packed).half()
    packed.half()
    assert packed.lstm.weight_hh_l0.dtype == torch.float16 and packed.lstm.weight_hh_l0.is_cast
    assert same(packed(ids()), expected(ids()))
    weights.attach(packed)
    assert packed.lstm.weight_hh_l0.packed.dtype == torch.float16
    assert type(packed.own) is torch.nn.Parameter  # too small by now
    assert same(packed(ids()), expected(ids()))
    packed.float()  # what the cast lost does not come back
    assert torch.equal(packed.lstm.weight_hh_l0.unpack(), expected.lstm.weight_hh_l0.float())
    assert packed.to("meta").own.is_meta


def test_detach_gives_the_plain_model_back(plain, packed):
    weights.detach(packed)
    assert type(packed.own) is torch.nn.Parameter and packed.head.weight is packed.embed.weight
    assert all(
        torch.equal(a, b) for a, b in zip(*(m.parameters() for m in (packed, plain)), strict=True)
    )
    packed.own.data.add_(1)


def test_changing_a_packed_weight_in_place_is_refused(packed):
    for change in (
        lambda: packed.own.data.add_(1),
        packed.own.zero_,
        lambda: torch.nn.init.normal_(packed.own),
    ):
        with pytest.raises(fewbits.FewbitsError, match=r"'own' is packed and cannot be changed"):
            change()


def test_attaching_twice_changes_options_only(plain, packed):
    rested = packed.own.packed
    weights.attach(packed, prefetch=False)
    assert packed.own.packed is rested
    assert not packed.own.unpacker.settings.prefetch


def test_only_picks_parameters(plain):
    model = weights.attach(copy.deepcopy(plain), only=lambda name, _: name.startswith("lstm"))
    kinds = {name: isinstance(p, weights.PackedWeight) for name, p in model.named_parameters()}
    assert kinds["lstm.weight_hh_l0"] and not kinds["own"]
    assert model.own.requires_grad and not model.lstm.weight_hh_l0.requires_grad


def test_new_tensors_like_a_weight_need_nothing_of_it(packed):
    before = packed.own.unpacker.counts.unpacked
    zeros = torch.zeros_like(packed.own)
    assert zeros.shape == (64, 64) and not zeros.any()
    assert packed.own.new_ones(3).sum() == 3
    assert packed.own.unpacker.counts.unpacked == before
    assert packed.own.tolist()[0][0] == packed.own.unpack()[0, 0].item()


def test_views_are_those_of_the_plain_weight(plain, packed):
    for view in (
        lambda w: w.t(), lambda w: w[3:9, ::2], lambda w: w.view(8, 8, 64).permute(2, 0, 1),
        lambda w: w.chunk(3)[1], lambda w: w.view(torch.int32), lambda w: w.unsqueeze(0),
        lambda w: w.T.reshape(-1), lambda w: w[5], lambda w: w.diagonal(),
    ):  # fmt: skip
        found, expected = view(packed.own.detach()), view(plain.own.detach())
        assert found.shape == expected.shape and torch.equal(found + 0, expected + 0)


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="unknown option 'cash_bytes': there are threads, "):
        weights.attach(layers(4, 4), cash_bytes=3)
    with pytest.raises(ValueError, match="unknown scheme 'int3': there are int8, int4, fp8"):
        weights.attach(layers(4, 4), quantize="int3")
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        weights.attach(layers(4, 4), threads=0)
