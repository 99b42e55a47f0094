"""The paper's arithmetic coder in readable form; ``src/kernels/arithmetic.cpp`` is the fast one.

>>> import numpy as np
>>> from fewbits.lossless.table import RangeTable
>>> table = RangeTable(4, 10, starts=(0, 1), offset_lengths=(0, 4), counts=(900, 124))
>>> payload = encode(np.array([0, 0, 0, 15, 0], np.uint8), table)
>>> len(payload), decode(payload, 5, table).tolist()
(12, [0, 0, 0, 15, 0])

A value is its row, arithmetic-coded into the symbol stream, and its offset in the row, verbatim in
the offset stream. A payload is the symbol stream's length in bytes (32 bits, little-endian), the
symbol stream and the offset stream, each with its bits from the top of every byte down and padded
with zeros to whole 32-bit words. The number of values is told from outside.

The coder is APack's (sections IV and V), a single-step form of Nelson's: HI and LO are a 16-bit
window on two numbers of unlimited length, HI continued by ones and LO by zeros. The twists:

* The range, HI - LO + 1, takes 17 bits: it starts at 0x10000.
* Cumulative counts are exclusive, HI is inclusive: hence the - 1 in the new HI, which the paper's
  text leaves out.
* Leading bits that HI and LO share can no longer change and leave the window. If then LO = 011...
  and HI = 100..., the next bit out is unknown, but the ones after it are known to be its inverse:
  these underflow bits leave the window too, counted in UBC, and are written after that next bit.
  UBC has no bound: symbols can be chosen to keep it growing, past the paper's 5-bit register.
* After both removals HI - LO + 1 exceeds 2**14, so counts out of at most 2**14 leave every row a
  code.
* The flush writes UBC + 2 bits: 0 or 1, the underflow bits and one more, inverted. The decoder's
  CODE, fed with zeros past the end, then reads exactly 0x4000 or 0x8000, which it checks.
"""

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import CorruptError
from fewbits.lossless.table import RangeTable

WINDOW_BITS = 16
TOP_BIT = 0x8000
QUARTER = 0x4000
WINDOW_ONES = 0xFFFF
WORD_BITS = 32
LENGTH_BYTES = 4
# The settled window spans more than 2**14 codes: more count bits could leave a row without a code.
MAX_COUNT_BITS = 14


def encode(values: NDArray[np.unsignedinteger], table: RangeTable) -> bytes:
    """Encode 1-d unsigned ``values`` into a payload.

    ``ValueError`` for a value that has no row, or a table of more than 14 count bits.
    """
    encoder = Encoder(table)
    rows, offsets = table.split(values)
    for row, offset in zip(rows.tolist(), offsets.tolist(), strict=True):
        encoder.put(row, offset)
    return encoder.finish()


def decode(payload: bytes | memoryview, n: int, table: RangeTable) -> NDArray[np.unsignedinteger]:
    """Decode a payload of ``n`` values, as uint8 or, for widths beyond 8, uint16.

    ``CorruptError`` unless the payload is, to the last bit, what ``encode`` writes for that many
    values; ``ValueError`` for a table of more than 14 count bits.
    """
    decoder = Decoder(payload, table)
    values = [decoder.take() for _ in range(n)]
    decoder.finish()
    return np.array(values, np.uint8 if table.width <= 8 else np.uint16)


class Window:
    """The registers HI and LO, which encoder and decoder move in the same three steps."""

    def __init__(self, table: RangeTable) -> None:
        if table.count_bits > MAX_COUNT_BITS:
            raise ValueError(
                f"the arithmetic coder's 16-bit window takes at most {MAX_COUNT_BITS} count bits,"
                f" not {table.count_bits}"
            )
        self.table = table
        self.HI = WINDOW_ONES
        self.LO = 0

    def scaled(self, count: int) -> int:
        """Where a cumulative count falls in the window, from LO up."""
        return ((self.HI - self.LO + 1) * count) >> self.table.count_bits

    def narrow(self, row: int) -> None:
        """Keep only the row's part of the window."""
        cLO, cHI = self.table.cumulative[row], self.table.cumulative[row + 1]
        low = self.LO
        self.LO, self.HI = low + self.scaled(cLO), low + self.scaled(cHI) - 1

    def drop_prefix(self) -> int:
        """Shift out the leading bits that HI and LO share; their number."""
        shared = WINDOW_BITS - (self.HI ^ self.LO).bit_length()
        self.LO = (self.LO << shared) & WINDOW_ONES
        self.HI = ((self.HI << shared) & WINDOW_ONES) | ((1 << shared) - 1)
        return shared

    def drop_underflow(self) -> int:
        """Shift out the run of ones in LO and zeros in HI below the top bit; its length."""
        differing = self.LO & ~self.HI & (TOP_BIT - 1)
        # The run ends at the first position that does not differ in this way.
        run = WINDOW_BITS - 1 - (~differing & (TOP_BIT - 1)).bit_length()
        self.LO = (self.LO << run) & (TOP_BIT - 1)
        self.HI = ((self.HI << run) & WINDOW_ONES) | TOP_BIT | ((1 << run) - 1)
        return run


