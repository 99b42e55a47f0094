"""A second reader of fewbits frames and archives, written from docs/format.md alone.

It uses the standard library only and is meant to be read next to that page, not to be fast.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from bisect import bisect_right
from typing import Any, Literal, NamedTuple

from independent_xxh3 import xxh3

Tensor = tuple[str, tuple[int, ...], bytes]
Order = Literal["little", "big"]

SAFETENSORS = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32",
    "U32": "uint32", "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
OTHERS = ("int4", "uint4", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "complex128")
DTYPES = {*SAFETENSORS.values(), *OTHERS}


class Refused(Exception):
    """The data is not what the page allows, or of a type that this reader does not know."""


def need(condition: object, why: str) -> None:
    """Refuse the data unless the condition holds."""
    if not condition:
        raise Refused(why)


class Bits:
    """Takes bits from the least significant end of each byte on ("little"), or the most ("big").

    An unsigned integer of k bytes is thus the next 8·k bits of a "little" stream.
    """

    def __init__(self, data: bytes, order: Order = "little", endless: bool = False) -> None:
        """Start at the first bit; an endless stream goes on with zeros."""
        self.data, self.order, self.endless, self.taken = data, order, endless, 0

    def take(self, count: int) -> int:
        """The next bits, as a number."""
        first, end = self.taken // 8, self.taken + count
        need(self.endless or end <= 8 * len(self.data), "the data is cut off")
        chunk = self.data[first : (end + 7) // 8].ljust((end + 7) // 8 - first, b"\0")
        drop = self.taken % 8 if self.order == "little" else -end % 8
        self.taken = end
        return int.from_bytes(chunk, self.order) >> drop & ((1 << count) - 1)

    def raw(self, size: int) -> bytes:
        """The next bytes, in the order of the data."""
        return self.take(8 * size).to_bytes(size, self.order)

    def left(self) -> int:
        """The whole bytes not taken yet."""
        return len(self.data) - (self.taken + 7) // 8

    def pad(self, unit: int) -> None:
        """Go on to a multiple of that many bytes, over zeros only."""
        need(self.take(-self.taken % (8 * unit)) == 0, "padding is not zero")

    def varint(self) -> int:
        """The next varint."""
        value = 0
        for i in range(10):
            byte = self.take(8)
            value |= (byte & 127) << (7 * i)
            if byte < 128:
                need((byte or not i) and value < 1 << 64, "a varint is not the shortest")
                return value
        raise Refused("a varint is too long")


class Table(NamedTuple):
    """A range table; codes has the row and the position of each of rANS's codes."""

    m: int
    start: list[int]
    length: list[int]
    counts: list[int]
    codes: list[tuple[int, int]]


class Plane(NamedTuple):
    """What a frame's header says about a plane."""

    size: int
    offset: int
    coder: int
    verbatim: int
    tables: list[Table]


def read_table_v1(bits: Bits, width: int) -> Table:
    """Read a range table of version 1."""
    w, m, rows = bits.take(8), bits.take(8), bits.take(16) + 1
    need(w == width and 1 <= m <= 16, "a range table has bad widths")
    fields = [(bits.take(w), bits.take(5), bits.take(m + 1)) for _ in range(rows)]
    bits.pad(1)
    start, length, count = ([f[i] for f in fields] for i in range(3))
    need(sum(count) in (1 << m, (1 << m) - 1), "counts have a wrong sum")
    return Table(m, start, length, count, [])


def read_table_v2(bits: Bits, w: int) -> Table:
    """Read a range table of version 2."""
    m, rows, u, d, a, c = (bits.take(n) for n in (4, 12, 1, 1, 3, 5))
    m, rows = m + 1, rows + 1
    start, length, count = [bits.take(w)], [], []
    for r in range(rows):
        length.append(bits.take(a))
        if r == rows - 1:
            break
        t = d or bits.take(1)
        g = bits.take(max(0, length[r] - 1) if t else w)
        gap = g if not t else (1 << (length[r] - 1)) + g if length[r] else 0
        start.append(start[r] + 1 + gap)
        count.append(bits.take(c))
    bits.pad(1)
    count.append((1 << m) - u - sum(count))
    need(count[-1] >= 0, "counts are too large")
    return Table(m, start, length, count, [])


