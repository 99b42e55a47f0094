"""The encoder: a value in, the bits it adds to its two streams out, every cycle (section V)."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.silicon.bits import last_of, named, only, select
from fewbits.silicon.pipeline import Live, Segment, block, registers, run
from fewbits.silicon.settings import Settings
from fewbits.silicon.tables import Table, table_ports
from fewbits.silicon.window import steps_after_scaling, window_of


class Encoder(wiring.Component):
    """Encodes ``stages`` streams that take turns, one value a cycle.

    What belongs to a stream is said by ``turn``. With one stage everything is combinational between
    two edges, as in the paper; with more, the outputs are those of the value that the same stream
    gave ``stages`` cycles before.

    ====================  ======  ==============================================================
    ``load``, ``row``     in      the table, see ``tables.py``
    ``advance``           in      the cycle counts; else nothing moves
    ``turn``              out     the stream whose value is taken, and whose bits come out
    ``value``, ``valid``  in      a value to encode
    ``flush``             in      in a cycle without a value: end the stream. The next value of
                                  this turn starts another
    ``code``              out     bits of the symbol stream, the first on top
    ``code_length``       out     how many of them; 0 if none
    ``inserted``          out     so many bits, the inverse of the first, go after the first
    ``offset``            out     bits of the offset stream, the first on top
    ``offset_length``     out     how many
    ``flushed``           out     these are the stream's last bits
    ``overflow``          out     the underflow counter could not count: the stream is lost
    ====================  ======  ==============================================================
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            {
                **table_ports(settings),
                "advance": In(1),
                "turn": Out(settings.stream_bits),
                "value": In(settings.width),
                "valid": In(1),
                "flush": In(1),
                "code": Out(settings.most_shifted),
                "code_length": Out(settings.shift_bits),
                "inserted": Out(settings.underflow_bits),
                "offset": Out(settings.most_offset),
                "offset_length": Out(settings.offset_length_bits),
                "flushed": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        settings, window = self.settings, window_of(self.settings)
        table = Table(m, settings, self)
        take_turns(m, self.turn, settings.stages, self.advance)

        live: Live = {"value": self.value, "valid": self.valid, "flush": self.flush}
        live |= {"fresh": self._fresh(m)}
        block(m, "lookup", lambda part, x: self._look_up(part, table, x), live)
        if settings.stages > 1:
            live = registers(m, live, self.advance, "front")

        initial = {**window.fresh(), "pending": 0}
        state = {
            name: Signal(
                settings.underflow_bits if name == "pending" else len(value),
                name=name,
                reset_less=True,
            )
            for name, value in initial.items()
        }
        for name, register in state.items():
            live[name] = named(m, f"old_{name}", Mux(live["fresh"], initial[name], register))
        steps = [
            Segment("open", window.open, 1.0),
            Segment("scale", window.scale, 5.0),
            *steps_after_scaling(window),
        ]
        live = run(m, steps, settings.stages, live, self.advance)
        self._put_out(m, live)
        with m.If(self.advance):
            m.d.sync += [register.eq(live[name]) for name, register in state.items()]
        return m

    def _fresh(self, m: Module) -> Signal:
        """Whether the stream whose turn it is has not begun: a bit a stream, taking turns."""
        fresh = Signal(self.settings.stages, init=-1)
        after = (fresh[0] & ~self.valid) | self.flush
        with m.If(self.advance):
            m.d.sync += fresh.eq(Cat(fresh[1:], after))
        return fresh[0]

    def _look_up(self, m: Module, table: Table, x: Live) -> None:
        """SYMBOL Lookup and PCNT Table (Fig. 3b, 3c): offset, its length, the row's two counts."""
        value, valid = x.pop("value"), x["valid"]
        above = [valid, *(named(m, "above", valid & (value > base)) for base in table.bases[1:])]
        hot = last_of(m, "hot", above)
        x["length"] = named(m, "length", select(hot, table.lengths))
        below = named(m, "base", select(hot, table.bases))
        difference = named(m, "difference", (value + ~below)[: self.settings.width])
        # As many bits as the length says, brought to the top.
        most = self.settings.most_offset
        x["offset"] = named(m, "offset", (difference << ~x["length"])[:most])
        x["c_lo"] = named(m, "c_lo", select(hot[1:], table.counts[:-1]))
        x["c_hi"] = named(m, "c_hi", select(hot, table.counts))

    def _put_out(self, m: Module, x: Live) -> None:
        """Bits out, and the count of underflow bits that wait for the next one.

        The flush is a bit, the waiting ones, and the bit's inverse: LO's second bit decides. What
        would be shifted out is nothing then, since no row is chosen.
        """
        settings = self.settings
        decided, waiting = x["t_lo"][settings.window_bits - 2], x["pending"]
        flush, prefix = x["flush"], x["prefix"]
        # Without a value nothing is shifted out, but for what a reset has left in a pipeline.
        shown = prefix if settings.stages == 1 else only(x["valid"], prefix)
        length = x["length"] if settings.stages == 1 else only(x["valid"], x["length"])
        m.d.comb += [
            self.code[:-2].eq(x["t_hi"][settings.window_bits - settings.most_shifted :]),
            self.code[-2:].eq(
                Mux(flush, Cat(~decided, decided), x["t_hi"][settings.window_bits - 2 :])
            ),
            self.code_length.eq(Mux(flush, 2, shown)),
            self.inserted.eq(waiting),
            self.offset.eq(x["offset"]),
            self.offset_length.eq(length),
            self.flushed.eq(flush),
        ]
        kept = Mux(prefix == 0, waiting, 0)
        total = named(m, "total", kept + x["underflow"])
        x["pending"] = total[: settings.underflow_bits]
        with m.If(self.advance & x["valid"] & (total[settings.underflow_bits :] != 0)):
            m.d.sync += self.overflow.eq(1)


def take_turns(m: Module, turn: Signal, stages: int, advance: Any) -> None:
    """Count ``turn`` round the streams."""
    if stages > 1:
        with m.If(advance):
            m.d.sync += turn.eq(Mux(turn == stages - 1, 0, turn + 1))
