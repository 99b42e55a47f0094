"""Plans for data not seen yet, from histograms of samples, as APack has it for activations.

A table fitted to known data may leave out values that do not occur. One for data to come must be
*covering*: rows reach over the whole value space, and each has a count (the paper's "final
adjustment", section VI).

>>> import numpy as np
>>> from fewbits.values.types import layout_of
>>> tally = Tally(layout_of(np.dtype("uint8")))
>>> for sample in ([0, 0, 0, 9], [0, 1, 0, 2]):
...     tally.add(np.array(sample * 99, np.uint8))
>>> plan = tally.plan(Lossless())
>>> plan.planes[0].tables[0].covering
True
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless.choose import (
    BLOCK_ELEMENTS,
    MIN_SAVING,
    VECTOR_ROWS,
    VERBATIM_BITS,
    Lossless,
    block_elements,
    cuts_of,
)
from fewbits.lossless.histogram import Histogram, entropy
from fewbits.lossless.plan import Coder, Plan, Plane
from fewbits.lossless.search import find_table
from fewbits.lossless.table import RangeTable
from fewbits.values.remaps import nibble_histogram, places, remapped_histogram
from fewbits.values.types import NIBBLES, Layout, Remap

# A table whose offsets spill, or of more than 12 count bits, decodes many times slower, and what
# comes on the fly is wanted soon: it must save this much.
MIN_SAVING_OF_SLOW = 0.05
# Of 16-bit values 16 rows can only cover all if some reach far; so many bits leave the others free.
FAR = 14


class Tally:
    """Histograms over any number of arrays of one element type, in memory that does not grow."""

    def __init__(self, layout: Layout) -> None:
        self.elements = 0
        self._layout = layout
        # Of short elements one histogram of the whole gives that of every field, however remapped.
        self._whole = layout.element_bytes <= 2
        counted = ((layout.element_bytes, 0),) if self._whole else layout.planes
        remap = Remap.IDENTITY if self._whole else layout.remaps[0]
        self._counting = _bare(layout, remap, counted)
        self._histograms: list[Histogram] = [
            np.zeros(1 << plane.width, np.int64) for plane in self._counting.planes
        ]

    def add(self, data: NDArray[np.uint8]) -> None:
        """Count the elements of a tensor's storage bytes."""
        self.elements += data.size // self._layout.element_bytes
        for index, histogram in enumerate(self._histograms):
            histogram += self._counting.histograms(index, data)[0]

    def merge(self, other: "Tally") -> None:
        """Count what ``other``, of the same layout, has counted."""
        self.elements += other.elements
        for histogram, more in zip(self._histograms, other._histograms, strict=True):
            histogram += more

    def plan(self, settings: Lossless) -> Plan:
        """The plan, with covering tables, that packs what was counted best."""
        fitted = (_fit(bare, histograms, settings) for bare, histograms in self._cuts())
        plan = min(fitted, key=self.price)
        return replace(plan, block_elements=block_elements(self._layout, settings))

    def price(self, plan: Plan) -> float:
        """Bits that what was counted takes with this plan, which one of these layouts made."""
        planes = zip(plan.planes, self._planes_of(plan), strict=True)
        return sum(_price(plane, histogram) for plane, histogram in planes)

    def spare(self, plan: Plan) -> float:
        """Bits that this plan spends for its counts not being those of what was counted.

        With other counts for the same rows a plan would take so much less. Unlike the distance to
        the order-0 entropy this is to be trusted for a few values already, rows being few.
        """
        bits = 0.0
        for plane, histogram in zip(plan.planes, self._planes_of(plan), strict=True):
            for table in plane.tables:
                rows = np.add.reduceat(histogram, table.starts)
                own = float(rows.sum()) * entropy(rows)
                bits += float(rows @ (table.count_bits - np.log2(table.counts))) - own
        return bits

    def _planes_of(self, plan: Plan) -> list[Histogram]:
        """The histograms of a plan's planes."""
        fields = [(plane.bytes_, plane.offset) for plane in plan.planes]
        return next(
            histograms
            for bare, histograms in self._cuts()
            if bare.remap == plan.remap and [(p.bytes_, p.offset) for p in bare.planes] == fields
        )

    def _cuts(self) -> Iterator[tuple[Plan, list[Histogram]]]:
        """Ways to remap and cut the elements, with the histograms of their planes."""
        for bare in cuts_of(self._layout, Lossless()):
            if not self._whole:
                yield bare, self._wide(bare.remap)
            elif bare.planes[0].bytes_ == NIBBLES:
                yield bare, [nibble_histogram(self._histograms[0])]
            else:
                yield bare, [remapped_histogram(self._histograms[0], bare.remap)]

    def _wide(self, remap: Remap) -> list[Histogram]:
        """Those of elements of more than two bytes, counted under another remap than ``remap``."""
        top, *others = self._histograms
        if remap != self._counting.remap:  # the sign of floats, which moves within the top plane
            top = top[places(self._counting.remap, 16)]
        return [top, *others]


