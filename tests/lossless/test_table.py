"""Range tables: the paper's Table I, the rules a table must obey, bytes that are not a table."""

import dataclasses
from math import log2

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fewbits.errors import CorruptError
from fewbits.lossless.histogram import entropy
from fewbits.lossless.table import RangeTable

# Table I of the APack paper: the weights of one BILSTM layer.
PAPER_STARTS = "00 04 08 10 40 50 60 70 80 90 A0 B0 C0 D0 F4 FC"
PAPER_LENGTHS = "2 2 3 6 4 4 4 4 4 4 4 4 4 6 3 2"
PAPER_HIGHS = "1EB 229 238 23A 23A 23A 23A 23A 23A 23A 23A 23A 23A 23C 276 3FF"
PRINTED = """\
  IDX   v_min   v_max  OL     low    high       p
    0    0x00    0x03   2   0x000   0x1EB  0.4795
    1    0x04    0x07   2   0x1EB   0x229  0.0605
    2    0x08    0x0F   3   0x229   0x238  0.0146
    3    0x10    0x3F   6   0x238   0x23A  0.0020
    4    0x40    0x4F   4   0x23A   0x23A  0.0000
    5    0x50    0x5F   4   0x23A   0x23A  0.0000
    6    0x60    0x6F   4   0x23A   0x23A  0.0000
    7    0x70    0x7F   4   0x23A   0x23A  0.0000
    8    0x80    0x8F   4   0x23A   0x23A  0.0000
    9    0x90    0x9F   4   0x23A   0x23A  0.0000
   10    0xA0    0xAF   4   0x23A   0x23A  0.0000
   11    0xB0    0xBF   4   0x23A   0x23A  0.0000
   12    0xC0    0xCF   4   0x23A   0x23A  0.0000
   13    0xD0    0xF3   6   0x23A   0x23C  0.0020
   14    0xF4    0xFB   3   0x23C   0x276  0.0566
   15    0xFC    0xFF   2   0x276   0x3FF  0.3838"""


def table_one() -> RangeTable:
    highs = np.array([int(h, 16) for h in PAPER_HIGHS.split()])
    return RangeTable(
        width=8,
        count_bits=10,
        starts=tuple(int(s, 16) for s in PAPER_STARTS.split()),
        offset_lengths=tuple(int(n) for n in PAPER_LENGTHS.split()),
        counts=tuple(int(c) for c in np.diff(highs, prepend=0)),
    )


@st.composite
def tables(draw: st.DrawFn) -> RangeTable:
    width, count_bits = draw(st.integers(1, 16)), draw(st.integers(1, 16))
    starts = sorted(
        draw(st.sets(st.integers(0, (1 << width) - 1), min_size=1, max_size=min(40, 1 << width)))
    )
    lengths = tuple(
        draw(st.integers(0, (end - start - 1).bit_length()))
        for start, end in zip(starts, [*starts[1:], 1 << width], strict=True)
    )
    total = (1 << count_bits) - draw(st.integers(0, 1))
    cuts = draw(st.lists(st.integers(0, total), min_size=len(starts) - 1, max_size=len(starts) - 1))
    counts = tuple(int(c) for c in np.diff([0, *sorted(cuts), total]))
    return RangeTable(width, count_bits, tuple(starts), lengths, counts)


def test_table_one_prints_as_the_paper_prints_it() -> None:
    assert str(table_one()) == PRINTED


def test_table_one_takes_the_42_bytes_of_the_papers_engine() -> None:
    assert table_one().hardware_bits == 42 * 8


def test_table_one_leaves_one_count_unused_and_cannot_write_every_value() -> None:
    table = table_one()
    assert table.unused_counts == 1
    assert not table.covering
    with pytest.raises(ValueError, match="value 64 has no row"):
        table.split(np.array([0, 64], np.uint8))


def test_table_one_costs_what_its_counts_say() -> None:
    table = table_one()
    counts = np.zeros(256, np.int64)
    counts[0], counts[0xF4], counts[0x10] = 6, 1, 1
    bits = 6 * (10 - log2(0x1EB) + 2) + (10 - log2(0x276 - 0x23C) + 3) + (10 - log2(2) + 6)
    assert table.expected_bits(counts) == pytest.approx(bits / 8)
    assert table.gap_bits(counts) == pytest.approx(bits / 8 - entropy(counts))


