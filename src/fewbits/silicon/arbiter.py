"""Who may go next: round robin."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grants one of ``count`` requests, the one after the last that was granted first.

    ====================  ======  ================================================================
    ``requests``          in      a bit for each that asks
    ``advance``           in      what is granted in this cycle is used
    ``granted``           out     the number of the one that may go
    ``valid``             out     there is one
    ====================  ======  ================================================================
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(
            {
                "requests": In(count),
                "advance": In(1),
                "granted": Out(max(1, (count - 1).bit_length())),
                "valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build it: the first request from the next one's place on, else the first of all."""
        m = Module()
        later = Signal(self.count)  # a bit for each that comes after the last that was granted
        waiting = Mux((self.requests & later) != 0, self.requests & later, self.requests)
        chosen = Signal(self.count)
        m.d.comb += [chosen.eq(waiting), self.valid.eq(self.requests != 0)]
        for number in reversed(range(self.count)):
            with m.If(chosen[number]):
                m.d.comb += self.granted.eq(number)
        with m.If(self.advance & self.valid):
            following = range(1, self.count)
            m.d.sync += later.eq(Cat(C(0, 1), *(self.granted < place for place in following)))
        return m
