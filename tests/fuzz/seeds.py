"""Seeds for the fuzz targets, from frames and payloads that the library writes today.

Usage: ``python tests/fuzz/seeds.py FOLDER`` writes ``FOLDER/TARGET/*``. The fields are those that
``input.hpp`` takes.
"""

import hashlib
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fewbits
from fewbits import Lossless, PackedTensor, RangeTable, find_table
from fewbits.lossless import ans, arithmetic
from fewbits.lossless.histogram import histogram
from fewbits.lossless.plan import Coder, Mode, Plan, Plane, RowClasses
from fewbits.values.types import Remap, to_storage

FIT, VERIFY, TWO_THREADS, PARTLY, PACK = 1, 4, 8, 16, 32
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
    yield np.where(np.arange(3000) % 701 == 5, 9, -2).astype(np.int8)  # sparse
    yield np.where(np.arange(3000) % 801 == 700, 1.5, 0).astype(np.float32)


def in_classes(rng: np.random.Generator) -> Iterator[tuple[NDArray[np.uint8], Plan]]:
    """Bytes, and plans that have them in classes: in groups, with short last rows, in long rows."""
    many, short_offsets = {"rows": 40, "count_bits": 12}, {"count_bits": 12, "max_offset_length": 8}
    for fields, verbatim, row, missing, starts, settings in (
        (((1, 0),), 0, 20, 0, (True, False, False), {}),
        (((1, 0),), 0, 33, 5, (True, False, True), many),
        (((0, 0),), 0, 16, 15, (True, True), {"count_bits": 8}),
        (((2, 0),), 4, 25, 1, (True, False), short_offsets),
        (((1, 1), (1, 0)), 0, 50, 49, (True, False, False, True), {}),
        (((2, 2), (1, 1), (1, 0)), 7, 30, 10, (True, True), short_offsets),
        (((1, 0),), 0, 4096, 0, (True, False), {}),
    ):
        long = row > 1000
        width = max(1, sum(size for size, _ in fields))
        class_of_row = rng.integers(0, len(starts), 30).astype(np.uint8)
        scale = 1 + class_of_row.repeat(row)[: 30 * row - missing]
        values = rng.geometric(0.99 / scale**0.1 if long else 0.05 / scale).clip(0, 255)
        data = values.astype(f"<u{width}")
        if verbatim:
            data = (data << 8 * (width - 2)) + (data % 7 if width > 2 else 0)
        data = data.view(np.uint8)
        classes = RowClasses(row, class_of_row, starts)
        plan = Plan(
            width,
            Remap.IDENTITY,
            2 * row if long else 250,
            tuple(Plane(*field) for field in fields),
            classes,
        )
        planes = []
        for index, plane in enumerate(plan.planes):
            own = verbatim if plane.bytes_ == 2 else 0
            histograms = plan.histograms(index, data)
            tables = (find_table(h, verbatim_bits=own, **settings) for h in histograms)
            coded = replace(plane, coder=Coder.RANS, verbatim_bits=own, tables=tuple(tables))
            planes.append(coded)
        yield data, replace(plan, planes=tuple(planes))


def table_fields(table: RangeTable) -> bytes:
    fields = [struct.pack("<BBH", table.width, table.count_bits, table.rows)]
    for start, length, count in zip(table.starts, table.offset_lengths, table.counts, strict=True):
        high = count == 1 << 16
        fields.append(struct.pack("<HBHB", start, length, count - high, not high))
    return b"".join(fields)


def plan_fields(plan: Plan) -> bytes:
    fields = [struct.pack("<BBB", plan.element_bytes, plan.remap, len(plan.planes))]
    for plane in plan.planes:
        head = (plane.bytes_, plane.offset, plane.coder, plane.verbatim_bits, len(plane.tables))
        fields.append(struct.pack("<BBBBB", *head))
        fields += map(table_fields, plane.tables)
    return b"".join(fields)


def order_fields(plan: Plan, elements: int) -> bytes:
    if plan.classes is None:
        return struct.pack("<IHHB", elements, plan.block_elements, 0, 0)
    classes = plan.classes
    head = struct.pack(
        "<IHHB", elements, plan.block_elements, classes.row_elements, classes.classes
    )
    return head + bytes(classes.starts_group) + classes.class_of_row.tobytes()


def blocks_seeds(plan: Plan, data: NDArray[np.uint8], flags: int) -> Iterator[bytes]:
    """A frame of several blocks, as the target takes it: all of it, a part, and to be packed."""
    elements = data.size // plan.element_bytes
    arrangement = plan.arrangement(data.size)
    payload, modes, lengths, checksums = plan.kernel.pack(arrangement, data, 1)
    head = plan_fields(plan) + order_fields(plan, elements)
    columns = (modes, lengths, checksums, payload)
    yield head + bytes((flags,)) + b"".join(column.tobytes() for column in columns)
    first, last = elements // 3, elements // 2
    for low, high in arrangement.blocks_of(first, last):
        index = slice(low * len(plan.planes), high * len(plan.planes))
        at = [int(lengths[:part].sum()) for part in (index.start, index.stop)]
        columns = (modes[index], lengths[index], checksums[low:high], payload[at[0] : at[1]])
        part = struct.pack("<IIHH", first, last - first, low, high - low)
        tail = part + b"".join(column.tobytes() for column in columns)
        yield head + bytes((flags | PARTLY,)) + tail
    yield head + bytes((flags | PACK, 0, 0, 0)) + data[:4000].tobytes()
    yield head + struct.pack("<BHB", flags | PACK, 1200, 7) + bytes(range(50))  # sparse


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