def untabled(layout: Layout) -> Plan:
    """A plan without tables, for data of which nothing is known."""
    return _bare(layout, layout.remaps[0], layout.planes)


def _bare(layout: Layout, remap: Remap, cut: tuple[tuple[int, int], ...]) -> Plan:
    """A plan without tables."""
    planes = tuple(Plane(bytes_, offset) for bytes_, offset in cut)
    return Plan(layout.element_bytes, remap, BLOCK_ELEMENTS[layout.element_bytes], planes)


def _price(plane: Plane, histogram: Histogram) -> float:
    """Bits of a plane's values. Tables do not count, being there once for much data."""
    if np.count_nonzero(histogram) <= 1:
        return 0.0  # blocks of one value take next to nothing, whatever the tables
    coded = [_bits(table, histogram, plane.verbatim_bits) for table in plane.tables]
    return min([float(histogram.sum()) * plane.width, *coded])


def _fit(bare: Plan, histograms: list[Histogram], settings: Lossless) -> Plan:
    """The plan with its tables filled in, where they pay."""
    planes = []
    for plane, histogram in zip(bare.planes, histograms, strict=True):
        enough = 1 - MIN_SAVING
        if np.count_nonzero(histogram) > 1 and entropy(histogram) < plane.width * enough:
            coded = _fit_plane(plane, histogram, settings)
            if _price(coded, histogram) < _price(plane, histogram) * enough:
                plane = coded
        planes.append(plane)
    return replace(bare, planes=tuple(planes))


def _fit_plane(plane: Plane, histogram: Histogram, settings: Lossless) -> Plane:
    """A plane with its cheapest covering table; without one if there is none."""
    best_bits, best = float("inf"), plane
    coder = Coder.RANS if settings.coder == "rans" else Coder.ARITHMETIC
    for count_bits, longest, verbatim_bits, slow in _shapes(plane, settings):
        for rows in sorted({min(settings.most_rows, VECTOR_ROWS), settings.most_rows}):
            try:
                table = find_table(
                    histogram,
                    rows=rows,
                    count_bits=count_bits,
                    method=settings.search,
                    covering=True,
                    max_offset_length=longest,
                    verbatim_bits=verbatim_bits,
                    depth=2 if plane.width <= 8 else 1,
                )
            except ValueError:
                continue  # so few rows of this length do not cover the values
            bits = _bits(table, histogram, verbatim_bits)
            if bits < best_bits * (1 - MIN_SAVING_OF_SLOW * slow):
                best_bits = bits
                best = replace(plane, coder=coder, verbatim_bits=verbatim_bits, tables=(table,))
    return best


def _shapes(plane: Plane, settings: Lossless) -> Iterator[tuple[int, int, int, bool]]:
    """Count bits, longest offset, verbatim bits, and if it decodes slowly; the slow ones last.

    A covering table needs longer offsets than a tight one, so unlike ``choose`` this gives up count
    bits for them: without spilling, both and the state make 16.
    """
    longest = 15 if plane.width == 16 else 7
    asked = settings.count_bits
    if settings.coder == "arithmetic":
        for count_bits in (asked,) if asked else (10, 14):
            yield count_bits, longest, 0, False
        return
    for verbatim_bits in VERBATIM_BITS if plane.width == 16 else (0,):
        for count_bits in (asked,) if asked else (12, 11, 10, 9, 8):
            reach = min(longest, verbatim_bits + 16 - count_bits)
            if asked or plane.width < 16 or reach >= FAR:
                yield count_bits, reach, verbatim_bits, count_bits > 12
    yield asked or (12 if plane.width == 16 else 15), longest, 0, True


def _bits(table: RangeTable, histogram: Histogram, verbatim_bits: int) -> float:
    """Bits of the values with a covering table."""
    occurrences = np.add.reduceat(histogram, table.starts)
    lengths = np.maximum(table.offset_lengths, verbatim_bits)
    return float(occurrences @ (table.count_bits - np.log2(table.counts) + lengths))
