"""The arithmetic coder in numbers of any size, one bit at a time, for windows of any width.

Independent of ``fewbits.lossless.arithmetic``: no window registers that shift by several bits, only
the textbook loop (Witten, Neal and Cleary, 1987).
"""

import numpy as np

from fewbits.lossless.table import RangeTable


def encode_bits(
    values: np.ndarray, table: RangeTable, window_bits: int
) -> tuple[list[int], list[int], int]:
    """Symbol bits, offset bits, and the most underflow bits that ever waited."""
    whole, half, quarter = (1 << window_bits - i for i in range(3))
    low, high, pending, most = 0, whole - 1, 0, 0
    symbols: list[int] = []
    offsets: list[int] = []

    def write(bit: int) -> None:
        nonlocal pending
        symbols.extend([bit] + [1 - bit] * pending)
        pending = 0

    rows, inside = table.split(values)
    for row, offset in zip(rows.tolist(), inside.tolist(), strict=True):
        length = table.offset_lengths[row]
        offsets.extend(int(bit) for bit in f"{offset:0{length}b}"[:length])
        span = high - low + 1
        high = low + (span * table.cumulative[row + 1] >> table.count_bits) - 1
        low = low + (span * table.cumulative[row] >> table.count_bits)
        while True:
            if high < half:
                write(0)
            elif low >= half:
                write(1)
                low, high = low - half, high - half
            elif low >= quarter and high < half + quarter:
                pending += 1
                low, high = low - quarter, high - quarter
            else:
                break
            low, high = 2 * low, 2 * high + 1
        most = max(most, pending)
    pending += 1
    write(0 if low < quarter else 1)
    return symbols, offsets, most
