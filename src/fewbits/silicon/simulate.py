"""Runs engines in Amaranth's simulator, without any other tool: hundreds of cycles a second.

>>> import numpy as np
>>> from fewbits.lossless import arithmetic
>>> from fewbits.silicon.settings import Settings
>>> values = (np.arange(60) % 7).astype(np.uint8)
>>> table = Settings().table_for(values)
>>> run = encode(Settings(), table, [values])
>>> run.streams[0].payload == arithmetic.encode(values, table)
True
>>> back = decode(Settings(), table, run.streams)
>>> bool((back.values[0] == values).all())
True
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray

from fewbits.errors import FewbitsError
from fewbits.lossless.table import RangeTable
from fewbits.silicon.engine import OFFSETS, SYMBOLS, DecoderEngine, EncoderEngine
from fewbits.silicon.settings import Settings
from fewbits.silicon.streams import Stream
from fewbits.silicon.tables import image

# Whether something waits in a cycle: the cycle's number, and what would move.
Stall = Callable[[int, str], bool]
CLOCK_S = 1e-9
# A cycle in which nothing moved, so many times in a row, is no stall but a fault of the engine.
PATIENCE = 10_000


def never(cycle: int, what: str) -> bool:
    """Nothing ever waits."""
    return False


@dataclass(frozen=True)
class Encoded:
    """What an encoder engine wrote, and how long it took."""

    streams: list[Stream]
    cycles: int
    # The cycles from the first value taken to the last one.
    busy_cycles: int
    overflow: bool


@dataclass(frozen=True)
class Decoded:
    """What a decoder engine wrote, and how long it took."""

    values: list[NDArray[Any]]
    cycles: int
    busy_cycles: int
    fault: bool


def encode(
    settings: Settings,
    table: RangeTable,
    tensors: Sequence[NDArray[np.unsignedinteger]],
    *,
    lanes: int = 1,
    ports: int | None = None,
    stall: Stall = never,
    trace: str | None = None,
) -> Encoded:
    """Encode 1-d tensors of at least one value, one stream each, with the same table.

    More tensors than streams queue up. ``stall`` says when ``"value"`` is not given and ``"word"``
    not taken; ``trace``: a .vcd file to write. ``ValueError`` for a value without a row.
    """
    for tensor in tensors:
        table.split(tensor)
    if not all(tensor.size for tensor in tensors):
        raise ValueError("silicon: an empty tensor has no stream")
    engine = EncoderEngine(settings, lanes, ports)
    bench = _EncoderBench(engine, table, tensors, stall)
    cycles = _simulate(engine, bench.run, trace)
    return Encoded(bench.streams, cycles, bench.last_taken - bench.first_taken + 1, bench.overflow)


def decode(
    settings: Settings,
    table: RangeTable,
    streams: Sequence[Stream],
    *,
    lanes: int = 1,
    ports: int | None = None,
    latency: int = 1,
    stall: Stall = never,
    trace: str | None = None,
) -> Decoded:
    """Decode streams of one table; the memory answers after ``latency`` cycles.

    ``stall`` says when a ``"request"`` or a ``"value"`` is not taken.
    """
    engine = DecoderEngine(settings, lanes, ports)
    bench = _DecoderBench(engine, table, streams, stall, latency)
    cycles = _simulate(engine, bench.run, trace)
    values = [np.array(v, np.uint8 if settings.width <= 8 else np.uint16) for v in bench.values]
    return Decoded(values, cycles, bench.last_given - bench.first_given + 1, bench.fault)


def _simulate(engine: Any, run: Any, trace: str | None) -> int:
    simulator = Simulator(engine)
    simulator.add_clock(CLOCK_S)
    cycles = 0

    async def bench(ctx: Any) -> None:
        nonlocal cycles
        cycles = await run(ctx)

    simulator.add_testbench(bench)
    if trace is None:
        simulator.run()
    else:
        with simulator.write_vcd(trace):
            simulator.run()
    return cycles


async def load(ctx: Any, unit: Any, table: RangeTable, settings: Settings) -> None:
    """Load the table of a unit or an engine."""
    ctx.set(unit.load, 1)
    for row in image(table, settings):
        ctx.set(unit.row, {"base": row.base, "length": row.length, "count": row.count})
        await ctx.tick()
    ctx.set(unit.load, 0)


class _EncoderBench:
    def __init__(
        self, engine: EncoderEngine, table: RangeTable, tensors: Any, stall: Stall
    ) -> None:
        self.engine, self.table, self.stall = engine, table, stall
        self.streams = [Stream(table, tensor.size) for tensor in tensors]
        # Tensor i goes through the engine's stream i mod streams, after the ones before it.
        self.queues = [deque(range(s, len(tensors), engine.streams)) for s in range(engine.streams)]
        self.reading = [deque(queue) for queue in self.queues]
        self.writing = [[deque(queue) for queue in self.queues] for _ in (SYMBOLS, OFFSETS)]
        self.tensors = [tensor.tolist() for tensor in tensors]
        self.place = [0] * len(tensors)
        self.open = 2 * len(tensors)
        self.first_taken, self.last_taken = 1 << 62, 0
        self.overflow = False

    async def run(self, ctx: Any) -> int:
        await load(ctx, self.engine, self.table, self.engine.settings)
        cycle = quiet = 0
        while self.open:
            offered = self._offer(ctx, cycle)
            for port in self.engine.words:
                ctx.set(port.ready, not self.stall(cycle, "word"))
            moved = self._take(ctx, cycle, offered)
            moved |= self._collect(ctx)
            quiet = 0 if moved else quiet + 1
            if quiet > PATIENCE:
                raise FewbitsError("silicon: the encoder engine stands still")
            await ctx.tick()
            cycle += 1
        self.overflow = bool(ctx.get(self.engine.overflow))
        return cycle

    def _offer(self, ctx: Any, cycle: int) -> list[int]:
        offered = []
        for stream, port in enumerate(self.engine.values):
            queue = self.reading[stream]
            there = bool(queue) and not self.stall(cycle, "value")
            ctx.set(port.valid, there)
            if there:
                tensor = self.tensors[queue[0]]
                at = self.place[queue[0]]
                ctx.set(port.value, tensor[at])
                ctx.set(port.last, at == len(tensor) - 1)
                offered.append(stream)
        return offered

    def _take(self, ctx: Any, cycle: int, offered: list[int]) -> bool:
        moved = False
        for stream in offered:
            if ctx.get(self.engine.values[stream].ready):
                queue = self.reading[stream]
                self.place[queue[0]] += 1
                self.first_taken = min(self.first_taken, cycle)
                self.last_taken = cycle
                moved = True
                if self.place[queue[0]] == len(self.tensors[queue[0]]):
                    queue.popleft()
        return moved

    def _collect(self, ctx: Any) -> bool:
        moved = False
        for port in self.engine.words:
            if ctx.get(port.valid) and ctx.get(port.ready):
                moved = True
                queue = self.writing[ctx.get(port.kind)][ctx.get(port.stream)]
                made = self.streams[queue[0]]
                if not ctx.get(port.empty):
                    words = made.offsets if ctx.get(port.kind) else made.symbols
                    words.append(ctx.get(port.word))
                if ctx.get(port.last):
                    queue.popleft()
                    self.open -= 1
        return moved


class _DecoderBench:
    def __init__(
        self, engine: DecoderEngine, table: RangeTable, streams: Any, stall: Stall, latency: int
    ) -> None:
        self.engine, self.table, self.stall, self.latency = engine, table, stall, latency
        self.streams = streams
        slots = range(engine.streams)
        self.jobs = [deque(range(s, len(streams), engine.streams)) for s in slots]
        self.fetching = [[deque(queue) for queue in self.jobs] for _ in (SYMBOLS, OFFSETS)]
        self.filling = [deque(queue) for queue in self.jobs]
        self.words = [(list(s.symbols), list(s.offsets)) for s in streams]
        self.at = [[0, 0] for _ in streams]
        self.values: list[list[int]] = [[] for _ in streams]
        self.waiting: list[deque[tuple[int, int, int]]] = [deque() for _ in engine.requests]
        self.first_given, self.last_given = 1 << 62, 0
        self.fault = False

    async def run(self, ctx: Any) -> int:
        await load(ctx, self.engine, self.table, self.engine.settings)
        cycle = quiet = 0
        while any(self.filling):
            self._start_job(ctx, cycle)
            for port, queue in zip(self.engine.words, self.waiting, strict=True):
                self._answer(ctx, port, queue, cycle)
            for port in self.engine.requests:
                ctx.set(port.ready, not self.stall(cycle, "request"))
            for port in self.engine.values:
                ctx.set(port.ready, not self.stall(cycle, "value"))
            moved = self._note(ctx, cycle)
            quiet = 0 if moved else quiet + 1
            if quiet > PATIENCE:
                raise FewbitsError("silicon: the decoder engine stands still")
            await ctx.tick()
            cycle += 1
        self.fault = bool(ctx.get(self.engine.fault))
        return cycle

    def _start_job(self, ctx: Any, cycle: int) -> None:
        """Offer the next stream's job; each slot of the engine gets its turn."""
        slots = [s for s, queue in enumerate(self.jobs) if queue]
        ctx.set(self.engine.job_valid, bool(slots))
        if not slots:
            return
        slot = slots[cycle % len(slots)]
        ctx.set(self.engine.job_stream, slot)
        ctx.set(self.engine.job_count, self.streams[self.jobs[slot][0]].count)
        if ctx.get(self.engine.job_ready):
            self.jobs[slot].popleft()

    def _answer(self, ctx: Any, port: Any, queue: Any, cycle: int) -> None:
        there = bool(queue) and queue[0][0] <= cycle
        ctx.set(port.valid, there)
        if not there:
            return
        _, slot, kind = queue.popleft()
        stream = self.fetching[kind][slot][0]
        words, at = self.words[stream][kind], self.at[stream][kind]
        ctx.set(port.stream, slot)
        ctx.set(port.kind, kind)
        ctx.set(port.empty, not words)
        ctx.set(port.word, words[at] if words else 0)
        self.at[stream][kind] += 1
        last = self.at[stream][kind] >= len(words)
        ctx.set(port.last, last)
        if last:
            self.fetching[kind][slot].popleft()

    def _note(self, ctx: Any, cycle: int) -> bool:
        moved = False
        for port, queue in zip(self.engine.requests, self.waiting, strict=True):
            if ctx.get(port.valid) and ctx.get(port.ready):
                moved = True
                queue.append((cycle + self.latency, ctx.get(port.stream), ctx.get(port.kind)))
        for slot, port in enumerate(self.engine.values):
            if ctx.get(port.valid) and ctx.get(port.ready):
                moved = True
                self.values[self.filling[slot][0]].append(ctx.get(port.value))
                self.first_given = min(self.first_given, cycle)
                self.last_given = cycle
                if ctx.get(port.last):
                    self.filling[slot].popleft()
        return moved