def read_table(bits: Bits, width: int, version: int) -> Table:
    """Read a range table and check it as it stands."""
    table = (read_table_v1 if version == 1 else read_table_v2)(bits, width)
    ends = [*table.start[1:], 1 << width]
    for own, following, size in zip(table.start, ends, table.length, strict=True):
        need(own < following, "starts do not ascend")
        need(size <= min(16, (following - 1 - own).bit_length()), "a length is too large")
    return table


def prepare_rans(table: Table, verbatim: int) -> None:
    """Check a table for rANS, complete its counts, and give each code its row and position."""
    m, rows = table.m, len(table.counts)
    buckets = max(16, 1 << (rows - 1).bit_length())
    need(1 << m >= buckets, "too few codes for rANS")
    need(
        not verbatim or max(table.length) - verbatim <= 16 - m,
        "rows have both verbatim bits and spill",
    )
    if sum(table.counts) < 1 << m:
        table.counts[max(r for r in range(rows) if table.counts[r])] += 1
    left, size = table.counts + [0] * (buckets - rows), (1 << m) // buckets
    small = [b for b in range(buckets) if left[b] < size]
    large = [b for b in range(buckets) if left[b] > size]
    owners = [[b] * size for b in range(buckets)]
    while small:
        b, d = small.pop(), large[-1]
        owners[b] = [b] * left[b] + [d] * (size - left[b])
        left[d] -= size - left[b]
        if left[d] <= size:
            large.pop()
        if left[d] < size:
            small.append(d)
    seen = [0] * buckets
    for r in (r for owner in owners for r in owner):
        table.codes.append((r, seen[r]))
        seen[r] += 1


def read_plane(bits: Bits, element: int, version: int) -> Plane:
    """Read a plane's description and check it."""
    size, offset, coder, verbatim, tables = bits.raw(5)
    need(size <= 2 and coder <= 2, "a plane has an unknown size or coder")
    need(size or element == 1, "a nibble plane needs elements of one byte")
    need(verbatim == 0 or (verbatim <= 8 and coder == 1 and size == 2), "bad verbatim bits")
    need((tables == 0) == (coder == 0) and tables <= 252, "bad number of tables")
    plane = Plane(size, offset, coder, verbatim, [])
    for _ in range(tables):
        plane.tables.append(read_table(bits, 8 * size or 4, version))
        need(coder != 2 or plane.tables[-1].m <= 14, "too many count bits")
        if coder == 1:
            prepare_rans(plane.tables[-1], verbatim)
    return plane


