"""Whole engines: streams of frames both ways, stalls, resets, and how many values a cycle."""

from itertools import product
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth")

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.sim import Simulator

from fewbits.errors import FewbitsError
from fewbits.frame import pack, unpack
from fewbits.lossless import arithmetic
from fewbits.lossless.choose import Lossless
from fewbits.lossless.table import RangeTable
from fewbits.silicon import simulate
from fewbits.silicon.arbiter import RoundRobin
from fewbits.silicon.engine import DecoderEngine, EncoderEngine
from fewbits.silicon.packer import Packer, RunWriter
from fewbits.silicon.settings import Settings
from fewbits.silicon.streams import streams_of, with_payloads
from silicon_units import run, table_for


def tensors_of(count: int, longest: int, settings: Settings, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    top = 1 << settings.width
    return [
        (np.round(rng.laplace(0, 0.04 * top, rng.integers(1, longest))).astype(np.int64) % top)
        .astype(np.uint8 if settings.width <= 8 else np.uint16)
        for _ in range(count)
    ]  # fmt: skip


def stalls(probability: float, seed: int = 0) -> simulate.Stall:
    rng = np.random.default_rng(seed)
    return lambda cycle, what: bool(rng.random() < probability)


@pytest.mark.parametrize(
    ("lanes", "ports", "settings"),
    [(3, 2, Settings(width=4, rows=8)), (2, 1, Settings(stages=2))],
    ids=str,
)
def test_random_stalls_change_no_bit(lanes: int, ports: int, settings: Settings) -> None:
    tensors = tensors_of(lanes * settings.stages + 2, 25, settings)
    table = table_for(np.concatenate(tensors), settings)
    made = simulate.encode(settings, table, tensors, lanes=lanes, ports=ports, stall=stalls(0.4))
    assert not made.overflow
    for stream, tensor in zip(made.streams, tensors, strict=True):
        assert stream.payload == arithmetic.encode(tensor, table)
    back = simulate.decode(
        settings, table, made.streams, lanes=lanes, ports=ports, stall=stalls(0.4), latency=3
    )
    assert not back.fault
    assert [v.tolist() for v in back.values] == [t.tolist() for t in tensors]


def test_a_frame_goes_through_the_engine_and_back() -> None:
    rng = np.random.default_rng(1)
    weights = np.round(rng.laplace(0, 12, (8, 40))).clip(-128, 127).astype(np.int8)
    frame = pack(weights, Lossless(coder="arithmetic", count_bits=10))
    (stream,) = streams_of(frame)
    settings = Settings()
    decoded = simulate.decode(settings, stream.table, [stream])
    values = decoded.values[0]
    assert arithmetic.encode(values, stream.table) == stream.payload
    encoded = simulate.encode(settings, stream.table, [values])
    made = with_payloads(frame, [encoded.streams[0].payload])
    assert made == frame
    assert (unpack(made) == weights).all()


def test_frames_that_the_engine_does_not_speak_are_refused() -> None:
    weights = (np.arange(40_000) % 23).astype(np.int8)
    with pytest.raises(FewbitsError, match=r"arithmetic coder|without classes"):
        streams_of(pack(weights))


def test_sixteen_bit_values_and_rows_without_offsets() -> None:
    settings = Settings(width=16)
    tensor = np.array([0, 0, 5, 65535, 0, 5], np.uint16)
    table = table_for(tensor, settings)
    made = simulate.encode(settings, table, [tensor])
    assert made.streams[0].payload == arithmetic.encode(tensor, table)
    assert not made.streams[0].offsets  # the stream ends without a word
    back = simulate.decode(settings, table, made.streams)
    assert back.values[0].tolist() == tensor.tolist()


def test_a_long_run_goes_out_over_several_cycles() -> None:
    """Counts around the middle never decide: thousands of bits wait, more than a writer takes."""
    table = RangeTable(8, 10, (0, 100, 150), (6, 5, 6), (508, 8, 508))
    tensor = np.array([100] * 150 + [0] * 40, np.uint8)
    reference = arithmetic.Encoder(table)
    for row, offset in zip(*table.split(tensor), strict=True):
        reference.put(int(row), int(offset))
    assert reference.max_underflow > 500
    made = simulate.encode(Settings(), table, [tensor], stall=stalls(0.2))
    assert made.streams[0].payload == arithmetic.encode(tensor, table)


def test_runs_of_every_length_are_inserted_whole() -> None:
    """Around the writer's 20 bits, too: where the run fits and what follows it does not."""
    settings = Settings()
    unit, expected, written = RunWriter(settings), [], []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.out_ready, 1)
        ctx.set(unit.valid, 1)
        for length, inserted in product((0, 1, 2, 5, 12), (*range(24), 39, 40, 41)):
            code = 0b101101110010 >> (12 - length) if length else 0
            bits = f"{code:0{length}b}"[:length]
            inverse = "10"[int(bits[:1] or "0")] * (inserted if length else 0)
            expected.append(bits[:1] + inverse + bits[1:])
            top = code << (settings.most_shifted - length)
            ctx.set(
                Cat(unit.code, unit.code_length, unit.inserted), top | length << 12 | inserted << 16
            )
            done, made = False, ""
            while not done:
                done, size = bool(ctx.get(unit.ready)), ctx.get(unit.length)
                made += f"{ctx.get(unit.bits):0{unit.most_bits}b}"[:size]
                await ctx.tick()
            written.append(made)

    run(unit, bench)
    assert written == expected


