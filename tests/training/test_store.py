"""What is held, how often, and for how long."""

import contextlib
import gc
import weakref
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.multiprocessing.reductions import StorageWeakRef  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from fewbits.lossy import Exact, Quantize  # noqa: E402
from fewbits.lossy.codec import TensorSpec  # noqa: E402
from fewbits.lossy.comparisons import Nonzero  # noqa: E402
from fewbits.lossy.lossless import Lossless  # noqa: E402
from fewbits.training import pack_activations  # noqa: E402
from fewbits.training.layout import View, compact, in_memory_order, restored  # noqa: E402
from fewbits.training.report import Row  # noqa: E402
from fewbits.training.store import Alone, Store  # noqa: E402
from training.models import Residual, Vision, classify, gradients, images, same  # noqa: E402

torch.set_num_threads(1)


class Spy(Quantize):
    """Counts what it does, and what of it lives."""

    encoded = decoded = 0
    alive: ClassVar = weakref.WeakSet()

    def encode(self, tensor, *, seed=0):
        type(self).encoded += 1
        parts = super().encode(tensor, seed=seed)
        self.alive.update(parts)
        return parts

    def decode(self, parts, spec):
        type(self).decoded += 1
        return super().decode(parts, spec)


@pytest.fixture
def spy():
    Spy.encoded = Spy.decoded = 0
    Spy.alive = weakref.WeakSet()
    return Spy(8)


def test_one_tensor_of_three_projections_is_packed_and_decoded_once(spy):
    layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
    x = torch.randn(4, 7, 32, requires_grad=True) * 1
    with pack_activations(spy, min_bytes=1) as packed:
        out = sum(layer(x) for layer in layers)
    assert spy.encoded == 1
    out.sum().backward()
    assert spy.decoded == 1
    rows = [row for row in packed.report().rows if row.codec_name != "-"]
    assert [row.note for row in rows] == ["", "saved before", "saved before"]
    assert sum(row.before for row in rows) == x.nbytes


def test_views_of_one_tensor_are_one(spy):
    x = torch.randn(4, 6, 8, requires_grad=True) * 1
    with pack_activations(spy, min_bytes=1):
        a, b, c = x.view(24, 8), x.transpose(0, 2), x.expand(3, 4, 6, 8)
        out = sum(torch.sigmoid(t).detach().sum() + (t * t).sum() for t in (x, a, b, c))
    assert spy.encoded == 1 + 4  # and a sigmoid each
    (got,) = torch.autograd.grad(out, x)
    torch.testing.assert_close(got, 2 * (3 + 3) * x, rtol=0.02, atol=0.2)


def test_a_tensor_modified_in_between_is_packed_again():
    x = torch.randn(5, 50, requires_grad=True)
    with pack_activations("lossless", min_bytes=1) as packed:
        y = x * 1
        one = (y * y).sum()
        y.mul_(2)
        two = (y * y).sum()
    # Autograd alone would refuse: what the first product saved is no longer there.
    assert len([row for row in packed.report().rows if row.before]) == 2
    (one + two).backward()
    torch.testing.assert_close(x.grad, 2 * x + 8 * x)


def test_a_tensor_left_alone_and_modified_is_refused_as_by_autograd():
    x = torch.rand(5, 50, requires_grad=True)
    with pack_activations("int4", min_bytes=1):
        y = x + 1
        loss = y.log().sum()
        y.mul_(2)
    with pytest.raises(RuntimeError, match="log saved was modified in place"):
        loss.backward()


@pytest.mark.parametrize("codec", ["exact", "bf16", "lossless"])
def test_codecs_that_hold_the_tensor_itself_notice_as_well(codec):
    """A cast to the dtype it has, a frame that would be larger: the tensor is held."""
    x = torch.randn(5, 50, dtype=torch.bfloat16, requires_grad=True)
    noise = torch.randint(-(2**15), 2**15, (5, 50), dtype=torch.int16).view(torch.bfloat16)
    with pack_activations(codec, min_bytes=1):
        y = x + noise if codec == "lossless" else x + 1
        loss = (y * y).nansum()
        y.mul_(2)
    with pytest.raises(RuntimeError, match="mul saved was modified in place"):
        loss.backward()


def test_a_small_view_does_not_keep_its_storage():
    x = torch.randn(50, 40, 8, requires_grad=True)
    weight = torch.randn(8, 8, requires_grad=True)
    with pack_activations("int8") as packed:
        y = torch.sigmoid(x)
        storage = StorageWeakRef(y.untyped_storage())
        first = y[:2, 0]
        loss = (first @ weight).sum() + y.mean()
        expected = first.detach().sum(0)[:, None].expand(8, 8)
        del y, first
    (small,) = [row for row in packed.report().rows if row.note == "small"]
    assert small.after == 2 * 8 * 4
    assert storage.expired()
    loss.backward()
    torch.testing.assert_close(weight.grad, expected)


