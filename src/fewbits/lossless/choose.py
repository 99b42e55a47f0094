"""Choosing a plan for a tensor: which remap, which tables, and where coding does not pay.

Every candidate is priced from the tensor's histogram by what it would really take, its tables
included, so choosing costs one pass over the data and a few table searches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless.classes import find_classes
from fewbits.lossless.histogram import Histogram, entropy
from fewbits.lossless.plan import (
    MAX_BLOCK_BYTES,
    MAX_CLASSES,
    Coder,
    Plan,
    Plane,
    RowClasses,
    one_bin,
)
from fewbits.lossless.search import find_table
from fewbits.lossless.table import RangeTable
from fewbits.values.remaps import nibble_histogram, remapped_histogram
from fewbits.values.types import NIBBLES, Layout, Remap

NIBBLE_PLANES = ((NIBBLES, 0),)
# Coding that saves less than this share of a plane is not worth its time.
MIN_SAVING = 0.005
# A slower way to decode (offsets outside the state, more than 12 count bits) must save this much.
MIN_SAVING_OF_SLOW = 0.01
# Of small tensors the table itself is a large share, and finding it most of the time: planes of
# fewer values than the first number get no more rows than the second.
SMALL = ((1024, 4), (4096, 8))
# So many rows are what the vector kernels take; with more allowed, both are tried.
VECTOR_ROWS = 16
# Of 16-bit offsets, so many low bits are nearly noise in trained floats.
VERBATIM_BITS = (6, 7, 8)
# From this share of one value on, 8-bit values may want finer counts.
MOSTLY_ONE = 0.5
# Cuts are compared on so many elements, in pieces from all over the tensor. Those of more than a
# byte go by the entropy of so many top bits; one must be so much better than the first, in bits.
SAMPLE_ELEMENTS, SAMPLE_PIECES = 1 << 18, 64
SAMPLE_BITS, LEAST_GAIN = 9, 0.02
# From this share of one value on, a verbatim low byte may cost more size than it saves time.
MANY_EQUAL = 0.05
# Elements in a block, by their bytes: as large as blocks may be, so that 256 lanes cost little.
BLOCK_ELEMENTS = {size: MAX_BLOCK_BYTES // size for size in (1, 2, 4, 8)}
# Most rows of a table and most classes, by effort.
EFFORTS = {"fast": (VECTOR_ROWS, 8), "small": (64, 16)}
# The arithmetic coder works value by value; its streams are blocks of this many elements.
ARITHMETIC_STREAM = 1 << 16


@dataclass(frozen=True)
class Lossless:
    """Settings of the lossless codec.

    ``effort``: ``fast``, or ``small`` to try all that may save a little: more rows, more classes,
    more shapes of tables. ``coder``: interleaved ``rans``, or the paper's ``arithmetic`` coder, one
    stream a block. ``rows``: at most so many rows a table. 16 is what a vector register, and the
    paper's engine, holds, and the default of ``fast``; more are used where they pay, and decode
    more slowly. ``classes``: with rANS, at most so many classes of rows, each with a table of its
    own. ``count_bits``: counts out of ``2**count_bits`` (8 to 16; with the arithmetic coder to 14);
    None tries several. ``search``: ``optimal``, or ``paper`` for Listing 1 of the paper.
    """

    effort: Literal["fast", "small"] = "fast"
    coder: Literal["rans", "arithmetic"] = "rans"
    rows: int | None = None
    classes: int | None = None
    count_bits: int | None = None
    search: Literal["optimal", "paper"] = "optimal"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("effort", self.effort, tuple(EFFORTS)),
            ("coder", self.coder, ("rans", "arithmetic")),
            ("search", self.search, ("optimal", "paper")),
        ):
            if value not in choices:
                raise ValueError(f"unknown {name} {value!r}: {' or '.join(choices)}")
        most = 16 if self.coder == "rans" else 14
        if self.count_bits is not None and not 8 <= self.count_bits <= most:
            raise ValueError(f"{self.count_bits} count bits with {self.coder}: 8 to {most}")
        if not 1 <= self.most_rows <= 1 << (self.count_bits or 10):
            raise ValueError(f"{self.rows} rows: 1 to {1 << (self.count_bits or 10)}")
        if not 1 <= self.most_classes <= MAX_CLASSES:
            raise ValueError(f"{self.classes} classes: 1 to {MAX_CLASSES}")

    @property
    def most_rows(self) -> int:
        """At most so many rows a table."""
        return EFFORTS[self.effort][0] if self.rows is None else self.rows

    @property
    def most_classes(self) -> int:
        """At most so many classes of rows."""
        return EFFORTS[self.effort][1] if self.classes is None else self.classes


@dataclass(frozen=True)
class Choice:
    """A plan, the order-0 entropy of its planes (bits an element), and its price (bits)."""

    plan: Plan
    entropy_bits: float
    price_bits: float


def choose(
    data: NDArray[np.uint8], layout: Layout, settings: Lossless, shape: tuple[int, ...] = ()
) -> Choice:
    """The cheapest plan for a tensor's storage bytes among what ``settings`` allows.

    ``shape`` is that of the tensor: its rows may have tables of their own.
    """
    plan = _best_cut(cuts_of(layout, settings), data, settings)
    if settings.most_classes > 1 and settings.coder == "rans":
        # Rows are told apart by scale, which shows best where signs are out of the way.
        folded = (
            plan if plan.planes[0].bytes_ == NIBBLES else replace(plan, remap=layout.remaps[-1])
        )
        classes = find_classes(folded, data, shape, settings.most_classes)
        if classes and classes.row_elements <= plan.block_elements:
            whole = plan.block_elements - plan.block_elements % classes.row_elements
            plan = replace(plan, classes=classes, block_elements=whole)  # rows are not cut
    return _price(plan, _Tensor(data), settings)


def block_elements(layout: Layout, settings: Lossless) -> int:
    """Elements in a block."""
    block = BLOCK_ELEMENTS[layout.element_bytes]
    return min(block, ARITHMETIC_STREAM) if settings.coder == "arithmetic" else block


def cuts_of(layout: Layout, settings: Lossless) -> list[Plan]:
    """Ways to remap and cut elements, as plans without tables; the likeliest first."""
    block = block_elements(layout, settings)
    cuts = [(remap, layout.planes) for remap in layout.remaps]
    if Remap.SIGN_TO_LSB in layout.remaps:
        # Where the sign tells nothing, or goes with the exponent, it had better stay on top.
        cuts.append((Remap.IDENTITY, layout.planes))
    if layout.element_bytes == 1 and layout.planes != NIBBLE_PLANES:
        # Bytes may well be pairs of 4-bit values, which 16 rows of bytes describe badly.
        cuts.append((Remap.IDENTITY, NIBBLE_PLANES))
    return [
        Plan(layout.element_bytes, remap, block, tuple(Plane(*plane) for plane in planes))
        for remap, planes in cuts
    ]


def _best_cut(cuts: list[Plan], data: NDArray[np.uint8], settings: Lossless) -> Plan:
    """The cut that codes a sample of the tensor best; of equals the first."""
    if len(cuts) == 1:
        return cuts[0]
    width = cuts[0].element_bytes
    sample = _sample(data, width)
    tensor = _Tensor(sample)
    if width == 1:
        return min(cuts, key=lambda cut: _price(cut, tensor, settings).price_bits)

    def estimate(cut: Plan) -> float:
        counts = cut.kernel.histograms(
            0, sample, *one_bin(sample.size // width), cut.planes[0].width - SAMPLE_BITS
        )
        return entropy(counts.astype(np.int64))

    # The bits below are about the same in all cuts.
    first, *others = cuts
    best = min(others, key=estimate)
    return best if estimate(best) < estimate(first) - LEAST_GAIN else first


def _sample(data: NDArray[np.uint8], element_bytes: int) -> NDArray[np.uint8]:
    """Some of the tensor's elements: all of a small one, else pieces from all over it."""
    piece = SAMPLE_ELEMENTS // SAMPLE_PIECES * element_bytes
    step = data.size // (SAMPLE_PIECES * element_bytes) * element_bytes
    if step <= piece:
        return data
    pieces = [data[at : at + piece] for at in range(0, SAMPLE_PIECES * step, step)]
    return np.concatenate(pieces)


