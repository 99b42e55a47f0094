"""Damaged frames, archives and streams decode to the very same tensors or raise ``CorruptError``.

``python tests/reliability/test_mutations.py 1000000`` tries so many. Each mutation follows from its
number, so a failure names all that is needed to see it again: ``... test_mutations.py 1 NUMBER``.
"""

import faulthandler
import io
import multiprocessing
import random
import re
import resource
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fewbits
from fewbits import CorruptError, FewbitsError, Lossless, _kernels
from fewbits.archive import _CHECKSUM, _with_checksum
from fewbits.container import PREFIX_BYTES, with_prefix
from fewbits.frame_header import ALIGNMENT
from fewbits.lossless.plan import Mode
from fewbits.originals import source_container
from fewbits.stream import _CHECKSUM_BYTES, _RECORD, START, StreamReader, StreamWriter, _chained

SECONDS_A_BATCH = 600  # far more than a batch takes: a process that hangs is ended with a traceback
BATCH = 20_000
MEMORY = 1 << 30  # bytes of address space beyond what the process has at its start
CHECKSUM_AT = 24  # of a frame's header, and the size of the header it covers at 8
BYTES_A_BYTE = 1 << 17  # no byte of a file may stand for more of a tensor

Tensors = Mapping[str, np.ndarray]
Mutation = Callable[[random.Random, bytearray], None]


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    wave = rng.laplace(0, 1, 3000)
    return {
        "bf16": (wave[:900] * 0.02).astype(ml_dtypes.bfloat16).reshape(30, 30),
        "f32": wave[:300].astype(np.float32),
        "i8": np.clip(wave[:1500] * 8, -127, 127).astype(np.int8).reshape(-1, 3),
        "f16": np.where(rng.random(700) < 0.98, 0, wave[:700]).astype(np.float16),
        "i4": np.clip(wave[:901] * 3, -8, 7).astype(ml_dtypes.int4),
        "i64": (wave[:100] * 1000).astype(np.int64),
        "noise": rng.integers(0, 256, 300, dtype=np.uint8),
        "constant": np.full(3000, 1.5, np.float64),
        "nothing": np.zeros((3, 0), np.float32),
        "scalar": np.array(True),
    }


def larger_tensors() -> dict[str, np.ndarray]:
    """Tensors of every new kind of block that takes some size."""
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 1, (130, 129)) * rng.choice((1, 0.05), (130, 1))
    widened = rows.astype(np.float32)
    widened[::3] = widened[::3].astype(ml_dtypes.bfloat16)
    return {
        "many": rng.laplace(0, 8, 40_000).clip(-127, 127).astype(np.int8),  # for the vector loops
        "classes": rows.astype(np.float16),
        "widened": widened,
        "sparse": np.where(np.arange(20_000) % 1013 == 5, 7, 0).astype(np.int16),
    }


@cache
def frames() -> list[tuple[bytes, Tensors]]:
    """Frames, each with what it decodes to."""
    codecs = (Lossless(), Lossless(coder="arithmetic"), Lossless(rows=40, count_bits=14))
    pairs = [(array, codec) for array in tensors().values() for codec in codecs]
    pairs += [(array, Lossless()) for array in larger_tensors().values()]
    made = [(fewbits.pack(array, codec), {"": array}) for array, codec in pairs]
    headers = [fewbits.PackedTensor.of(frame).header for frame, _ in made]
    modes = set(np.concatenate([header.modes for header in headers]).tolist())
    assert modes >= {*Mode}, "a kind of block is missing"
    assert any(h.plan.classes and any(h.plan.classes.starts_group[1:]) for h in headers), "groups"
    return made


