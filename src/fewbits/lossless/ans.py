"""Interleaved rANS over a range table: the plain form, for reading and for tests.

The kernels produce the same bytes at speed. ``docs/format.md``, "rANS", is this file in words.

Four twists. Encoding walks the values backwards, so that decoding walks them forwards. Value ``i``
belongs to lane ``i % lanes``, and all lanes share one stream of 16-bit words in the order of the
values. Offset bits ride in the state as far as they fit; the rest of them is stored verbatim. And
lanes do not start with nothing but with the last values, which fit below a state's top bit.

>>> import numpy as np
>>> table = RangeTable(width=2, count_bits=4, starts=(0, 1), offset_lengths=(0, 2), counts=(12, 4))
>>> payload = encode(np.array([0, 3, 0, 0], np.uint8), table)
>>> decode(payload, 4, table).tolist()
[0, 3, 0, 0]
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import CorruptError
from fewbits.lossless.table import RangeTable

LOW = 1 << 16  # states live in [2**16, 2**32)
LOADED = 0x80  # of a payload's first byte: lanes started with values
MAX_LANES = 256
VALUES_A_LANE, WORD_BYTES_A_LANE = 1024, 512


def lanes(values: int, word_bytes: int) -> int:
    """How many lanes pay, since each costs about two bytes: a power of two, 1 to 256."""
    pay = max(word_bytes // WORD_BYTES_A_LANE, values // (32 * VALUES_A_LANE))
    worth = min(values // VALUES_A_LANE, pay)
    return min(MAX_LANES, 1 << max(0, worth.bit_length() - 1))


@dataclass(frozen=True)
class Code:
    """What a code, the low ``count_bits`` of a state, stands for."""

    row: int
    position: int  # among the codes of its row, in ascending order


def deal(counts: tuple[int, ...], count_bits: int) -> list[Code]:
    """Give each of the ``2**count_bits`` codes to a row, by the alias method in integers.

    Codes lie in equal buckets, 16 or the next power of two above the rows. Bucket ``b`` begins with
    what row ``b`` still has to place and is filled up by a row that has more than a bucket's worth.
    Rows with less and rows with more wait on two stacks, first filled in ascending order.
    """
    buckets = max(16, 1 << (len(counts) - 1).bit_length())
    size = (1 << count_bits) // buckets
    if size == 0:
        raise ValueError("rANS: more rows than codes; give the table more count bits")
    left = list(counts) + [0] * (buckets - len(counts))
    threshold, donors = [size] * buckets, list(range(buckets))
    small = [row for row in range(buckets) if left[row] < size]
    large = [row for row in range(buckets) if left[row] > size]
    while small:
        bucket, donor = small.pop(), large[-1]
        threshold[bucket], donors[bucket] = left[bucket], donor
        left[donor] -= size - left[bucket]
        if left[donor] <= size:
            large.pop()
        if left[donor] < size:
            small.append(donor)
    codes, placed = [], [0] * buckets
    for code in range(1 << count_bits):
        bucket, within = divmod(code, size)
        row = bucket if within < threshold[bucket] else donors[bucket]
        codes.append(Code(row, placed[row]))
        placed[row] += 1
    return codes


class _Rows:
    """A table as the coder uses it: full counts, its codes, and how offsets are divided up."""

    def __init__(self, table: RangeTable, verbatim_bits: int) -> None:
        counts = list(table.counts)
        last = max(row for row, count in enumerate(counts) if count)
        counts[last] += table.unused_counts  # a table as the paper writes it leaves one code
        self.table, self.verbatim_bits, self.counts = table, verbatim_bits, counts
        self.codes = deal(tuple(counts), table.count_bits)
        self.code_of = {(c.row, c.position): code for code, c in enumerate(self.codes)}
        rest = [max(0, length - verbatim_bits) for length in table.offset_lengths]
        self.state_bits = [min(bits, 16 - table.count_bits) for bits in rest]
        self.spill_bits = [a - b for a, b in zip(rest, self.state_bits, strict=True)]
        self.spills = any(
            bits and count for bits, count in zip(self.spill_bits, counts, strict=True)
        )
        if verbatim_bits and self.spills:
            raise ValueError("rANS: a row is too wide for its count bits and verbatim bits")


def encode(values: NDArray[Any], table: RangeTable, verbatim_bits: int = 0) -> bytes:
    """The payload of 1-d ``values``; ``ValueError`` for a value without a row."""
    rows = _Rows(table, verbatim_bits)
    n = len(values)
    pushed = _push(rows, values, lanes(n, 1 << 62))
    enough = lanes(n, 2 * len(pushed.words))
    if enough < len(pushed.states):  # there is so little to code that this many lanes would show
        pushed = _push(rows, values, enough)
    verbatim, spill, used = 0, 0, 0
    for i, (row, offset) in enumerate(zip(*table.split(values[: pushed.coded]), strict=True)):
        verbatim |= (int(offset) & ((1 << verbatim_bits) - 1)) << i * verbatim_bits
        bits = rows.spill_bits[row]
        spill |= (int(offset) & ((1 << bits) - 1)) << used
        used += bits
    spilled = spill.to_bytes((used + 7) // 8, "little")
    log2_lanes = len(pushed.states).bit_length() - 1
    return b"".join(
        (
            bytes((log2_lanes | (LOADED if pushed.coded < n else 0),)),
            len(spilled).to_bytes(4, "little") if rows.spills else b"",
            np.array(pushed.states, "<u4").tobytes(),
            verbatim.to_bytes((pushed.coded * verbatim_bits + 7) // 8, "little"),
            spilled if rows.spills else b"",
            np.array(pushed.words[::-1], "<u2").tobytes(),
        )
    )


@dataclass(frozen=True)
class _Pushed:
    """Lane states after pushing the first ``coded`` values, and the words shed, last first."""

    states: list[int]
    words: list[int]
    coded: int


def _push(rows: _Rows, values: NDArray[Any], count_of_lanes: int) -> _Pushed:
    width, m = rows.table.width, rows.table.count_bits
    states, words = [LOW] * count_of_lanes, list[int]()
    loaded = 16 // width * count_of_lanes
    coded = len(values) - loaded if loaded <= len(values) else len(values)
    for i, value in enumerate(values[coded:]):
        turn, lane = divmod(i, count_of_lanes)
        states[lane] += int(value) << turn * width
    row_of, offsets = rows.table.split(values[:coded])
    for i in reversed(range(coded)):
        row, x = int(row_of[i]), states[i % len(states)]
        count, bits = rows.counts[row], rows.state_bits[row]
        if x >= count << (32 - m - bits):  # so that pushing keeps it below 2**32
            words.append(x % LOW)
            x //= LOW
        x = x << bits | int(offsets[i]) >> (rows.verbatim_bits + rows.spill_bits[row])
        states[i % len(states)] = (x // count << m) + rows.code_of[row, x % count]
    return _Pushed(states, words, coded)


def decode(payload: bytes, n: int, table: RangeTable, verbatim_bits: int = 0) -> NDArray[np.int64]:
    """The ``n`` values of a payload; ``CorruptError`` if it is not one of this table."""
    rows, m, width = _Rows(table, verbatim_bits), table.count_bits, table.width
    if not payload or payload[0] % LOADED >= MAX_LANES.bit_length():
        raise CorruptError("rANS payload has no possible number of lanes")
    count_of_lanes = 1 << payload[0] % LOADED
    loaded = 16 // width * count_of_lanes if payload[0] & LOADED else 0
    coded = n - loaded
    if coded < 0:
        raise CorruptError("rANS payload has more values in its lanes than there are")
    start = 5 if rows.spills else 1
    spilled = int.from_bytes(payload[1:start], "little")
    sections = np.cumsum([start, 4 * count_of_lanes, (coded * verbatim_bits + 7) // 8, spilled])
    if sections[-1] > len(payload) or (len(payload) - sections[-1]) % 2:
        raise CorruptError("rANS payload is cut short")
    states = [int(x) for x in np.frombuffer(payload[sections[0] : sections[1]], "<u4")]
    verbatim = int.from_bytes(payload[sections[1] : sections[2]], "little")
    spill = int.from_bytes(payload[sections[2] : sections[3]], "little")
    words = iter(np.frombuffer(payload[sections[3] :], "<u2").tolist())
    out, used = np.empty(n, np.int64), 0
    for i in range(coded):
        x = states[i % len(states)]
        code = rows.codes[x % (1 << m)]
        x = rows.counts[code.row] * (x >> m) + code.position
        bits, spill_bits = rows.state_bits[code.row], rows.spill_bits[code.row]
        offset, x = x % (1 << bits), x >> bits
        low = verbatim >> i * verbatim_bits & ((1 << verbatim_bits) - 1)
        offset = offset << verbatim_bits | low
        offset = offset << spill_bits | (spill >> used & ((1 << spill_bits) - 1))
        used += spill_bits
        out[i] = table.starts[code.row] + offset
        if x < LOW:
            word = next(words, None)
            if word is None:
                raise CorruptError("rANS payload is cut short")
            x = x << 16 | word
        states[i % len(states)] = x
    for i in range(loaded):
        turn, lane = divmod(i, count_of_lanes)
        out[coded + i] = states[lane] >> turn * width & ((1 << width) - 1)
    home = {x >> 16 << 16 if loaded else x for x in states} == {LOW}
    if not home or next(words, None) is not None or (used + 7) // 8 != spilled:
        raise CorruptError("rANS payload is damaged")
    return out
