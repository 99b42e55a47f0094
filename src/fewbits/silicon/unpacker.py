"""The bit unpacker: 32-bit words in, the next bits of a stream out, as many as are asked for."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.silicon.bits import named
from fewbits.silicon.settings import WORD_BITS


class Unpacker(wiring.Component):
    """Shows the next ``peek_bits`` bits of any of ``streams`` streams, zeros past its end.

    Each stream has two words: bits come from the first, and from the second where they run over.

    ==========================  ======  =========================================================
    ``stream``                  in      whose bits are looked at
    ``bits``                    out     the next ones, the first on top
    ``ready``                   out     they are known, as far as ``peek_bits``
    ``take``, ``advance``       in      use up ``take`` of them, if ``advance``
    ``end``                     in      with ``advance``: the stream is done, another may come
    ``word``, ``word_stream``   in      the next word of a stream, if ``word_valid``
    ``last``, ``empty``         in      it is the stream's last; there is no word, only the end
    ``space``                   out     a bit a stream: it has room for a word
    ==========================  ======  =========================================================

    A word must only come to a stream that has room, and after the last no other before ``end``.
    """

    def __init__(self, peek_bits: int, streams: int = 1) -> None:
        if not 1 <= peek_bits <= WORD_BITS:
            raise ValueError(f"silicon: an unpacker shows 1..{WORD_BITS} bits, not {peek_bits}")
        self.peek_bits, self.streams = peek_bits, streams
        # Of each stream: which of its words are there, and where the next bit is in the first.
        self.known = [[Signal(name=f"known{i}_{j}") for j in (0, 1)] for i in range(streams)]
        self.place = [Signal(range(WORD_BITS), name=f"place{i}") for i in range(streams)]
        self.ended = [Signal(name=f"ended{i}") for i in range(streams)]
        stream_bits = max(1, (streams - 1).bit_length())
        super().__init__(
            {
                "stream": In(stream_bits),
                "bits": Out(peek_bits),
                "ready": Out(1),
                "take": In(peek_bits.bit_length()),
                "advance": In(1),
                "end": In(1),
                "word": In(WORD_BITS),
                "word_stream": In(stream_bits),
                "word_valid": In(1),
                "last": In(1),
                "empty": In(1),
                "space": Out(streams),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        streams = range(self.streams)
        words = [[Signal(WORD_BITS, name=f"word{i}_{j}") for j in (0, 1)] for i in streams]
        known, place, ended = self.known, self.place, self.ended

        at = named(m, "at", Array(place)[self.stream])
        both = Cat(*(Array(w[j] for w in words)[self.stream] for j in (1, 0)))
        shown = named(m, "shown", both[WORD_BITS + 1 - self.peek_bits :])
        window = named(m, "window", (shown << at)[: len(shown)])
        first, second = (Array(k[j] for k in known)[self.stream] for j in (0, 1))
        reach = named(m, "reach", at + self.peek_bits <= WORD_BITS)
        after = named(m, "after", at + self.take)
        crosses = named(m, "crosses", after >= WORD_BITS)
        m.d.comb += [
            self.bits.eq(window[len(window) - self.peek_bits :]),
            self.ready.eq(Array(ended)[self.stream] | (first & (second | reach))),
        ]
        for i in streams:
            m.d.comb += self.space[i].eq(~ended[i] & ~known[i][1])
            here = named(m, "here", self.advance & (self.stream == i))
            comes = named(m, "comes", self.word_valid & (self.word_stream == i))
            crossing = named(m, "crossing", here & crosses)
            # Where the next word goes, once a crossing has moved the second to the first.
            to_first = named(m, "to_first", Mux(crossing, ~known[i][1], ~known[i][0]))
            with m.If(crossing):
                m.d.sync += [
                    words[i][0].eq(words[i][1]),
                    known[i][0].eq(known[i][1]),
                    words[i][1].eq(0),
                    known[i][1].eq(0),
                ]
            with m.If(here):
                m.d.sync += place[i].eq(after[: len(place[i])])
            with m.If(comes):
                m.d.sync += ended[i].eq(self.last)
                with m.If(~self.empty):
                    for j, goes in ((0, to_first), (1, ~to_first)):
                        with m.If(goes):
                            m.d.sync += [words[i][j].eq(self.word), known[i][j].eq(1)]
            with m.If(here & self.end):
                m.d.sync += [place[i].eq(0), ended[i].eq(0)]
                for j in (0, 1):
                    m.d.sync += [words[i][j].eq(0), known[i][j].eq(0)]
        return m
