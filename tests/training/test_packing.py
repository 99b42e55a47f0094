"""`pack_activations` itself: policies, reports, nesting, checkpoints, and what is wrong."""

import json

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from fewbits.errors import FewbitsError  # noqa: E402
from fewbits.lossy import Exact, Quantize  # noqa: E402
from fewbits.lossy.policy import Chooser  # noqa: E402
from fewbits.training import Policy, Rule, pack_activations  # noqa: E402
from training.models import Residual, Vision, classify, cosine, gradients, images, same  # noqa: E402

torch.set_num_threads(1)


def rows_of(packed, note=None):
    return [row for row in packed.report().rows if row.before and note in (None, row.note)]


def test_names_that_are_wrong():
    with pytest.raises(ValueError, match=r"unknown codec 'int9'.*int4.*lossless.*auto"):
        pack_activations("int9")
    with pytest.raises(TypeError, match="a codec or its name, not float"):
        pack_activations(4.0)
    with pytest.raises(ValueError, match="above 0"):
        pack_activations("bounded:0")
    for wrong in ({"seed": "a"}, {"seed": -1}, {"min_bytes": -1}, {"step": 0.5}):
        with pytest.raises(ValueError, match="must be an integer of 0 or more"):
            pack_activations("int4", **wrong)


def test_the_room_is_found_by_its_name():
    import fewbits

    assert fewbits.training.pack_activations is pack_activations
    assert "training" in dir(fewbits)


