"""Ratio and one-core speed of codecs on one dataset, measured side by side."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.bench.codecs import Codec, ours
from fewbits.bench.data import Dataset
from fewbits.bench.peers import Peer


@dataclass(frozen=True)
class Row:
    """One codec on one dataset: MB are 10^6 bytes before packing, seconds are of CPU time.

    ``vs_*`` say how many times the first Fewbits row is better than this one: in ratio, and as
    median of the runs' own quotients in speed. ``fault`` is empty if every run was lossless.
    """

    codec: str
    version: str
    ours: bool
    packed_bytes: int
    ratio: float
    compress_mb_per_s: float
    decompress_mb_per_s: float
    into_mb_per_s: float | None  # into memory that is there already, where the library can
    vs_ratio: float
    vs_compress: float
    vs_decompress: float
    note: str
    fault: str


@dataclass(frozen=True)
class Comparison:
    """All codecs on one dataset."""

    name: str
    dtype: str
    tensors: int
    plain_bytes: int
    rows: list[Row]

    @property
    def lossless(self) -> bool:
        """Whether Fewbits gave every bit back."""
        return not any(row.fault for row in self.rows if row.ours)


@dataclass
class _Runs:
    """What was seen of one codec so far."""

    codec: Codec
    packed_bytes: int = 0
    compress: list[float] = field(default_factory=list)
    decompress: list[float] = field(default_factory=list)
    into: list[float] = field(default_factory=list)
    rewrites: bool = False
    fault: str = ""


def compare(
    data: Dataset, peers: Sequence[Peer], *, runs: int, advance: Callable[[int], object]
) -> Comparison:
    """Run every codec in turn, ``runs`` times over; ``advance(1)`` after each.

    Every call to compress gets a copy of its own: ZipNN for one rewrites its caller's buffer. A
    codec that raises or loses a bit says so in its row and is not run again.
    """
    codecs = [*ours(data), *(peer.codec(data.dtype) for peer in peers)]
    seen = [_Runs(codec) for codec in codecs]
    out = np.empty(data.nbytes, np.uint8)  # not zeros, for which NumPy asks for no large pages
    out.fill(1)  # the pages are there before anything is timed
    for _ in range(runs):
        for one in seen:
            if not one.fault:
                _run(one, data.flat, out)
            advance(1)
    first = seen[0]
    rows = [_row(one, first, data.nbytes) for one in seen]
    return Comparison(data.name, data.dtype.name, len(data.tensors), data.nbytes, rows)


def steps(data: Dataset, peers: Sequence[Peer], runs: int) -> int:
    """How often ``compare`` advances."""
    return runs * (len(ours(data)) + len(peers))


def _run(one: _Runs, plain: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    codec, copy = one.codec, bytearray(plain)
    try:
        start = time.process_time()
        packed = codec.compress(copy)
        one.compress.append(time.process_time() - start)
        one.packed_bytes = sum(map(_size, packed)) if isinstance(packed, list) else _size(packed)
        one.rewrites |= not _same(copy, plain)
        del copy
        start = time.process_time()
        restored = codec.decompress(packed)
        one.decompress.append(time.process_time() - start)
        lossless = _same(restored, plain)
        del restored
        if codec.decompress_into is not None:
            out.fill(1)
            start = time.process_time()
            codec.decompress_into(packed, out)
            one.into.append(time.process_time() - start)
            lossless = lossless and _same(out, plain)
        if not lossless:
            one.fault = "not lossless"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        words = " ".join(str(error).split())[:100]
        one.fault = f"failed: {type(error).__name__}" + (f": {words}" if words else "")


def _size(buffer: Any) -> int:
    return memoryview(buffer).nbytes


def _same(restored: Any, plain: NDArray[np.uint8]) -> bool:
    """Whether a buffer, or the parts in a list one after the other, are these bytes."""
    reached = 0
    for part in restored if isinstance(restored, list) else [restored]:
        flat = part.reshape(-1) if isinstance(part, np.ndarray) else np.frombuffer(part, np.uint8)
        flat = flat.view(np.uint8)
        if not np.array_equal(flat, plain[reached : reached + flat.size]):
            return False
        reached += flat.size
    return reached == plain.size


def _row(one: _Runs, first: _Runs, plain_bytes: int) -> Row:
    def speed(seconds: list[float]) -> float:
        return plain_bytes / max(median(seconds), 1e-9) / 1e6

    def quotient(theirs: list[float], mine: list[float]) -> float:
        return median(t / max(m, 1e-9) for t, m in zip(theirs, mine, strict=False))

    codec, nothing = one.codec, float("nan")
    done, paired = not one.fault, not (one.fault or first.fault)
    notes = [codec.note] if codec.note else []
    if one.rewrites:
        notes.append("rewrites its caller's buffer")
    return Row(
        codec=codec.name,
        version=codec.version,
        ours=codec.ours,
        packed_bytes=one.packed_bytes if done else 0,
        ratio=plain_bytes / max(1, one.packed_bytes) if done else nothing,
        compress_mb_per_s=speed(one.compress) if done else nothing,
        decompress_mb_per_s=speed(one.decompress) if done else nothing,
        into_mb_per_s=speed(one.into) if done and one.into else None,
        vs_ratio=one.packed_bytes / max(1, first.packed_bytes) if paired else nothing,
        vs_compress=quotient(one.compress, first.compress) if paired else nothing,
        vs_decompress=quotient(one.decompress, first.decompress) if paired else nothing,
        note="; ".join(notes),
        fault=one.fault,
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats in both numbers, by the first number."""
    best, front = float("-inf"), []
    for index in sorted(range(len(points)), key=lambda i: points[i], reverse=True):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front[::-1]


def cpu_name() -> str:
    """The processor, as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()
