"""From a histogram to a range table: the dynamic program, and the paper's own search.

>>> import numpy as np
>>> table = find_table(np.array([90, 1, 1, 1, 0, 0, 5, 5]), rows=3, count_bits=4)
>>> table.starts, table.offset_lengths, table.counts
((0, 1, 6), (0, 2, 1), (13, 1, 2))
"""

from itertools import pairwise
from typing import Literal

import numpy as np

from fewbits import _kernels
from fewbits.lossless.counts import exact_counts, paper_counts
from fewbits.lossless.histogram import Histogram
from fewbits.lossless.table import MAX_COUNT_BITS, MAX_WIDTH, RangeTable

Method = Literal["optimal", "paper"]
MAX_ROWS = 1024


def find_table(
    histogram: Histogram,
    *,
    rows: int = 16,
    count_bits: int = 10,
    method: Method = "optimal",
    covering: bool = False,
    max_offset_length: int | None = None,
    verbatim_bits: int = 0,
    exact: bool = False,
    threshold: float = 0.99,
    depth: int = 2,
) -> RangeTable:
    """Find a range table for data with this histogram (int64, the ``2**width`` values in order).

    The table has at most ``rows`` rows: fewer where a row more would not pay. ``covering`` tables
    can write every value, as a table made from a sample of the data must; the others, tight, are
    for data that are all in the histogram. No row has an offset of more than ``max_offset_length``
    bits; the default is what the paper's engine can store, 7 for values of up to 8 bits, else 15.
    A histogram of nothing gives a table all the same. ``ValueError`` where ``rows`` rows within
    that limit cannot hold the values, or a setting is out of range.

    ``method="optimal"`` minimises the coded size over all such tables by dynamic programming (after
    Said, IEEE Trans. Commun. 55(3), 2007), taking counts as real numbers of at least one. It then
    assigns the best integer counts. ``verbatim_bits`` is for a coder that stores at least that many
    bits of every value: an offset is then charged as no less. Beyond 512 places for a boundary the
    search goes from coarse to fine, which the tests find within 0.05 % of the optimum; ``exact``
    finds the optimum itself, in seconds for 16-bit values.

    ``method="paper"`` is Listing 1 of the APack paper (section VI) with its errors mended, and
    counts that sum to ``2**count_bits - 1`` as in its Table I: boundaries move from equal rows, up
    to ``depth`` neighbouring ones at a time, while a pass leaves less than ``threshold`` of the
    size. At depth 2 its time grows with the square of a row's values, to half a minute for 16-bit
    ones.
    """
    width = _width(histogram)
    if max_offset_length is None:
        max_offset_length = 7 if width <= 8 else 15
    for name, value, low, high in (
        ("rows", rows, 1, MAX_ROWS),
        ("count_bits", count_bits, 1, MAX_COUNT_BITS),
        ("max_offset_length", max_offset_length, 0, MAX_WIDTH),
        ("verbatim_bits", verbatim_bits, 0, MAX_WIDTH),
        ("threshold", threshold, 0, 1),
        ("depth", depth, 1, MAX_ROWS),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}, not in {low}..{high}")
    total = (1 << count_bits) - (method == "paper")
    rows = min(rows, total, 1 << width)
    if method == "paper":
        starts = _kernels.paper_rows(histogram, rows, max_offset_length, threshold, depth)
        bounds = (*starts, 1 << width)
        lengths = [(end - start - 1).bit_length() for start, end in pairwise(bounds)]
    else:
        starts, lengths = _kernels.optimal_rows(
            histogram, rows, total, covering, max_offset_length, verbatim_bits, exact
        )
    if not starts or max(lengths) > max_offset_length:
        raise ValueError(
            f"{rows} rows with offsets of up to {max_offset_length} bits cannot hold the values"
        )
    occurrences = np.add.reduceat(histogram, starts).tolist()
    assign = paper_counts if method == "paper" else exact_counts
    counts = assign(occurrences, total, every_row=covering)
    return RangeTable(width, count_bits, tuple(starts), tuple(lengths), counts)


def _width(histogram: Histogram) -> int:
    width = max(1, histogram.size - 1).bit_length()
    if histogram.ndim != 1 or histogram.size != 1 << width or width > MAX_WIDTH:
        raise ValueError(f"a histogram of {histogram.size} values is not one of 2 to 65536, 2**n")
    if histogram.min() < 0:
        raise ValueError("a histogram cannot hold a negative count")
    return width
