"""Lanes: an encoder with its packers, a decoder with its unpackers, and the control between them.

A lane works on ``stages`` streams, which take turns. It stalls as a whole: when a packer cannot put
a word out, when a run of inverted bits takes more than a cycle, when a stream's bits have not come,
when a value is not taken.
"""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.silicon.bits import named
from fewbits.silicon.decoder import Decoder
from fewbits.silicon.encoder import Encoder
from fewbits.silicon.packer import Packer, RunWriter
from fewbits.silicon.settings import WORD_BITS, Settings
from fewbits.silicon.tables import table_ports
from fewbits.silicon.unpacker import Unpacker

# Values of a stream, as the decoder counts them: a block of nibbles has up to 2**21.
COUNT_BITS = 22


def beat(settings: Settings) -> wiring.Signature:
    """A word on its way out of a lane, or the end of a stream, see ``packer.py``."""
    return wiring.Signature(
        {
            "word": Out(WORD_BITS),
            "stream": Out(settings.stream_bits),
            "last": Out(1),
            "empty": Out(1),
            "valid": Out(1),
            "ready": In(1),
        }
    )


def supply(settings: Settings) -> wiring.Signature:
    """Words on their way into a lane: which streams have room, and a word for one of them."""
    return wiring.Signature(
        {
            "space": Out(settings.stages),
            "word": In(WORD_BITS),
            "stream": In(settings.stream_bits),
            "last": In(1),
            "empty": In(1),
            "valid": In(1),
        }
    )