def test_a_value_without_a_row_costs_infinitely_much() -> None:
    counts = np.zeros(256, np.int64)
    counts[[0, 64]] = 1
    assert table_one().expected_bits(counts) == float("inf")


@settings(max_examples=100, deadline=None)
@given(table=tables())
@example(table=table_one())
def test_a_table_reads_back_from_its_bytes(table: RangeTable) -> None:
    data = table.to_bytes()
    assert RangeTable.from_bytes(data + b"more", table.width) == (table, len(data))


@settings(max_examples=100, deadline=None)
@given(table=tables())
def test_split_and_join_are_inverse_where_a_value_has_a_row(table: RangeTable) -> None:
    for value in {*table.starts, *table.ends, 0, (1 << table.width) - 1}:
        one = np.array([value])
        try:
            rows, offsets = table.split(one)
        except ValueError:
            assert not table.covering
            continue
        assert table.counts[rows[0]] > 0
        assert 0 <= offsets[0] < 1 << table.offset_lengths[rows[0]]
        assert table.join(rows, offsets) == one


@settings(max_examples=100, deadline=None)
@given(table=tables())
def test_a_table_is_covering_exactly_if_it_can_write_every_value(table: RangeTable) -> None:
    try:
        table.split(np.arange(1 << table.width))
        writes_all = min(table.counts) > 0
    except ValueError:
        writes_all = False
    assert table.covering == writes_all


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"width": 0}, "width 0"),
        ({"width": 17}, "width 17"),
        ({"count_bits": 0}, "0 count bits"),
        ({"count_bits": 17}, "17 count bits"),
        ({"starts": (), "offset_lengths": (), "counts": ()}, "has no rows"),
        ({"starts": ()}, "differ in length"),
        ({"starts": (0, 4)}, "differ in length"),
        ({"offset_lengths": (2, 2)}, "differ in length"),
        ({"counts": (4, 4)}, "differ in length"),
        ({"starts": (0, 8, 4)}, "do not ascend"),
        ({"starts": (0, 4, 4)}, "do not ascend"),
        ({"starts": (-1, 4, 8)}, "do not ascend"),
        ({"starts": (0, 4, 16)}, "do not ascend"),
        ({"offset_lengths": (3, 2, 3)}, "row 0 cannot use an offset of 3 bits"),
        ({"offset_lengths": (2, -1, 3)}, "row 1 cannot use an offset of -1 bits"),
        ({"counts": (4, 2, 3)}, "counts sum to 9, not 8"),
        ({"counts": (4, 2, 0)}, "counts sum to 6, not 8"),
        ({"counts": (9, 0, -1)}, "row 2 has a count of -1"),
    ],
)
def test_each_broken_rule_is_named(broken: dict[str, object], message: str) -> None:
    valid = RangeTable(4, 3, (0, 4, 8), (2, 2, 3), (4, 2, 2))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(valid, **broken)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(table=tables(), cut=st.floats(0, 1, exclude_max=True))
def test_bytes_cut_short_are_corrupt(table: RangeTable, cut: float) -> None:
    data = table.to_bytes()
    with pytest.raises(CorruptError, match="cut short"):
        RangeTable.from_bytes(data[: int(cut * len(data))], table.width)


@settings(max_examples=300, deadline=None)
@given(table=tables(), data=st.data())
def test_changed_bytes_are_corrupt_or_another_valid_table(
    table: RangeTable, data: st.DataObject
) -> None:
    changed = bytearray(table.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= data.draw(st.integers(1, 255))
    try:
        read, size = RangeTable.from_bytes(bytes(changed), table.width)
    except CorruptError:
        return
    assert 0 < size <= len(changed)
    assert RangeTable.from_bytes(read.to_bytes(), read.width)[0] == read


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=64))
@example(data=bytes(64))
@example(data=b"\x08\x0a\xff\xff" + bytes(60))
def test_any_bytes_are_corrupt_or_a_valid_table(data: bytes) -> None:
    try:
        read, size = RangeTable.from_bytes(data, 8)
    except CorruptError:
        return
    assert 0 < size <= len(data)
    assert RangeTable.from_bytes(read.to_bytes(), 8)[0] == read
