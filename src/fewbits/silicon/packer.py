"""The bit packer, which the paper leaves outside: bits of any number in, 32-bit words out.

``Packer`` takes what an encoder puts out, at most a value's worth of bits a cycle, for several
streams in turn; ``RunWriter`` makes such bits of a code and the inverted bits that go into it.

A word goes out as soon as it is full. The end of a stream fills up its last word with zeros. Since
a word that was full went out before anybody knew of the end, the end may be a beat without a word.
"""

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.silicon.bits import named, ones_below
from fewbits.silicon.settings import WORD_BITS, Settings

BEAT = {"word": WORD_BITS, "empty": 1, "last": 1}


class Packer(wiring.Component):
    """Packs the bits of ``streams`` streams, any one in any cycle, each into words of its own.

    =====================  ======  ==============================================================
    ``bits``, ``length``   in      ``length`` bits, the first on top
    ``stream``             in      whose they are
    ``end``                in      they are the last of their stream
    ``valid``, ``ready``   in/out  they are there; they are taken
    ``word``               out     a full word, the first bit on top
    ``out_stream``         out     whose it is
    ``last``               out     the stream ends with it
    ``empty``              out     with ``last``: the stream ended before, there is no word
    ``out_valid/ready``    out/in  it is there; it is taken
    =====================  ======  ==============================================================
    """

    def __init__(self, most_bits: int, streams: int = 1) -> None:
        if not 1 <= most_bits <= WORD_BITS:
            raise ValueError(
                f"silicon: a packer takes 1..{WORD_BITS} bits a cycle, not {most_bits}"
            )
        self.most_bits, self.streams = most_bits, streams
        stream_bits = max(1, (streams - 1).bit_length())
        super().__init__(
            {
                "bits": In(most_bits),
                "length": In(most_bits.bit_length()),
                "stream": In(stream_bits),
                "end": In(1),
                "valid": In(1),
                "ready": Out(1),
                "word": Out(WORD_BITS),
                "out_stream": Out(stream_bits),
                "last": Out(1),
                "empty": Out(1),
                "out_valid": Out(1),
                "out_ready": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        most = self.most_bits
        held = Array(Signal(WORD_BITS - 1, name=f"held{i}") for i in range(self.streams))
        fill = Array(Signal(range(WORD_BITS), name=f"fill{i}") for i in range(self.streams))
        # The bits were taken in the cycle before, and made a word; only the rest is still to go.
        rest_only = Signal()
        space = named(m, "space", ~self.out_valid | self.out_ready)

        filled = named(m, "filled", fill[self.stream])
        masked = self.bits & (ones_below(self.length, most)[::-1])
        shifted = named(m, "shifted", Cat(C(0, WORD_BITS - 1), masked) >> filled)
        merged = named(m, "merged", shifted | Cat(C(0, most), held[self.stream]))
        merged = Mux(rest_only, Cat(C(0, most), held[self.stream]), merged)
        total = named(m, "total", filled + Mux(rest_only, 0, self.length))
        full = named(m, "full", total >= WORD_BITS)
        rest = named(m, "rest", total[: WORD_BITS.bit_length() - 1])
        ends = named(m, "ends", self.end & ~(full & (rest != 0)))
        sends = named(m, "sends", full | ends)
        moves = named(m, "moves", self.valid & (space | ~sends))
        # ``merged`` has the word on top: WORD_BITS - 1 + most_bits bits, the last one only if full.
        top = len(merged) - WORD_BITS
        m.d.comb += self.ready.eq((space | ~sends) & (ends | ~self.end))
        with m.If(moves):
            m.d.sync += [
                rest_only.eq(self.end & ~ends),
                fill[self.stream].eq(Mux(ends, 0, rest)),
                held[self.stream].eq(
                    Mux(ends, 0, Mux(full, _on_top(merged[:top], WORD_BITS - 1), merged[most:]))
                ),
            ]
        with m.If(space):
            m.d.sync += self.out_valid.eq(self.valid & sends)
        with m.If(moves & sends):
            m.d.sync += [
                self.word.eq(merged[top:]),
                self.out_stream.eq(self.stream),
                self.last.eq(ends),
                self.empty.eq(total == 0),
            ]
        return m


def _on_top(value: Value, size: int) -> Value:
    """Put the value on top of ``size`` bits."""
    return Cat(C(0, size - len(value)), value) if len(value) < size else value[len(value) - size :]


class RunWriter(wiring.Component):
    """Puts ``inserted`` bits into a code, after its first bit and inverse to it.

    What takes more than ``most_bits`` goes out over several cycles. With 8 bits beyond a code, one
    cycle is enough but for about one code in 2**8 that has any run at all.

    ==========================  ======  =========================================================
    ``code``, ``code_length``   in      bits, the first on top
    ``inserted``                in      how many go in after the first
    ``valid``, ``ready``        in/out  they are there; they are taken
    ``bits``, ``length``        out     at most ``most_bits``
    ``more``                    out     further bits of this code follow
    ``out_valid/ready``         out/in  they are there; they are taken
    ==========================  ======  =========================================================
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.most_bits = run_writer_bits(settings)
        super().__init__(
            {
                "code": In(settings.most_shifted),
                "code_length": In(settings.shift_bits),
                "inserted": In(settings.underflow_bits),
                "valid": In(1),
                "ready": Out(1),
                "bits": Out(self.most_bits),
                "length": Out(self.most_bits.bit_length()),
                "more": Out(1),
                "out_valid": Out(1),
                "out_ready": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        most, settings = self.most_bits, self.settings
        begun = Signal()  # the first bit went out in an earlier cycle
        written = Signal(settings.underflow_bits)  # so many inserted bits did, too
        left = named(m, "left", (self.inserted - written)[: settings.underflow_bits])
        first, follow = self.code[-1], self.code[:-1]
        after = named(m, "after", Mux(self.code_length == 0, 0, self.code_length - 1))
        head = named(m, "head", ~begun & (self.code_length != 0))
        run = named(m, "run", Mux(self.code_length == 0, 0, left))
        total = named(m, "total", run + after + head)
        m.d.comb += self.more.eq(total > most)
        # Of a code that does not fit, as much of the run as does; what follows it comes last.
        room = named(m, "room", most - head)
        part = named(m, "part", Mux(run > room, room, run)[: most.bit_length()])

        # An inverted bit above what follows, shifted down and filled with itself: a run on top.
        short = named(m, "short", run[: most.bit_length()])
        source = Cat(C(0, most - len(follow)), follow, ~first)
        run_and_rest = (source.as_signed() >> short)[:most]
        all_run = (~first).replicate(most)
        body = named(m, "body", Mux(self.more, all_run, run_and_rest))
        m.d.comb += [
            self.bits.eq(Mux(head, Cat(body[1:], first), body)),
            self.length.eq(Mux(self.more, part + head, total)),
            self.out_valid.eq(self.valid),
            self.ready.eq(self.out_ready & ~self.more),
        ]
        with m.If(self.valid & self.out_ready):
            m.d.sync += begun.eq(self.more)
            m.d.sync += written.eq(Mux(self.more, written + part, 0))
        return m


def run_writer_bits(settings: Settings) -> int:
    """Bits that a run writer puts out in a cycle: a code, and 8 of a run."""
    return min(WORD_BITS, settings.most_shifted + 8)
