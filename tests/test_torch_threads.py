"""Kernels on PyTorch's threads do what they do on their own, and a forked process has its own."""

import multiprocessing
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import fewbits  # noqa: E402
from fewbits import _kernels  # noqa: E402
from fewbits.torch_threads import share_torch_threads  # noqa: E402

if not share_torch_threads():
    pytest.skip("PyTorch has no OpenMP threads that are known here", allow_module_level=True)

BLOCKS = np.random.default_rng(0).normal(size=(1500, 1000)).astype(np.float32)


@pytest.fixture
def team():
    share_torch_threads.cache_clear()
    assert share_torch_threads()
    yield
    share_torch_threads.cache_clear()
    share_torch_threads()


def unpacked_on(threads, frame):
    return fewbits.unpack(frame, threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_frames_are_the_same(team, threads):
    frame = fewbits.pack(BLOCKS, threads=threads)
    _kernels.set_team(0)
    assert frame == fewbits.pack(BLOCKS, threads=threads)
    share_torch_threads.cache_clear()
    share_torch_threads()
    torch.ones(1 << 20).exp()  # its threads are there, and spin
    assert np.array_equal(unpacked_on(threads, frame), BLOCKS)


def test_damage_is_found_on_any_thread(team):
    frame = bytearray(fewbits.pack(BLOCKS))
    frame[len(frame) // 2] ^= 1
    with pytest.raises(fewbits.CorruptError):
        unpacked_on(2, bytes(frame))


def test_other_threads_may_work_at_the_same_time(team):
    frame, found = fewbits.pack(BLOCKS), []

    def work(apart):
        if apart:
            _kernels.work_apart()
        found.extend(np.array_equal(unpacked_on(2, frame), BLOCKS) for _ in range(5))

    workers = [threading.Thread(target=work, args=(apart,)) for apart in (False, True, False)]
    for worker in workers:
        worker.start()
    work(False)
    for worker in workers:
        worker.join()
    assert found == [True] * 20


def _in_child(frame, answer):
    answer.put(bool(np.array_equal(unpacked_on(2, frame), BLOCKS)))


def test_a_forked_process_has_threads_of_its_own(team):
    frame = fewbits.pack(BLOCKS)
    unpacked_on(2, frame)  # so that the team has threads, which a fork leaves behind
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(frame, answer))
    child.start()
    child.join(60)
    alive = child.is_alive()
    child.kill()
    assert not alive and child.exitcode == 0 and answer.get()