def shared(rng: np.random.Generator) -> Iterator[tuple[bytes, bytes]]:
    """Runs of several tables, as targets take them, and the payload that they share."""
    for (data, plan), most in product(in_classes(rng), (700, 20_000)):
        if len(plan.planes) > 1 or plan.classes is None:
            continue
        # One block whose first rows are of class 0, and so on.
        plane, count = plan.planes[0], plan.classes.classes
        rows = -(-most // plan.classes.row_elements)
        ids = (np.arange(rows) * count // rows).astype(np.uint8)
        values = data.view(f"<u{plan.element_bytes}")
        own = plan.classes.class_of_row.repeat(plan.classes.row_elements)[: values.size]
        parts = [np.resize(values[own == c], np.count_nonzero(ids == c)) for c in range(count)]
        row = np.concatenate(parts)
        ordered = RowClasses(1, ids, (True, *[False] * (count - 1)))
        whole = replace(plan, block_elements=rows, classes=ordered)
        stored = np.ascontiguousarray(row).view(np.uint8)
        payload, modes, _, _ = whole.kernel.pack(whole.arrangement(stored.size), stored, 1)
        if modes[0] != Mode.BY_CLASS:
            continue
        fields = [bytes((count - 1, plane.verbatim_bits))]
        for part, table in zip(parts, plane.tables, strict=True):
            fields += [struct.pack("<H", plane.values_in(part.size)), table_fields(table)]
        yield b"".join(fields), payload.tobytes()


def refused_table() -> bytes:
    """A serialized table of 8-bit values whose last row cannot use its offset."""
    table = RangeTable(8, 10, (0, 128), (7, 7), (896, 128))
    table.__dict__["offset_lengths"] = (7, 8)
    return table.to_bytes()


def seeds(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Names of targets, each with an input."""
    for n, array in enumerate(tensors(rng)):
        for c, codec in enumerate(CODECS[:2] if n > 4 else CODECS):
            flags = FIT | (VERIFY if c % 2 else 0) | (TWO_THREADS if n % 4 == 3 else 0)
            plan = PackedTensor.of(fewbits.pack(array, codec)).header.plan
            smaller = replace(plan, block_elements=(64, 1000, 300, 3000)[n % 3 + (n == 9)])
            yield from (
                ("blocks", seed) for seed in blocks_seeds(smaller, to_storage(array), flags)
            )
    for n, (data, plan) in enumerate(in_classes(rng)):
        yield from (("blocks", seed) for seed in blocks_seeds(plan, data, FIT | n % 2 * VERIFY))
        windows = struct.pack("<8H", 0, 50, 100, 400, 499, 3, 0, 0)
        yield "arrangements", order_fields(plan, data.size // plan.element_bytes) + windows
    yield "arrangements", struct.pack("<IHHB8H", 1000, 64, 0, 0, 0, 50, 100, 400, 499, 3, 1000, 0)
    for fields, payload in shared(rng):
        for pieces in (0, 3):
            yield "rans", fields + bytes((pieces,)) + payload
        yield "tables", fields + b"\1" + rng.bytes(100)
    yield "table_bits", b"\x08" + refused_table()
    for values, table, verbatim in coded(rng):
        n, one = struct.pack("<H", len(values)), bytes((0, verbatim))
        runs = one + n + table_fields(table)
        yield "tables", runs + b"\1" + values[:100].tobytes()
        yield "table_bits", bytes((table.width,)) + table.to_bytes()
        yield "table_bits", bytes((table.width,)) + table.to_bytes() + rng.bytes(5)
        if table.rows < 9 or verbatim == 8:
            many = one + b"\xff\xff" + table_fields(table)
            yield "tables", many + b"\0" + values[:100].tobytes()
        for lanes in (1, 8, 16, 64, 256, 512):
            # The writer takes many lanes only for many values; a reader must take up to 256 always.
            ans.lanes = lambda values, word_bytes, lanes=lanes: lanes
            payload = ans.encode(values, table, verbatim)
            yield "rans", runs + bytes((lanes % 16,)) + payload
        ans.lanes = lambda values, word_bytes: 1
        two = ans.encode(values[:1].repeat(2), table, verbatim)
        one_value = one + b"\1\0" + table_fields(table)
        # Said to be loaded with more values than there are.
        yield "rans", one_value + b"\0\x80" + two[1:]
        yield "rans", one_value + b"\0\x80" + ans.encode(values[:1], table, verbatim)[1:]
        if not verbatim and table.count_bits <= 14:
            payload = arithmetic.encode(values, table)
            yield "arithmetic", table_fields(table) + n + payload
            padded = payload[:-1] + bytes((payload[-1] ^ 1,))
            yield "arithmetic", table_fields(table) + n + padded
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
