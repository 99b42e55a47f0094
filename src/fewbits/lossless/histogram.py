"""Histograms of values and the order-0 entropy that every ratio is held against.

>>> import numpy as np
>>> counts = histogram(np.array([0, 0, 1, 3], np.uint8), width=2)
>>> counts.tolist(), entropy(counts)
([2, 1, 0, 1], 1.5)
"""

import numpy as np
from numpy.typing import NDArray

Histogram = NDArray[np.int64]


def histogram(values: NDArray[np.unsignedinteger], width: int) -> Histogram:
    """Count the occurrences of each of the ``2**width`` values.

    ``values`` is an unsigned integer array of any shape; a value of ``2**width`` or more raises
    ``ValueError``.
    """
    counts = np.bincount(values.ravel(), minlength=1 << width)
    if counts.size > 1 << width:
        raise ValueError(f"a value of {counts.size - 1} does not fit {width} bits")
    return counts.astype(np.int64)


def entropy(counts: Histogram) -> float:
    """Order-0 entropy in bits a value (Shannon 1948); 0.0 for an empty histogram."""
    present = counts[counts > 0].astype(np.float64)
    total = present.sum()
    if total == 0:
        return 0.0
    return max(0.0, float(np.log2(total) - (present * np.log2(present)).sum() / total))