def test_the_report():
    torch.manual_seed(0)
    model = Residual()
    with pack_activations("int4", min_bytes=256, measure=True) as packed:
        classify(model)()
    report = packed.report()
    by_place = {(row.module, row.op, row.shape): row for row in report.rows}
    norm = by_place["body.1", "batch_norm", (6, 8, 8, 8)]
    assert (norm.before, norm.after, norm.codec_name) == (12288, 12288 // 8 + 4 * 12, "int4")
    assert 0.8 < norm.fidelity < 1
    assert norm.key == "body.1:batch_norm:0"
    assert by_place["head.0", "dropout", (6, 8)].note == "small"
    assert (
        by_place["stem", "conv2d", (6, 3, 16, 16)].note
        == "an input of the model, held by the caller"
    )
    assert by_place["body.0", "conv2d", (8, 8, 3, 3)].note == "a parameter or buffer"
    assert report.before == sum(row.before for row in report.rows)
    assert report.ratio == report.before / report.after
    assert 0.8 < report.score < 1
    text = str(report)
    assert text.splitlines()[-1].startswith(f"{report.before / 1000:.1f} kB in ")
    assert "mean fidelity 0." in text
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["after"] == report.after
    assert plain["tensors"][0]["dtype"] == "float32"


def test_the_same_object_again_and_two_at_once():
    model = Residual()
    packed = pack_activations("int4")
    for _ in range(2):
        with packed:
            classify(model)().backward()
    first = packed.report()
    with packed, pytest.raises(FewbitsError, match="active already"), packed:
        pass
    assert packed.report().rows == ()
    assert first.rows


def test_of_two_nested_the_inner_one_packs():
    model, x = Vision(), images()
    with pack_activations("int4", min_bytes=1) as outer:
        x = model.patch(x).flatten(2).transpose(1, 2)
        with pack_activations("int8", min_bytes=1) as inner:
            x = model.blocks[0](x)
        x = model.blocks[1](x)
    names = {"int4": outer, "int8": inner}
    for name, packed in names.items():
        found = {row.codec_name for row in rows_of(packed)} - {"-"}
        assert found == {name}
        assert {row.op for row in rows_of(packed)} >= {"layer_norm", "scaled_dot_product_attention"}
    x.sum().backward()


def test_hooks_of_others_inside_ours():
    model = Vision()
    exact = gradients(model, classify(model))

    def loss():
        with torch.autograd.graph.save_on_cpu():
            return classify(model)()

    assert same(gradients(model, loss, "int1"), exact)


def test_modes_of_others():
    class Count(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.calls += 1
            return func(*args, **(kwargs or {}))

    model = Vision()
    for inside in (False, True):
        count = Count()
        packed = pack_activations("int4", min_bytes=1)
        with packed if inside else count, count if inside else packed:
            classify(model)().backward()
        assert count.calls > 20
        assert len(rows_of(packed)) > 10
        assert "unknown" not in {row.op for row in packed.report().rows}


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoints_inputs_are_packed(reentrant):
    block, x = Vision().blocks[0], torch.randn(4, 16, 32, requires_grad=True) * 1
    with pack_activations("int4", min_bytes=1) as packed:
        out = checkpoint(block, x, use_reentrant=reentrant)
    (row,) = [row for row in rows_of(packed) if row.op == "checkpoint"]
    assert row.codec_name == "int4"
    out.sum().backward()


def test_a_custom_function_is_packed_when_it_is_named():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            return 3 * ctx.saved_tensors[0] ** 2 * grad

    x = torch.randn(40, 40, requires_grad=True) * 1
    for rule, codec in (("Cube", "int8"), ("*", "-"), ("Cub*", "-")):
        policy = Policy((Rule(Quantize(8), op=rule),), default=Quantize(2))
        with pack_activations(policy) as packed:
            Cube.apply(x).sum().backward(retain_graph=True)
        (row,) = rows_of(packed)
        assert (row.op, row.codec_name) == ("Cube", codec)


def test_what_is_not_finite_is_kept():
    for bad in (torch.nan, torch.inf, -torch.inf):
        for codec in ("int4", "int4-stochastic", "mask+int4", "fp8"):
            x = torch.randn(40, 40)
            x[3, 5] = bad
            x.requires_grad_()
            with pack_activations(codec) as packed:
                y = torch.sigmoid(x * 1)
                loss = (y * (x + 0)).nansum()
            (row,) = [row for row in rows_of(packed) if row.note == "holds NaN or infinity"][:1]
            assert row.codec_name == "lossless", codec
            loss.backward()
            assert x.grad[:3].isfinite().all()


@pytest.mark.parametrize("codec", ["dct4+int8", "bounded:0.5:std:dither", "fixed8", "fp8"])
def test_every_kind_of_codec(codec):
    torch.manual_seed(0)
    model = Residual()
    exact = gradients(model, classify(model))
    assert cosine(gradients(model, classify(model), codec), exact) > 0.7
    with pack_activations(codec, min_bytes=1) as packed:
        classify(model)()
    assert packed.report().ratio > 3
    relu = [row for row in packed.report().rows if row.op == "relu"]
    assert relu
    assert all("nonzero" in r.codec_name or "mask" in r.codec_name for r in relu)


def test_a_shape_that_a_codec_refuses():
    class Picky(Quantize):
        def refusal(self, spec):
            return "not square" if spec.shape[-1] != spec.shape[-2] else None

    x = torch.randn(40, 44, requires_grad=True) * 1
    with pack_activations(Picky(4)) as packed:
        torch.sigmoid(x) @ x.t()
    notes = {row.shape: (row.codec_name, row.note) for row in rows_of(packed)}
    assert notes[40, 44][0] in ("lossless", "exact")
    assert "refused: not square" in notes[40, 44][1]


class Broken(Quantize):
    def __init__(self, where):
        super().__init__(4)
        object.__setattr__(self, "where", where)

    def encode(self, tensor, *, seed=0):
        if self.where == "encode":
            raise ZeroDivisionError("oops")
        return super().encode(tensor, seed=seed)

    def decode(self, parts, spec):
        if self.where == "memory":
            raise torch.OutOfMemoryError("full")
        raise ZeroDivisionError("oops")


def test_failures_name_the_operation():
    model = nn.Sequential(nn.Linear(40, 40), nn.GELU(), nn.Linear(40, 40))
    x = torch.randn(40, 40)
    said = "packing a tensor that gelu in 1 saves: oops"
    with pytest.raises(FewbitsError, match=said), pack_activations(Broken("encode")):
        model(x)
    with pack_activations(Broken("decode")):  # the hooks are gone after a failure
        loss = model(x).sum()
    with pytest.raises(FewbitsError, match="unpacking what linear in 2 saved: oops"):
        loss.backward()
    with pack_activations(Broken("memory")):
        loss = model(x).sum()
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        loss.backward()


def test_an_error_in_the_model_leaves_nothing_behind():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    model = nn.Sequential(nn.Linear(8, 8), Fails())
    with pytest.raises(KeyError, match="mine"), pack_activations("int4") as packed:
        model(torch.randn(2, 8))
    assert packed._scope.path == ""
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    assert torch.overrides._get_current_function_mode_stack() == []
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_a_chooser_sees_each_tensor_once_with_a_key_that_lasts():
    class Look(Chooser):
        def __init__(self):
            self.log = []

        def choose(self, saved):
            assert saved.tensor.shape == saved.shape
            assert not saved.tensor.requires_grad
            self.log.append(saved.key)
            return Quantize(8)

        def begin(self):
            self.log.append("begin")

        def held(self, nbytes):
            self.log.append(nbytes)

    torch.manual_seed(0)
    model, look = Vision(), Look()
    packed = pack_activations(look, min_bytes=1)
    for _ in range(2):
        with packed:
            classify(model)()
    half = len(look.log) // 2
    assert look.log[:half] == look.log[half:]
    assert look.log[0] == "begin"
    assert look.log[half - 1] == packed.report().after
    keys = look.log[1 : half - 1]
    assert len(set(keys)) == len(keys)
    assert "blocks.0:scaled_dot_product_attention:2" in keys


def test_frozen_weights_and_their_casts_are_left_alone():
    model = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40).requires_grad_(False))
    model.insert(0, nn.Linear(40, 40))
    for dtype in (None, torch.bfloat16):
        autocast = torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)
        with autocast, pack_activations(Quantize(1)) as packed:
            model(torch.randn(7, 40, requires_grad=True))
        weights = [row for row in packed.report().rows if row.shape == (40, 40)]
        assert weights
        assert {row.codec_name for row in weights} == {"-"}, dtype


def test_exact_is_what_it_says():
    model = nn.Sequential(nn.Linear(40, 40), nn.GELU())
    with pack_activations(Exact()) as packed:
        model(torch.randn(40, 40))
    (row,) = rows_of(packed)
    assert (row.note, row.before, row.after) == ("exact by policy", 6400, 6400)


def test_autocast_does_not_reach_into_codecs():
    seen = []

    class Look(Quantize):
        def encode(self, tensor, *, seed=0):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().encode(tensor, seed=seed)

    with torch.autocast("cpu", torch.bfloat16), pack_activations(Look(8)):
        F.gelu(torch.randn(40, 40, requires_grad=True) * 1).sum().backward()
    assert seen == [False]


def test_what_is_measured_is_values_only():
    model = Residual()
    with pack_activations("int8", min_bytes=1, measure=True) as packed:
        classify(model)()
    measured = {row.codec_name: row.fidelity for row in packed.report().rows}
    assert measured["shape"] is None
    assert measured["poolindices"] is None
    assert packed.report().score > 0.97  # probabilities too, as what they are used for
