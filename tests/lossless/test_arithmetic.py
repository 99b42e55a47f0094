"""The arithmetic coder: kernel, readable reference, and two independent models of the coder."""

import doctest
from fractions import Fraction
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fewbits import _kernels
from fewbits.errors import CorruptError
from fewbits.lossless import arithmetic
from fewbits.lossless.histogram import histogram
from fewbits.lossless.table import RangeTable

# Table I of the paper; rows 3 to 12 share the high count 0x23A but for row 3, so nine are empty.
PAPER_STARTS = (0, 4, 8, 16, 64, 80, 96, 112, 128, 144, 160, 176, 192, 0xD0, 0xF4, 0xFC)
PAPER_OFFSET_LENGTHS = (2, 2, 3, 6, 4, 4, 4, 4, 4, 4, 4, 4, 4, 6, 3, 2)
PAPER_HIGHS = (0x1EB, 0x229, 0x238, *[0x23A] * 10, 0x23C, 0x276, 0x3FF)
PAPER_COUNTS = tuple(int(c) for c in np.diff(PAPER_HIGHS, prepend=0))
PAPER_TABLE = RangeTable(8, 10, PAPER_STARTS, PAPER_OFFSET_LENGTHS, PAPER_COUNTS)

Values = NDArray[np.unsignedinteger]


def kernel_encode(values: Values, table: RangeTable) -> bytes:
    return _kernels.arithmetic_encode(values, table.kernel).tobytes()


def kernel_decode(payload: bytes, n: int, table: RangeTable) -> Values | None:
    out = np.zeros(n, np.uint8 if table.width <= 8 else np.uint16)
    read = _kernels.arithmetic_decode(np.frombuffer(payload, np.uint8), table.kernel, out)
    return out if read else None


def reference_decode(payload: bytes, n: int, table: RangeTable) -> Values | None:
    try:
        return arithmetic.decode(payload, n, table)
    except CorruptError:
        return None


def encoder_after(rows: list[int], table: RangeTable) -> arithmetic.Encoder:
    encoder = arithmetic.Encoder(table)
    for row in rows:
        encoder.put(row, 0)
    return encoder


def assert_round_trip(values: Values, table: RangeTable) -> bytes:
    payload = kernel_encode(values, table)
    assert payload == arithmetic.encode(values, table)
    for decode in (kernel_decode, reference_decode):  # None equals no array, not even an empty one
        np.testing.assert_array_equal(decode(payload, values.size, table), values, strict=True)
    return payload


def random_table(
    rng: np.random.Generator, width: int, count_bits: int, rows: int, *, paper_total: bool = False
) -> RangeTable:
    """Rows at random places, skewed counts of at least one each."""
    starts = np.sort(rng.choice(np.arange(1, 1 << width), rows - 1, replace=False))
    bounds = np.concatenate(([0], starts, [1 << width]))
    lengths = [int(w - 1).bit_length() for w in np.diff(bounds)]
    total = (1 << count_bits) - int(paper_total)
    counts = 1 + np.floor(rng.dirichlet(np.full(rows, 0.3)) * (total - rows)).astype(int)
    counts[rng.integers(rows)] += total - counts.sum()
    return RangeTable(width, count_bits, tuple(map(int, bounds[:-1])), tuple(lengths),
                      tuple(map(int, counts)))  # fmt: skip


@st.composite
def tables_and_values(draw: st.DrawFn, max_size: int = 60) -> tuple[RangeTable, Values]:
    """Any table the window takes, some with empty rows or a gap, and values it can write."""
    width = draw(st.sampled_from((1, 2, 4, 7, 8, 12, 16)))
    count_bits = draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(1, min(1 << width, (1 << count_bits) - 1, 20)))
    table = random_table(rng, width, count_bits, rows, paper_total=draw(st.booleans()))
    if rows > 2 and draw(st.booleans()):  # hand one row's counts to the next
        counts = list(table.counts)
        counts[1], counts[2] = 0, counts[1] + counts[2]
        table = RangeTable(width, count_bits, table.starts, table.offset_lengths, tuple(counts))
    writable = np.flatnonzero(np.repeat(table.counts, np.diff([*table.starts, 1 << width])))
    values = rng.choice(writable, draw(st.integers(0, max_size)))
    return table, values.astype(np.uint8 if width <= 8 else np.uint16)


@given(tables_and_values())
@settings(max_examples=150, deadline=None)
def test_kernel_and_reference_write_the_same_bytes_and_read_them_back(case):
    assert_round_trip(case[1], case[0])


