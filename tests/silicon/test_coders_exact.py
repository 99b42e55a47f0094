"""Bare encoders and decoders write and read, bit by bit, what software does."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("amaranth")

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fewbits.lossless import arithmetic
from fewbits.lossless.table import RangeTable
from fewbits.silicon.settings import Settings
from fewbits.silicon.streams import Stream
from silicon_reference import encode_bits
from silicon_units import Streams, bits_of, decode, encode, table_for

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
LOOKUPS = ("parallel", "binary", "divider")
DATAPATHS = ("range", "paper")


def laplace(n: int, settings: Settings, seed: int = 0, scale: float = 0.04) -> np.ndarray:
    rng = np.random.default_rng(seed)
    top = 1 << settings.width
    values = np.round(rng.laplace(0, max(0.7, scale * top), n)).astype(np.int64) % top
    return values.astype(np.uint8 if settings.width <= 8 else np.uint16)


def check(settings: Settings, table: RangeTable, tensors: list[np.ndarray]) -> None:
    streams, overflow = encode(settings, table, tensors)
    assert not overflow
    for stream, tensor in zip(streams, tensors, strict=True):
        symbols, offsets, _ = encode_bits(tensor, table, settings.window_bits)
        assert (stream.symbols, stream.offsets) == (symbols, offsets)
        if settings.window_bits == 16:
            assert stream.payload == arithmetic.encode(tensor, table)
    values, taken, fault = decode(settings, table, streams, [t.size for t in tensors])
    assert not fault
    assert values == [t.tolist() for t in tensors]
    for (symbols, offsets), stream in zip(taken, streams, strict=True):
        # The flush wrote two bits; the window of CODE runs ahead by its size.
        assert symbols == len(stream.symbols) - 2 + settings.window_bits
        assert offsets == len(stream.offsets)


def test_a_thousand_values() -> None:
    values = laplace(1000, Settings())
    check(Settings(), table_for(values, Settings()), [values])


def test_activations_by_a_table_from_others() -> None:
    """As the paper has it for activations: half are zero, and the table has not seen these."""
    rng = np.random.default_rng(8)
    seen, unseen = (np.maximum(rng.normal(0, 40, n), 0).astype(np.uint8) for n in (5000, 200))
    settings = Settings(lookup="divider")
    table = settings.table_for(seen, covering=True)
    check(settings, table, [np.append(unseen, 255).astype(np.uint8)])


@pytest.mark.parametrize(("lookup", "datapath"), [*product(LOOKUPS, DATAPATHS)])
def test_lookups_agree(lookup: str, datapath: str) -> None:
    settings = Settings(lookup=lookup, datapath=datapath)
    values = laplace(100, settings, seed=1)
    check(settings, table_for(values, settings, method="paper"), [values])


@pytest.mark.parametrize(
    "settings",
    [
        Settings(width=4, rows=8, count_bits=8, lookup="divider"),
        Settings(width=16, rows=32, count_bits=12),
        Settings(width=16, count_bits=14, lookup="parallel", rows=8, datapath="paper"),
        Settings(rows=2, count_bits=1),
        Settings(window_bits=12, count_bits=10, underflow_bits=8),
        Settings(window_bits=24, count_bits=16, lookup="divider"),
    ],
    ids=str,
)
def test_sizes(settings: Settings) -> None:
    values = laplace(80, settings, seed=2)
    if settings.rows == 2:
        values = values & 0x7F
    check(settings, table_for(values, settings), [values])


@pytest.mark.parametrize(("stages", "lookup"), [(2, "parallel"), (4, "binary"), (9, "divider")])
def test_streams_take_turns(stages: int, lookup: str) -> None:
    settings = Settings(stages=stages, lookup=lookup)
    tensors = [laplace(20 + 7 * i, settings, seed=i) for i in range(stages)]
    check(settings, table_for(np.concatenate(tensors), settings), tensors)


def test_idle_cycles_change_nothing() -> None:
    settings = Settings()
    values = laplace(100, settings, seed=3)
    table = table_for(values, settings)
    pauses = iter(np.random.default_rng(0).random(100_000) < 0.5)
    streams, _ = encode(settings, table, [values], pauses)
    assert streams[0].payload == arithmetic.encode(values, table)


def adversary(table: RangeTable, n: int) -> np.ndarray:
    """Of each next value's choices, the one that leaves most underflow bits waiting."""
    encoder = arithmetic.Encoder(table)
    values = []
    for _ in range(n):
        best = max(range(table.rows), key=lambda row: _pending_after(encoder, row))
        encoder.put(best, 0)
        values.append(table.starts[best])
    return np.array(values, np.uint8)


