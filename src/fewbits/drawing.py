"""A range table drawn over the distribution it was made for, in characters.

The value axis is cut into columns; a column is as high as its values are frequent, and belongs to
the row of the table that holds most of them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless.histogram import Histogram
from fewbits.lossless.table import RangeTable

Scale = Literal["auto", "linear", "log"]

BLOCKS = " ▁▂▃▄▅▆▇█"
# On a terminal without block characters.
ASCII_BLOCKS = "  ..::||#"
# A few far values (exact zeros among weights) would squeeze the rest into a few columns.
_TAIL = 0.001
# Shorter axes are shown whole.
_WIDE = 256
# A first value so far from the second, as a share of the axis, is told but not shown.
_ALONE = 0.3
# From so many times the mean height on, a linear picture is one spike on a flat line.
_SPIKE = 12.0
_DECADES = 4.0


@dataclass(frozen=True)
class Picture:
    """Lines of bars from the top down, and for each column the table row it belongs to (-1: none).

    ``low`` and ``high`` are the first and last value on the axis; ``left`` and ``right`` the shares
    of all values that lie before and after.
    """

    bars: tuple[str, ...]
    owners: tuple[int, ...]
    low: int
    high: int
    left: float
    right: float
    logarithmic: bool

    def ruler(self) -> tuple[str, str]:
        """Two lines: a tick where a row's columns start, and the row's number where it fits."""
        ticks, labels = [" "] * len(self.owners), [" "] * len(self.owners)
        free, before = 0, -1
        for column, owner in enumerate(self.owners):
            if owner < 0 or owner == before:
                continue
            before = owner
            ticks[column] = "|"
            text = str(owner)
            if column >= free and column + len(text) <= len(labels):
                labels[column : column + len(text)] = text
                free = column + len(text) + 1
        return "".join(ticks), "".join(labels)


def draw(
    histogram: Histogram,
    table: RangeTable | None,
    *,
    width: int = 76,
    height: int = 12,
    scale: Scale = "auto",
    blocks: str = BLOCKS,
) -> Picture:
    """Draw a histogram of ``2**w`` values at most ``width`` columns wide, ``height`` lines high.

    ``table`` colours the columns by row; None for values that no table codes.
    """
    total = int(histogram.sum())
    low, high = _span(histogram)
    span = high - low + 1
    each = max(1, width // span)
    columns = min(width, span)
    edges = low + np.arange(columns + 1, dtype=np.int64) * span // columns
    sums = np.concatenate(([0], np.cumsum(histogram)))
    density = (sums[edges[1:]] - sums[edges[:-1]]) / np.diff(edges)
    owners = _owners(histogram, table, edges)
    logarithmic = scale == "log" or (
        scale == "auto" and bool(density.max() > _SPIKE * density.mean())
    )
    heights = _heights(density, logarithmic) * height
    lines = tuple(
        "".join(_cell(top - line, blocks) * each for top in heights)
        for line in range(height - 1, -1, -1)
    )
    return Picture(
        lines,
        tuple(int(owner) for owner in np.repeat(owners, each)),
        low,
        high,
        float(sums[low]) / total if total else 0.0,
        float(total - sums[high + 1]) / total if total else 0.0,
        logarithmic,
    )


def _span(histogram: Histogram) -> tuple[int, int]:
    """First and last value to show: all that occur, or fewer if that shows more.

    Left out are thin tails, and a first value that stands alone.
    """
    present = np.flatnonzero(histogram)
    if not present.size:
        return 0, histogram.size - 1
    span = int(present[-1] - present[0])
    if span > _WIDE and present.size > 2 and present[1] - present[0] > _ALONE * span:
        present = present[1:]  # as exact zeros stand far from the smallest weights
    low, high = int(present[0]), int(present[-1])
    shares = np.cumsum(histogram[low:]) / histogram[low:].sum()
    inner = low + np.searchsorted(shares, [_TAIL, 1 - _TAIL])
    if high - low > _WIDE and inner[1] - inner[0] < 0.8 * (high - low):
        return int(inner[0]), int(inner[1])
    return low, high


def _owners(
    histogram: Histogram, table: RangeTable | None, edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The table row that holds most values of each column."""
    columns = edges.size - 1
    if table is None:
        return np.full(columns, -1)
    best, most = np.full(columns, -1), np.zeros(columns)
    sums = np.concatenate(([0], np.cumsum(histogram)))
    for row, (start, end) in enumerate(zip(table.starts, table.ends, strict=True)):
        first, last = np.clip(edges[:-1], start, end + 1), np.clip(edges[1:], start, end + 1)
        # Where nothing occurs, the row with the longest stretch of the column has it.
        share = (sums[last] - sums[first]) + (last - first) / (2.0 * histogram.size)
        better = share > most
        best[better], most[better] = row, share[better]
    return best


def _heights(density: NDArray[np.float64], logarithmic: bool) -> NDArray[np.float64]:
    """Heights from 0 to 1."""
    top = density.max()
    if top <= 0:
        return np.zeros_like(density)
    shares: NDArray[np.float64] = density / top
    if logarithmic:
        with np.errstate(divide="ignore"):
            shares = np.clip(1 + np.log10(shares) / _DECADES, 0, 1)
    return shares


def _cell(filled: float, blocks: str) -> str:
    """The character for a cell that is filled this far."""
    steps = len(blocks) - 1
    return blocks[min(steps, max(0, round(filled * steps)))]
