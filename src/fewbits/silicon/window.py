"""The sliding window: how LO and HI move when a row is chosen. Encoder and decoder share it.

``PaperWindow`` is Fig. 3d and 4d of the paper: registers HI and LO; ``range = HI - LO + 1``; new
bounds; leading zeros of their XOR give the shared prefix, ``p`` bits, which is shifted out; then
leading ones of ``LO and not HI`` below the top bit give the underflow run, ``u`` bits, which is
shifted out below the top bit.

``RangeWindow`` writes the same bits with less. Why it is equal:

* Each bit shifted out of HI and LO brings 1 into HI and 0 into LO, so that the range doubles
  exactly: 2 HI + 1 - 2 LO + 1 = 2 (HI - LO + 1). Dropping an underflow bit also takes the same
  amount off both. So a register for the range, ``span``, follows from the scaled counts and the
  number of bits shifted alone; HI needs no register, and no subtraction precedes the multipliers.
* CODE - LO doubles in the same way and takes in the next bit, so the decoder keeps ``ahead`` = CODE
  - LO in place of CODE.
* After the shifts the top bits are 1 in HI and 0 in LO: in the settled window they differ, and
  dropping underflow bits keeps them. So one shift by ``p + u`` does for both, and LO's top bit
  needs no register.
* ``u`` is found without shifting first. Below the highest bit that differs, the run goes on while
  LO has 1 and HI has 0; so ``p + u`` is the place of the first bit below it where that is not so,
  less one. Past the window HI goes on with 1 and LO with 0, which ends every run.

A settled range exceeds 2**(window - 2): else the top bits would be equal, or 01 and 10. A row of
count 1 keeps at least 2**(window - 2 - count_bits) codes of it, and the shifts must bring that back
above 2**(window - 2) but not past 2**window. Hence ``p + u <= count_bits + 2``.

A cumulative count of 0 stands for 2**count_bits at a row's end. With no row chosen both counts are
0, which leaves the window as it is: an idle cycle needs no other provision.
"""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Value

from fewbits.silicon.bits import at_or_below_first_one, leading_zeros, named, ones_below
from fewbits.silicon.pipeline import Live, Segment
from fewbits.silicon.settings import Settings


class _Window:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bits = settings.window_bits

    def scaled(self, span: Value, count: Value) -> Value:
        """Where a cumulative count falls in the range, from LO up."""
        return (span * count)[self.settings.count_bits :][: self.bits + 1]

    def whole(self, count: Value) -> Value:
        """A count at a row's end, with 0 read as 2**count_bits."""
        return Cat(count, count == 0)


class RangeWindow(_Window):
    """Registers LO, without its top bit, and the range."""

    def fresh(self) -> dict[str, Any]:
        """The registers at the start of a stream."""
        return {"lo": C(0, self.bits - 1), "span": C(1 << self.bits, self.bits + 1)}

    def open(self, m: Module, x: Live) -> None:
        """Nothing to prepare: the range is a register."""

    def scale(self, m: Module, x: Live) -> None:
        """Bounds from counts. The sum goes into the multiplier's adder tree before the shift."""
        drop, lo = self.settings.count_bits, x["lo"] << self.settings.count_bits
        low = lo + x["span"] * x["c_lo"]
        high = lo + x["span"] * self.whole(x["c_hi"]) - (1 << drop)
        x["t_lo"] = named(m, "t_lo", low[drop:][: self.bits])
        x["t_hi"] = named(m, "t_hi", high[drop:][: self.bits])

    def place(self, m: Module, x: Live) -> None:
        """Bounds from scaled counts."""
        x["t_lo"] = named(m, "t_lo", (x["lo"] + x["s_lo"])[: self.bits])
        x["t_hi"] = named(m, "t_hi", (x["lo"] + x["s_hi"] - 1)[: self.bits])

    def settle(self, m: Module, x: Live) -> None:
        """How many bits leave the window, and how many of them are the shared prefix."""
        differing = Cat(1, x["t_hi"] ^ x["t_lo"])
        underflow = Cat(C(0, 2), (x["t_lo"] & ~x["t_hi"])[: self.bits - 1])
        below = at_or_below_first_one(m, "below", differing)
        ends = named(m, "ends", below & ~underflow)
        size = self.settings.shift_bits
        x["prefix"] = named(m, "prefix", leading_zeros(m, "prefix_zeros", differing)[:size])
        x["shift"] = named(m, "shift", leading_zeros(m, "run_zeros", ends)[:size])
        x["underflow"] = named(m, "underflow", (x["shift"] - x["prefix"])[:size])
        x["kept"] = named(m, "kept", (x["t_hi"] - x["t_lo"] + 1)[: self.bits + 1])

    def slide(self, m: Module, x: Live) -> None:
        """The new registers."""
        x["lo"] = named(m, "new_lo", (x["t_lo"] << x["shift"])[: self.bits - 1])
        x["span"] = named(m, "new_span", (x["kept"] << x["shift"])[: self.bits + 1])

    def fresh_code(self) -> dict[str, Any]:
        """The decoder's further register."""
        return {"ahead": C(0, self.bits)}

    def open_code(self, m: Module, x: Live) -> None:
        """CODE - LO is a register."""

    def pass_code(self, m: Module, x: Live) -> None:
        """How far CODE is above the new LO."""
        x["ahead"] = named(m, "past", (x["ahead"] - x["s_lo"])[: self.bits])

    def slide_code(self, m: Module, x: Live, taken: Value) -> None:
        """Take in the bits that follow; ``taken`` has them below those of CODE."""
        x["ahead"] = named(m, "new_ahead", taken)

    @property
    def code(self) -> str:
        """The register that the stream is shifted into."""
        return "ahead"