def test_lossless_wins_over_lossy():
    """A mask of attention that another operation saves as well."""
    q, bias = torch.randn(1, 2, 20, 16, requires_grad=True), torch.randn(20, 20)
    bias[3, 4] = -torch.inf
    bias = bias.exp().log().requires_grad_()
    for first in (True, False):
        with pack_activations("int1", min_bytes=1) as packed:
            mask = bias.clamp(max=0) * 1
            out = torch.sigmoid(mask).sum() if first else 0
            one = (mask * mask).nansum()
            out = out + F.scaled_dot_product_attention(q * 1, q * 1, q * 1, mask).sum() + one
        rows = [r for r in packed.report().rows if r.shape == (20, 20) and r.op != "sigmoid"]
        assert "lossless" in {row.codec_name for row in rows}
        out.backward()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
def test_sparse_matrices_are_left_alone():
    dense = torch.eye(40) * 2
    x = torch.randn(40, 40)
    for matrix in (dense.to_sparse(), dense.to_sparse_csr()):
        leaf = x.clone().requires_grad_()
        with pack_activations("int8") as packed:
            loss = torch.sparse.mm(matrix, torch.tanh(leaf)).square().sum()
        assert any("not a plain tensor (sparse_" in row.note for row in packed.report().rows)
        loss.backward()
        slope = 8 * x.tanh() * (1 - x.tanh() ** 2)
        torch.testing.assert_close(leaf.grad, slope, rtol=0.05, atol=0.1)


def test_memory_used_again_is_another_tensor():
    """Storages come and go at the same addresses, and none is taken for another."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(64, 64) / 8) for _ in range(30)]

    def loss():
        x = torch.randn(64, 64)
        for weight in weights:
            x = torch.tanh(x @ weight) + 0.1  # what tanh made is gone when the next is made
        return x.square().sum()

    model = nn.ParameterList(weights)
    exact = gradients(model, loss)
    assert same(gradients(model, loss, "lossless"), exact)


def test_parts_are_freed_as_backward_passes(spy):
    torch.manual_seed(0)
    model = Residual()
    gc.collect()
    gc.disable()  # a reference cycle would show
    try:
        counts = []
        model.pool.register_full_backward_hook(lambda *_: counts.append(len(spy.alive)))
        with pack_activations(spy, min_bytes=1):
            loss = classify(model)()
        assert len(spy.alive) > 8
        loss.backward()
        assert 0 < counts[0] < 2 * spy.encoded - 4
        assert len(spy.alive) == 0
    finally:
        gc.enable()


def test_a_loss_that_is_dropped_frees_everything(spy):
    model = Vision()
    gc.disable()
    try:
        with pack_activations(spy, min_bytes=1) as packed:
            loss = classify(model)()
        assert spy.alive
        del loss
        assert not spy.alive
        assert packed.report().after > 0  # the report remains
    finally:
        gc.enable()


def test_an_output_that_is_left_alone_does_not_hold_its_own_maker():
    """The node of a square root saves what it returns, whose history is that node."""
    x = torch.rand(40, 40, requires_grad=True)
    with pack_activations("int4"):
        y = x.sqrt()
        storage = StorageWeakRef(y.untyped_storage())
    del y
    gc.collect()
    assert storage.expired()


def test_activations_are_freed_in_forward():
    """What is packed is not kept alive by anything of ours."""
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            y = torch.sigmoid(x)
            seen.append(StorageWeakRef(y.untyped_storage()))
            assert not seen[-1].expired()
            return super().forward(y)

    gc.disable()
    try:
        with pack_activations("int4", min_bytes=1):
            out = nn.Sequential(*(Watched(32, 32) for _ in range(3)))(torch.randn(9, 32))
        assert all(storage.expired() for storage in seen)
        out.sum().backward()
    finally:
        gc.enable()


class Live(TorchDispatchMode):
    """Counts the bytes that live of all that was computed."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.seen[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return out

    def nbytes(self, others):
        known = {t.untyped_storage()._cdata for t in others}
        return sum(n for at, (ref, n) in self.seen.items() if at not in known and not ref.expired())


@pytest.mark.parametrize("make", [Residual, Vision])
def test_memory_falls_by_what_the_report_says(make):
    model, x, y = make(), images(), torch.arange(6)
    others = [*model.parameters(), *model.buffers(), x, y]
    held = {}
    for codec in (None, "int4"):
        packed = pack_activations(codec or "exact", min_bytes=1)
        with contextlib.nullcontext() if codec is None else packed, Live() as live:
            loss = F.cross_entropy(model(x), y)
        held[codec] = live.nbytes([*others, loss])
        report = packed.report()
        del loss
        assert live.nbytes(others) == 0
    assert abs(held[None] - report.before) < 0.1 * report.before
    assert held["int4"] == report.after - y.nbytes  # which the loss, no module, took for its own
    assert report.ratio > 6