class Encoder(Window):
    """One value a step: ``put`` each value's row and offset, then ``finish``.

    ``max_underflow`` is the largest UBC so far, which a hardware register would have to hold.
    """

    def __init__(self, table: RangeTable) -> None:
        super().__init__(table)
        self.UBC = 0
        self.max_underflow = 0
        self.symbol_bits: list[int] = []
        self.offset_bits: list[int] = []

    def put(self, row: int, offset: int) -> None:
        """Encode one value, given as its row (of non-zero count) and its offset in that row."""
        self.offset_bits += _bits(offset, self.table.offset_lengths[row])
        self.narrow(row)
        top = self.HI
        if shared := self.drop_prefix():
            self._write(top >> (WINDOW_BITS - 1))
            self.symbol_bits += _bits(top >> (WINDOW_BITS - shared), shared)[1:]
        self.UBC += self.drop_underflow()
        self.max_underflow = max(self.max_underflow, self.UBC)

    def _write(self, bit: int) -> None:
        """Write a bit and, now that it is known, the underflow bits after it."""
        self.symbol_bits += [bit] + [1 - bit] * self.UBC
        self.UBC = 0

    def flush(self) -> None:
        """Write UBC + 2 bits that stay within the window, whatever follows them."""
        self.UBC += 1
        self._write(0 if self.LO < QUARTER else 1)

    def finish(self) -> bytes:
        """Flush and return the payload."""
        self.flush()
        symbols, offsets = _whole_words(self.symbol_bits), _whole_words(self.offset_bits)
        return len(symbols).to_bytes(LENGTH_BYTES, "little") + symbols + offsets


class Decoder(Window):
    """One value a step: ``take`` as many values as were encoded, then ``finish``.

    ``CorruptError`` from any method whose bytes an ``Encoder`` cannot have written.
    """

    def __init__(self, payload: bytes | memoryview, table: RangeTable) -> None:
        super().__init__(table)
        if len(payload) < LENGTH_BYTES:
            raise CorruptError("arithmetic payload is cut short")
        length = int.from_bytes(payload[:LENGTH_BYTES], "little")
        if length > len(payload) - LENGTH_BYTES:
            raise CorruptError("arithmetic payload: its symbol stream is cut short")
        self.symbols = BitReader(payload[LENGTH_BYTES : LENGTH_BYTES + length])
        self.offsets = BitReader(payload[LENGTH_BYTES + length :])
        self.CODE = self.symbols.take(WINDOW_BITS)

    def find_row(self) -> int:
        """Find the row whose scaled counts CODE lies between: multiply and compare, as hardware."""
        position = self.CODE - self.LO
        cumulative = self.table.cumulative
        for row in range(self.table.rows):
            if self.scaled(cumulative[row]) <= position < self.scaled(cumulative[row + 1]):
                return row
        raise CorruptError("arithmetic payload: the symbol stream has a code that no row owns")

    def take(self) -> int:
        """Decode one value."""
        row = self.find_row()
        self.narrow(row)
        shared = self.drop_prefix()
        self.CODE = ((self.CODE << shared) & WINDOW_ONES) | self.symbols.take(shared)
        if run := self.drop_underflow():
            # The top bit stays, the run below it goes; the run ended in the top bit inverted.
            self.CODE = (((self.CODE << run) & WINDOW_ONES) ^ TOP_BIT) | self.symbols.take(run)
        offset = self.offsets.take(self.table.offset_lengths[row])
        value = self.table.starts[row] + offset
        if value > self.table.ends[row]:
            raise CorruptError("arithmetic payload: an offset reaches past the end of its row")
        return value

    def finish(self) -> None:
        """Check that both streams end here: the symbols with a flush, both with zero padding."""
        written = self.symbols.position - WINDOW_BITS + 2
        if not (self.symbols.ends_in_word_of(written) and self.symbols.rest_is_zero()):
            raise CorruptError(
                "arithmetic payload: its symbol stream is longer or shorter than its values"
            )
        flushed = QUARTER if self.LO < QUARTER else TOP_BIT
        if flushed != self.CODE:
            raise CorruptError("arithmetic payload: its symbol stream does not end with a flush")
        used = self.offsets.position
        if not (self.offsets.ends_in_word_of(used) and self.offsets.rest_is_zero()):
            raise CorruptError(
                "arithmetic payload: its offset stream is longer or shorter than its values"
            )


class BitReader:
    """Bits of a stream from the top of each byte down, and zeros past the end."""

    def __init__(self, stream: bytes | memoryview) -> None:
        self.bits = np.unpackbits(np.frombuffer(stream, np.uint8)).tolist()
        self.position = 0

    def take(self, count: int) -> int:
        """Take the next ``count`` bits as a number, the first bit on top."""
        number = 0
        for i in range(self.position, self.position + count):
            number = number << 1 | (self.bits[i] if i < len(self.bits) else 0)
        self.position += count
        return number

    def ends_in_word_of(self, used: int) -> bool:
        """Whether the stream is ``used`` bits long, rounded up to whole words."""
        return len(self.bits) == -(-used // WORD_BITS) * WORD_BITS

    def rest_is_zero(self) -> bool:
        """Whether no bit from here on is set."""
        return not any(self.bits[self.position :])


def _bits(number: int, length: int) -> list[int]:
    return [number >> place & 1 for place in reversed(range(length))]


def _whole_words(bits: list[int]) -> bytes:
    padding = [0] * (-len(bits) % WORD_BITS)
    return np.packbits(np.array(bits + padding, np.uint8)).tobytes()