class EncoderLane(wiring.Component):
    """Values in, words of symbol and offset streams out.

    ====================  ======  ================================================================
    ``load``, ``row``     in      the table, see ``tables.py``
    ``turn``              out     the stream that may give a value
    ``value``             in      its next value
    ``last``              in      it is the stream's last
    ``valid``, ``ready``  in/out  it is there; it is taken
    ``symbols``           out     words of the symbol streams
    ``offsets``           out     words of the offset streams
    ``overflow``          out     the underflow counter could not count: a stream is lost
    ====================  ======  ================================================================
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.encoder = Encoder(settings)
        super().__init__(
            {
                **table_ports(settings),
                "turn": Out(settings.stream_bits),
                "value": In(settings.width),
                "last": In(1),
                "valid": In(1),
                "ready": Out(1),
                "symbols": Out(beat(settings)),
                "offsets": Out(beat(settings)),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        settings = self.settings
        m.submodules.encoder = encoder = self.encoder
        m.submodules.writer = writer = RunWriter(settings)
        m.submodules.symbols = symbols = Packer(writer.most_bits, settings.stages)
        m.submodules.offsets = offsets = Packer(settings.most_offset, settings.stages)

        # After its last value a stream's next turn is for the flush.
        flushing = Signal(settings.stages)
        advance = Signal()
        takes = named(m, "takes", self.valid & ~flushing[0])
        m.d.comb += [
            encoder.load.eq(self.load),
            encoder.row.eq(self.row),
            encoder.advance.eq(advance),
            encoder.value.eq(self.value),
            encoder.valid.eq(takes),
            encoder.flush.eq(flushing[0]),
            self.turn.eq(encoder.turn),
            self.ready.eq(advance & ~flushing[0]),
            self.overflow.eq(encoder.overflow),
        ]
        with m.If(advance):
            m.d.sync += flushing.eq(Cat(flushing[1:], takes & self.last))

        held = {
            name: Signal.like(getattr(encoder, name), name=f"held_{name}")
            for name in ("code", "code_length", "inserted", "offset", "offset_length", "flushed")
        }
        stream, there = Signal(settings.stream_bits), Signal()
        with m.If(advance):
            m.d.sync += [signal.eq(getattr(encoder, name)) for name, signal in held.items()]
            m.d.sync += stream.eq(encoder.turn)
            m.d.sync += there.eq(
                (encoder.code_length != 0) | (encoder.offset_length != 0) | encoder.flushed
            )
        m.d.comb += advance.eq(self._both_take(m, there, writer, offsets))

        m.d.comb += [
            writer.code.eq(held["code"]),
            writer.code_length.eq(held["code_length"]),
            writer.inserted.eq(held["inserted"]),
            symbols.bits.eq(writer.bits),
            symbols.length.eq(writer.length),
            symbols.end.eq(held["flushed"] & ~writer.more),
            symbols.valid.eq(writer.out_valid),
            writer.out_ready.eq(symbols.ready),
            offsets.bits.eq(held["offset"]),
            offsets.length.eq(held["offset_length"]),
            offsets.end.eq(held["flushed"]),
        ]
        for packer, out in ((symbols, self.symbols), (offsets, self.offsets)):
            m.d.comb += [
                packer.stream.eq(stream),
                out.word.eq(packer.word),
                out.stream.eq(packer.out_stream),
                out.last.eq(packer.last),
                out.empty.eq(packer.empty),
                out.valid.eq(packer.out_valid),
                packer.out_ready.eq(out.ready),
            ]
        return m

    def _both_take(self, m: Module, there: Signal, *sides: Any) -> Any:
        """Offer what is there to both sides; whether, after this cycle, both have taken it."""
        through = []
        for side in sides:
            taken = Signal()
            m.d.comb += side.valid.eq(there & ~taken)
            through.append((taken, named(m, "through", taken | side.ready)))
        both = named(m, "both", ~there | (through[0][1] & through[1][1]))
        for taken, done in through:
            m.d.sync += taken.eq(there & done & ~both)
        return both


class DecoderLane(wiring.Component):
    """Words of symbol and offset streams in, values out.

    ========================  ======  ===========================================================
    ``load``, ``row``         in      the table, see ``tables.py``
    ``job_stream``            in      the stream to decode next
    ``job_count``             in      how many values it has, at least 1
    ``job_valid/ready``       in/out  it is there; it is taken
    ``active``                out     a bit a stream: it is being decoded, and wants words
    ``symbols``, ``offsets``  in      words of the streams
    ``value``                 out     a value
    ``stream``, ``last``      out     whose it is; the stream is done with it
    ``valid``, ``ready``      out/in  it is there; it is taken
    ``fault``                 out     a stream was damaged
    ========================  ======  ===========================================================
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            {
                **table_ports(settings),
                "job_stream": In(settings.stream_bits),
                "job_count": In(COUNT_BITS),
                "job_valid": In(1),
                "job_ready": Out(1),
                "active": Out(settings.stages),
                "symbols": Out(supply(settings)),
                "offsets": Out(supply(settings)),
                "value": Out(settings.width),
                "stream": Out(settings.stream_bits),
                "last": Out(1),
                "valid": Out(1),
                "ready": In(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        settings = self.settings
        m.submodules.decoder = decoder = Decoder(settings)
        m.submodules.symbols = symbols = Unpacker(decoder.peek_bits, settings.stages)
        m.submodules.offsets = offsets = Unpacker(settings.most_offset, settings.stages)
        m.d.comb += [decoder.load.eq(self.load), decoder.row.eq(self.row)]
        for unpacker, port in ((symbols, self.symbols), (offsets, self.offsets)):
            m.d.comb += [
                port.space.eq(unpacker.space),
                unpacker.word.eq(port.word),
                unpacker.word_stream.eq(port.stream),
                unpacker.last.eq(port.last),
                unpacker.empty.eq(port.empty),
                unpacker.word_valid.eq(port.valid),
            ]

        room = named(m, "room", ~self.valid | self.ready)
        starved = ~symbols.ready | (decoder.valid & ~offsets.ready)
        busy = decoder.valid | decoder.starting
        advance = named(m, "advance", ~(busy & starved) & (room | ~decoder.valid))
        final = self._count(m, decoder, advance)
        m.d.comb += decoder.advance.eq(advance)
        for unpacker, shown, taken in (
            (symbols, decoder.symbols, decoder.symbols_taken),
            (offsets, decoder.offsets, decoder.offsets_taken),
        ):
            m.d.comb += [
                unpacker.stream.eq(decoder.turn_out),
                shown.eq(unpacker.bits),
                unpacker.take.eq(taken),
                unpacker.advance.eq(advance),
                unpacker.end.eq(final),
            ]
        with m.If(room):
            m.d.sync += self.valid.eq(decoder.valid & advance)
        with m.If(advance & decoder.valid):
            m.d.sync += [
                self.value.eq(decoder.value),
                self.stream.eq(decoder.turn_out),
                self.last.eq(final),
                self.fault.eq(self.fault | decoder.fault),
            ]
        return m

    def _count(self, m: Module, decoder: Decoder, advance: Any) -> Signal:
        """Ask for each stream's start and then for its values; whether the last one comes out."""
        settings = self.settings
        left = Array(Signal(COUNT_BITS, name=f"left{i}") for i in range(settings.stages))
        begun = Array(Signal(name=f"begun{i}") for i in range(settings.stages))
        here = named(m, "here", left[decoder.turn])
        waits = named(m, "waits", here != 0)
        m.d.comb += [
            decoder.start.eq(waits & ~begun[decoder.turn]),
            decoder.decode.eq(waits & begun[decoder.turn]),
        ]
        with m.If(advance & waits):
            m.d.sync += begun[decoder.turn].eq(1)
        with m.If(advance & decoder.decode):
            m.d.sync += left[decoder.turn].eq(here - 1)
        # With several stages, counted down when it went in; with one, it goes in now.
        none_left = here == 1 if settings.stages == 1 else left[decoder.turn_out] == 0
        final = named(m, "final", decoder.valid & none_left)
        with m.If(advance & final):
            m.d.sync += self.active.bit_select(decoder.turn_out, 1).eq(0)
        m.d.comb += self.job_ready.eq(~self.active.bit_select(self.job_stream, 1))
        with m.If(self.job_valid & self.job_ready):
            m.d.sync += [
                self.active.bit_select(self.job_stream, 1).eq(1),
                left[self.job_stream].eq(self.job_count),
                begun[self.job_stream].eq(0),
            ]
        return final
