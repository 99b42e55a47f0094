"""The decoder: bits of two streams in, a value out, every cycle (section V-A)."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.silicon import lookup
from fewbits.silicon.bits import named, only
from fewbits.silicon.encoder import take_turns
from fewbits.silicon.pipeline import Live, Segment, run
from fewbits.silicon.settings import Settings
from fewbits.silicon.tables import Table, table_ports
from fewbits.silicon.window import steps_after_scaling, window_of


class Decoder(wiring.Component):
    """Decodes ``stages`` streams that take turns, one value a cycle.

    ``start`` and ``decode`` are asked in a stream's turn. Everything else belongs to the stream
    whose turn ends: ``turn_out``, the same one as ``turn`` where there is one stage.

    =======================  ======  ============================================================
    ``load``, ``row``        in      the table, see ``tables.py``
    ``advance``              in      the cycle counts; else nothing moves
    ``turn``                 out     the stream that may be asked for
    ``start``                in      begin a stream: read the window's bits of it
    ``decode``               in      decode a value
    ``turn_out``             out     the stream of all that follows
    ``symbols``              in      the next bits of its symbol stream, the first on top; zeros
                                     past its end
    ``offsets``              in      likewise of its offset stream
    ``symbols_taken``        out     so many of them are used up in this cycle
    ``offsets_taken``        out     likewise
    ``value``, ``valid``     out     the value decoded
    ``starting``             out     it is a stream's start
    ``fault``                out     no row owns the code: the stream is damaged
    =======================  ======  ============================================================
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.peek_bits = peek_bits(settings)
        super().__init__(
            {
                **table_ports(settings),
                "advance": In(1),
                "turn": Out(settings.stream_bits),
                "start": In(1),
                "decode": In(1),
                "turn_out": Out(settings.stream_bits),
                "symbols": In(self.peek_bits),
                "offsets": In(settings.most_offset),
                "symbols_taken": Out(self.peek_bits.bit_length()),
                "offsets_taken": Out(settings.offset_length_bits),
                "value": Out(settings.width),
                "valid": Out(1),
                "starting": Out(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        settings, window = self.settings, window_of(self.settings)
        table = Table(m, settings, self)
        take_turns(m, self.turn, settings.stages, self.advance)
        if settings.stages > 1:  # a stream that entered stages - 1 cycles ago is at the end
            last = settings.stages - 1
            m.d.comb += self.turn_out.eq(Mux(self.turn == last, 0, self.turn + 1))

        initial = {**window.fresh(), **window.fresh_code()}
        state = {
            name: Signal(len(value), name=name, reset_less=True) for name, value in initial.items()
        }
        live: Live = {"start": self.start, "valid": self.decode & ~self.start}
        for name, register in state.items():
            live[name] = named(m, f"old_{name}", Mux(self.start, initial[name], register))

        def begin(m: Module, x: Live) -> None:
            window.open(m, x)
            window.open_code(m, x)

        def place(m: Module, x: Live) -> None:
            window.place(m, x)
            window.pass_code(m, x)

        def check(m: Module, x: Live) -> None:
            x["fault"] = named(m, "lost", x["valid"] & (x["ahead"] >= x["s_hi"]))

        def place_and_check(m: Module, x: Live) -> None:
            check(m, x)
            place(m, x)

        settle, slide = steps_after_scaling(window)

        def finish(m: Module, x: Live) -> None:
            slide.work(m, x)
            self._take_code(m, x, window)
            self._put_out(m, x)

        steps = [
            Segment("open", begin, 1.0),
            *lookup.segments(settings, table, window),
            Segment("place", place_and_check, 1.5),
            settle,
            Segment("slide", finish, slide.delay),
        ]
        live = run(m, steps, settings.stages, live, self.advance)
        with m.If(self.advance):
            m.d.sync += [register.eq(live[name]) for name, register in state.items()]
        return m

    def _take_code(self, m: Module, x: Live, window: Any) -> None:
        """Shift the stream's next bits into the window; at its start, a window of them."""
        most, bits = self.settings.most_shifted, self.settings.window_bits
        following = Cat(self.symbols[len(self.symbols) - most :], x[window.code])
        shifted = (following << x["shift"])[most:][:bits]
        first = self.symbols[len(self.symbols) - bits :]
        window.slide_code(m, x, Mux(x["start"], first, shifted))
        m.d.comb += self.symbols_taken.eq(Mux(x["start"], bits, only(x["valid"], x["shift"])))

    def _put_out(self, m: Module, x: Live) -> None:
        """SYMBOL Gen (Fig. 4c): the row's base, one, and as many bits of the offset stream."""
        offset = (self.offsets << x["length"])[self.settings.most_offset :]
        m.d.comb += [
            self.value.eq(x["base"] + 1 + offset),
            self.valid.eq(x["valid"]),
            self.offsets_taken.eq(only(x["valid"], x["length"])),
            self.starting.eq(x["start"]),
            self.fault.eq(x["fault"]),
        ]


def peek_bits(settings: Settings) -> int:
    """Bits of the symbol stream that a decoder looks at: a window of them at a stream's start."""
    return max(settings.window_bits, settings.most_shifted)
