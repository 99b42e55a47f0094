"""The ShapeShifter baseline as a circuit: groups of 8 values in the fewest bits that hold them all.

The streams are those of ``fewbits.lossless.shapeshifter.ShapeShifter`` without a zero vector: a
prefix of log2(width) bits, then the values of the group in ``prefix + 1`` bits each, sign included.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbits.lossless.shapeshifter import GROUP
from fewbits.silicon.bits import leading_zeros, named
from fewbits.silicon.packer import Packer
from fewbits.silicon.settings import WORD_BITS
from fewbits.silicon.unpacker import Unpacker


def prefix_bits(width: int) -> int:
    """Bits of a group's prefix; ``ValueError`` for a width that has no such baseline."""
    if not 4 <= width <= 8:
        raise ValueError(f"silicon: ShapeShifter has values of 4 to 8 bits, not {width}")
    return (width - 1).bit_length()


class ShapeShifterEncoder(wiring.Component):
    """Values in, words out.

    A chain of 8 registers holds a group until its largest value is known: while a group enters, the
    one before leaves. After a stream's last value the chain runs empty.

    ====================  ======  ================================================================
    ``value``, ``last``   in      a value, and whether its stream ends with it
    ``valid``, ``ready``  in/out  it is there; it is taken
    ``word``, ``end``     out     a word, and whether the stream ends with it
    ``out_valid/ready``   out/in  it is there; it is taken
    ====================  ======  ================================================================
    """

    def __init__(self, width: int = 8) -> None:
        self.width, self.prefix_bits = width, prefix_bits(width)
        super().__init__(
            {
                "value": In(width),
                "last": In(1),
                "valid": In(1),
                "ready": Out(1),
                "word": Out(WORD_BITS),
                "end": Out(1),
                "out_valid": Out(1),
                "out_ready": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        width, size = self.width, self.prefix_bits
        m.submodules.packer = packer = Packer(width + size)
        chain = [Signal(width, name=f"value{i}", reset_less=True) for i in range(GROUP)]
        there = [Signal(name=f"there{i}") for i in range(GROUP)]
        ends = [Signal(name=f"ends{i}") for i in range(GROUP)]
        phase, draining, prefix = Signal(range(GROUP)), Signal(), Signal(size)
        needed = Signal(width - 1)  # the bits that any value of the group so far has below its sign

        oldest, oldest_there, oldest_ends = chain[-1], there[-1], ends[-1]
        moves = named(m, "moves", (self.valid | draining) & (packer.ready | ~oldest_there))
        m.d.comb += self.ready.eq(~draining & (packer.ready | ~oldest_there))
        enters = named(m, "enters", self.valid & ~draining)
        magnitude = self.value[:-1] ^ self.value[-1].replicate(width - 1)
        seen = named(m, "seen", Mux(enters, magnitude, 0) | Mux(phase == 0, 0, needed))
        with m.If(moves):
            for registers, first in ((chain, self.value), (there, enters), (ends, self.last)):
                m.d.sync += [a.eq(b) for a, b in zip(registers, [first, *registers], strict=False)]
            m.d.sync += [phase.eq(phase + 1), needed.eq(seen)]
            with m.If(phase == GROUP - 1):
                zeros = leading_zeros(m, "zeros", Cat(1, seen))
                m.d.sync += prefix.eq(width - 1 - zeros)
            with m.If(enters & self.last):
                m.d.sync += draining.eq(1)
            with m.If(oldest_there & oldest_ends):
                m.d.sync += [draining.eq(0), phase.eq(0)]

        shown = named(m, "shown", (oldest << (width - 1 - prefix)[:size])[:width])
        m.d.comb += [
            packer.bits.eq(Mux(phase == 0, Cat(shown, prefix), Cat(prefix, shown))),
            packer.length.eq(prefix + 1 + Mux(phase == 0, size, 0)),
            packer.end.eq(oldest_ends),
            packer.valid.eq((self.valid | draining) & oldest_there),
            self.word.eq(packer.word),
            self.end.eq(packer.last),
            self.out_valid.eq(packer.out_valid),
            packer.out_ready.eq(self.out_ready),
        ]
        return m


class ShapeShifterDecoder(wiring.Component):
    """Words in, values out.

    ====================  ======  ================================================================
    ``word``, ``last``    in      a word, and whether it is its stream's last
    ``word_valid/space``  in/out  it is there; there is room
    ``end``               in      with the value that is taken the stream is done
    ``value``             out     the next value
    ``valid``, ``ready``  out/in  it is there; it is taken
    ====================  ======  ================================================================
    """

    def __init__(self, width: int = 8) -> None:
        self.width, self.prefix_bits = width, prefix_bits(width)
        super().__init__(
            {
                "word": In(WORD_BITS),
                "last": In(1),
                "word_valid": In(1),
                "space": Out(1),
                "end": In(1),
                "value": Out(width),
                "valid": Out(1),
                "ready": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it."""
        m = Module()
        width, size = self.width, self.prefix_bits
        m.submodules.unpacker = unpacker = Unpacker(width + size)
        phase, kept = Signal(range(GROUP)), Signal(size)
        first = named(m, "first", phase == 0)
        prefix = named(m, "prefix", Mux(first, unpacker.bits[width:], kept))
        code = named(m, "code", Mux(first, unpacker.bits[:width], unpacker.bits[size:]))
        advance = named(m, "advance", unpacker.ready & self.ready)
        m.d.comb += [
            self.value.eq(code.as_signed() >> (width - 1 - prefix)[:size]),
            self.valid.eq(unpacker.ready),
            self.space.eq(unpacker.space),
            unpacker.word.eq(self.word),
            unpacker.last.eq(self.last),
            unpacker.word_valid.eq(self.word_valid),
            unpacker.take.eq(prefix + 1 + Mux(first, size, 0)),
            unpacker.advance.eq(advance),
            unpacker.end.eq(self.end),
        ]
        with m.If(advance):
            m.d.sync += [kept.eq(prefix), phase.eq(Mux(self.end, 0, phase + 1))]
        return m