def _pending_after(encoder: arithmetic.Encoder, row: int) -> int:
    if not encoder.table.counts[row]:
        return -1
    state = encoder.HI, encoder.LO
    encoder.narrow(row)
    written = encoder.drop_prefix()
    after = encoder.drop_underflow() + (0 if written else encoder.UBC)
    encoder.HI, encoder.LO = state
    return after


def test_an_adversary_overflows_the_papers_counter_and_not_ours() -> None:
    counts = (400, 100, 24, 100, 400)
    table = RangeTable(8, 10, (0, 50, 100, 150, 200), (5,) * 5, counts)
    values = adversary(table, 60)
    reference = arithmetic.Encoder(table)
    for row, offset in zip(*table.split(values), strict=True):
        reference.put(int(row), int(offset))
    assert reference.max_underflow > 31
    printed, overflow = encode(Settings(underflow_bits=5), table, [values])
    assert overflow
    assert printed[0].payload != arithmetic.encode(values, table)
    ours, overflow = encode(Settings(), table, [values])
    assert not overflow
    assert ours[0].payload == arithmetic.encode(values, table)


def test_the_default_counter_holds_whatever_a_block_can_hold() -> None:
    for count_bits in range(1, 15):
        settings = Settings(count_bits=count_bits, rows=2)
        assert settings.underflow_bits >= (2 * (1 << 20) * settings.most_shifted).bit_length()


@hypothesis_settings(max_examples=5, deadline=None)
@given(st.data())
def test_any_table_and_any_values(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 8))
    starts = sorted(data.draw(st.sets(st.integers(0, 255), min_size=rows, max_size=rows)))
    ends = [*starts[1:], 256]
    lengths = [
        data.draw(st.integers(0, min(7, (end - start - 1).bit_length())))
        for start, end in zip(starts, ends, strict=True)
    ]
    weights = data.draw(st.lists(st.integers(0, 50), min_size=rows, max_size=rows).filter(any))
    counts = [w * 900 // sum(weights) for w in weights]
    used = [row for row, weight in enumerate(weights) if weight]
    counts[used[0]] += 1024 - data.draw(st.integers(0, 1)) - sum(counts)
    used = [row for row in used if counts[row]]
    table = RangeTable(8, 10, tuple(starts), tuple(lengths), tuple(counts))
    value = st.sampled_from(used).flatmap(
        lambda row: st.integers(table.starts[row], table.ends[row])
    )
    values = np.array(data.draw(st.lists(value, min_size=1, max_size=30)), np.uint8)
    settings = Settings(
        rows=8,
        lookup=data.draw(st.sampled_from(LOOKUPS)),
        datapath=data.draw(st.sampled_from(DATAPATHS)),
    )
    check(settings, table, [values])


def test_a_damaged_stream_is_a_fault() -> None:
    table = RangeTable(8, 10, (0, 1), (0, 7), (1000, 23))  # one code of 1024 is nobody's
    ones = Streams([1] * 64, [0] * 64)
    _, _, fault = decode(Settings(), table, [ones], [3])
    assert fault


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not there")
@pytest.mark.parametrize(("name", "n"), [("mobilenet_v3_large-int8", 200), ("resnet18-int8", 1000)])
def test_real_weights(name: str, n: int) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(DATA / f"{name}.safetensors")
    weights = max(tensors.values(), key=lambda t: t.size if t.dtype == np.int8 else 0)
    values = weights.ravel()[:n].view(np.uint8)
    settings = Settings(datapath="paper", lookup="divider" if n < 1000 else "binary")
    check(settings, table_for(values, settings), [values])


def test_payloads_come_apart_and_together() -> None:
    settings = Settings()
    values = laplace(300, settings, seed=5)
    table = table_for(values, settings)
    payload = arithmetic.encode(values, table)
    stream = Stream.of_payload(payload, values.size, table)
    assert stream.payload == payload
    streams, _ = encode(settings, table, [values])
    assert bits_of(np.array(stream.symbols, ">u4").tobytes())[: len(streams[0].symbols)] == (
        streams[0].symbols
    )
