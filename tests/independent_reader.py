"""A second reader of fewbits frames and archives, written from docs/format.md alone.

It uses the standard library only and is meant to be read next to that page, not to be fast.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from typing import Any

Tensor = tuple[str, tuple[int, ...], bytes]
Planes = list[list[int]]

DTYPE_BITS = {
    "bool": 8, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16,
    "int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "float8_e3m4": 8, "float8_e4m3": 8,
    "float8_e4m3b11fnuz": 8, "float8_e4m3fn": 8, "float8_e4m3fnuz": 8, "float8_e5m2": 8,
    "float8_e5m2fnuz": 8, "float8_e8m0fnu": 8, "bfloat16": 16, "float16": 16, "float32": 32,
    "float64": 64, "complex64": 64, "complex128": 128,
}  # fmt: skip
SAFETENSORS = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32",
    "U32": "uint32", "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
MASK64 = 2**64 - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


class Refused(Exception):
    """The data is not what the page allows, or of a type that this reader does not know."""


def need(condition: object, why: str) -> None:
    """Refuse the data unless the condition holds."""
    if not condition:
        raise Refused(why)


def rotl(x: int, bits: int) -> int:
    """Rotate 64 bits to the left."""
    return (x << bits | x >> (64 - bits)) & MASK64


def xxh64_round(acc: int, lane: int) -> int:
    """One step of XXH64."""
    return rotl((acc + lane * P2) & MASK64, 31) * P1 & MASK64


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0."""
    whole = len(data) - len(data) % 32
    h = P5
    if whole:
        a, b, c, d = (P1 + P2) & MASK64, P2, 0, -P1 & MASK64
        for w, x, y, z in struct.iter_unpack("<4Q", data[:whole]):
            a, b = xxh64_round(a, w), xxh64_round(b, x)
            c, d = xxh64_round(c, y), xxh64_round(d, z)
        h = (rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18)) & MASK64
        for acc in (a, b, c, d):
            h = ((h ^ xxh64_round(0, acc)) * P1 + P4) & MASK64
    h = (h + len(data)) & MASK64
    tail = data[whole:]
    while len(tail) >= 8:
        h ^= xxh64_round(0, int.from_bytes(tail[:8], "little"))
        h, tail = (rotl(h, 27) * P1 + P4) & MASK64, tail[8:]
    if len(tail) >= 4:
        h ^= int.from_bytes(tail[:4], "little") * P1 & MASK64
        h, tail = (rotl(h, 23) * P2 + P3) & MASK64, tail[4:]
    for byte in tail:
        h = rotl(h ^ byte * P5 & MASK64, 11) * P1 & MASK64
    h = (h ^ h >> 33) * P2 & MASK64
    h = (h ^ h >> 29) * P3 & MASK64
    return h ^ h >> 32


