"""Memory is that of the packed weights and of the layers in flight; the next layer comes early."""

import gc
import threading

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import numpy as np  # noqa: E402

import fewbits  # noqa: E402
from fewbits import weights  # noqa: E402
from fewbits.threads import processors  # noqa: E402
from fewbits.weights.scratch import Scratch  # noqa: E402
from fewbits.weights.settings import Settings  # noqa: E402
from fewbits.weights.unpacker import Unpacker  # noqa: E402
from weights.models import layers  # noqa: E402

LAYER = 256 * 256 * 4


def test_scratch_comes_back_with_the_last_view():
    scratch = Scratch()
    array, tensor = scratch.take((100, 50), np.dtype(np.float32))
    array[...] = 7
    view = tensor[3].t()
    first = array.ctypes.data
    assert first % 64 == 0
    del array, tensor
    _, other = scratch.take((100, 50), np.dtype(np.float32))
    assert other.data_ptr() != first and bool((view == 7).all())
    del view, other
    _, again = scratch.take((90, 50), np.dtype(np.float32))
    assert scratch.held_bytes() == 2 * 20_000 and again.data_ptr() % 64 == 0
    del again
    _, large = scratch.take((1000, 50), np.dtype(np.float32))
    assert scratch.held_bytes() == large.nbytes + 20_000  # one that was too small is let go


def test_scratch_is_that_of_two_layers():
    model = weights.attach(layers(*[256] * 9), prefetch=True)
    for _ in range(3):
        model(torch.randn(2, 256))
    found = weights.report(model)
    assert found.scratch_bytes <= found.most_scratch_bytes <= 3 * LAYER
    assert found.packed_bytes < 8 * LAYER * 0.9
    one = weights.attach(layers(*[256] * 9), prefetch=False)
    one(torch.randn(2, 256))
    assert weights.report(one).most_scratch_bytes <= 2 * LAYER


def test_the_next_layer_is_unpacked_on_a_thread_forwards_and_backwards():
    model = weights.attach(layers(*[256] * 6), prefetch=True)
    x = torch.randn(2, 256, requires_grad=True)
    for _ in range(2):
        model(x).sum().backward()
    counts = weights.report(model).counts
    counts_before = counts.prefetched
    model(x).sum().backward()
    # Five forwards and five backwards, of which the turn uses the last layer again.
    found = weights.report(model).counts
    assert found.prefetched - counts_before + found.kept >= 8
    assert any(t.name.startswith("fewbits-unpack") for t in threading.enumerate())


@pytest.mark.parametrize("threads", [1, processors()])
def test_a_thread_unpacks_ahead_only_where_a_processor_is_left(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert Unpacker(Settings()).prefetches == (threads < processors())
        assert Unpacker(Settings(prefetch=True)).prefetches
    finally:
        torch.set_num_threads(before)


def test_checksums_are_checked_once_if_that_is_asked():
    model = weights.attach(layers(*[256] * 3), verify="once", prefetch=False)
    unpacker = model[0].weight.unpacker
    packed = model[0].weight.packed
    assert unpacker.verifies(packed)
    model(torch.randn(2, 256))
    assert not unpacker.verifies(packed)
    again = weights.attach(layers(*[256] * 3), prefetch=False).requires_grad_(False)
    again(torch.randn(2, 256))
    assert again[0].weight.unpacker.verifies(again[0].weight.packed)
    with pytest.raises(ValueError, match="verify must be"):
        Settings(verify="twice")


def test_a_cache_keeps_what_came_first():
    model = weights.attach(layers(*[256] * 6), cache_bytes=3 * LAYER, prefetch=False)
    for _ in range(4):
        model(torch.randn(2, 256))
    found = weights.report(model)
    assert found.cached_bytes == 3 * LAYER
    assert found.counts.unpacked == 5 + 3 * 2
    model[0].weight.unpacker.release()
    gc.collect()
    assert weights.report(model).scratch_bytes == 0


def test_a_memory_limit_holds_and_says_what_is_needed():
    plain = layers(*[256] * 6)
    packed = weights.report(weights.attach(layers(*[256] * 6))).packed_bytes
    for layers_more in (1, 2, 4):
        limit = packed + layers_more * LAYER + 5000
        model = weights.attach(layers(*[256] * 6), memory_bytes=limit)
        for _ in range(3):
            model(torch.randn(2, 256))
        found = weights.report(model)
        assert found.packed_bytes + found.most_scratch_bytes <= limit
        assert found.cached_bytes == max(0, layers_more - 2) * LAYER
    with pytest.raises(ValueError, match=r"262144 for the largest one unpacked.*limit of 300000"):
        weights.attach(plain, memory_bytes=300_000)


def test_many_threads_share_a_model():
    plain = layers(*[256] * 4)
    x = torch.randn(3, 256)
    expected = plain(x)
    model = weights.attach(plain)
    found, faults = [], []

    def work():
        try:
            for _ in range(5):
                with torch.no_grad():
                    found.append(torch.equal(model(x), expected))
        except Exception as error:
            faults.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults and len(found) == 20 and all(found)


def test_damage_met_ahead_of_time_is_raised_where_it_is_used():
    model = weights.attach(layers(*[256] * 4))
    x = torch.randn(2, 256)
    model(x)
    frame = bytearray(model[4].weight.packed.frame())
    frame[-2000] ^= 4
    from fewbits.frame import PackedTensor
    from fewbits.weights.packed import Packed

    model[4].weight.packed = Packed("4.weight", PackedTensor.of(bytes(frame)))
    for _ in range(2):
        with pytest.raises(fewbits.CorruptError, match=r"weight '4\.weight': block 0 is damaged"):
            model(x)


def test_a_report_adds_up_and_reads_well():
    model = weights.attach(layers(256, 256, 256))
    model(torch.randn(1, 256))
    found = weights.report(model)
    assert found.plain_bytes == 2 * 256 * 4
    assert found.resident_bytes == found.packed_bytes + found.plain_bytes + found.scratch_bytes
    assert [row.name for row in found.rows] == ["0.weight", "2.weight"]
    text = str(found)
    assert "2 packed weights: 524.3 kB at rest in " in text and "unpacked 2 times" in text
    assert found.to_dict()["unpacked_bytes"] == 2 * LAYER
    empty = weights.report(layers(4, 4))
    assert empty.rows == () and "0 packed weights" in str(empty)