class PaperWindow(_Window):
    """Registers HI and LO, as in the paper's figures."""

    def fresh(self) -> dict[str, Any]:
        """The registers at the start of a stream."""
        return {"lo": C(0, self.bits), "hi": C((1 << self.bits) - 1, self.bits)}

    def open(self, m: Module, x: Live) -> None:
        """The range, of one bit more than the window."""
        x["span"] = named(m, "span", (x["hi"] - x["lo"] + 1)[: self.bits + 1])

    def scale(self, m: Module, x: Live) -> None:
        """Scale the counts (Fig. 3c), then ``place``."""
        x["s_lo"] = named(m, "s_lo", self.scaled(x["span"], x["c_lo"]))
        x["s_hi"] = named(m, "s_hi", self.scaled(x["span"], self.whole(x["c_hi"])))
        self.place(m, x)

    def place(self, m: Module, x: Live) -> None:
        """Bounds from scaled counts."""
        x["t_lo"] = named(m, "t_lo", (x["lo"] + x["s_lo"])[: self.bits])
        x["t_hi"] = named(m, "t_hi", (x["lo"] + x["s_hi"] - 1)[: self.bits])

    def settle(self, m: Module, x: Live) -> None:
        """Shift the prefix out, then find the run."""
        size, top = self.settings.shift_bits, self.bits - 1
        x["prefix"] = named(
            m, "prefix", leading_zeros(m, "prefix_zeros", Cat(1, x["t_hi"] ^ x["t_lo"]))[:size]
        )
        lo = named(m, "lo1", (x["t_lo"] << x["prefix"])[: self.bits])
        hi = named(
            m, "hi1", (x["t_hi"] << x["prefix"])[: self.bits] | ones_below(x["prefix"], self.bits)
        )
        run = Cat(1, ~(lo & ~hi)[:top])
        x["underflow"] = named(m, "underflow", leading_zeros(m, "run_zeros", run)[:size])
        x["shift"] = named(m, "shift", (x["prefix"] + x["underflow"])[:size])
        x["lo1"], x["hi1"] = lo, hi

    def slide(self, m: Module, x: Live) -> None:
        """Shift the run out below the top bits."""
        top, run = self.bits - 1, x["underflow"]
        lo = (x["lo1"] << run)[:top]
        hi = (x["hi1"] << run)[:top] | ones_below(run, top)
        x["lo"] = named(m, "new_lo", Cat(lo, x["lo1"][top] & (run == 0)))
        x["hi"] = named(m, "new_hi", Cat(hi, x["hi1"][top] | (run != 0)))

    def fresh_code(self) -> dict[str, Any]:
        """The decoder's further register."""
        return {"code": C(0, self.bits)}

    def open_code(self, m: Module, x: Live) -> None:
        """How far CODE is above LO."""
        x["ahead"] = named(m, "ahead", (x["code"] - x["lo"])[: self.bits])

    def pass_code(self, m: Module, x: Live) -> None:
        """CODE does not change with LO."""

    def slide_code(self, m: Module, x: Live, taken: Value) -> None:
        """Take in the bits that follow; dropping underflow bits inverts the top one."""
        flip = Mux(x["underflow"] != 0, 1 << (self.bits - 1), 0)
        x["code"] = named(m, "new_code", (taken ^ flip)[: self.bits])

    @property
    def code(self) -> str:
        """The register that the stream is shifted into."""
        return "code"


Window = RangeWindow | PaperWindow


def window_of(settings: Settings) -> Window:
    """The window that the settings ask for."""
    return RangeWindow(settings) if settings.datapath == "range" else PaperWindow(settings)


def steps_after_scaling(window: Window) -> list[Segment]:
    """What encoder and decoder do once the new bounds are known."""
    return [Segment("settle", window.settle, 3.0), Segment("slide", window.slide, 1.5)]
