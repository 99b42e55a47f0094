"""What must never happen in the circuits, as assertions for a solver.

The range never falls to its bound, so that every row keeps a code: ``window_keeps_its_bounds`` with
its multipliers, which solvers manage for small windows, and ``settling_keeps_the_bounds`` from
whatever they give, for any window. What is said to be equal is: ``windows_agree``,
``lookups_agree``. No bit leaves an unpacker that was not put in: ``never_reads_ahead``.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from amaranth.hdl import Assert, Assume, C, Cat, Module, Mux, Signal, Value, signed

from fewbits.silicon import lookup
from fewbits.silicon.bits import named
from fewbits.silicon.pipeline import Live, block
from fewbits.silicon.settings import Settings
from fewbits.silicon.tables import row_layout
from fewbits.silicon.unpacker import Unpacker
from fewbits.silicon.window import PaperWindow, RangeWindow


@dataclass(frozen=True)
class Claim:
    """A circuit with assertions and assumptions, and the signals that may be anything."""

    circuit: Module
    inputs: tuple[Any, ...]


def window_keeps_its_bounds(settings: Settings) -> Claim:
    """A step of the window from any state that it may be in, for any two counts of a row."""
    m = Module()
    bits, window = settings.window_bits, RangeWindow(settings)
    lo, span = Signal(bits - 1), Signal(bits + 1)
    c_lo, c_hi = Signal(settings.count_bits), Signal(settings.count_bits)
    m.d.comb += Assume(_settled(lo, span, bits))
    m.d.comb += Assume((c_lo < c_hi) | (c_hi == 0))
    live: Live = {"lo": lo, "span": span, "c_lo": c_lo, "c_hi": c_hi}
    for work in (window.scale, window.settle, window.slide):
        work(m, live)
    m.d.comb += Assert(_settled(live["lo"], live["span"], bits))
    m.d.comb += Assert(live["shift"] <= settings.most_shifted)
    # The bits of a number of bits suffice for any that can come.
    m.d.comb += Assert(live["prefix"] <= live["shift"])
    first = window.fresh()
    m.d.comb += Assert(_settled(first["lo"], first["span"], bits))
    return Claim(m, (lo, span, c_lo, c_hi))


def _settled(lo: Any, span: Any, bits: int) -> Any:
    """LO below the middle, HI above, and more than a quarter of the codes between them."""
    top = lo + span
    return (span > 1 << bits - 2) & (top > 1 << bits - 1) & (top <= 1 << bits)


def settling_keeps_the_bounds(settings: Settings) -> Claim:
    """The part of the step behind the multipliers, for any bounds that these can give.

    Scaled counts of a row differ by at least ``span >> count_bits``, and a settled span exceeds a
    quarter of the window.
    """
    m = Module()
    bits, window = settings.window_bits, RangeWindow(settings)
    t_lo, t_hi = Signal(bits), Signal(bits)
    least = 1 << bits - 2 - settings.count_bits
    m.d.comb += Assume(t_hi - t_lo + 1 >= least)
    live: Live = {"t_lo": t_lo, "t_hi": t_hi}
    for work in (window.settle, window.slide):
        work(m, live)
    m.d.comb += Assert(_settled(live["lo"], live["span"], bits))
    m.d.comb += Assert(live["shift"] <= settings.most_shifted)
    return Claim(m, (t_lo, t_hi))


def windows_agree(settings: Settings) -> Claim:
    """The paper's two shifts and our one, from the same bounds."""
    m = Module()
    bits = settings.window_bits
    t_lo, t_hi = Signal(bits), Signal(bits)
    m.d.comb += Assume(t_hi - t_lo + 1 >= 1 << bits - 2 - settings.count_bits)
    ours: Live = {"t_lo": t_lo, "t_hi": t_hi}
    papers: Live = dict(ours)
    for name, window, live in (
        ("ours", RangeWindow(settings), ours),
        ("papers", PaperWindow(settings), papers),
    ):

        def step(part: Module, x: Live, window: Any = window) -> None:
            window.settle(part, x)
            window.slide(part, x)

        block(m, name, step, live)
    for field in ("prefix", "underflow", "shift", "lo"):
        m.d.comb += Assert(ours[field] == papers[field])
    m.d.comb += Assert(ours["span"] == papers["hi"] - papers["lo"] + 1)
    return Claim(m, (t_lo, t_hi))