class _Tensor:
    """A tensor's bytes and the histograms of its fields, each counted once."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data
        self._whole: Histogram | None = None

    def histograms(self, plan: Plan, index: int) -> Histogram:
        """Those of plane ``index``, (classes, values); small elements are counted only once."""
        plane = plan.planes[index]
        if plane.width not in (4, 8 * plan.element_bytes):
            return plan.histograms(index, self.data)
        if self._whole is None:
            whole = (Plane(plan.element_bytes, 0),)
            bare = replace(plan, remap=Remap.IDENTITY, planes=whole)
            self._whole = bare.histograms(0, self.data)
        if plane.bytes_ == NIBBLES:
            return np.stack([nibble_histogram(counts) for counts in self._whole])
        return np.stack([remapped_histogram(counts, plan.remap) for counts in self._whole])


def _price(bare: Plan, tensor: _Tensor, settings: Lossless) -> Choice:
    """Fill in the tables of a plan that has none, plane by plane."""
    planes, entropy_bits, price_bits = [], 0.0, 0.0
    for index, plane in enumerate(bare.planes):
        histograms = tensor.histograms(bare, index)
        entropy_bits += entropy(histograms.sum(axis=0)) * plane.values_in(1)
        plane, bits = _code(plane, histograms, bare.classes, index == 0, settings)
        planes.append(plane)
        price_bits += bits
    return Choice(replace(bare, planes=tuple(planes)), entropy_bits, price_bits)


def _code(
    plane: Plane,
    histograms: Histogram,
    classes: RowClasses | None,
    leads: bool,
    settings: Lossless,
) -> tuple[Plane, float]:
    """A plane with the tables that pay, and its price in bits.

    Each class has a table of its own in the leading plane. Other planes only tell groups apart:
    what is noise in one may be zero in another.
    """
    groups = histograms
    if classes is not None and not leads:
        starts = [0, *(c for c in range(1, classes.classes) if classes.starts_group[c])]
        groups = np.add.reduceat(histograms, starts, axis=0)
    if classes is not None and leads:
        return _code_by_class(plane, histograms, settings)
    best, price = plane, 0.0
    for counts in groups:
        bits = float(counts.sum() * plane.width)
        found = entropy(counts)
        if np.count_nonzero(counts) <= 1:
            bits = 0.0
        elif found < plane.width * (1 - MIN_SAVING):
            coded, coded_bits = _best_coding(
                plane, counts, settings, best.verbatim_bits if best.tables else None
            )
            if coded_bits < bits * (1 - MIN_SAVING):
                best, bits = replace(coded, tables=best.tables + coded.tables), coded_bits
        price += bits
    return best, price


def _code_by_class(plane: Plane, histograms: Histogram, settings: Lossless) -> tuple[Plane, float]:
    """A plane with a table for each class, and its price in bits."""
    order = np.argsort(-histograms.sum(axis=1), kind="stable").tolist()
    codings: dict[int, tuple[Plane, float]] = {}
    verbatim_bits = None  # as suits the largest class; the same for all
    for c in order:
        codings[c] = _best_coding(plane, histograms[c], settings, verbatim_bits)
        verbatim_bits = codings[c][0].verbatim_bits
        if not codings[c][0].tables:
            break
    else:
        found = [codings[c] for c in range(len(histograms))]
        coded = replace(found[0][0], tables=tuple(own.tables[0] for own, _ in found))
        return coded, sum(bits for _, bits in found)
    # A class has few values, far apart. The table of all values can write them, if there is one.
    whole, _ = _best_coding(plane, histograms.sum(axis=0), settings)
    if whole.coder == Coder.NONE:
        return plane, float(histograms.sum() * plane.width)
    tables: list[RangeTable] = []
    price = 0.0
    for counts in histograms:
        own, bits = _best_coding(plane, counts, settings, whole.verbatim_bits)
        if not own.tables:
            own, bits = whole, _coded_bits(whole.tables[0], counts, whole.verbatim_bits)
        tables += own.tables
        price += bits
    return replace(whole, tables=tuple(tables)), price


def _best_coding(
    plane: Plane, histogram: Histogram, settings: Lossless, verbatim_bits: int | None = None
) -> tuple[Plane, float]:
    """The cheapest coded form of a plane and its price in bits; infinite if there is none.

    ``verbatim_bits`` leaves only the shapes with so many.
    """
    best, best_bits = plane, float("inf")
    most = min([settings.most_rows, *(n for values, n in SMALL if histogram.sum() < values)])
    for shape in _shapes(plane, histogram, settings):
        if verbatim_bits is not None and shape.verbatim_bits != verbatim_bits:
            continue
        if shape.spare and best.tables:
            continue
        for rows in sorted({min(most, VECTOR_ROWS), most}):
            table = _table(plane, histogram, settings, shape, rows)
            if table is None:
                continue  # so few rows of this length cannot hold the values
            bits = _coded_bits(table, histogram, shape.verbatim_bits)
            if bits < best_bits * (1 - MIN_SAVING_OF_SLOW * shape.slow):
                coder = Coder.RANS if settings.coder == "rans" else Coder.ARITHMETIC
                best = replace(
                    plane, coder=coder, verbatim_bits=shape.verbatim_bits, tables=(table,)
                )
                best_bits = bits
    return best, best_bits


def _table(
    plane: Plane, histogram: Histogram, settings: Lossless, shape: "_Shape", rows: int
) -> RangeTable | None:
    """The best table of this shape, or None if there is none."""
    try:
        return find_table(
            histogram,
            rows=rows,
            count_bits=shape.count_bits,
            method=settings.search,
            max_offset_length=shape.longest,
            verbatim_bits=shape.verbatim_bits,
            depth=2 if plane.width <= 8 else 1,  # Listing 1 at depth 2: minutes at 16 bits
        )
    except ValueError:
        return None


def _coded_bits(table: RangeTable, histogram: Histogram, verbatim_bits: int) -> float:
    """Bits of the values and the table itself."""
    values = int(histogram.sum())
    bits = table.expected_bits(histogram) * values
    for start, end, length in zip(table.starts, table.ends, table.offset_lengths, strict=True):
        if length < verbatim_bits:
            bits += int(histogram[start : end + 1].sum()) * (verbatim_bits - length)
    return bits + 8 * len(table.to_bytes())


@dataclass(frozen=True)
class _Shape:
    """What bounds a table: count bits, longest offset, verbatim bits, and if it decodes slowly.

    A ``spare`` one is tried only where no other gave a table.
    """

    count_bits: int
    longest: int
    verbatim_bits: int = 0
    slow: bool = False
    spare: bool = False


def _shapes(plane: Plane, histogram: Histogram, settings: Lossless) -> Iterator[_Shape]:
    """Shapes to try, those that decode fast first.

    With rANS, offset bits ride in the state where count bits and they make at most 16; 10 to 12
    count bits, and no spilling, is what the vector kernels take.
    """
    longest = 15 if plane.width == 16 else 7
    asked = settings.count_bits
    if settings.coder == "arithmetic":
        for count_bits in (asked,) if asked else (10, 14):
            yield _Shape(count_bits, longest)
        return
    thorough = settings.effort == "small"
    if plane.width == 16:
        for verbatim_bits in VERBATIM_BITS:
            for count_bits in (asked,) if asked else (10, 12):
                spare = not thorough and (verbatim_bits, count_bits) != (VERBATIM_BITS[0], 10)
                reach = min(longest, verbatim_bits + 16 - count_bits)
                yield _Shape(count_bits, reach, verbatim_bits, count_bits > 12, spare)
        if not _low_byte_is_noise(histogram):
            yield _Shape(asked or 12, longest, slow=True)
        return
    total, small = histogram.sum(), histogram.sum() < SMALL[-1][0]
    # Where one value has most of the counts, those of the others are small: finer ones pay.
    both = thorough or small or histogram.max() > MOSTLY_ONE * total
    for count_bits in (asked,) if asked else (10, 12) if both else (10,):
        yield _Shape(count_bits, min(longest, 16 - count_bits), 0, count_bits > 12)
    if asked or small:
        yield _Shape(asked or 15, longest, slow=True)


def _low_byte_is_noise(histogram: Histogram) -> bool:
    """Whether the low byte of 16-bit values carries about 8 bits: then storing it costs little.

    Not so for small integers (few different values) or tensors with many exact zeros.
    """
    return bool(
        np.count_nonzero(histogram) > 512 and histogram.max() < MANY_EQUAL * histogram.sum()
    )