def decode_rans(data: bytes, tables: list[Table], plane: Plane) -> list[int]:
    """Decode a plane that rANS wrote, each value with its own table."""
    n, v, w = len(tables), plane.verbatim, 8 * plane.size or 4
    bits = Bits(data)
    first = bits.take(8)
    loaded, log2_lanes = first >> 7, first & 127
    need(log2_lanes <= 8, "too many lanes")
    lanes = 1 << log2_lanes
    coded = n - loaded * lanes * (16 // w)
    need(coded >= 0, "more values in the lanes than there are")

    def spill(table: Table, r: int) -> int:
        return max(0, table.length[r] - v - (16 - table.m))

    different = list({id(table): table for table in tables}.values())
    spills = any(spill(t, r) and t.counts[r] for t in different for r in range(len(t.counts)))
    spill_size = bits.take(32) if spills else 0
    states = [bits.take(32) for _ in range(lanes)]
    verbatim, spilled = Bits(bits.raw((coded * v + 7) // 8)), Bits(bits.raw(spill_size))
    out = []
    for i, table in enumerate(tables[:coded]):
        x = states[i % lanes]
        r, position = table.codes[x % (1 << table.m)]
        x = table.counts[r] * (x >> table.m) + position
        outside = spill(table, r)
        inside = max(0, table.length[r] - v) - outside
        offset = (x % (1 << inside) << v | verbatim.take(v)) << outside | spilled.take(outside)
        out.append((table.start[r] + offset) % (1 << w))
        x >>= inside
        states[i % lanes] = x << 16 | bits.take(16) if x < 1 << 16 else x
    held = range(n - coded)
    out += [states[i % lanes] >> i // lanes * w & ((1 << w) - 1) for i in held]
    spilled.pad(1)
    verbatim.pad(1)
    need(bits.left() == spilled.left() == 0, "words or spill bits are left over")
    home = range(1 << 16, 1 << 17 if loaded else (1 << 16) + 1)
    need(all(x in home for x in states), "a lane ends in a wrong state")
    return out


def decode_sparse(data: bytes, plane: Plane, n: int) -> list[int]:
    """Decode a plane of one common value and some others."""
    bits, size = Bits(data), plane.size or 1
    common, others, k = bits.take(8 * size), bits.take(32), bits.take(8)
    need(k <= 20 and size * others <= bits.left(), "a sparse plane has bad fields")
    out, at = [common] * n, 0
    for value in [bits.take(8 * size) for _ in range(others)]:
        while bits.take(1):
            at += 1 << k
        at += bits.take(k)
        need(at < n, "a value lies past the end")
        out[at] = value
        at += 1
    bits.pad(1)
    need(bits.left() == 0, "a sparse plane has bits left over")
    return out


def decode_arithmetic(data: bytes, table: Table, n: int, plane: Plane) -> list[int]:
    """Decode a plane that the arithmetic coder wrote."""
    bits = Bits(data)
    symbols = Bits(bits.raw(bits.take(32)), "big", endless=True)
    offsets = Bits(bits.raw(bits.left()), "big")
    m, out = table.m, []
    low = list(itertools.accumulate(table.counts, initial=0))
    ends = [*table.start[1:], 1 << (8 * plane.size or 4)]
    hi, lo, code = 0xFFFF, 0, symbols.take(16)
    for _ in range(n):
        span = hi - lo + 1
        r = bisect_right([span * c >> m for c in low], code - lo) - 1
        need(r < len(table.start), "a code belongs to no row")
        out.append(table.start[r] + offsets.take(table.length[r]))
        need(out[-1] < ends[r], "a value is not its row's")
        lo, hi = lo + (span * low[r] >> m), lo + (span * low[r + 1] >> m) - 1
        while True:
            if (hi ^ lo) & 0x8000:
                if not (lo & 0x4000 and not hi & 0x4000):
                    break
                hi, lo, code = hi - 0x4000, lo - 0x4000, code - 0x4000
            hi, lo = hi << 1 & 0xFFFF | 1, lo << 1 & 0xFFFF
            code = code << 1 & 0xFFFF | symbols.take(1)
    need(code == (0x4000 if lo < 0x4000 else 0x8000), "the symbol stream ends badly")
    symbols.taken -= 14  # u bits were shifted out and CODE has 16 more; the stream has u + 2
    for stream in (symbols, offsets):
        stream.pad(4)
        need(8 * len(stream.data) == stream.taken, "a stream has a wrong size")
    return out


def decode_plane(
    data: bytes, plane: Plane, mode: int, class_of: list[int], classes: int
) -> list[int]:
    """Decode a plane of elements of these classes; nibbles are put together to bytes."""
    size, each, n = plane.size or 1, 1 if plane.size else 2, len(class_of)
    if mode < 2:
        need(len(data) == size * (n if mode == 0 else 1), "a plain plane has a wrong length")
        values = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
        need(mode == 0 or plane.size or values[0] < 16, "a constant is not a nibble")
        return values if mode == 0 else [values[0] * (1 if plane.size else 17)] * n
    if mode == 254:
        values = decode_sparse(data, plane, n * each)
    elif mode == 255:
        need(plane.coder == 1 and len(plane.tables) == classes, "no classes")
        values = decode_rans(data, [plane.tables[c] for c in class_of for _ in range(each)], plane)
    else:
        need(mode - 2 < len(plane.tables), "a mode without a table")
        table = plane.tables[mode - 2]
        if plane.coder == 1:
            values = decode_rans(data, [table] * (n * each), plane)
        else:
            values = decode_arithmetic(data, table, n * each, plane)
    if plane.size == 0:
        values = [a & 15 | (b & 15) << 4 for a, b in zip(values[::2], values[1::2], strict=True)]
    return values


def undo_remap(x: int, remap: int, bits: int) -> int:
    """The original of a stored element."""
    if remap == 1:
        return x >> 1 ^ (-(x & 1) & ((1 << bits) - 1))
    if remap == 2:
        t, kept = min(bits, 16), max(0, bits - 16)
        top = x >> kept
        return (top >> 1 | (top & 1) << (t - 1)) << kept | x & ((1 << kept) - 1)
    return x


def frame_header(data: bytes) -> tuple[Bits, int]:
    """Check the fixed part of a header; what follows it in the header, and the frame's size."""
    need(len(data) >= 64 and data[:4] == b"FEWB" and data[4] in (1, 2), "not a frame")
    header, _, size, checksum = struct.unpack_from("<IfQQ", data, 8)
    need(header % 64 == 0 and 64 <= header <= size <= len(data), "bad sizes")
    need(xxh3(data[:24] + bytes(8) + data[32:header]) == checksum, "the header is damaged")
    return Bits(data[32:header]), size


class Arrangement(NamedTuple):
    """The elements of each block, as indices into the tensor; rows and their classes."""

    blocks: list[range | list[int]]
    classes: int = 0
    row: int = 1
    ids: list[int] = []  # noqa: RUF012

    def class_of(self, element: int) -> int:
        """The class of an element's row."""
        return self.ids[element // self.row] if self.classes else 0


def read_classes(bits: Bits, elements: int, block: int, version: int) -> Arrangement:
    """Read the classes of rows, and tell which elements each block holds."""
    need(-(-elements // block) * 13 <= bits.left(), "more blocks than the header can hold")
    classes = bits.take(8) if version > 1 else 0
    if classes == 0:
        ends = range(0, elements, block)
        return Arrangement([range(at, min(at + block, elements)) for at in ends])
    row = bits.varint()
    need(2 <= classes <= 64 and row > 0, "bad classes")
    begins = [bits.take(1) for _ in range(classes)]
    bits.pad(1)
    rows = -(-elements // row)
    need(rows <= 8 * len(bits.data), "more rows than the header can hold")
    ids = [bits.take((classes - 1).bit_length()) for _ in range(rows)]
    bits.pad(1)
    need(all(c < classes for c in ids), "a row of an unknown class")
    groups: list[list[int]] = [[]]
    for c in range(classes):
        if begins[c] and c:
            groups.append([])
        for r in (r for r in range(rows) if ids[r] == c):
            groups[-1] += range(r * row, min((r + 1) * row, elements))
    blocks = [group[i : i + block] for group in groups for i in range(0, len(group), block)]
    return Arrangement(blocks, classes, row, ids)


def start_of_frame(data: bytes) -> tuple[Tensor, int]:
    """Decode the frame at the start of the data; the tensor and the frame's size."""
    bits, frame_size = frame_header(data)
    remap, element, plane_count = data[5:8]
    need(remap <= 2 and element in (1, 2, 4, 8) and plane_count, "a bad header")
    name = bits.raw(bits.take(16)).decode("latin-1")
    need(name in DTYPES, f"unsupported dtype {name!r}")
    shape = tuple(bits.varint() for _ in range(bits.take(8)))
    block = bits.varint()
    need(1 <= element * block <= 1 << 20, "a bad block size")
    width = int((re.findall(r"\d+", name) or [8])[0])
    total = (math.prod(shape) * width + 7) // 8
    need(total < 2**63 and total % element == 0, "a bad tensor size")
    arrangement = read_classes(bits, total // element, block, data[4])
    planes = [read_plane(bits, element, data[4]) for _ in range(plane_count)]
    covered = [p.offset + i for p in planes for i in range(p.size or 1)]
    need(sorted(covered) == list(range(element)), "planes do not cover the element")
    blocks = len(arrangement.blocks)
    modes = Bits(bits.raw(blocks * plane_count))
    lengths = Bits(bits.raw(4 * blocks * plane_count))
    checksums = Bits(bits.raw(8 * blocks))
    need(bits.take(8 * bits.left()) == 0, "header padding is not zero")
    payload, tensor = Bits(data[32 + len(bits.data) : frame_size]), bytearray(total)
    for stored in arrangement.blocks:
        class_of = [arrangement.class_of(i) for i in stored]
        elements = [0] * len(stored)
        for plane in planes:
            raw = payload.raw(lengths.take(32))
            values = decode_plane(raw, plane, modes.take(8), class_of, arrangement.classes)
            shift = 8 * plane.offset
            elements = [x | v << shift for x, v in zip(elements, values, strict=True)]
        originals = [undo_remap(x, remap, 8 * element) for x in elements]
        raw = b"".join([y.to_bytes(element, "little") for y in originals])
        need(xxh3(raw) == checksums.take(64), "a block is damaged")
        for at, i in enumerate(stored):
            tensor[i * element : (i + 1) * element] = raw[at * element : (at + 1) * element]
    need(payload.left() == 0, "payload lengths do not add up")
    odd_nibble = width == 4 and math.prod(shape) % 2
    need(not odd_nibble or tensor[-1] < 16, "the half behind the last value is not zero")
    return (name, shape, bytes(tensor)), frame_size


def read_frame(data: bytes) -> Tensor:
    """The dtype's name, the shape and the bytes of the tensor in a frame."""
    tensor, size = start_of_frame(data)
    need(size == len(data), "something follows the frame")
    return tensor


def parse_json(text: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """The entries and the metadata of a safetensors header, refusing repeated names."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(items)) == len(items), "a name stands twice")
        return dict(items)

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=pairs)
        metadata = header.pop("__metadata__", None) or {}
        need(all(isinstance(v, str) for v in metadata.values()), "metadata is not text")
        for entry in header.values():
            numbers = [*entry["shape"], *entry["data_offsets"]]
            need(all(type(x) is int and x >= 0 for x in numbers), "a bad number")
            need(len(entry["data_offsets"]) == 2 and entry["dtype"] + "", "a bad entry")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused("the header is not that of a safetensors file") from error
    return header, metadata


def read_marks(metadata: dict[str, str], names: list[str]) -> dict[str, str]:
    """Check what an archive says about deltas; the marks of tensors that are deltas."""
    version = metadata.get("fewbits.version")
    need(version in ("1", "2"), "not an archive of version 1 or 2")
    need(version == "2" or "fewbits.deltas" not in metadata, "version and deltas do not agree")
    known = ("version", "checksum", "base", "deltas", "metadata", "header")
    own = [key.removeprefix("fewbits.") for key in metadata if key.startswith("fewbits.")]
    need(set(own) <= set(known), "an unknown key")
    if "fewbits.deltas" not in metadata:
        return {}
    hint = metadata.get("fewbits.base", "base")
    need(hint not in ("", ".", ".."), "the base has no plain name")
    need(not re.search(r"[/\\:*?\x00-\x1f\x7f\ud800-\udfff]", hint), "the base has no plain name")
    need(len(hint.encode("utf-8", "surrogatepass")) <= 255, "the base's name is too long")
    marks = metadata["fewbits.deltas"].split(" ")
    need(len(marks) == len(names), "there are not as many marks as tensors")
    need(all(re.fullmatch(r"-|[dx]([0-9a-f]{16})*", mark) for mark in marks), "a bad mark")
    return {name: mark for name, mark in zip(names, marks, strict=True) if mark != "-"}


def undo_delta(changed: Tensor, element: int, mark: str, base: Tensor | None) -> Tensor:
    """The tensor that changes in elements of so many bytes make of its base."""
    dtype, shape, changes = changed
    need(len(mark) == 1 + 16 * -(-len(changes) // 2**20), "a mark has not the base's checksums")
    if base is None:
        raise Refused("the base has no such tensor")
    need(base[:2] == (dtype, shape) and len(base[2]) == len(changes), "the base is another tensor")
    pieces = [base[2][at : at + 2**20] for at in range(0, len(changes), 2**20)]
    need(mark[1:] == "".join(f"{xxh3(piece):016x}" for piece in pieces), "it is another base")
    if mark[0] == "x":
        return dtype, shape, bytes(a ^ b for a, b in zip(changes, base[2], strict=True))
    high = 1 << (8 * element - 1)
    floats = dtype.startswith(("bfloat", "float", "complex")) and dtype != "float8_e8m0fnu"

    def o(x: int) -> int:
        return x ^ (high - 1) if floats and x & high else x

    out = b""
    for at in range(0, len(changes), element):
        x, y = (int.from_bytes(b[at : at + element], "little") for b in (changes, base[2]))
        out += o((o(y) + x) % (2 * high)).to_bytes(element, "little")
    return dtype, shape, out


def read_link(data: bytes, frames: dict[int, Tensor]) -> int:
    """Where the frame starts that a link leads to, one of those before it."""
    need(len(data) == 64, "a link has another size")
    target, checksum = struct.unpack_from("<QQ", data, 8)
    need(not any(data[4:8] + data[24:]), "a link holds more than it may")
    need(xxh3(data[:16]) == checksum, "a link is damaged")
    need(target in frames, "a link leads to no frame")
    return int(target)


def open_archive(
    data: bytes, base_tensors: dict[str, Tensor] | None = None
) -> tuple[list[str], dict[str, str], dict[str, Tensor]]:
    """Check an archive; the names in order, the metadata, and the tensors as their data lie.

    If it has deltas, they are of these tensors.
    """
    bits = Bits(data)
    text = bits.raw(bits.take(64))
    base = 8 + len(text)
    header, metadata = parse_json(text)
    marks = read_marks(metadata, list(header))
    version = metadata["fewbits.version"]
    found = re.search(rb'(?<!\\)"fewbits\.checksum"\s*:\s*"([0-9a-f]{16})"', text)
    need(found, "the archive's checksum is missing")
    a, b = found.span(1) if found else (0, 0)
    wanted = f"{xxh3(text[:a] + b'0' * 16 + text[b:]):016x}"
    need(metadata.get("fewbits.checksum") == wanted, "the archive's header is damaged")
    tensors, frames, at = {}, dict[int, Tensor](), base
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (base + offset for offset in entry["data_offsets"])
        need(begin == at <= end, "tensors overlap or leave a hole")
        need(entry["dtype"] == "U8" and entry["shape"] == [end - begin], "not a U8 vector")
        need(begin % 64 == 0, "a frame is not at a multiple of 64")
        if version == "2" and data[begin:end].startswith(b"FEWL"):
            target, size = read_link(data[begin:end], frames), 64
        else:
            target = begin - base
            frames[target], size = start_of_frame(data[begin:end])
        tensors[name] = frames[target]
        padding, at = data[begin + size : end], end
        need(len(padding) < 64 and not any(padding), "a frame does not fill its entry")
        if name in marks:
            known, element = (base_tensors or {}).get(name), data[base + target + 6]
            tensors[name] = undo_delta(tensors[name], element, marks[name], known)
    need(at == len(data), "tensors do not fill the file")
    return list(header), metadata, tensors


def read_archive(data: bytes, base_tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of an archive by name, in the order of its header."""
    names, _, tensors = open_archive(data, base_tensors)
    return {name: tensors[name] for name in names}


def check_original(text: bytes, tensors: dict[str, Tensor]) -> None:
    """Refuse an original header that does not agree with the frames."""
    header, _ = parse_json(text)
    need(header.keys() == tensors.keys(), "names do not agree with the frames")
    at = 0
    for name, (dtype, shape, raw) in tensors.items():
        entry = header[name]
        need(entry["data_offsets"] == [at, at + len(raw)], "sizes do not agree with the frames")
        at += len(raw)
        if entry["dtype"] in SAFETENSORS:
            known = (SAFETENSORS[entry["dtype"]], tuple(entry["shape"]))
            need(known == (dtype, shape), "a type or shape does not agree with the frame")
        else:
            need(dtype == "uint8", "a type that NumPy does not know is not a frame of bytes")


def restore(data: bytes, base_tensors: dict[str, Tensor] | None = None) -> bytes:
    """The safetensors file that an archive was made from."""
    names, metadata, tensors = open_archive(data, base_tensors)
    if "fewbits.header" in metadata:
        text = metadata["fewbits.header"].encode("utf-8", "surrogatepass")
        check_original(text, tensors)
    else:
        codes, at, entries = {v: k for k, v in SAFETENSORS.items()}, 0, {}
        for name, (dtype, shape, raw) in tensors.items():
            need(dtype in codes, f"safetensors has no {dtype}")
            offsets = [at, at + len(raw)]
            entries[name] = {"dtype": codes[dtype], "shape": shape, "data_offsets": offsets}
            at += len(raw)
        theirs = {k: v for k, v in metadata.items() if not k.startswith("fewbits.")}
        stands = theirs or metadata.get("fewbits.metadata") == "empty"
        original: dict[str, Any] = {"__metadata__": theirs} if stands else {}
        original |= {name: entries[name] for name in names}
        text = json.dumps(original, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(raw for _, _, raw in tensors.values())
