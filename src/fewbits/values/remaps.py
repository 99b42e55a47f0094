"""Remaps of values: reversible maps that bring likely ones together (``docs/format.md``, "Remap").

The kernels remap whole tensors; this is the same on single values, for tables and histograms.

>>> remapped(np.array([0, 255, 1, 254]), Remap.ZIGZAG, width=8).tolist()  # 0, -1, 1, -2
[0, 1, 2, 3]
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.values.types import Remap


def remapped(values: NDArray[Any], remap: Remap, width: int) -> NDArray[np.int64]:
    """What each value of ``width`` bits (8 or 16, an element of that size) becomes."""
    wide = values.astype(np.int64)
    top, mask = wide >> (width - 1), (1 << width) - 1
    if remap == Remap.ZIGZAG:
        return wide << 1 & mask ^ mask * top
    if remap == Remap.SIGN_TO_LSB:
        return wide << 1 & mask | top
    return wide


@cache
def places(remap: Remap, width: int) -> NDArray[np.int64]:
    """What each value of ``width`` bits becomes, in order."""
    return remapped(np.arange(1 << width), remap, width)


def remapped_histogram(histogram: NDArray[np.int64], remap: Remap) -> NDArray[np.int64]:
    """The histogram that the remapped values have, from that of the values."""
    width = histogram.size.bit_length() - 1
    result = np.empty_like(histogram)
    result[places(remap, width)] = histogram
    return result


def nibble_histogram(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """The histogram of both halves of bytes, from that of the bytes."""
    halves = histogram.reshape(16, 16)  # high half, low half
    total: NDArray[np.int64] = halves.sum(axis=0) + halves.sum(axis=1)
    return total
