"""Energy a value: mapped netlists at work on the streams that software writes.

The work is int8 weights as quantizers leave them: a Laplace distribution, here of scale 10 (5.8
bits of entropy), with the table that the library finds for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless import ans, arithmetic
from fewbits.lossless.shapeshifter import ShapeShifter
from fewbits.lossless.table import RangeTable
from fewbits.silicon.netlist import Netlist
from fewbits.silicon.rans import RansSettings, rans_image
from fewbits.silicon.settings import Settings
from fewbits.silicon.streams import Stream
from fewbits.silicon.tables import image

COPIES, VALUES = 32, 120
SCALE = 10 / 256
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Activity:
    """What a unit took for its work."""

    energy_j: float  # a value, without leakage
    values_per_cycle: float


@lru_cache
def work(width: int, rows: int, count_bits: int) -> tuple[NDArray[np.unsignedinteger], RangeTable]:
    """Values for every copy of a unit, and their table."""
    rng = np.random.default_rng(0)
    scale = max(0.7, SCALE * (1 << width))
    signed = np.round(rng.laplace(0, scale, (COPIES, VALUES))).astype(np.int64)
    top = 1 << (width - 1)
    values = signed.clip(-top, top - 1) % (1 << width)
    settings = Settings(width=width, rows=rows, count_bits=count_bits, window_bits=count_bits + 6)
    table = settings.table_for(values, covering=True)
    return values.astype(np.uint8 if width <= 8 else np.uint16), table


class Bits:
    """A stream's bits, shown from any place on; zeros past its end."""

    def __init__(self, words: list[int]) -> None:
        self.number = int.from_bytes(np.array(words, ">u4").tobytes(), "big")
        self.size = 32 * len(words)
        self.place = 0

    def peek(self, count: int) -> int:
        """The next ``count`` bits, the first on top."""
        left = self.size - self.place - count
        number = self.number >> left if left >= 0 else self.number << -left
        return number & ((1 << count) - 1)


def _prepared(module: Any, rows: list[int]) -> Netlist:
    """A netlist after reset, with its table loaded."""
    netlist = Netlist(module, COPIES)
    for name, (direction, _) in netlist.ports.items():
        if direction == "input":
            netlist.set_all(name, 0)
    netlist.set_all("rst", 1)
    _cycle(netlist)
    netlist.set_all("rst", 0)
    if rows:
        netlist.set_all("load", 1)
        for row in rows:
            netlist.set_all("row", row)
            _cycle(netlist)
        netlist.set_all("load", 0)
    netlist.reset_counts()
    return netlist


def _cycle(netlist: Netlist) -> None:
    netlist.settle()
    netlist.tick()


def packed_rows(table: RangeTable, settings: Settings) -> list[int]:
    """Rows as the port ``row`` takes them: base lowest, then length, then count."""
    at = settings.width, settings.width + settings.offset_length_bits
    return [r.base | r.length << at[0] | r.count << at[1] for r in image(table, settings)]


def _activity(netlist: Netlist, values: int) -> Activity:
    per_copy = values / COPIES
    energy = netlist.energy_j * netlist.cycles / per_copy
    return Activity(energy, per_copy / netlist.cycles)


def encoder(module: Any, settings: Settings) -> Activity:
    """A bare encoder, a value every cycle."""
    values, table = work(settings.width, settings.rows, settings.count_bits)
    netlist = _prepared(module, packed_rows(table, settings))
    netlist.set_all("advance", 1)
    netlist.set_all("valid", 1)
    for i in range(VALUES):
        netlist.set("value", values[:, i].tolist())
        _cycle(netlist)
    return _activity(netlist, VALUES * COPIES)


