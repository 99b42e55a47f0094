"""Buffers on the chip: what they hold, and what a byte through them costs."""

from typing import Any

import numpy as np


def through_buffers_bytes(groups: Any, m: Any, n: Any, k: Any, *, rows: Any, columns: Any) -> Any:
    """Bytes (of 8-bit values) that arrays read and write in products of tiles.

    A tile of ``rows`` by ``columns`` results reads that many rows of one operand and columns of the
    other, so each operand is read once for each tile across it; results are written once.

    >>> # 8x8 by 8x8 in tiles of 4x4: each operand twice, and the results
    >>> int(through_buffers_bytes(1, 8, 8, 8, rows=4, columns=4))
    320
    """
    across, down = np.ceil(n / columns), np.ceil(m / rows)
    return groups * (m * k * across + k * n * down + m * n)


def fits(needed_bytes: Any, capacity_bytes: Any) -> Any:
    """Whether so much can stay on the chip."""
    return np.asarray(needed_bytes) <= capacity_bytes