@cache
def archives() -> list[tuple[bytes, Tensors]]:
    """Archives as files' bytes, each with its tensors."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        for names in (("bf16", "i8", "constant"), ("f32",), tuple(tensors())):
            subset = {name: tensors()[name] for name in names}
            fewbits.save(subset, path, metadata={"format": "np"})
            made.append((path.read_bytes(), subset))
    return made


@cache
def streams() -> list[tuple[bytes, Tensors]]:
    """Streams, each with its arrays by number."""
    rng, made = np.random.default_rng(2), []
    for dtype, scale in (("int8", 9), ("float32", 1), (ml_dtypes.bfloat16, 0.02)):
        file, arrays = io.BytesIO(), []
        with StreamWriter(file, dtype) as writer:
            for step, shape in enumerate(((20, 30), (0, 3), (), (700,), (10, 70))):
                # What passes changes, so that tables are sent again.
                wave = rng.laplace(0, scale * (1 + 3 * (step > 2)), shape)
                arrays.append(np.asarray(wave).clip(-127, 127).astype(dtype))
                writer.append(arrays[-1])
        made.append((file.getvalue(), {str(n): array for n, array in enumerate(arrays)}))
    return made


def flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.choice((1, 1, 2, 4, 16))] = rng.randbytes(rng.choice((1, 1, 2, 4, 16)))


def overwrite_near_start(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(min(len(data), 200))] = rng.choice(
        (0, 1, 2, 127, 128, 255, rng.randrange(256))
    )


def erase(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    size = min(rng.randrange(1, 64), len(data) - at)
    data[at : at + size] = bytes(size)


def truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))


def delete(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 64))]


def splice(rng: random.Random, data: bytearray) -> None:
    """A piece of another file over as many bytes here, often at the same place."""
    other = rng.choice(rng.choice((frames(), archives(), streams())))[0]
    size = min(rng.choice((8, 64, 512)), len(other), len(data))
    source = rng.randrange(len(other) - size + 1)
    aligned = rng.random() < 0.5 and source + size <= len(data)
    target = source if aligned else rng.randrange(len(data) - size + 1)
    data[target : target + size] = other[source : source + size]


def exchange(rng: random.Random, data: bytearray) -> None:
    """Two pieces of the same size change places: blocks, or whole frames of an archive."""
    size = min(rng.choice((8, 64, 512)), len(data) // 2)
    first = rng.randrange(len(data) - 2 * size + 1) if size else 0
    second = rng.randrange(first + size, len(data) - size + 1)
    a, b = data[first : first + size], data[second : second + size]
    data[first : first + size], data[second : second + size] = b, a


TOKENS = (
    b"\\ud800", b"\\u0000", b"null", b"[]", b"{}", b"-1", b"1e9", b"9223372036854775808", b'"',
    b",", b"\xff", b"9" * 5000, b"[" * 2000, b'"fewbits.header":"{}",', b"__metadata__", b"I8",
)  # fmt: skip


def edit_header(rng: random.Random, data: bytearray) -> None:
    """Some of an archive's header becomes another piece of JSON; what is behind stays aligned."""
    size = int.from_bytes(data[:PREFIX_BYTES], "little")
    if not 0 < size <= len(data) - PREFIX_BYTES or data.startswith((b"FEWB", b"FEWS")):
        return overwrite_near_start(rng, data)
    at = PREFIX_BYTES + rng.randrange(size)
    gone, token = rng.choice((0, 0, 1, 2, 5)), rng.choice(TOKENS)
    data[at : at + gone] = token
    padding = (gone - len(token)) % ALIGNMENT
    end = PREFIX_BYTES + size + len(token) - gone
    data[end:end] = b" " * padding
    data[:PREFIX_BYTES] = (end + padding - PREFIX_BYTES).to_bytes(PREFIX_BYTES, "little")


MUTATIONS: tuple[Mutation, ...] = (
    flip, overwrite, overwrite_near_start, erase, truncate, insert, delete, splice, exchange,
    edit_header,
)  # fmt: skip


def reseal_frame(data: bytearray, at: int = 0) -> None:
    """Make the checksum of the frame header at ``at`` right, if there is room for a header."""
    if len(data) < at + CHECKSUM_AT + 8:
        return
    size = struct.unpack_from("<I", data, at + 8)[0]
    if not 0 < size <= len(data) - at:
        return
    data[at + CHECKSUM_AT : at + CHECKSUM_AT + 8] = bytes(8)
    digest = _kernels.xxh3(np.frombuffer(bytes(data[at : at + size]), np.uint8))
    data[at + CHECKSUM_AT : at + CHECKSUM_AT + 8] = digest.to_bytes(8, "little")


def reseal_archive(data: bytearray) -> None:
    """Make the checksums of the archive's header and of all frames' headers right."""
    size = int.from_bytes(data[:PREFIX_BYTES], "little")
    if size <= len(data) - PREFIX_BYTES:
        text = bytes(data[PREFIX_BYTES : PREFIX_BYTES + size])
        blank = _CHECKSUM.sub(rb"\g<1>" + b"0" * 16 + rb"\g<3>", text, count=1)
        data[: PREFIX_BYTES + size] = with_prefix(_with_checksum(blank))
    for found in re.finditer(b"FEWB", bytes(data)):
        reseal_frame(data, found.start())


def reseal_stream(data: bytearray) -> None:
    """Make the checksums of all records right, as far as records can be found."""
    file = io.BytesIO(data)

    class Resealing(StreamReader):
        def _record(self) -> tuple[int, bytes]:
            at = file.tell()
            head = bytes(self._take(_CHECKSUM_BYTES + _RECORD.size))[_CHECKSUM_BYTES:]
            kind, size = _RECORD.unpack(head)
            body = bytes(self._take(size))
            self._previous = _chained(self._previous, head + body)
            data[at : at + _CHECKSUM_BYTES] = self._previous
            return kind, body

    data[: len(START)] = START[: len(data)]
    with suppress(CorruptError):
        reader = Resealing(file)
        while reader.next_shape() is not None:
            reader._payload()


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    return (found.dtype, found.shape) == (wanted.dtype, wanted.shape) and (
        found.tobytes() == wanted.tobytes()
    )


def bounded(tensor: fewbits.PackedTensor) -> bool:
    """Whether to decode a tensor here; none may be of more bytes than its frame can stand for."""
    assert tensor.nbytes <= BYTES_A_BYTE * tensor.packed_bytes, f"{tensor} promises too much"
    return tensor.nbytes <= 1 << 26