def bit_serial_bits(rows: list[int], table: RangeTable) -> list[int]:
    """The classic loop after Nelson: bit by bit, each a shared top bit or an underflow bit."""
    bits: list[int] = []
    low, high, underflow = 0, 0xFFFF, 0

    def output(bit: int) -> None:
        nonlocal underflow
        bits.extend([bit] + [1 - bit] * underflow)
        underflow = 0

    for row in rows:
        span = high - low + 1
        high = low + (span * table.cumulative[row + 1] >> table.count_bits) - 1
        low = low + (span * table.cumulative[row] >> table.count_bits)
        while True:
            if (high & 0x8000) == (low & 0x8000):
                output(high >> 15)
            elif (low & 0x4000) and not (high & 0x4000):
                underflow += 1
                low, high = low & 0x3FFF, high | 0x4000
            else:
                break
            low, high = (low << 1) & 0xFFFF, (high << 1) & 0xFFFF | 1
    underflow += 1
    output(0 if low < 0x4000 else 1)
    return bits


@given(tables_and_values())
@settings(max_examples=150, deadline=None)
def test_single_step_writes_what_the_bit_serial_loop_writes(case):
    rows = case[0].split(case[1])[0].tolist()
    encoder = encoder_after(rows, case[0])
    encoder.flush()
    assert encoder.symbol_bits == bit_serial_bits(rows, case[0])


def exact_interval(rows: list[int], table: RangeTable) -> tuple[Fraction, Fraction]:
    """The interval that the rows narrow [0, 1) to, with scaled counts rounded as the window does.

    Exact numbers and no registers: the window is an interval of its own, which is halved for as
    long as its lower, upper or middle half holds the rest of the interval.
    """
    low, high, base, size = Fraction(0), Fraction(1), Fraction(0), Fraction(1)
    for row in rows:
        unit = size / 2**16
        span = (high - low) / unit
        assert span.denominator == 1
        below = int(span) * table.cumulative[row] >> table.count_bits
        end = int(span) * table.cumulative[row + 1] >> table.count_bits
        low, high = low + below * unit, low + end * unit
        while True:
            halves = (base, base + size / 2, base + size / 4)
            inside = [half for half in halves if half <= low and high <= half + size / 2]
            if not inside:
                break
            base, size = inside[0], size / 2
    return low, high


@given(tables_and_values(max_size=25))
@settings(max_examples=100, deadline=None)
def test_emitted_bits_stay_in_the_exact_interval_at_nearly_its_ideal_length(case):
    table = case[0]
    rows = table.split(case[1])[0].tolist()
    encoder = encoder_after(rows, table)
    encoder.flush()
    length = len(encoder.symbol_bits)
    low, high = exact_interval(rows, table)
    number = Fraction(int("".join(map(str, encoder.symbol_bits)), 2), 2**length)
    # Whatever follows these bits, the decoder reads a number of this sequence.
    assert low <= number
    assert number + Fraction(1, 2**length) <= high
    # log2 of the fraction by its parts, which stay exact where the fraction underflows a float.
    assert length <= log2((high - low).denominator) - log2((high - low).numerator) + 2 + 1e-6
    # Rounding the ends of a row takes less than one of its more than 2**14 * count / total codes.
    counts = np.array(table.counts, float)[rows]
    ideal = float((table.count_bits - np.log2(counts)).sum())
    codes = counts * 2.0 ** (14 - table.count_bits)
    kept = np.maximum(codes - 1, 1) / (codes + 1)
    assert length <= ideal + 2 - float(np.log2(kept).sum()) + 1e-6


@given(tables_and_values(), st.binary(min_size=40, max_size=40))
@settings(max_examples=100, deadline=None)
def test_division_finds_the_row_that_multiply_and_compare_finds(case, noise):
    # Decoding noise visits windows and codes that ordinary data rarely do.
    table = case[0]
    decoder = arithmetic.Decoder(len(noise).to_bytes(4, "little") + noise + bytes(400), table)
    found = []
    try:
        while decoder.symbols.position < 300 and len(found) < 200:
            found.append(decoder.take())
    except CorruptError:
        pass  # a code that no row owns, or an offset past the end of its row
    assert_round_trip(np.array(found, np.uint8 if table.width <= 8 else np.uint16), table)


def straddling_rows(table: RangeTable, n: int) -> list[int]:
    """Rows chosen greedily so that LO and HI stay on either side of the middle of the window."""
    encoder = arithmetic.Encoder(table)
    rows = []
    for _ in range(n):
        middle = 0x8000 - encoder.LO
        ends = [encoder.scaled(count) for count in table.cumulative]
        rows.append(next(row for row in range(table.rows) if ends[row] < middle <= ends[row + 1]))
        encoder.put(rows[-1], 0)
    return rows