class _Registers:
    """A table that holds anything."""

    def __init__(self, settings: Settings) -> None:
        layout = row_layout(settings)
        self.rows = rows = [Signal(layout, name=f"row{i}") for i in range(settings.rows)]
        self.bases = [row.base for row in rows]
        self.lengths = [row.length for row in rows]
        self.counts = [row.count for row in rows]


def lookups_agree(settings: Settings) -> Claim:
    """The three lookups on any ascending counts, for any code that a row owns."""
    m = Module()
    bits, table = settings.window_bits, _Registers(settings)
    span, ahead = Signal(bits + 1), Signal(bits)
    valid = Signal()
    whole = 1 << settings.count_bits
    ends = [named(m, f"end{i}", Cat(c, c == 0)) for i, c in enumerate(table.counts)]
    for before, after in pairwise(ends):
        m.d.comb += Assume(before <= after)
    m.d.comb += Assume(ends[-1] >= whole - 1)
    m.d.comb += Assume((span > 1 << bits - 2) & (span <= 1 << bits) & (ahead < span))
    found = []
    for kind in ("parallel", "binary", "divider"):
        window = RangeWindow(settings)
        live: Live = {"span": span, "ahead": ahead, "valid": valid}
        chosen = Settings(
            width=settings.width,
            rows=settings.rows,
            count_bits=settings.count_bits,
            window_bits=bits,
            lookup=kind,
        )
        for segment in lookup.segments(chosen, table, window):  # type: ignore[arg-type]
            block(m, f"{kind}_{segment.name}", segment.work, live)
        found.append(live)
    first, *others = found
    owned = ~valid | (ahead < first["s_hi"])
    for other in others:
        for field in ("s_lo", "s_hi"):
            m.d.comb += Assert(~owned | (first[field] == other[field]))
        for field in ("base", "length"):
            m.d.comb += Assert(~(owned & valid) | (first[field] == other[field]))
    m.d.comb += Assert(~(owned & valid) | (first["s_lo"] <= ahead))
    m.d.comb += Assert(valid | ((first["s_lo"] == 0) & (first["s_hi"] == span)))
    return Claim(m, (span, ahead, valid, *(Value.cast(row) for row in table.rows)))


def never_reads_ahead(peek_bits: int) -> Claim:
    """An unpacker whose surroundings keep its rules, with the bits counted that go in and out."""
    m = Module()
    m.submodules.unpacker = unit = Unpacker(peek_bits)
    word_valid, last, advance, end = (Signal(name=n) for n in ("comes", "last", "goes", "end"))
    take = Signal(range(peek_bits + 1))
    ended = Signal()
    held = Signal(signed(9))  # bits that went in and were not taken, up to the stream's end
    m.d.comb += [
        unit.word_valid.eq(word_valid),
        unit.last.eq(last),
        unit.advance.eq(advance),
        unit.end.eq(end),
        unit.take.eq(take),
        Assume(take <= peek_bits),
        Assume(~word_valid | unit.space[0]),
        Assume(~advance | unit.ready),
        Assume(~(advance & end & word_valid)),
    ]
    with m.If(advance & end):
        m.d.sync += [held.eq(0), ended.eq(0)]
    with m.Elif(~ended):
        m.d.sync += held.eq(held + Cat(C(0, 5), word_valid) - Mux(advance, take, 0))
        m.d.sync += ended.eq(word_valid & last)
    m.d.comb += Assert(ended | ~unit.ready | (held >= peek_bits))
    # What the induction needs to know of the registers.
    first, second = unit.known[0]
    m.d.comb += Assert(first | ~second)
    m.d.comb += Assert(ended == unit.ended[0])
    m.d.comb += Assert(ended | (held == Cat(C(0, 5), first + second) - unit.place[0]))
    m.d.comb += Assert(ended | (held >= 0))
    return Claim(m, (word_valid, last, advance, end, take))
