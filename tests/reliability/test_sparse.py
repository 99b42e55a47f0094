"""Files of more than 20 GB open and give slices in memory that does not depend on their size.

They are sparse: payloads of raw blocks that are zeros lie in holes and take no disk.
"""

import io
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbits
from fewbits import PackedTensor, _kernels, container, frame_header
from fewbits.archive import write_archive

HUGE = 20 << 30
SLICES = 12
VALUES = {"zeros": 0, "constant": 1.5}
MEMORY = 150 << 20  # of which Python with NumPy takes a third


class Hole:
    """So many zeros, written by moving on."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


class Sparse(io.FileIO):
    """A file to which holes can be written."""

    def write(self, data: Any) -> int:
        if isinstance(data, Hole):
            return self.seek(data.size, 1)
        return super().write(data)


def many_blocks(block: np.ndarray, blocks: int, zeros: bool = False) -> tuple[bytes, Any]:
    """A frame of one block that stands there many times, in parts.

    With ``zeros`` the block must be stored raw, and what is there in its place is a hole.
    """
    frame = fewbits.pack(block)
    header = PackedTensor.of(frame).header
    assert header.blocks == 1 and len(header.modes) == 1
    checksums = header.checksums
    if zeros:
        assert header.lengths[0] == block.nbytes
        checksums = np.array([_kernels.xxh3(np.zeros(block.nbytes, np.uint8))], np.uint64)
    head = frame_header.to_bytes(
        replace(
            header,
            shape=(blocks, block.size),
            modes=np.tile(header.modes, blocks),
            lengths=np.tile(header.lengths, blocks),
            checksums=np.tile(checksums, blocks),
        )
    )
    return head, Hole(blocks * block.nbytes) if zeros else frame[header.header_bytes :] * blocks


def block_of(values: np.ndarray) -> np.ndarray:
    """As many of the values as fill one block of their frame."""
    plan = PackedTensor.of(fewbits.pack(values)).header.plan
    return values[: plan.block_elements]


@pytest.fixture(scope="module")
def archive_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sparse") / "huge.safetensors"
    noise = block_of(np.random.default_rng(0).integers(0, 256, 1 << 21, dtype=np.uint8))
    same = block_of(np.full(1 << 20, 1.5, np.float16))
    small = np.arange(1000, dtype=np.int16)
    frames = {
        "first": (fewbits.pack(small),),
        "zeros": many_blocks(noise, HUGE // noise.nbytes, zeros=True),
        "constant": many_blocks(same, HUGE // same.nbytes),
        "last": (fewbits.pack(-small),),
    }
    with Sparse(path, "w") as file:
        write_archive(file, frames, list(frames), iter(frames.values()), None)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def plain_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sparse") / "plain.safetensors"
    entry = container.Entry("zeros", "U8", (HUGE // 4096, 4096), 0, HUGE)
    with Sparse(path, "w") as file:
        file.write(container.with_prefix(container.header_text([entry], None)))
        file.truncate(file.tell() + HUGE)
    yield path
    path.unlink()


def read_slices(path: str, results: Any) -> None:
    """Open a file and check some slices of its tensors; puts the peak memory, in bytes."""
    rng = np.random.default_rng(0)
    with fewbits.open(path, threads=2) as archive:
        for name in archive.keys() & VALUES.keys():
            tensor = archive[name]
            assert tensor.nbytes >= HUGE
            for row in (0, *rng.integers(0, len(tensor), SLICES), len(tensor) - 1):
                found = tensor[row : row + 1]
                assert found.shape == (1, *tensor.shape[1:])
                assert (found == VALUES[name]).all()
        if archive.packed:
            assert (archive["first"].unpack() == -archive["last"].unpack()).all()
    # Not from getrusage, which a new process has from the one that started it.
    status = Path("/proc/self/status").read_text()
    results.put(int(status.split("VmHWM:")[1].split()[0]) * 1024)


def peak_memory(path: str) -> int:
    """The most memory, in bytes, of a process of its own that imports Fewbits and reads slices."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=read_slices, args=(path, results))
    process.start()
    process.join()
    assert process.exitcode == 0
    return int(results.get(timeout=10))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_slices_of_two_tensors_of_20_gigabytes(archive_path: Path, scheme: str) -> None:
    assert archive_path.stat().st_size > HUGE
    assert archive_path.stat().st_blocks * 512 < 10 << 20  # on disk
    used = peak_memory(f"{scheme}{archive_path}")
    print(f"{used / 1e6:.0f} MB")
    assert used < MEMORY


def test_slices_of_a_plain_file_of_20_gigabytes(plain_path: Path) -> None:
    used = peak_memory(str(plain_path))
    print(f"{used / 1e6:.0f} MB")
    assert used < MEMORY
