"""Seeds for the fuzz targets, from frames and payloads that the library writes today.

Usage: ``python tests/fuzz/seeds.py FOLDER`` writes ``FOLDER/TARGET/*``. The fields are those that
``input.hpp`` takes.
"""

import hashlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fewbits
from fewbits import Lossless, PackedTensor, RangeTable, find_table
from fewbits.lossless import ans, arithmetic
from fewbits.lossless.histogram import histogram
from fewbits.lossless.plan import Plan

FIT, VERIFY, TWO_THREADS = 1, 4, 8
CODECS = (
    Lossless(),
    Lossless(coder="arithmetic"),
    Lossless(rows=40, count_bits=12),
    Lossless(rows=3, count_bits=8),
    Lossless(count_bits=16),
)


def tensors(rng: np.random.Generator) -> Iterator[NDArray[Any]]:
    """Small tensors of every layout and every mode of a plane."""
    wave = rng.laplace(0, 1, 600)
    yield (wave * 0.02).astype(ml_dtypes.bfloat16)
    yield wave.astype(np.float32)[:200]
    yield np.clip(wave * 8, -127, 127).astype(np.int8)
    yield np.where(rng.random(600) < 0.98, 0, wave).astype(np.float16)
    yield np.clip(wave * 3, -8, 7).astype(ml_dtypes.int4)
    yield wave.astype(ml_dtypes.float8_e5m2)
    yield (wave * 1000).astype(np.int64)[:100]
    yield rng.integers(0, 256, 100, dtype=np.uint8)
    yield np.full(300, 3, np.int16)


def table_fields(table: RangeTable) -> bytes:
    fields = [struct.pack("<BBH", table.width, table.count_bits, table.rows)]
    for start, length, count in zip(table.starts, table.offset_lengths, table.counts, strict=True):
        high = count == 1 << 16
        fields.append(struct.pack("<HBHB", start, length, count - high, not high))
    return b"".join(fields)


def plan_fields(plan: Plan, block_elements: int) -> bytes:
    fields = [
        struct.pack("<BBHB", plan.element_bytes, plan.remap, block_elements, len(plan.planes))
    ]
    for plane in plan.planes:
        head = (plane.bytes_, plane.offset, plane.coder, plane.verbatim_bits, len(plane.tables))
        fields.append(struct.pack("<BBBBB", *head))
        fields += map(table_fields, plane.tables)
    return b"".join(fields)


def blocks_seed(array: NDArray[Any], codec: Lossless, block_elements: int, flags: int) -> bytes:
    """A frame of several blocks, as the target takes it."""
    tensor = PackedTensor.of(fewbits.pack(array, codec))
    plan, nbytes = tensor.header.plan, tensor.nbytes
    smaller = Plan(plan.element_bytes, plan.remap, block_elements, plan.planes)
    data = fewbits.values.types.to_storage(array)
    payload, modes, lengths, checksums = smaller.kernel.pack(data, 1)
    index = b"".join(column.tobytes() for column in (modes, lengths, checksums))
    fields = plan_fields(smaller, block_elements) + struct.pack("<BI", flags, nbytes)
    return fields + index + payload.tobytes()


def coded(rng: np.random.Generator) -> Iterator[tuple[NDArray[Any], RangeTable, int]]:
    """Values, a table that can write them, and verbatim bits."""
    for width, rows, count_bits in ((8, 16, 10), (8, 16, 12), (8, 40, 12), (4, 16, 8), (8, 4, 16)):
        values = rng.geometric(0.08, 700).clip(0, (1 << width) - 1).astype(np.uint8)
        yield values, find_table(histogram(values, width), rows=rows, count_bits=count_bits), 0
    wide = (rng.standard_normal(700) * 300 + 9000).astype(np.uint16)
    yield wide, find_table(histogram(wide, 16), rows=16, count_bits=10), 0
    for verbatim in (4, 7, 8):
        starts, length = (0, 8192, 12288), 4 + verbatim
        values = rng.choice(starts, 700, p=(0.1, 0.6, 0.3)) + rng.integers(0, 1 << length, 700)
        table = RangeTable(16, 12, starts, (length,) * 3, (410, 2458, 1228))
        yield values.astype(np.uint16), table, verbatim


def seeds(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Names of targets, each with an input."""
    for n, array in enumerate(tensors(rng)):
        for c, codec in enumerate(CODECS[:2] if n > 4 else CODECS):
            flags = FIT | (VERIFY if c % 2 else 0) | (TWO_THREADS if n % 4 == 3 else 0)
            yield "blocks", blocks_seed(array, codec, (64, 1000, 300)[n % 3], flags)
    for values, table, verbatim in coded(rng):
        head, n = table_fields(table), struct.pack("<H", len(values))
        yield "tables", head + struct.pack("<BBH", verbatim, 1, 300) + values[:100].tobytes()
        if table.rows < 9 or verbatim == 8:
            yield "tables", head + struct.pack("<BB", verbatim, 0) + values[:100].tobytes()
        for lanes in (1, 8, 16, 64, 256, 512):
            # The writer takes many lanes only for many values; a reader must take up to 256 always.
            ans.lanes = lambda values, word_bytes, lanes=lanes: lanes
            payload = ans.encode(values, table, verbatim)
            yield "rans", head + bytes((verbatim,)) + n + bytes((lanes % 16,)) + payload
        if not verbatim and table.count_bits <= 14:
            payload = arithmetic.encode(values, table)
            yield "arithmetic", head + n + payload
            yield "arithmetic", head + n + payload[:-1] + bytes((payload[-1] ^ 1,))  # padding
    for size in (0, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 1088, 2500):
        yield "xxh3", struct.pack("<BHB", size % 64, size // 3, size % 3) + rng.bytes(size)


def main() -> None:
    folder = Path(sys.argv[1])
    for target, data in seeds(np.random.default_rng(0)):
        path = folder / target / hashlib.sha1(data).hexdigest()[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
