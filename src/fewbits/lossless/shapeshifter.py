"""The ShapeShifter baseline for 8-bit quantized models (APack, section VII and its reference 36).

>>> import numpy as np
>>> weights = np.array([3, -2, 0, 1, 0, 0, -4, 2], np.int8).view(np.uint8)
>>> plain, sparse = ShapeShifter(), ShapeShifter(zero_vector=True)
>>> plain.size_bits(weights), sparse.size_bits(weights)  # 3 + 8 * 3; 8 + 3 + 5 * 3
(27, 26)
>>> sparse.decode(sparse.encode(weights), 8).view(np.int8).tolist()
[3, -2, 0, 1, 0, 0, -4, 2]

Values go in groups of 8, each with a precision prefix (3 bits for 8-bit values, ``log2`` of the
largest precision) and its values in the fewest bits that hold all of them. With a zero vector a
group starts with one bit for each of its values, set where it is not zero, and zeros take no more
bits. All of this is counted. The paper's "variant optimized for 8bit quantized models" is not
spelled out; these are the forms in use, and a fair comparison takes the smallest:

* ``twos_complement`` (the default): 1 to 8 bits a value, sign included, the prefix one less. -128
  needs no special case. It is the smallest of the signed forms: on torchvision's int8 weights
  0.712 of the original size for MobileNet v3 and 0.864 for ResNet18, or with a zero vector 0.787
  and 0.973.
* ``sign_magnitude``: a sign bit and 0 to 7 bits of magnitude, the prefix as it is. The magnitude of
  -128 does not fit, so it is written as the otherwise unused -0. A common implementation does this,
  always with a zero vector: 0.794 and 0.977 on the same weights (0.720 and 0.867 without one).
* ``unsigned``: 1 to 8 bits a value, no sign, for activations after a ReLU.

A last group that is not full is written with as many values as it has. Bits go from the top of each
byte down, and the last byte is padded with zeros. The number of values is told from outside.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import CorruptError

GROUP = 8

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ShapeShifter:
    """ShapeShifter codec for 1-d uint8 values of ``width`` bits (4 to 8).

    For the signed forms a value is the two's complement pattern, as ``int8.view(uint8)`` gives it.
    """

    form: Literal["twos_complement", "sign_magnitude", "unsigned"] = "twos_complement"
    zero_vector: bool = False
    width: int = 8

    def __post_init__(self) -> None:
        if self.form not in ("twos_complement", "sign_magnitude", "unsigned"):
            raise ValueError(f"ShapeShifter: unknown form {self.form!r}")
        if not 4 <= self.width <= 8:
            raise ValueError(f"ShapeShifter: width {self.width} is not in 4..8")

    def size_bits(self, values: NDArray[np.uint8]) -> int:
        """Size of the encoded values in bits, before the padding of the last byte."""
        return int(self._fields(values)[1].sum())

    def encode(self, values: NDArray[np.uint8]) -> bytes:
        """Encode 1-d uint8 ``values``; ``ValueError`` for one that does not fit the width."""
        fields, lengths = self._fields(values)
        return _pack(fields.ravel(), lengths.ravel())

    def decode(self, data: bytes, n: int) -> NDArray[np.uint8]:
        """Decode ``n`` values; ``CorruptError`` if ``data`` do not hold exactly these."""
        sizes = _group_sizes(n)
        begins, present, prefixes, end = self._walk(data, sizes)
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        if len(data) != -(-end // 8) or bits[end:].any():
            raise CorruptError(f"ShapeShifter data do not hold {n} values")
        lengths = self._value_bits(prefixes)[:, None] * present
        positions = begins[:, None] + np.cumsum(lengths, axis=1) - lengths
        codes = _unpack(bits, positions.ravel(), lengths.ravel()).reshape(lengths.shape)
        # Groups are full but for the last one, so the values are simply the first n.
        values = np.where(present, self._from_codes(codes, prefixes[:, None]), 0)
        return values.ravel()[:n].astype(np.uint8)

    @property
    def _prefix_bits(self) -> int:
        return (self.width - 1).bit_length()

    def _value_bits(self, prefixes: Ints) -> Ints:
        return prefixes + 1  # the sign of a magnitude, or a precision that starts at 1

    def _fields(self, values: NDArray[np.uint8]) -> tuple[Ints, Ints]:
        """Fields and their lengths in bits, one row a group: zero vector, prefix, the values."""
        if values.dtype != np.uint8 or values.ndim != 1:
            raise ValueError("ShapeShifter: values must be a 1-d array of uint8")
        if values.size and int(values.max()) >> self.width:
            raise ValueError(
                f"ShapeShifter: a value of {values.max()} does not fit {self.width} bits"
            )
        sizes = _group_sizes(values.size)
        grouped = np.zeros((sizes.size, GROUP), np.int64)
        grouped.ravel()[: values.size] = values
        inside = np.arange(GROUP) < sizes[:, None]
        present = inside & (grouped != 0) if self.zero_vector else inside
        codes, prefixes = self._to_codes(grouped)
        vector = present @ (1 << np.arange(GROUP)[::-1]) >> (GROUP - sizes)
        vector_bits = sizes if self.zero_vector else np.zeros_like(sizes)
        fields = np.column_stack((vector, prefixes, codes))
        lengths = np.column_stack((
            vector_bits,
            np.full_like(sizes, self._prefix_bits),
            self._value_bits(prefixes)[:, None] * present,
        ))  # fmt: skip
        return fields, lengths

    def _to_codes(self, grouped: Ints) -> tuple[Ints, Ints]:
        """Values as they are written (a row a group), and the groups' prefixes."""
        if self.form == "unsigned":
            return grouped, np.maximum(_bit_length(grouped.max(axis=1)), 1) - 1
        negative = grouped >> (self.width - 1)
        signed = grouped - (negative << self.width)
        if self.form == "twos_complement":
            prefixes = _bit_length(np.where(negative, ~signed, signed).max(axis=1))
            return signed & ((2 << prefixes) - 1)[:, None], prefixes
        # The most negative value keeps the low bits of its magnitude, which are all zero: -0.
        magnitudes = np.abs(signed) & ((1 << (self.width - 1)) - 1)
        prefixes = _bit_length(magnitudes.max(axis=1))
        return magnitudes | negative << prefixes[:, None], prefixes

    def _from_codes(self, codes: Ints, prefixes: Ints) -> Ints:
        """Inverse of ``_to_codes`` for the values that are present."""
        if self.form == "unsigned":
            return codes
        negative = codes >> prefixes & 1
        if self.form == "twos_complement":
            signed = codes - (negative << (prefixes + 1))
        else:
            magnitudes = codes & ((1 << prefixes) - 1)
            most = 1 << (self.width - 1)
            signed = np.where(negative, -np.where(magnitudes, magnitudes, most), magnitudes)
        return signed & ((1 << self.width) - 1)

    def _walk(self, data: bytes, sizes: Ints) -> tuple[Ints, NDArray[np.bool_], Ints, int]:
        """Find each group: where its values begin, which are present, its prefix; and the end.

        A group's place is known only from the ones before it, so this is a loop over groups.
        """
        begins, vectors, prefixes = [], [], []
        position = 0
        for size in sizes.tolist():
            vector_bits = size if self.zero_vector else 0
            head_bits = vector_bits + self._prefix_bits
            at = position // 8
            word = int.from_bytes(data[at : at + 3].ljust(3, b"\0"), "big")
            head = word >> (24 - position % 8 - head_bits) & ((1 << head_bits) - 1)
            prefix = head & ((1 << self._prefix_bits) - 1)
            if prefix >= self.width:
                raise CorruptError(f"ShapeShifter data: a precision exceeds {self.width} bits")
            vector = head >> self._prefix_bits if self.zero_vector else (1 << size) - 1
            begins.append(position + head_bits)
            vectors.append(vector << (GROUP - size))
            prefixes.append(prefix)
            position += head_bits + vector.bit_count() * (prefix + 1)
            if position > 8 * len(data):
                raise CorruptError("ShapeShifter data are cut short")
        present = np.array(vectors, np.int64)[:, None] >> np.arange(GROUP)[::-1] & 1
        return np.array(begins, np.int64), present > 0, np.array(prefixes, np.int64), position