def read_frame(data: bytes, rng: random.Random, verify: bool) -> dict[str, np.ndarray]:
    tensor = fewbits.PackedTensor.of(data, threads=1, verify=verify)
    if not bounded(tensor):
        return {}
    found = tensor.unpack()
    if rng.random() < 0.2:
        fewbits.unpack_into(data, np.empty_like(found), threads=1, verify=verify)
    if tensor.shape:
        rows = sorted(rng.randrange(len(tensor) + 1) for _ in range(2))
        part = tensor[rows[0] : rows[1]]
        assert same(part, found[rows[0] : rows[1]]), "a slice differs from the whole"
    return {"": found}


def read_archive(path: Path, rng: random.Random, verify: bool) -> dict[str, np.ndarray]:
    with fewbits.open(path, threads=1, verify=verify) as archive:
        found = {}
        for name, tensor in archive.items():
            if isinstance(tensor, np.ndarray):
                found[name] = tensor.copy()
            elif bounded(tensor):
                found[name] = tensor.unpack()
        if archive.packed:
            with suppress(FewbitsError):  # it may hold what a safetensors file cannot
                source_container(archive)
        return found


def read_stream(data: bytes, trusted: Tensors | None, verify: bool) -> dict[str, np.ndarray]:
    """``trusted``: what arrays must be even if damage comes after them."""
    reader = StreamReader(io.BytesIO(data), threads=1, verify=verify)
    found: dict[str, np.ndarray] = {}
    while (shape := reader.next_shape()) is not None:
        assert prod(shape) * reader.dtype.itemsize <= BYTES_A_BYTE * len(data), "promises too much"
        array, name = reader.read(), str(len(found))
        assert array is not None and array.shape == shape
        assert trusted is None or same(array, trusted[name]), "a wrong array before the damage"
        found[name] = array
    return found


def mutation(number: int, folder: Path) -> str:
    """Try one mutation; the outcome in a word. Any exception is a failure of the property."""
    rng = random.Random(number)
    kind, resealed, verify = rng.random(), rng.random() < 0.4, rng.random() < 0.9
    pool = archives if kind < 0.3 else streams if kind < 0.45 else frames
    reseal = {archives: reseal_archive, streams: reseal_stream, frames: reseal_frame}[pool]
    original, wanted = rng.choice(pool())
    data = bytearray(original)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if data:
            rng.choice(MUTATIONS)(rng, data)
    if resealed:
        reseal(data)
    # A splice can make a whole file of another that has its size.
    undamaged = dict(pool()).get(bytes(data))
    wanted = wanted if undamaged is None else undamaged
    try:
        if pool is archives:
            path = folder / "m"
            path.unlink(missing_ok=True)  # arrays may still be views of the file before
            path.write_bytes(data)
            found = read_archive(path, rng, verify)
        elif pool is streams:
            found = read_stream(bytes(data), None if resealed or not verify else wanted, verify)
        else:
            found = read_frame(bytes(data), rng, verify)
    except CorruptError as error:
        assert undamaged is None, "an undamaged file was refused"
        assert "\n" not in str(error), "an error of more than one line"
        return "refused"
    identical = found.keys() == wanted.keys() and all(same(found[n], wanted[n]) for n in wanted)
    if not identical:
        assert resealed or not verify, "damage went unnoticed"
        return "changed, under checksums made right or not checked"
    return "identical"


def batch(first: int, count: int, outcomes: Any) -> None:
    """Mutations ``first`` and on, in a process of bounded memory; puts outcomes and peak memory."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(SECONDS_A_BATCH, exit=True)
    frames(), archives(), streams()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            try:
                seen[mutation(number, Path(folder))] += 1
            except BaseException as error:
                outcomes.put(f"mutation {number}: {type(error).__name__}: {error}")
                raise
    # Not from getrusage, which a new process has from the one that started it.
    status = Path("/proc/self/status").read_text()
    outcomes.put((seen, int(status.split("VmHWM:")[1].split()[0]) * 1024))


def run(count: int, first: int = 0) -> tuple[Counter[str], int]:
    """Outcomes of so many mutations, and the peak memory in bytes of a process that ran them.

    ``AssertionError`` naming the mutations if a process failed, crashed or hung.
    """
    context, seen, peak = multiprocessing.get_context("spawn"), Counter[str](), 0
    for start in range(first, first + count, BATCH):
        outcomes = context.Queue()
        size = min(BATCH, first + count - start)
        process = context.Process(target=batch, args=(start, size, outcomes))
        process.start()
        process.join()
        assert process.exitcode in (0, 1), (
            f"exit code {process.exitcode} in mutations {start} to {start + size - 1}"
        )
        found = outcomes.get(timeout=10)
        assert not isinstance(found, str), found
        seen, peak = seen + found[0], max(peak, found[1])
    return seen, peak


@pytest.mark.slow
def test_damage_is_noticed_or_harmless():
    seen, peak = run(20_000)
    assert seen["refused"] > 10_000
    assert peak < MEMORY


if __name__ == "__main__":
    total, highest = run(*map(int, sys.argv[1:] or ["1000000"]))
    for outcome, times in total.most_common():
        print(f"{times:9} {outcome}")
    print(f"peak memory of a process: {highest / 1e6:.0f} MB")
