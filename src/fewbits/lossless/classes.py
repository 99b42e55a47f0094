"""Classes of rows: which rows of a tensor had better share a range table.

The rows of a weight matrix are much alike but for their scale, and where a float tensor was filled
from a shorter type, some of its rows have zeros below. So rows are put in order by those two things
alone (the mean of their remapped values' top bits; how many low bits are zero in all elements), and
the order is cut where that saves most: a dynamic program over bins of neighbouring rows, priced by
order-0 entropy. That finds what clustering of whole histograms finds, in a fraction of the time.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless.histogram import Histogram
from fewbits.lossless.plan import Plan, RowClasses

# Bins of neighbouring rows, between which classes are cut.
BINS = 32
# Rows of fewer elements than this are taken several at a time; longer ones than that in pieces.
LEAST_ROW, MOST_ROW = 128, 8192
# Bytes of a row where the shape tells of none; rows as long are decoded straight to their place.
FLAT_ROW_BYTES = 4096
# A tensor of fewer elements does not pay for two tables, one of fewer rows for telling them apart.
LEAST_ELEMENTS, LEAST_ROWS = 1 << 14, 16
# Values are told apart by this many of their top bits, which is enough to see what scales differ.
TOP_BITS = 9
# A table of 16 rows takes about so many bits.
TABLE_BITS = 350.0
# Bins are counted from every so manieth row, to have about so many elements.
SAMPLE_ELEMENTS = 1 << 21
# What a class must save, in bits, beyond its table: it breaks up blocks and takes time to find.
CLASS_BITS = 512.0


@dataclass(frozen=True)
class Bins:
    """Rows in bins of like rows; ``kind_of`` tells which bins have the same low bits zero."""

    row_elements: int
    bin_of_row: NDArray[np.uint8]
    kind_of: NDArray[np.uint8]

    def in_classes(self, first_bins: list[int]) -> RowClasses:
        """Classes that begin with these bins; a new kind of low bits begins a group."""
        starts = np.zeros(len(self.kind_of), np.uint8)
        starts[first_bins] = 1
        class_of_bin = (np.cumsum(starts) - 1).astype(np.uint8)
        kinds = [-1, *(int(self.kind_of[b]) for b in first_bins)]
        groups = tuple(a != b for a, b in pairwise(kinds))
        return RowClasses(self.row_elements, class_of_bin[self.bin_of_row], groups)


def row_length(shape: tuple[int, ...], elements: int, element_bytes: int) -> int:
    """Elements that make a row, for a tensor of this shape in so many storage elements."""
    flat = FLAT_ROW_BYTES // element_bytes
    per_row, left = divmod(elements, shape[0]) if len(shape) > 1 and shape[0] else (0, 0)
    if left or prod(shape) == 0 or per_row == 0:
        return flat
    if per_row < LEAST_ROW:
        return per_row * -(-LEAST_ROW // per_row)
    pieces = -(-per_row // MOST_ROW)
    return per_row // pieces if per_row % pieces == 0 else flat


def find_bins(plan: Plan, data: NDArray[np.uint8], shape: tuple[int, ...]) -> Bins | None:
    """Rows in bins by what their scale and low bits are; None where classes cannot pay."""
    elements = data.size // plan.element_bytes
    length = row_length(shape, elements, plan.element_bytes)
    rows = -(-elements // length)
    if elements < LEAST_ELEMENTS or rows < LEAST_ROWS:
        return None
    means = plan.kernel.row_means(0, data, length)
    below = 8 * plan.planes[0].offset
    kinds = np.zeros(rows, np.uint8)
    if below:
        # Whole bytes only: planes are bytes, and a plane of zeros costs nothing.
        kinds = np.minimum(plan.kernel.row_zero_bits(data, length), below) // 8
    order = np.lexsort((means, kinds))
    bin_of_row = np.empty(rows, np.uint8)
    kind_of: list[int] = []
    edges = [0, *(np.flatnonzero(np.diff(kinds[order])) + 1).tolist(), rows]
    for first, last in pairwise(edges):
        bins = max(1, min(last - first, BINS * (last - first) // rows))
        at = np.arange(last - first) * bins // (last - first)
        bin_of_row[order[first:last]] = len(kind_of) + at
        kind_of += [int(kinds[order[first]])] * bins
    return Bins(length, bin_of_row, np.array(kind_of, np.uint8))


def find_classes(
    plan: Plan, data: NDArray[np.uint8], shape: tuple[int, ...], most: int
) -> RowClasses | None:
    """The classes that pay for a tensor cut and remapped as this plan says; None if none do."""
    bins = find_bins(plan, data, shape)
    if bins is None:
        return None
    count = len(bins.kind_of)
    dropped = max(0, plan.planes[0].width - TOP_BITS)
    step = max(1, data.size // plan.element_bytes // SAMPLE_ELEMENTS)
    counts = plan.kernel.histograms(
        0, data, bins.row_elements, bins.bin_of_row, count, dropped, step
    )
    histograms = counts.reshape(count, -1).astype(np.int64) * step
    firsts = cut_bins(bins, histograms, most)
    return bins.in_classes(firsts) if len(firsts) > 1 else None


def cut_bins(bins: Bins, histograms: Histogram, most: int) -> list[int]:
    """The first bin of each class: what saves most with up to ``most`` classes.

    ``histograms`` counts each bin's values in the top plane, (bins, values). Paid for are the coded
    values, low bytes that are not zero, a table a class, and the classes of the rows.
    """
    count = len(histograms)
    histograms = histograms[:, histograms.any(axis=0)]  # of floats most exponents never occur
    below = np.concatenate((np.zeros((1, histograms.shape[1])), np.cumsum(histograms, axis=0)))
    cost = np.full((count + 1, count + 1), np.inf)
    for first in range(count):
        merged = below[first + 1 :] - below[first]
        total = merged.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(merged > 0, merged * np.log2(merged), 0.0).sum(axis=1)
            cost[first, first + 1 :] = np.where(total > 0, total * np.log2(total), 0.0) - terms
        # Kinds ascend, so the first bin has the fewest zero bytes, which is what all of them share.
        cost[first, first + 1 :] -= 8.0 * total * bins.kind_of[first]
    cost += TABLE_BITS + CLASS_BITS
    reached, chosen = cost[0], [np.zeros(count + 1, np.intp)]
    best, best_classes = reached[count], 1
    for classes in range(2, min(most, count) + 1):
        through = reached[:, None] + cost
        chosen.append(through.argmin(axis=0))
        reached = through.min(axis=0)
        price = reached[count] + len(bins.bin_of_row) * (classes - 1).bit_length()
        if price < best:
            best, best_classes = price, classes
    firsts, at = [], count
    for step in reversed(range(best_classes)):
        at = int(chosen[step][at])
        firsts.append(at)
    return firsts[::-1]