@pytest.mark.parametrize("lengths", [range(8, 60), (300, 2000)])
def test_underflow_count_beyond_five_bits_round_trips(lengths):
    table = RangeTable(8, 14, (0, 1, 100, 200, 255), (0, 7, 7, 6, 0), (1, 5460, 5462, 5460, 1))
    for n in lengths:
        rows = straddling_rows(table, n)
        values = np.array(table.starts, np.uint8)[rows]
        # What follows decides the outstanding bits: both ways, by short and by long prefixes.
        for tail in ([], [1], [254], [0], [255], [0, 255, 255], [255, 0, 100, 1]):
            assert_round_trip(np.append(values, np.array(tail, np.uint8)), table)
    assert encoder_after(rows, table).max_underflow > 31


def test_underflow_count_overflows_the_papers_register_with_its_own_table():
    rows = straddling_rows(PAPER_TABLE, 2000)
    assert encoder_after(rows, PAPER_TABLE).max_underflow > 31
    assert_round_trip(np.array(PAPER_STARTS, np.uint8)[rows], PAPER_TABLE)


def paper_values(n: int) -> Values:
    rng = np.random.default_rng(7)
    rows = rng.choice(16, n, p=np.array(PAPER_COUNTS) / 1023)
    bounds = np.array((PAPER_STARTS, PAPER_TABLE.ends))[:, rows]
    return rng.integers(*bounds, endpoint=True).astype(np.uint8)


def test_table_one_of_the_paper_codes_its_own_distribution_at_the_expected_size():
    values = paper_values(20_000)
    payload = assert_round_trip(values, PAPER_TABLE)
    bits = PAPER_TABLE.expected_bits(histogram(values, 8)) * values.size
    assert len(payload) * 8 == pytest.approx(bits, rel=0.005)


@pytest.mark.parametrize("count_bits", range(8, 15))
@pytest.mark.parametrize("width", [4, 8, 16])
def test_every_width_and_count_precision_comes_within_a_percent_of_the_expected_size(
    width, count_bits
):
    rng = np.random.default_rng(width * 100 + count_bits)
    table = random_table(rng, width, count_bits, 16)
    rows = rng.choice(16, 4000, p=np.array(table.counts) / (1 << count_bits))
    values = np.array(table.starts)[rows].astype(np.uint8 if width <= 8 else np.uint16)
    payload = assert_round_trip(values, table)
    bits = table.expected_bits(histogram(values, width)) * values.size
    assert len(payload) * 8 <= bits * 1.01 + 32 + 2 * 32
    assert len(payload) * 8 >= bits


def test_empty_input_is_a_length_and_one_word_of_flush():
    payload = assert_round_trip(np.array([], np.uint8), PAPER_TABLE)
    assert payload == bytes.fromhex("04000000 40000000")


def test_single_value_tensor_costs_nothing_beyond_the_flush():
    table = RangeTable(8, 10, (0, 42, 43), (0, 0, 0), (0, 1024, 0))
    payload = assert_round_trip(np.full(5000, 42, np.uint8), table)
    assert len(payload) == 8
    paper_total = RangeTable(8, 10, (42,), (0,), (1023,))  # pays for the unused count
    payload = assert_round_trip(np.full(5000, 42, np.uint8), paper_total)
    assert len(payload) * 8 == pytest.approx(5000 * log2(1024 / 1023), abs=96)


def test_almost_all_zeros_stay_within_a_percent_of_the_integer_counts():
    rng = np.random.default_rng(3)
    values = np.where(rng.random(60_000) < 0.999, 0, rng.integers(1, 256, 60_000)).astype(np.uint8)
    table = RangeTable(8, 14, (0, 1), (0, 8), ((1 << 14) - 16, 16))
    payload = assert_round_trip(values, table)
    bits = table.expected_bits(histogram(values, 8)) * values.size
    assert len(payload) * 8 <= bits * 1.01 + 3 * 32


def test_sixteen_bit_offsets_and_single_count_rows_round_trip():
    table = RangeTable(16, 14, (0, 1), (0, 16), ((1 << 14) - 1, 1))
    assert_round_trip(np.array([0, 65535, 1, 0, 32768, 65535] * 20, np.uint16), table)


def test_more_than_fourteen_count_bits_are_refused_by_every_entry():
    table = RangeTable(8, 15, (0, 1), (0, 8), ((1 << 15) - 1, 1))
    for refused in (
        lambda: arithmetic.encode(paper_values(4), table),
        lambda: arithmetic.decode(bytes(12), 4, table),
        lambda: kernel_encode(paper_values(4), table),
        lambda: kernel_decode(bytes(12), 4, table),
    ):
        with pytest.raises(ValueError, match="14 count bits"):
            refused()


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (RangeTable(8, 10, (8, 16), (3, 8), (512, 512)), 7),  # before the first row
        (RangeTable(8, 10, (0, 16), (3, 8), (512, 512)), 8),  # past the reach of a row's offset
        (RangeTable(8, 10, (0, 16), (4, 8), (1024, 0)), 200),  # in a row without a count
        (RangeTable(4, 10, (0, 8), (3, 3), (512, 512)), 16),  # beyond the width
    ],
)
def test_a_value_without_a_row_is_named_in_the_error(table, value):
    values = np.array([table.starts[0], value], np.uint8)
    for encode in (kernel_encode, arithmetic.encode):
        with pytest.raises(ValueError, match=f"value {value} has no row"):
            encode(values, table)