def _group_sizes(n: int) -> Ints:
    """Values in each group: ``GROUP``, and what is left in the last one."""
    sizes = np.full(-(-n // GROUP), GROUP, np.int64)
    if n % GROUP:
        sizes[-1] = n % GROUP
    return sizes


def _bit_length(numbers: Ints) -> Ints:
    """Bits that each number of 0 to 255 takes; 0 for 0."""
    lengths = np.array([n.bit_length() for n in range(256)], np.int64)
    return lengths[numbers]


def _pack(fields: Ints, lengths: Ints) -> bytes:
    """Write the low ``lengths`` bits of each field one after another."""
    ends = np.cumsum(lengths)
    bits = np.zeros(int(ends[-1]) if ends.size else 0, np.uint8)
    for place in range(int(lengths.max(initial=0))):
        reached = lengths > place
        bits[ends[reached] - 1 - place] = fields[reached] >> place & 1
    return np.packbits(bits).tobytes()


def _unpack(bits: NDArray[np.uint8], positions: Ints, lengths: Ints) -> Ints:
    """Read fields of the given lengths at the given positions."""
    fields = np.zeros(lengths.shape, np.int64)
    for place in range(int(lengths.max(initial=0))):
        reached = lengths > place
        fields[reached] |= (
            bits[(positions + lengths)[reached] - 1 - place].astype(np.int64) << place
        )
    return fields
