"""Drives bare encoders and decoders, and packs their bits as software does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import Cat
from amaranth.sim import Simulator

from fewbits.lossless.search import find_table
from fewbits.lossless.table import RangeTable
from fewbits.silicon.decoder import Decoder
from fewbits.silicon.encoder import Encoder
from fewbits.silicon.settings import Settings
from fewbits.silicon.tables import image


def table_for(values: np.ndarray, settings: Settings, **more: Any) -> RangeTable:
    histogram = np.bincount(values.ravel(), minlength=1 << settings.width)
    return find_table(histogram, rows=settings.rows, count_bits=settings.count_bits, **more)


def words(bits: list[int]) -> bytes:
    return np.packbits(np.array(bits + [0] * (-len(bits) % 32), np.uint8)).tobytes()


def bits_of(stream: bytes) -> list[int]:
    return np.unpackbits(np.frombuffer(stream, np.uint8)).tolist()


@dataclass
class Streams:
    symbols: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    @property
    def payload(self) -> bytes:
        symbols, offsets = words(self.symbols), words(self.offsets)
        return len(symbols).to_bytes(4, "little") + symbols + offsets


async def load(ctx: Any, unit: Any, table: RangeTable, settings: Settings) -> None:
    ctx.set(unit.load, 1)
    for row in image(table, settings):
        ctx.set(unit.row, {"base": row.base, "length": row.length, "count": row.count})
        await ctx.tick()
    ctx.set(unit.load, 0)


def run(unit: Any, bench: Any) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


def encode(
    settings: Settings,
    table: RangeTable,
    tensors: Sequence[np.ndarray],
    idle: Iterator[bool] | None = None,
) -> tuple[list[Streams], bool]:
    """Bits of each tensor, one a turn; ``idle`` says in which cycles to give nothing."""
    unit, streams = Encoder(settings), [Streams() for _ in tensors]
    # Set at once: the simulator settles after each change.
    asked = Cat(unit.valid, unit.flush, unit.value)
    overflow = False

    async def bench(ctx: Any) -> None:
        nonlocal overflow
        await load(ctx, unit, table, settings)
        ctx.set(unit.advance, 1)
        given, flushed = [0] * len(tensors), [0] * len(tensors)
        while not all(flushed):
            turn = ctx.get(unit.turn)
            here, pause = given[turn], idle is not None and next(idle)
            value = not pause and here < len(tensors[turn])
            flush = not pause and here == len(tensors[turn])
            given[turn] += value or flush
            ctx.set(asked, value | flush << 1 | (int(tensors[turn][here]) if value else 0) << 2)
            length = ctx.get(unit.code_length)
            if length:
                code, most = ctx.get(unit.code), settings.most_shifted
                code = [code >> (most - 1 - i) & 1 for i in range(length)]
                inverse = [1 - code[0]] * ctx.get(unit.inserted)
                streams[turn].symbols += [code[0], *inverse, *code[1:]]
            length, offset = ctx.get(unit.offset_length), ctx.get(unit.offset)
            most = settings.most_offset
            streams[turn].offsets += [offset >> (most - 1 - i) & 1 for i in range(length)]
            flushed[turn] |= ctx.get(unit.flushed)
            await ctx.tick()
        overflow = bool(ctx.get(unit.overflow))

    run(unit, bench)
    return streams, overflow


def decode(
    settings: Settings, table: RangeTable, streams: Sequence[Streams], counts: Sequence[int]
) -> tuple[list[list[int]], list[tuple[int, int]], bool]:
    """Values of each stream, the bits that were taken of it, and whether a fault was seen."""
    unit = Decoder(settings)
    given = Cat(unit.start, unit.decode, unit.symbols, unit.offsets)
    values: list[list[int]] = [[] for _ in streams]
    taken = [[0, 0] for _ in streams]
    fault = False

    async def bench(ctx: Any) -> None:
        nonlocal fault
        await load(ctx, unit, table, settings)
        ctx.set(unit.advance, 1)
        asked = [-1] * len(streams)
        while any(len(v) < n for v, n in zip(values, counts, strict=True)):
            turn = ctx.get(unit.turn)
            out = ctx.get(unit.turn_out)
            symbols = peek(streams[out].symbols, taken[out][0], unit.peek_bits)
            offsets = peek(streams[out].offsets, taken[out][1], settings.most_offset)
            start, more = asked[turn] == -1, 0 <= asked[turn] < counts[turn]
            ctx.set(given, start | more << 1 | symbols << 2 | offsets << 2 + unit.peek_bits)
            asked[turn] += 1
            turn = out
            taken[turn][0] += ctx.get(unit.symbols_taken)
            taken[turn][1] += ctx.get(unit.offsets_taken)
            fault |= bool(ctx.get(unit.fault))
            if ctx.get(unit.valid):
                values[turn].append(ctx.get(unit.value))
            await ctx.tick()

    run(unit, bench)
    return values, [(a, b) for a, b in taken], fault


def peek(bits: list[int], at: int, count: int) -> int:
    window = bits[at : at + count]
    return int("".join(map(str, window + [0] * (count - len(window)))), 2)
