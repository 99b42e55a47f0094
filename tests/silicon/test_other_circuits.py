"""The circuits to compare with: rANS on the same tables, and ShapeShifter."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth")

from amaranth.hdl import Cat

from fewbits.lossless import ans
from fewbits.lossless.shapeshifter import ShapeShifter
from fewbits.silicon.rans import RansDecoder, RansSettings, rans_image
from fewbits.silicon.settings import Settings
from fewbits.silicon.shapeshifter import ShapeShifterDecoder, ShapeShifterEncoder
from silicon_units import run, table_for


def in_ranges(counts: tuple[int, ...], count_bits: int) -> list[ans.Code]:
    """Codes dealt in runs instead of by the alias method."""
    return [ans.Code(row, place) for row, count in enumerate(counts) for place in range(count)]


def decode(settings: RansSettings, table: Any, payload: bytes, n: int) -> list[int]:
    """The values of a payload, lane by lane in turn; those in the last states with them."""
    rows = ans._Rows(table, 0)
    lanes, start = 1 << payload[0] % 128, 5 if rows.spills else 1
    assert lanes == settings.stages
    spilled = int.from_bytes(payload[1:start], "little") if rows.spills else 0
    states = np.frombuffer(payload[start : start + 4 * lanes], "<u4").tolist()
    at = start + 4 * lanes
    spill = int.from_bytes(payload[at : at + spilled], "little")
    words = iter(np.frombuffer(payload[at + spilled :], "<u2").tolist())
    loaded = 16 // table.width * lanes if payload[0] & 128 else 0
    unit, values, last_states = RansDecoder(settings), [], [0] * lanes

    async def bench(ctx: Any) -> None:
        nonlocal spill
        ctx.set(unit.load, 1)
        for row in rans_image(table, settings):
            ctx.set(unit.row, row)
            await ctx.tick()
        ctx.set(unit.load, 0)
        ctx.set(unit.advance, 1)
        word, asked = next(words, 0), 0
        given = Cat(unit.start, unit.decode, unit.state, unit.word, unit.spill)
        while asked < n - loaded + 2 * lanes - 1 or len(values) < n - loaded:
            start = asked < lanes
            decodes = lanes <= asked < lanes + n - loaded
            state = states[asked] if start else 0
            bits = spill & ((1 << unit.spill_most) - 1)
            ctx.set(given, start | decodes << 1 | state << 2 | word << 34 | bits << 50)
            asked += 1
            last_states[ctx.get(unit.turn_out)] = ctx.get(unit.state_out)
            if ctx.get(unit.valid):
                values.append(ctx.get(unit.value))
                spill >>= ctx.get(unit.spill_taken)
                if ctx.get(unit.word_taken):
                    word = next(words, 0)
            await ctx.tick()

    run(unit, bench)
    for i in range(loaded):
        turn, lane = divmod(i, lanes)
        values.append(last_states[lane] >> turn * table.width & ((1 << table.width) - 1))
    return values


@pytest.mark.parametrize(
    ("codes", "count_bits", "scale"), [("alias", 10, 12), ("ranges", 10, 12), ("alias", 12, 40)]
)
def test_rans_decodes_what_software_encodes(
    codes: str, count_bits: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if codes == "ranges":
        monkeypatch.setattr(ans, "deal", in_ranges)
    settings = RansSettings(codes=codes, count_bits=count_bits)
    rng = np.random.default_rng(4)
    values = np.round(rng.laplace(0, scale, 400)).astype(np.int64).astype(np.uint8)
    table = table_for(values, Settings(count_bits=count_bits))
    assert decode(settings, table, ans.encode(values, table), values.size) == values.tolist()


def test_rans_lanes_are_pipeline_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ans, "lanes", lambda n, word_bytes: 4)
    settings = RansSettings(codes="alias", stages=4)
    values = (np.random.default_rng(5).geometric(0.1, 301) % 256).astype(np.uint8)
    table = table_for(values, Settings())
    assert decode(settings, table, ans.encode(values, table), values.size) == values.tolist()


def test_rans_takes_tables_that_leave_a_code() -> None:
    values = (np.random.default_rng(6).geometric(0.1, 200) % 256).astype(np.uint8)
    table = table_for(values, Settings(), method="paper")
    assert table.unused_counts == 1
    payload = ans.encode(values, table)
    assert decode(RansSettings(codes="alias"), table, payload, 200) == values.tolist()


def shapeshifter_words(width: int, tensors: list[np.ndarray], stall: Any) -> list[list[int]]:
    unit, found = ShapeShifterEncoder(width), [[]]

    async def bench(ctx: Any) -> None:
        given, tensor = 0, 0
        while len(found) <= len(tensors):
            there = tensor < len(tensors) and not stall()
            ctx.set(unit.valid, there)
            if there:
                ctx.set(unit.value, int(tensors[tensor][given]))
                ctx.set(unit.last, given == len(tensors[tensor]) - 1)
            ctx.set(unit.out_ready, not stall())
            if there and ctx.get(unit.ready):
                given += 1
                if given == len(tensors[tensor]):
                    given, tensor = 0, tensor + 1
            if ctx.get(unit.out_valid) and ctx.get(unit.out_ready):
                found[-1].append(ctx.get(unit.word))
                if ctx.get(unit.end):
                    found.append([])
            await ctx.tick()

    run(unit, bench)
    return found[:-1]


def shapeshifter_values(width: int, words: list[list[int]], counts: list[int], stall: Any) -> Any:
    unit, found = ShapeShifterDecoder(width), []

    async def bench(ctx: Any) -> None:
        for stream, count in zip(words, counts, strict=True):
            at, values = 0, []
            while len(values) < count:
                there = at < len(stream) and ctx.get(unit.space) and not stall()
                ctx.set(unit.word_valid, there)
                if there:
                    ctx.set(unit.word, stream[at])
                    ctx.set(unit.last, at == len(stream) - 1)
                    at += 1
                ctx.set(unit.ready, not stall())
                ctx.set(unit.end, len(values) == count - 1)
                if ctx.get(unit.valid) and ctx.get(unit.ready):
                    values.append(ctx.get(unit.value))
                await ctx.tick()
            ctx.set(unit.ready, 0)
            ctx.set(unit.word_valid, 0)
            found.append(values)

    run(unit, bench)
    return found


@pytest.mark.parametrize("width", [8, 4])
def test_shapeshifter_is_the_software_baseline(width: int) -> None:
    rng = np.random.default_rng(width)
    stalls = iter(rng.random(1 << 16) < 0.2)
    counts = [200, 8, 1, 13, 16]
    tensors = [
        (np.round(rng.laplace(0, 1 << width - 4, n)).astype(np.int64) % (1 << width)).astype(
            np.uint8
        )
        for n in counts
    ]
    words = shapeshifter_words(width, tensors, lambda: next(stalls))
    codec = ShapeShifter(width=width)
    for stream, tensor in zip(words, tensors, strict=True):
        made = np.array(stream, ">u4").tobytes()
        packed = codec.encode(tensor)
        assert made == packed + bytes(-len(packed) % 4)
    values = shapeshifter_values(width, words, counts, lambda: next(stalls))
    assert values == [t.tolist() for t in tensors]