def decoder(module: Any, settings: Settings) -> Activity:
    """A bare decoder, a value every cycle; its outputs must be the values that were encoded."""
    values, table = work(settings.width, settings.rows, settings.count_bits)
    netlist = _prepared(module, packed_rows(table, settings))
    netlist.set_all("advance", 1)
    payloads = [arithmetic.encode(v, table) for v in values]
    turns = settings.stages
    streams = [Stream.of_payload(p, VALUES, table) for p in payloads]
    # Copy c's turn t decodes tensor (c + t) mod COPIES.
    bits = [
        [
            (Bits(streams[(c + t) % COPIES].symbols), Bits(streams[(c + t) % COPIES].offsets))
            for c in range(COPIES)
        ]
        for t in range(turns)
    ]
    peek, most = len(netlist.ports["symbols"][1]), settings.most_offset
    done = [0] * turns
    cycles = turns * (VALUES + 1)
    for cycle in range(cycles + turns - 1):
        netlist.set_all("start", cycle < turns)
        netlist.set_all("decode", turns <= cycle < cycles)
        out = (cycle - turns + 1) % turns
        shown = bits[out]
        netlist.set("symbols", [s.peek(peek) for s, _ in shown])
        netlist.set("offsets", [o.peek(most) for _, o in shown])
        netlist.settle()
        taken, offsets = netlist.get("symbols_taken"), netlist.get("offsets_taken")
        for (symbols, offset), a, b in zip(shown, taken, offsets, strict=True):
            symbols.place += a
            offset.place += b
        if netlist.get("valid")[0]:
            expected = [int(values[(c + out) % COPIES, done[out]]) for c in range(COPIES)]
            if netlist.get("value") != expected:
                raise AssertionError("the mapped decoder differs from software")
            done[out] += 1
        netlist.tick()
        if not any(done):
            netlist.reset_counts()
    return _activity(netlist, sum(done) * COPIES)


def rans_decoder(module: Any, settings: RansSettings) -> Activity:
    """A bare rANS decoder of one lane."""
    values, table = work(settings.width, settings.rows, settings.count_bits)
    shifts = _shifts(settings)
    rows = [
        sum(value << shifts[name] for name, value in row.items())
        for row in rans_image(table, settings)
    ]
    netlist = _prepared(module, rows)
    netlist.set_all("advance", 1)
    codes = ans.deal if settings.codes == "alias" else _in_runs
    coded = [_rans(v, table, codes) for v in values]
    netlist.set_all("start", 1)
    netlist.set("state", [state for state, _, _ in coded])
    _cycle(netlist)
    netlist.set_all("start", 0)
    netlist.set_all("decode", 1)
    netlist.reset_counts()
    words = [list(w) for _, w, _ in coded]
    spills = [spill for _, _, spill in coded]
    most = len(netlist.ports["spill"][1])
    for i in range(VALUES):
        netlist.set("word", [w[0] if w else 0 for w in words])
        netlist.set("spill", [spill & ((1 << most) - 1) for spill in spills])
        netlist.settle()
        if netlist.get("value") != values[:, i].tolist():
            raise AssertionError("the mapped rANS decoder differs from software")
        for copy, (word, spill) in enumerate(
            zip(netlist.get("word_taken"), netlist.get("spill_taken"), strict=True)
        ):
            words[copy] = words[copy][word:]
            spills[copy] >>= spill
        netlist.tick()
    return _activity(netlist, VALUES * COPIES)


def _shifts(settings: RansSettings) -> dict[str, int]:
    return {name: field.offset for name, field in settings.layout}


def _in_runs(counts: tuple[int, ...], count_bits: int) -> list[ans.Code]:
    return [ans.Code(row, place) for row, count in enumerate(counts) for place in range(count)]