def test_a_value_every_cycle() -> None:
    settings = Settings()
    (tensor,) = (np.round(np.random.default_rng(3).laplace(0, 10, 130)).astype(np.int8),)
    tensor = tensor.view(np.uint8)
    table = table_for(tensor, settings)
    made = simulate.encode(settings, table, [tensor])
    assert made.busy_cycles == tensor.size
    back = simulate.decode(settings, table, made.streams)
    assert back.busy_cycles == tensor.size
    # A slower memory costs cycles at the start, until both words of a stream are there.
    slower = simulate.decode(settings, table, made.streams, latency=4)
    assert tensor.size <= slower.busy_cycles <= tensor.size + 8


@pytest.mark.parametrize("stages", [1, 3])
def test_a_reset_in_the_middle_leaves_nothing_behind(stages: int) -> None:
    settings = Settings(stages=stages)
    tensors = tensors_of(stages, 50, settings, seed=4)
    table = table_for(np.concatenate(tensors), settings)
    expected = [arithmetic.encode(t, table) for t in tensors]

    class Reset(Exception):
        pass

    def until(cycle: int, what: str) -> bool:
        if cycle == 20:
            raise Reset
        return False

    def twice(engine: Any, first: Any, second: Any) -> None:
        reset, m = Signal(), Module()
        m.submodules.engine = ResetInserter(reset)(engine)
        simulator = Simulator(m)
        simulator.add_clock(1e-9)

        async def bench(ctx: Any) -> None:
            with pytest.raises(Reset):
                await first.run(ctx)
            for port in engine.words if isinstance(engine, DecoderEngine) else engine.values:
                ctx.set(port.valid, 0)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            await second.run(ctx)

        simulator.add_testbench(bench)
        simulator.run()

    engine: Any = EncoderEngine(settings)
    benches = [simulate._EncoderBench(engine, table, tensors, s) for s in (until, simulate.never)]
    twice(engine, *benches)
    assert [stream.payload for stream in benches[1].streams] == expected

    engine = DecoderEngine(settings)
    streams = benches[1].streams
    decoding = [
        simulate._DecoderBench(engine, table, streams, s, 1) for s in (until, simulate.never)
    ]
    twice(engine, *decoding)
    assert decoding[1].values == [t.tolist() for t in tensors]


def test_round_robin_serves_everyone_in_turn() -> None:
    unit, granted = RoundRobin(4), []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.advance, 1)
        for requests in (0b1111, 0b1111, 0b1111, 0b1111, 0b1111, 0b0101, 0b0101, 0b0000, 0b1000):
            ctx.set(unit.requests, requests)
            granted.append(ctx.get(unit.granted) if ctx.get(unit.valid) else None)
            await ctx.tick()

    run(unit, bench)
    assert granted == [0, 1, 2, 3, 0, 2, 0, None, 3]


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Settings(rows=12), "rows=12 is not a power of two"),
        (lambda: Settings(count_bits=15), "at most 14 count bits, not 15"),
        (lambda: Settings(width=1), "width=1 is not in 2..16"),
        (lambda: Settings(rows=64, count_bits=5), "64 rows need more than 5 count bits"),
        (lambda: Settings(lookup="magic"), "lookup is one of parallel, binary, divider"),  # type: ignore[arg-type]
        (lambda: EncoderEngine(Settings(), 0), "lanes=0 is not in 1..1024"),
        (lambda: DecoderEngine(Settings(), 4, 5), "ports=5 is not in 1..4"),
        (lambda: Packer(40), "takes 1..32 bits a cycle, not 40"),
    ],
)
def test_what_cannot_be_built_is_said(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_tables_that_do_not_fit_are_refused() -> None:
    tensor = np.arange(64, dtype=np.uint8)
    table = table_for(tensor, Settings(rows=16))
    with pytest.raises(ValueError, match="count_bits is 10, the unit's 8"):
        simulate.encode(Settings(count_bits=8), table, [tensor])
    with pytest.raises(ValueError, match="rows, the unit 2"):
        simulate.encode(
            Settings(rows=2), RangeTable(8, 10, (0, 9, 20), (3, 3, 6), (400, 24, 600)), [tensor % 8]
        )
    with pytest.raises(ValueError, match="an empty tensor has no stream"):
        simulate.encode(Settings(), table, [tensor[:0]])
