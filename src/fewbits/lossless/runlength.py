"""The paper's run-length baselines, RLE and RLEZ (APack, section VII).

>>> import numpy as np
>>> values = np.array([7, 7, 7, 0, 0, 5], np.uint8)
>>> RLE.size_bits(values), RLEZ.size_bits(values)  # (7,2) (0,1) (5,0); (7,0) (7,0) (7,2) (5,0)
(36, 48)
>>> RLE.decode(RLE.encode(values), 6).tolist()
[7, 7, 7, 0, 0, 5]

Values become tuples of a value and a 4-bit distance: "the number of similar values, or zeros, until
the next non-similar, or non-zero, value for RLE and RLEZ respectively". What the text leaves open:

* A tuple stands for ``1 + distance`` values: in RLE that many equal ones, in RLEZ its value and
  then ``distance`` zeros. So a tuple reaches over 16 values at most, and what is left of a longer
  run starts a new tuple.
* In RLEZ the value of a tuple may itself be zero: that is how zeros at the very beginning, and
  those past the fifteenth after a non-zero value, are written.
* Tuples are packed from the top bit of each byte down and the last byte is padded with zeros. The
  number of values is told from outside; there is no other metadata.

The worst case is 12 bits for an 8-bit value, 1.5 times its size: the top of the paper's axis. On
int8 weights both come close to it, because equal neighbours are rare.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import CorruptError

DISTANCE_BITS = 4
MAX_RUN = 1 << DISTANCE_BITS


@dataclass(frozen=True)
class RunLength:
    """Run-length codec for 1-d uint8 values of ``width`` bits (4 to 8).

    ``zeros_only`` counts the zeros after a value (RLEZ) instead of its repetitions (RLE).
    """

    zeros_only: bool = False
    width: int = 8

    def __post_init__(self) -> None:
        if not 4 <= self.width <= 8:
            raise ValueError(f"run-length: width {self.width} is not in 4..8")

    def size_bits(self, values: NDArray[np.uint8]) -> int:
        """Size of the encoded values in bits, before the padding of the last byte."""
        return int(self._tuple_starts(values).size) * self._tuple_bits

    def encode(self, values: NDArray[np.uint8]) -> bytes:
        """Encode 1-d uint8 ``values``; ``ValueError`` for one that does not fit the width."""
        starts = self._tuple_starts(values)
        distances = np.diff(starts, append=values.size) - 1
        tuples = values[starts].astype(np.int64) << DISTANCE_BITS | distances
        bits = tuples[:, None] >> np.arange(self._tuple_bits)[::-1] & 1
        return np.packbits(bits.astype(np.uint8)).tobytes()

    def decode(self, data: bytes, n: int) -> NDArray[np.uint8]:
        """Decode ``n`` values; ``CorruptError`` if ``data`` do not hold exactly these."""
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        # Padding is shorter than a byte and a tuple is not, so the division finds all tuples.
        count = bits.size // self._tuple_bits
        used = count * self._tuple_bits
        fields = bits[:used].reshape(count, self._tuple_bits).astype(np.int64)
        tuples = fields @ (1 << np.arange(self._tuple_bits)[::-1])
        lengths = (tuples & (MAX_RUN - 1)) + 1
        if lengths.sum() != n or len(data) != -(-used // 8) or bits[used:].any():
            raise CorruptError(f"run-length data do not hold {n} values")
        found = (tuples >> DISTANCE_BITS).astype(np.uint8)
        if not self.zeros_only:
            return np.repeat(found, lengths)
        values = np.zeros(n, np.uint8)
        values[np.cumsum(lengths) - lengths] = found
        return values

    @property
    def _tuple_bits(self) -> int:
        return self.width + DISTANCE_BITS

    def _tuple_starts(self, values: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Where each tuple starts: at every run, and every 16 values within it."""
        if values.dtype != np.uint8 or values.ndim != 1:
            raise ValueError("run-length: values must be a 1-d array of uint8")
        if values.size == 0:
            return np.empty(0, np.int64)
        if int(values.max()) >> self.width:
            raise ValueError(
                f"run-length: a value of {values.max()} does not fit {self.width} bits"
            )
        breaks = values[1:] != 0 if self.zeros_only else values[1:] != values[:-1]
        runs = np.concatenate(([0], np.flatnonzero(breaks) + 1))
        pieces = -(-np.diff(runs, append=values.size) // MAX_RUN)
        first_piece = np.cumsum(pieces) - pieces
        piece_in_run = np.arange(pieces.sum()) - np.repeat(first_piece, pieces)
        starts: NDArray[np.int64] = np.repeat(runs, pieces) + MAX_RUN * piece_in_run
        return starts


RLE = RunLength()
RLEZ = RunLength(zeros_only=True)