class Bits:
    """Reads bits from bytes, from the least or the most significant end of each."""

    def __init__(self, data: bytes, msb_first: bool = False, endless: bool = False) -> None:
        """Start at the first bit; an endless stream goes on with zeros."""
        self.data, self.msb_first, self.endless, self.taken = data, msb_first, endless, 0

    def take(self, count: int) -> int:
        """The next bits as a number, the first one at the end that the stream starts from."""
        first, end = self.taken // 8, self.taken + count
        need(self.endless or end <= 8 * len(self.data), "a bit stream runs out")
        size = (end + 7) // 8 - first
        chunk = self.data[first : first + size].ljust(size, b"\0")
        skip, self.taken = self.taken % 8, end
        if self.msb_first:
            return int.from_bytes(chunk, "big") >> (-end % 8) & ((1 << count) - 1)
        return int.from_bytes(chunk, "little") >> skip & ((1 << count) - 1)

    def finish(self, unit: int) -> None:
        """Refuse whole units of bytes left over, and padding that is not zero."""
        need(len(self.data) == -(-self.taken // (8 * unit)) * unit, "a bit stream is too long")
        need(self.take(8 * len(self.data) - self.taken) == 0, "padding is not zero")


class Cursor:
    """Reads fields one after the other, refusing to go beyond the end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        """Start at an offset."""
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        """The next bytes."""
        need(size <= len(self.data) - self.at, "the data is cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def uint(self, size: int) -> int:
        """The next unsigned integer of that many bytes."""
        return int.from_bytes(self.take(size), "little")

    def uints(self, code: str, count: int) -> list[int]:
        """As many integers as told, of a type of struct's."""
        return list(struct.unpack(f"<{count}{code}", self.take(struct.calcsize(code) * count)))

    def varint(self) -> int:
        """The next varint."""
        value = 0
        for i in range(10):
            byte = self.uint(1)
            value |= (byte & 127) << (7 * i)
            if byte < 128:
                need(value <= MASK64, "a varint is beyond 64 bits")
                return value
        raise Refused("a varint is too long")


@dataclass
class Table:
    """A range table, and for rANS the row and the position of each code."""

    width: int
    m: int
    start: list[int]
    length: list[int]
    count: list[int]
    row: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)


@dataclass
class Plane:
    """What a frame's header says about a plane; bits are those of a value."""

    size: int
    offset: int
    coder: int
    verbatim: int
    bits: int
    tables: list[Table]


def read_table(cursor: Cursor) -> Table:
    """Read a range table and check it as it stands."""
    w, m, rows = cursor.uint(1), cursor.uint(1), cursor.uint(2) + 1
    need(1 <= w <= 16 and 1 <= m <= 16, "a range table has bad widths")
    bits = Bits(cursor.take((rows * (w + 5 + m + 1) + 7) // 8))
    fields = [(bits.take(w), bits.take(5), bits.take(m + 1)) for _ in range(rows)]
    bits.finish(1)
    start, length, count = ([f[i] for f in fields] for i in range(3))
    for own, following, size in zip(start, [*start[1:], 1 << w], length, strict=True):
        need(own < following, "starts do not ascend")
        need(size <= (following - 1 - own).bit_length(), "a length is too large")
    need(sum(count) in (1 << m, (1 << m) - 1), "counts have a wrong sum")
    return Table(w, m, start, length, count)


def prepare_rans(table: Table, verbatim: int) -> None:
    """Check a table for rANS and give each code its row and position."""
    m, rows = table.m, len(table.count)
    buckets = max(16, 1 << (rows - 1).bit_length())
    need(1 << m >= buckets, "too few codes for rANS")
    need(not verbatim or max(table.length) - 8 <= 16 - m, "verbatim bits and spill")
    if sum(table.count) < 1 << m:
        table.count[max(r for r in range(rows) if table.count[r])] += 1
    left, size = table.count + [0] * (buckets - rows), (1 << m) // buckets
    small = [b for b in range(buckets) if left[b] < size]
    large = [b for b in range(buckets) if left[b] > size]
    owners = [(size, b, b) for b in range(buckets)]
    while small:
        b, d = small.pop(), large[-1]
        owners[b] = (left[b], b, d)
        left[d] -= size - left[b]
        if left[d] <= size:
            large.pop()
            if left[d] < size:
                small.append(d)
    for own, b, d in owners:
        table.row += [b] * own + [d] * (size - own)
    seen = [0] * buckets
    for r in table.row:
        table.position.append(seen[r])
        seen[r] += 1


def read_plane(cursor: Cursor, element: int) -> Plane:
    """Read a plane's description and check it."""
    size, offset, coder, verbatim, tables = cursor.take(5)
    need(size <= 2 and coder <= 2, "a plane has an unknown size or coder")
    need(size or element == 1, "a nibble plane needs elements of one byte")
    need(verbatim == 0 or (verbatim == 8 and coder == 1), "bad verbatim bits")
    need((tables == 0) == (coder == 0) and tables <= 253, "bad number of tables")
    plane = Plane(size, offset, coder, verbatim, 8 * size or 4, [])
    for _ in range(tables):
        table = read_table(cursor)
        need(table.width == plane.bits, "a table is for other values")
        need(coder != 2 or table.m <= 14, "too many count bits for the arithmetic coder")
        if coder == 1:
            prepare_rans(table, verbatim)
        plane.tables.append(table)
    return plane


def decode_rans(data: bytes, table: Table, n: int, plane: Plane) -> list[int]:
    """Decode the payload of a plane that rANS wrote."""
    m, mask, v, values = table.m, (1 << table.m) - 1, plane.verbatim, (1 << plane.bits) - 1
    rest = [max(0, length - v) for length in table.length]
    state = [min(r, 16 - m) for r in rest]
    spill = [r - s for r, s in zip(rest, state, strict=True)]
    spills = any(s and c for s, c in zip(spill, table.count, strict=True))
    cursor = Cursor(data)
    spill_size = cursor.uint(4) if spills else 0
    lanes = min(128, 1 << max(1, n // 2048).bit_length() - 1)
    states = cursor.uints("I", lanes)
    verbatim = cursor.take(n) if v else b""
    spilled = Bits(cursor.take(spill_size))
    need((len(data) - cursor.at) % 2 == 0, "half a word")
    words = cursor.uints("H", (len(data) - cursor.at) // 2)
    at, out = 0, []
    for i in range(n):
        x = states[i % lanes]
        r, p = table.row[x & mask], table.position[x & mask]
        x = table.count[r] * (x >> m) + p
        offset = x & ((1 << state[r]) - 1)
        x >>= state[r]
        if v:
            offset = offset << 8 | verbatim[i]
        if spill[r]:
            offset = offset << spill[r] | spilled.take(spill[r])
        out.append(table.start[r] + offset & values)
        if x < 1 << 16:
            need(at < len(words), "words run out")
            x, at = x << 16 | words[at], at + 1
        states[i % lanes] = x
    spilled.finish(1)
    need(at == len(words) and all(x == 1 << 16 for x in states), "rANS does not end well")
    return out


def decode_arithmetic(data: bytes, table: Table, n: int) -> list[int]:
    """Decode the payload of a plane that the arithmetic coder wrote."""
    cursor = Cursor(data)
    symbols = Bits(cursor.take(cursor.uint(4)), msb_first=True, endless=True)
    offsets = Bits(cursor.take(len(data) - cursor.at), msb_first=True)
    m, rows, ends = table.m, range(len(table.start)), [*table.start[1:], 1 << table.width]
    low = [sum(table.count[:r]) for r in rows]
    hi, lo, code, out = 0xFFFF, 0, symbols.take(16), []
    for _ in range(n):
        span = hi - lo + 1
        r = next((r for r in rows if code - lo < span * (low[r] + table.count[r]) >> m), -1)
        need(r >= 0, "a code belongs to no row")
        out.append(table.start[r] + offsets.take(table.length[r]))
        need(out[-1] < ends[r], "a value is not its row's")
        hi = lo + (span * (low[r] + table.count[r]) >> m) - 1
        lo += span * low[r] >> m
        while True:
            if (hi ^ lo) & 0x8000:
                if not (lo & 0x4000 and not hi & 0x4000):
                    break
                hi, lo, code = hi - 0x4000, lo - 0x4000, code - 0x4000
            hi, lo = hi << 1 & 0xFFFF | 1, lo << 1 & 0xFFFF
            code = code << 1 & 0xFFFF | symbols.take(1)
    need(code == (0x4000 if lo < 0x4000 else 0x8000), "the symbol stream ends badly")
    symbols.taken -= 14  # the 16 bits of CODE follow the u shifted out; the stream has u + 2
    symbols.finish(4)
    offsets.finish(4)
    return out


def decode_plane(data: bytes, plane: Plane, mode: int, n: int) -> list[int]:
    """Decode a plane of n elements; a nibble plane gives two values for each."""
    values = n if plane.size else 2 * n
    if mode >= 2:
        need(mode - 2 < len(plane.tables), "a mode without a table")
        table = plane.tables[mode - 2]
        if plane.coder == 1:
            return decode_rans(data, table, values, plane)
        return decode_arithmetic(data, table, values)
    size = max(plane.size, 1)
    need(len(data) == (size if mode else size * n), "a plain plane has a wrong length")
    if mode:
        value = int.from_bytes(data, "little")
        need(value < 1 << plane.bits, "a constant is too large")
        return [value] * values
    if plane.size == 0:
        return [half for byte in data for half in (byte & 15, byte >> 4)]
    return Cursor(data).uints("BH"[size - 1], n)


def join(planes: list[Plane], values: Planes, n: int, element: int, remap: int) -> bytes:
    """Put a block's planes together and undo the remap."""
    bits, elements = 8 * element, [0] * n
    for plane, column in zip(planes, values, strict=True):
        if plane.size == 0:
            column = [a | b << 4 for a, b in zip(column[::2], column[1::2], strict=True)]
        elements = [x | v << 8 * plane.offset for x, v in zip(elements, column, strict=True)]
    mask = (1 << bits) - 1
    if remap == 1:
        elements = [x >> 1 ^ (-(x & 1) & mask) for x in elements]
    elif remap == 2:
        elements = [x >> 1 | (x & 1) << (bits - 1) for x in elements]
    return b"".join([x.to_bytes(element, "little") for x in elements])


def frame_header(data: bytes) -> tuple[Cursor, int]:
    """Check the fixed part of a header; a cursor behind it that ends with it, and the size."""
    need(data[:4] == b"FEWB" and data[4:5] == b"\1", "not a frame of version 1")
    need(len(data) >= 64, "the data is cut off")
    header, _, size, checksum = struct.unpack_from("<IfQQ", data, 8)
    need(header % 64 == 0 and 64 <= header <= len(data), "a bad header size")
    need(header <= size <= len(data), "a bad frame size")
    need(xxh64(data[:24] + bytes(8) + data[32:header]) == checksum, "the header is damaged")
    return Cursor(data[:header], 32), size


def read_sized_frame(data: bytes) -> tuple[Tensor, int]:
    """Decode the frame at the start of the data; the tensor and the frame's size."""
    cursor, frame_size = frame_header(data)
    remap, element, plane_count = data[5:8]
    need(remap <= 2 and element in (1, 2, 4, 8) and plane_count, "a bad header")
    name = cursor.take(cursor.uint(2)).decode("latin-1")
    need(name in DTYPE_BITS, f"unsupported dtype {name!r}")
    shape = tuple(cursor.varint() for _ in range(cursor.uint(1)))
    block = cursor.varint()
    need(1 <= element * block <= 1 << 20, "a bad block size")
    planes = [read_plane(cursor, element) for _ in range(plane_count)]
    covered = [p.offset + i for p in planes for i in range(max(p.size, 1))]
    need(sorted(covered) == list(range(element)), "planes do not cover the element")
    total = (math.prod(shape) * DTYPE_BITS[name] + 7) // 8
    need(total < 2**63 and total % element == 0, "a bad tensor size")
    blocks = -(-total // (element * block))
    modes = cursor.take(blocks * plane_count)
    lengths = cursor.uints("I", blocks * plane_count)
    checksums = cursor.uints("Q", blocks)
    header = len(cursor.data)
    need(not any(cursor.take(header - cursor.at)), "header padding is not zero")
    need(header + sum(lengths) == frame_size, "payload lengths do not add up")
    payload, out = Cursor(data, header), []
    for k in range(blocks):
        n = min(block, total // element - k * block)
        values = []
        for i, plane in enumerate(planes, k * plane_count):
            values.append(decode_plane(payload.take(lengths[i]), plane, modes[i], n))
        out.append(join(planes, values, n, element, remap))
        need(xxh64(out[-1]) == checksums[k], "a block is damaged")
    tensor = b"".join(out)
    odd = DTYPE_BITS[name] == 4 and math.prod(shape) % 2
    need(not odd or tensor[-1] < 16, "the half behind the last value is not zero")
    return (name, shape, tensor), frame_size


def read_frame(data: bytes) -> Tensor:
    """The dtype's name, the shape and the bytes of the tensor in a frame."""
    return read_sized_frame(data)[0]


def parse_json(text: bytes) -> dict[str, Any]:
    """A safetensors header as a dict, refusing repeated names."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(items)) == len(items), "a name stands twice")
        return dict(items)

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise Refused("the header is not JSON") from error
    need(isinstance(header, dict), "the header is not an object")
    metadata = header.get("__metadata__", {})
    need(isinstance(metadata, dict), "the metadata is not an object")
    need(all(isinstance(v, str) for v in metadata.values()), "metadata is not text")
    return header


def laid_out(header: dict[str, Any], size: int) -> list[str]:
    """The names in the order of their data, which must fill that many bytes without holes."""
    spans = []
    for name, entry in header.items():
        if name != "__metadata__":
            need(isinstance(entry, dict), "an entry is not an object")
            need(entry.keys() == {"dtype", "shape", "data_offsets"}, "an entry has other keys")
            numbers, offsets = entry["shape"], entry["data_offsets"]
            need(isinstance(numbers, list) and isinstance(offsets, list), "a list is missing")
            need(all(type(x) is int and x >= 0 for x in numbers + offsets), "a bad number")
            need(len(offsets) == 2 and isinstance(entry["dtype"], str), "a bad entry")
            spans.append((*offsets, name))
    at = 0
    for begin, end, _ in sorted(spans):
        need(begin == at <= end, "tensors overlap or leave a hole")
        at = end
    need(at == size, "tensors do not fill the file")
    return [name for _, _, name in sorted(spans)]


def open_archive(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check an archive; its header, and its tensors in the order of their data."""
    cursor = Cursor(data)
    text = cursor.take(cursor.uint(8))
    header = parse_json(text)
    metadata = header.get("__metadata__", {})
    need(metadata.get("fewbits.version") == "1", "not an archive of version 1")
    places = list(re.finditer(rb'(?<!\\)"fewbits\.checksum"\s*:\s*"([0-9a-f]{16})"', text))
    need(len(places) == 1, "the archive's checksum is missing")
    a, b = places[0].span(1)
    wanted = f"{xxh64(text[:a] + b'0' * 16 + text[b:]):016x}"
    need(metadata.get("fewbits.checksum") == wanted, "the archive's header is damaged")
    tensors = {}
    for name in laid_out(header, len(data) - cursor.at):
        entry = header[name]
        begin, end = (cursor.at + offset for offset in entry["data_offsets"])
        need(entry["dtype"] == "U8" and entry["shape"] == [end - begin], "not a U8 vector")
        need(begin % 64 == 0 == end % 64, "a frame is not at a multiple of 64")
        tensors[name], size = read_sized_frame(data[begin:end])
        padding = data[begin + size : end]
        need(len(padding) < 64 and not any(padding), "a frame does not fill its entry")
    return header, tensors


def read_archive(data: bytes) -> dict[str, Tensor]:
    """The tensors of an archive by name, in the order of its header."""
    header, tensors = open_archive(data)
    return {name: tensors[name] for name in header if name != "__metadata__"}


def check_original(text: bytes, tensors: dict[str, Tensor]) -> None:
    """Refuse an original header that does not agree with the frames."""
    header = parse_json(text)
    header.pop("__metadata__", None)
    laid_out(header, sum(len(raw) for _, _, raw in tensors.values()))
    need(header.keys() == tensors.keys(), "names do not agree with the frames")
    at = 0
    for name, (dtype, shape, raw) in tensors.items():
        entry = header[name]
        need(entry["data_offsets"] == [at, at + len(raw)], "sizes do not agree with the frames")
        at += len(raw)
        known = (SAFETENSORS.get(entry["dtype"]), tuple(entry["shape"]))
        need(known == (dtype, shape) or (not known[0] and dtype == "uint8"), "types do not agree")


def restore(data: bytes) -> bytes:
    """The safetensors file that an archive was made from."""
    header, tensors = open_archive(data)
    metadata = header["__metadata__"]
    if "fewbits.header" in metadata:
        text = metadata["fewbits.header"].encode("utf-8", "surrogatepass")
        check_original(text, tensors)
    else:
        names = {dtype: name for name, dtype in SAFETENSORS.items()}
        spans, at = {}, 0
        for name, (_, _, raw) in tensors.items():
            spans[name] = [at, at + len(raw)]
            at += len(raw)
        ours = {k: v for k, v in metadata.items() if not k.startswith("fewbits.")}
        original: dict[str, Any] = {}
        if ours or metadata.get("fewbits.metadata") == "empty":
            original["__metadata__"] = ours
        for name in (name for name in header if name != "__metadata__"):
            dtype, shape, _ = tensors[name]
            need(dtype in names, f"safetensors has no {dtype}")
            entry = {"dtype": names[dtype], "shape": shape, "data_offsets": spans[name]}
            original[name] = entry
        text = json.dumps(original, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(raw for _, _, raw in tensors.values())
