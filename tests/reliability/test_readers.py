"""Many threads that read one archive all get what was packed."""

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import ml_dtypes
import numpy as np
import pytest

import fewbits
from fewbits.sources import RemoteFile

READERS = 64


class Yielding(RemoteFile):
    """A remote file that lets other threads run between moving to a place and reading there."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        seek = self._file.seek
        self._file.seek = lambda at, whence=0: (seek(at, whence), time.sleep(1e-5))[0]


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    wave = rng.laplace(0, 1, (600, 400))
    return {
        "bf16": (wave * 0.02).astype(ml_dtypes.bfloat16),
        "f32": wave[:200].astype(np.float32),
        "i8": np.clip(wave * 8, -127, 127).astype(np.int8),
        "i4": np.clip(wave[:51, :7] * 3, -8, 7).astype(ml_dtypes.int4),
        "same": np.full((500, 300), 2.5, np.float16),
    }


@pytest.fixture(params=["local", "remote"])
def path(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    local = tmp_path / "m.safetensors"
    fewbits.save(tensors(), local)
    if request.param == "local":
        yield str(local)
        return
    monkeypatch.setattr("fewbits.sources.RemoteFile", Yielding)
    memory = fsspec.filesystem("memory")
    memory.pipe("/m.safetensors", local.read_bytes())
    yield "memory://m.safetensors"
    memory.rm("/m.safetensors")


@pytest.mark.parametrize("threads", ["1", "4"])
def test_64_threads_read_the_same(path: str, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBITS_THREADS", threads)
    wanted, together = tensors(), threading.Barrier(READERS)

    def read(archive: fewbits.Archive, seed: int) -> int:
        rng, checked = random.Random(seed), 0
        together.wait()
        for name in rng.sample(list(archive), len(archive)):
            tensor, array = archive[name], wanted[name]
            assert tensor.unpack().tobytes() == array.tobytes()
            out = np.empty_like(array)
            tensor.unpack_into(out)
            assert out.tobytes() == array.tobytes()
            for _ in range(3):
                low, high = sorted(rng.randrange(len(array) + 1) for _ in range(2))
                assert tensor[low:high].tobytes() == array[low:high].tobytes()
            checked += 5
        return checked

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads meet in the middle of things
    try:
        with fewbits.open(path) as archive, ThreadPoolExecutor(READERS) as pool:
            checked = list(pool.map(lambda seed: read(archive, seed), range(READERS)))
    finally:
        sys.setswitchinterval(before)
    assert checked == [5 * len(wanted)] * READERS
