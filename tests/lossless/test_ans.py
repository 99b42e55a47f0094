"""Interleaved rANS: every path gives the bytes of the plain Python form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits import RangeTable, _kernels, find_table
from fewbits.lossless import ans
from fewbits.lossless.histogram import histogram
from strategies import tables_and_values

SIMD = _kernels.available_simd()


@pytest.fixture(autouse=True)
def restore_simd():
    before = _kernels.simd()
    yield
    _kernels.set_simd(before)


def kernel_decode(payload, n, table, verbatim_bits, dtype):
    out = np.zeros(n, dtype)
    data = np.frombuffer(bytes(payload), np.uint8)
    return _kernels.rans_decode(data, table.kernel, verbatim_bits, out), out


def verbatim_choices(table):
    """Verbatim bits that this table can be coded with."""
    room = 16 - table.count_bits
    least = max(1, max(table.offset_lengths) - room)
    return (0, *range(least, 9)) if table.width == 16 else (0,)


@given(tables_and_values())
@settings(max_examples=150, deadline=None)
def test_every_kernel_equals_the_plain_form(case):
    table, values = case
    for verbatim_bits in verbatim_choices(table):
        expected = ans.encode(values, table, verbatim_bits)
        payload = _kernels.rans_encode(values, table.kernel, verbatim_bits)
        assert payload.tobytes() == expected
        assert (ans.decode(expected, len(values), table, verbatim_bits) == values).all()
        for name in SIMD:
            _kernels.set_simd(name)
            well, out = kernel_decode(payload, len(values), table, verbatim_bits, values.dtype)
            assert well, name
            assert (out == values).all(), name


LONG = [2047, 4096, 16384, 32768 + 5, 65536, 131072 + 77, 262144 + 1, 600_000]
KINDS = ["byte", "pair", "pair+8 verbatim", "pair+7 verbatim", "pair+3 verbatim", "12-bit counts",
         "15-bit counts", "spill", "many rows", "few counts", "hardly any counts",
         "skewed"]  # fmt: skip


def long_case(kind, n):
    """Values, their table and verbatim bits, of one kind of row."""
    rng = np.random.default_rng(n)
    wide = kind.startswith("pair")
    verbatim_bits = int(kind[5]) if "verbatim" in kind else 0
    spread = {"skewed": 0.3, "12-bit counts": 3, "15-bit counts": 1}.get(
        kind, 12 << verbatim_bits if wide else 9
    )
    values = np.abs(rng.laplace(0, spread, n)).astype(np.int64)
    values = np.minimum(values, 65535 if wide else 255).astype(np.uint16 if wide else np.uint8)
    named = {"12-bit counts": 12, "15-bit counts": 15, "few counts": 8, "hardly any counts": 5}
    count_bits = named.get(kind, 10)
    table = find_table(
        histogram(values, 16 if wide else 8),
        rows={"many rows": 40, "spill": 3}.get(kind, 16),
        count_bits=count_bits,
        max_offset_length=7 if kind == "spill" else 16 - count_bits + verbatim_bits,
        verbatim_bits=verbatim_bits,
    )
    return values, table, verbatim_bits


@pytest.mark.parametrize("n", LONG)
@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree_on_long_blocks_of_every_kind(n, kind):
    values, table, verbatim_bits = long_case(kind, n)
    payloads = set()
    for name in SIMD:
        _kernels.set_simd(name)
        payloads.add(_kernels.rans_encode(values, table.kernel, verbatim_bits).tobytes())
    assert len(payloads) == 1
    payload = payloads.pop()
    for name in SIMD:
        _kernels.set_simd(name)
        well, out = kernel_decode(payload, n, table, verbatim_bits, values.dtype)
        assert well, name
        assert (out == values).all(), name
    bound = table.expected_bits(histogram(values, table.width)) * n / 8
    if not verbatim_bits:
        assert len(payload) <= bound * 1.002 + 4 * ans.lanes(n, len(payload)) + 8


@given(
    seed=st.integers(0, 1 << 32),
    count_bits=st.integers(10, 12),
    verbatim_bits=st.integers(0, 8),
    rows=st.integers(2, 16),
    skew=st.floats(0, 12),
    n=st.sampled_from([20_000, 40_000, 70_000, 140_000, 270_000, 530_000]),  # 8 to 256 lanes
)
@settings(max_examples=40, deadline=None)
def test_instruction_sets_agree_on_any_table_of_16_rows(
    seed, count_bits, verbatim_bits, rows, skew, n
):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, min(11, verbatim_bits + 16 - count_bits) + 1, rows)
    reserved = (1 << lengths) + rng.integers(0, 3, rows)  # gaps between rows
    starts = rng.integers(0, 50) + np.concatenate(([0], np.cumsum(reserved)[:-1]))
    counts = np.maximum(rng.exponential(1, rows) ** skew, 1e-9)
    counts = (counts / counts.sum() * ((1 << count_bits) - rows)).astype(int)
    counts[1:] += rng.random(rows - 1) < 0.8  # some rows stay without any
    counts[0] += (1 << count_bits) - counts.sum()
    table = RangeTable(16, count_bits, tuple(starts.tolist()), tuple(lengths.tolist()),
                       tuple(counts.tolist()))  # fmt: skip
    drawn = rng.choice(rows, n, p=counts / counts.sum())
    values = (starts[drawn] + rng.integers(0, 1 << lengths[drawn])).astype(np.uint16)
    payloads = set()
    for name in SIMD:
        _kernels.set_simd(name)
        payloads.add(_kernels.rans_encode(values, table.kernel, verbatim_bits).tobytes())
    assert len(payloads) == 1
    well, out = kernel_decode(payloads.pop(), n, table, verbatim_bits, np.uint16)
    assert well
    assert (out == values).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [16384, 32768, 70_000])
def test_instruction_sets_agree_on_damaged_payloads(n, kind):
    values, table, verbatim_bits = long_case(kind, n)
    payload = _kernels.rans_encode(values, table.kernel, verbatim_bits)
    rng = np.random.default_rng(n)
    for part in (40, payload.size):  # states, whose top halves may then be zero, and anywhere
        for _ in range(10):
            damaged = payload.copy()
            at = rng.integers(1, part, 3)
            damaged[at] = rng.choice([0, 0, 255, 1], 3)
            damaged = damaged[: damaged.size - rng.choice([0, 0, 2, 64])]
            answers = set()
            for name in SIMD:
                _kernels.set_simd(name)
                well, out = kernel_decode(damaged, n, table, verbatim_bits, values.dtype)
                answers.add((well, out.tobytes()))
            assert len(answers) == 1


def test_plain_form_agrees_with_a_block_of_many_lanes():
    values, table, verbatim_bits = long_case("pair+7 verbatim", 70_000)
    payload = _kernels.rans_encode(values, table.kernel, verbatim_bits).tobytes()
    assert payload[0] == ans.LOADED | 6  # 64 lanes
    assert payload == ans.encode(values, table, verbatim_bits)
    assert (ans.decode(payload, len(values), table, verbatim_bits) == values).all()


@pytest.mark.parametrize("simd", SIMD)
@pytest.mark.parametrize("at", [0, 1, 40_000, 65_407, 65_408])
def test_one_value_without_a_row_among_many_is_refused(simd, at):
    _kernels.set_simd(simd)
    table = RangeTable(8, 10, (2, 4, 8, 20), (1, 2, 2, 3), (500, 300, 0, 224))
    values = np.full(65_537, 5, np.uint8)  # the last 128 lie in the 64 lanes as they are
    values[::3] = 21
    assert len(_kernels.rans_encode(values, table.kernel)) > 0
    for wrong in (0, 1, 9, 13, 28, 255):  # before, past a reach, in a row without counts
        values[at] = wrong
        with pytest.raises(ValueError, match="no row"):
            _kernels.rans_encode(values, table.kernel)


@pytest.mark.parametrize("simd", SIMD)
@given(case=tables_and_values(min_size=1), data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_payloads_are_refused_or_decode_to_something_without_harm(simd, case, data):
    table, values = case
    _kernels.set_simd(simd)
    payload = bytearray(_kernels.rans_encode(values, table.kernel, 0).tobytes())
    at = data.draw(st.integers(0, len(payload) - 1))
    cut = data.draw(st.booleans())
    if cut:
        damaged = bytes(payload[:at])
    else:
        payload[at] ^= data.draw(st.integers(1, 255))
        damaged = bytes(payload)
    well, out = kernel_decode(damaged, len(values), table, 0, values.dtype)
    # A flipped bit may give another valid payload (checksums are the frame's), a cut never does.
    assert not (well and cut)
    assert not well or out.shape == values.shape


def test_one_row_with_every_count_needs_no_words():
    table = RangeTable(8, 16, (0,), (8,), (1 << 16,))
    values = np.arange(256, dtype=np.uint8)
    payload = _kernels.rans_encode(values, table.kernel, 0)
    assert payload.tobytes() == ans.encode(values, table)
    assert kernel_decode(payload, 256, table, 0, np.uint8)[1].tolist() == values.tolist()


def test_table_as_the_paper_writes_it_codes_its_last_row_with_the_spare_count():
    table = RangeTable(8, 10, (0, 128), (7, 7), (1000, 23))
    values = np.array([1, 200, 3, 255] * 100, np.uint8)
    payload = _kernels.rans_encode(values, table.kernel, 0)
    assert payload.tobytes() == ans.encode(values, table)
    assert kernel_decode(payload, 400, table, 0, np.uint8)[1].tolist() == values.tolist()


def test_value_without_a_row_is_refused():
    table = RangeTable(8, 8, (0, 10), (3, 2), (200, 56))
    for value in (8, 14):
        with pytest.raises(ValueError, match="no row"):
            _kernels.rans_encode(np.array([value], np.uint8), table.kernel, 0)


def test_more_rows_than_codes_are_refused():
    table = RangeTable(8, 3, tuple(range(8)), (0,) * 7 + (7,), (1,) * 8)
    with pytest.raises(ValueError, match="more rows than codes"):
        _kernels.rans_encode(np.zeros(1, np.uint8), table.kernel, 0)


def test_values_and_tables_of_different_width_are_refused():
    table = RangeTable(8, 8, (0,), (8,), (256,))
    with pytest.raises(ValueError, match="width"):
        _kernels.rans_encode(np.zeros(1, np.uint16), table.kernel, 0)


@pytest.mark.parametrize("count_bits", [4, 8, 10, 12, 16])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 40])
def test_every_row_gets_as_many_codes_as_its_count(rows, count_bits):
    if rows > 1 << count_bits:
        return
    rng = np.random.default_rng(rows)
    cuts = np.sort(rng.choice((1 << count_bits) - 1, rows - 1, replace=False) + 1)
    counts = np.diff(np.concatenate(([0], cuts, [1 << count_bits])))
    if max(16, 1 << (rows - 1).bit_length()) > 1 << count_bits:
        with pytest.raises(ValueError, match="more rows than codes"):
            ans.deal(tuple(counts), count_bits)
        return
    codes = ans.deal(tuple(int(c) for c in counts), count_bits)
    dealt = np.bincount([code.row for code in codes], minlength=rows)
    assert (dealt[:rows] == counts).all()
    assert [c.position for c in codes if c.row == 0] == list(range(counts[0]))