def test_values_wider_than_the_output_array_are_not_decoded():
    table = RangeTable(16, 10, (0, 256), (8, 16), (512, 512))
    payload = kernel_encode(np.array([0, 1000], np.uint16), table)
    data, out = np.frombuffer(payload, np.uint8), np.zeros(2, np.uint8)
    assert not _kernels.arithmetic_decode(data, table.kernel, out)


def assert_same_verdict(payload: bytes, n: int, table: RangeTable) -> bool:
    """Kernel and reference agree, and accept only what the encoder writes; whether they accept."""
    read, referred = kernel_decode(payload, n, table), reference_decode(payload, n, table)
    assert (read is None) == (referred is None)
    if read is None or referred is None:
        return False
    np.testing.assert_array_equal(read, referred)
    assert kernel_encode(read, table) == payload
    return True


def test_every_truncation_and_any_addition_is_refused():
    values = paper_values(150)
    payload = kernel_encode(values, PAPER_TABLE)
    for size in range(len(payload)):
        assert not assert_same_verdict(payload[:size], values.size, PAPER_TABLE)
    for extra in (b"\0", b"\xff", bytes(4)):
        assert not assert_same_verdict(payload + extra, values.size, PAPER_TABLE)
    for n in (0, 1, values.size - 20, values.size + 20):
        assert not assert_same_verdict(payload, n, PAPER_TABLE)


def test_every_bit_flip_is_refused_or_is_another_tensors_exact_payload():
    values = paper_values(100)
    payload = kernel_encode(values, PAPER_TABLE)
    accepted = 0
    for bit in range(len(payload) * 8):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        accepted += assert_same_verdict(bytes(damaged), values.size, PAPER_TABLE)
    # Offset bits carry no redundancy, so their flips are accepted: checksums are for the frame.
    assert 0 < accepted < len(payload) * 8


@given(tables_and_values(), st.binary(max_size=64), st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_get_the_same_verdict_from_kernel_and_reference(case, noise, n):
    table = case[0]
    assert_same_verdict(noise, n, table)
    symbols = noise[: len(noise) // 8 * 4]
    framed = len(symbols).to_bytes(4, "little") + symbols + noise[len(symbols) :]
    assert_same_verdict(framed, n, table)


@pytest.mark.parametrize(
    ("payload", "n", "table", "fault"),
    [
        ("", 0, PAPER_TABLE, "cut short"),
        ("040000", 0, PAPER_TABLE, "cut short"),
        ("08000000 40000000", 0, PAPER_TABLE, "symbol stream is cut short"),
        ("03000000 400000", 0, PAPER_TABLE, "symbol stream is longer or shorter"),
        ("08000000 40000000 00000000", 0, PAPER_TABLE, "symbol stream is longer or shorter"),
        ("04000000 40000001", 0, PAPER_TABLE, "symbol stream is longer or shorter"),
        ("04000000 80000000", 0, PAPER_TABLE, "does not end with a flush"),
        ("04000000 60000000", 0, PAPER_TABLE, "does not end with a flush"),
        ("04000000 40000000 00000000", 0, PAPER_TABLE, "offset stream is longer or shorter"),
        ("04000000 FFFF0000", 1, PAPER_TABLE, "no row owns"),  # the count that sums leave unused
        # One row of six values: offset 7 of 3 bits reaches past its end.
        ("04000000 40000000 E0000000", 1, RangeTable(8, 1, (250,), (3,), (2,)), "past the end"),
        ("04000000 40000000 20000001", 1, RangeTable(8, 1, (250,), (3,), (2,)), "offset stream"),
    ],
)
def test_each_kind_of_malformed_payload_is_told_apart(payload, n, table, fault):
    data = bytes.fromhex(payload)
    with pytest.raises(CorruptError, match=fault):
        arithmetic.decode(data, n, table)
    assert kernel_decode(data, n, table) is None


def test_decoding_writes_only_its_own_output():
    values = paper_values(64)
    payload = np.frombuffer(kernel_encode(values, PAPER_TABLE), np.uint8)
    guarded = np.full(96, 0xEE, np.uint8)
    assert _kernels.arithmetic_decode(payload, PAPER_TABLE.kernel, guarded[16:80])
    np.testing.assert_array_equal(guarded[16:80], values)
    assert (np.delete(guarded, slice(16, 80)) == 0xEE).all()


def test_the_example_in_the_module_runs():
    results = doctest.testmod(arithmetic)
    assert results.attempted > 0
    assert results.failed == 0