def test_inputs_are_the_callers_and_what_was_computed_is_not():
    class Model(nn.Linear):
        def forward(self, x, *, other=None, pair=()):
            return super().forward(x if other is None else other + 0) * x * pair[0]

    model = Model(40, 40)
    x, other, third = torch.randn(3, 40), torch.randn(3, 40), torch.randn(3, 40)
    with pack_activations("int4", min_bytes=1) as packed:
        first = model(x, pair=[third])
        model(first, other=other, pair=[third])
    held = [row.note for row in packed.report().rows if "caller" in row.note]
    assert len(held) == 4  # x twice, third twice; never other + 0, never first
    assert any(row.codec_name == "int4" for row in packed.report().rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.transpose(0, 2),
        lambda x: x[:, ::2],
        lambda x: x[:, :, 3:5],
        lambda x: x[None].expand(5, *x.shape),
        lambda x: x[:, 1:2].transpose(0, 1).expand(4, -1, -1),
        lambda x: x[0, 0, 0].expand(3, 3),
        lambda x: x.permute(2, 0, 1)[:, :, ::3],
        lambda x: x[:0],
    ],
)
def test_layouts(make):
    tensor = make(torch.arange(120.0).view(4, 6, 5))
    base, view = compact(tensor)
    assert base.numel() <= 120
    for codec in (Exact(), Quantize(8)):
        if codec.flat:
            run = in_memory_order(base)
            run = codec.decode(codec.encode(run), TensorSpec.of(run)).reshape(-1)
            torch.testing.assert_close(view.of(run), tensor, rtol=0, atol=0.5)
    logical = base.contiguous()
    assert torch.equal(view.of(restored(logical, base.stride())), tensor)
    assert (
        view.of(base.reshape(-1) if base.is_contiguous() else in_memory_order(base)).shape
        == tensor.shape
    )


@st.composite
def views(draw):
    """A function that takes some view of a tensor of three dimensions."""
    steps = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["slice", "permute", "expand", "flat", "select"]))
        steps.append((kind, draw(st.integers(0, 5)), draw(st.integers(0, 5))))

    def view(x):
        for kind, a, b in steps:
            if kind == "flat":
                x = x.reshape(-1) if x.is_contiguous() else x
            elif x.dim() and kind == "slice":
                x = x.narrow(a % x.dim(), 0, max(x.shape[a % x.dim()] - b, 1))[..., :: 1 + b % 2]
            elif kind == "permute":
                x = x.transpose(a % x.dim(), b % x.dim()) if x.dim() else x
            elif kind == "expand":
                x = x.unsqueeze(a % (x.dim() + 1)).expand(
                    *[2 if d == a % (x.dim() + 1) else -1 for d in range(x.dim() + 1)]
                )
            elif x.dim():
                x = x.select(a % x.dim(), b % x.shape[a % x.dim()])
        return x

    return view


@given(st.lists(st.tuples(views(), st.sampled_from([Lossless, Exact, Nonzero])), max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_views_of_a_tensor_in_one_store(wanted):
    x = torch.arange(-30.0, 30).view(3, 4, 5)
    store = Store(0, measure=False)
    held = []
    for view, codec in wanted:
        tensor = view(x)
        row = Row("op", "", tuple(tensor.shape), tensor.dtype, 0, 0)
        held.append((tensor.clone(), codec, store.put(tensor, codec, row)))
    for value, codec, handle in held:
        got = handle.get() if isinstance(handle, Alone) else store.get(handle)
        assert got.shape == value.shape
        if codec is Nonzero:
            assert torch.equal(got != 0, value != 0)
        else:
            assert torch.equal(got, value)


def test_a_dense_tensor_keeps_its_strides():
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    base, view = compact(tensor)
    assert base.data_ptr() == tensor.data_ptr()
    assert view == View((2, 3, 4, 5), tensor.stride())


def test_held_exact_after_it_was_packed_and_before():
    x = torch.rand(20, 30, requires_grad=True) + 1
    for functions in ((torch.sin, torch.log), (torch.log, torch.sin)):
        with pack_activations("int4", min_bytes=1) as packed:
            out = sum(f(x).sum() for f in functions)
        assert packed.report().after == x.nbytes
        (got,) = torch.autograd.grad(out, x, retain_graph=True)
        assert torch.equal(got, x.cos() + 1 / x) or torch.equal(got, 1 / x + x.cos())


def test_what_autograd_would_hold_is_counted_right():
    model, x = Residual(), images()
    held = {}

    def note(t):
        if not any(t.untyped_storage()._cdata == p.untyped_storage()._cdata for p in known):
            held[t.untyped_storage()._cdata] = t.untyped_storage()
        return t

    known = [*model.parameters(), *model.buffers(), x]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        kept = F.cross_entropy(model(x), torch.arange(6))
    with pack_activations("int4", min_bytes=1) as packed:
        F.cross_entropy(model(x), torch.arange(6))
    assert packed.report().before == sum(storage.nbytes() for storage in held.values())
    del kept