def _rans(
    values: NDArray[np.unsignedinteger], table: RangeTable, deal: Callable[..., list[ans.Code]]
) -> tuple[int, list[int], int]:
    """State, words and spill bits of one lane that starts at its least state."""
    m, code_of = table.count_bits, {}
    for code, c in enumerate(deal(table.counts, m)):
        code_of[c.row, c.position] = code
    rows, offsets = table.split(values)
    x, words, spill = ans.LOW, list[int](), 0
    for row, offset in zip(rows[::-1].tolist(), offsets[::-1].tolist(), strict=True):
        length = table.offset_lengths[row]
        inside = min(length, 16 - m)
        if x >= table.counts[row] << (32 - m - inside):
            words.append(x % ans.LOW)
            x //= ans.LOW
        below = length - inside
        spill = spill << below | (offset & ((1 << below) - 1))
        x = x << inside | offset >> below
        count = table.counts[row]
        x = (x // count << m) + code_of[row, x % count]
    return x, words[::-1], spill


def encoder_lane(module: Any, settings: Settings) -> Activity:
    """An encoder with its packers; memory takes every word at once."""
    values, table = work(settings.width, settings.rows, settings.count_bits)
    netlist = _prepared(module, packed_rows(table, settings))
    netlist.set_all("valid", 1)
    netlist.set_all("symbols__ready", 1)
    netlist.set_all("offsets__ready", 1)
    given = [0] * COPIES
    for _ in range(VALUES):
        netlist.set("value", [int(v[at % VALUES]) for v, at in zip(values, given, strict=True)])
        netlist.settle()
        given = [at + took for at, took in zip(given, netlist.get("ready"), strict=True)]
        netlist.tick()
    return _activity(netlist, sum(given))


def decoder_lane(module: Any, settings: Settings) -> Activity:
    """A decoder with its unpackers, of one stream; memory answers in the cycle it is asked."""
    if settings.stages != 1:
        raise ValueError("the activity of a decoder lane is measured with one stage")
    values, table = work(settings.width, settings.rows, settings.count_bits)
    netlist = _prepared(module, packed_rows(table, settings))
    streams = [Stream.of_payload(arithmetic.encode(v, table), VALUES, table) for v in values]
    netlist.set_all("job_valid", 1)
    netlist.set_all("job_count", VALUES)
    netlist.set_all("ready", 1)
    kinds = {"symbols": [s.symbols for s in streams], "offsets": [s.offsets for s in streams]}
    at = {kind: [0] * COPIES for kind in kinds}
    made = [0] * COPIES
    for cycle in range(VALUES):
        if cycle:
            netlist.set_all("job_valid", 0)
        for kind, words in kinds.items():
            netlist.set_all(f"{kind}__valid", 0)
            netlist.settle()
            room = netlist.get(f"{kind}__space")
            there = [r and a < len(w) for r, a, w in zip(room, at[kind], words, strict=True)]
            netlist.set(f"{kind}__valid", [int(bool(t)) for t in there])
            pairs = list(zip(at[kind], words, strict=True))
            netlist.set(f"{kind}__word", [w[min(a, len(w) - 1)] for a, w in pairs])
            netlist.set(f"{kind}__last", [int(a == len(w) - 1) for a, w in pairs])
            at[kind] = [a + bool(t) for a, t in zip(at[kind], there, strict=True)]
        netlist.settle()
        for copy, (valid, value) in enumerate(
            zip(netlist.get("valid"), netlist.get("value"), strict=True)
        ):
            if valid:
                if value != values[copy, made[copy]]:
                    raise AssertionError("the mapped decoder lane differs from software")
                made[copy] += 1
        netlist.tick()
        if not any(made):
            netlist.reset_counts()
    return _activity(netlist, sum(made))


def shapeshifter_encoder(module: Any, width: int) -> Activity:
    """The ShapeShifter encoder, a value every cycle."""
    values, _ = work(width, 16, 10)
    netlist = _prepared(module, [])
    netlist.set_all("valid", 1)
    netlist.set_all("out_ready", 1)
    given = 0
    for i in range(VALUES):
        netlist.set("value", values[:, i].tolist())
        netlist.settle()
        given += sum(netlist.get("ready"))
        netlist.tick()
    return _activity(netlist, given)


def shapeshifter_decoder(module: Any, width: int) -> Activity:
    """The ShapeShifter decoder; memory answers in the cycle it is asked."""
    values, _ = work(width, 16, 10)
    netlist = _prepared(module, [])
    netlist.set_all("ready", 1)
    codec = ShapeShifter(width=width)
    packed = [codec.encode(v) for v in values]
    words = [np.frombuffer(p + bytes(-len(p) % 4), ">u4").tolist() for p in packed]
    at, made = [0] * COPIES, [0] * COPIES
    for _ in range(VALUES):
        netlist.settle()
        there = [
            bool(r) and a < len(w) for r, a, w in zip(netlist.get("space"), at, words, strict=True)
        ]
        netlist.set("word_valid", [int(t) for t in there])
        netlist.set("word", [w[min(a, len(w) - 1)] for a, w in zip(at, words, strict=True)])
        at = [a + t for a, t in zip(at, there, strict=True)]
        netlist.settle()
        for copy, (valid, value) in enumerate(
            zip(netlist.get("valid"), netlist.get("value"), strict=True)
        ):
            if valid:
                if value != values[copy, made[copy]]:
                    raise AssertionError("the mapped ShapeShifter decoder differs from software")
                made[copy] += 1
        netlist.tick()
        if not any(made):
            netlist.reset_counts()
    return _activity(netlist, sum(made))
