"""What the solver proves of the circuits, and that it would notice a mistake."""

import pytest

pytest.importorskip("amaranth")
pytest.importorskip("pyosys")
pytest.importorskip("z3")

from fewbits.silicon.bits import named
from fewbits.silicon.proofs import (
    lookups_agree,
    never_reads_ahead,
    settling_keeps_the_bounds,
    window_keeps_its_bounds,
    windows_agree,
)
from fewbits.silicon.settings import Settings
from fewbits.silicon.smt import prove
from fewbits.silicon.unpacker import Unpacker
from fewbits.silicon.window import RangeWindow

SMALL = Settings(width=4, rows=2, count_bits=2, window_bits=6)


def test_the_range_stays_above_its_bound() -> None:
    assert prove(settling_keeps_the_bounds(Settings()))
    assert prove(window_keeps_its_bounds(SMALL))


def test_no_bit_is_read_ahead() -> None:
    assert prove(never_reads_ahead(16))


def test_one_shift_is_as_good_as_two() -> None:
    assert prove(windows_agree(Settings(window_bits=9, count_bits=6)))


def test_the_lookups_are_one() -> None:
    assert prove(lookups_agree(SMALL))


def test_a_window_that_forgets_the_inclusive_bound_is_refuted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settle(self: RangeWindow, m: object, x: dict) -> None:
        before(self, m, x)
        x["kept"] = named(m, "kept_wrong", (x["t_hi"] - x["t_lo"])[: self.bits + 1])

    before = RangeWindow.settle
    monkeypatch.setattr(RangeWindow, "settle", settle)
    assert prove(settling_keeps_the_bounds(Settings())).answer == "refuted"


def test_an_unpacker_that_promises_too_much_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Unpacker.elaborate

    def elaborate(self: Unpacker, platform: object) -> object:
        m = before(self, platform)
        m.d.comb += self.ready.eq(self.known[0][0])  # the later statement counts
        return m

    monkeypatch.setattr(Unpacker, "elaborate", elaborate)
    assert prove(never_reads_ahead(16)).answer == "refuted"


@pytest.mark.slow
def test_larger_ones() -> None:
    assert prove(windows_agree(Settings()), timeout_s=600)
    assert prove(settling_keeps_the_bounds(Settings(window_bits=24, count_bits=16)), timeout_s=600)
    settings = Settings(width=4, rows=4, count_bits=4, window_bits=8)
    assert prove(window_keeps_its_bounds(settings), timeout_s=600)
    settings = Settings(width=4, rows=4, count_bits=3, window_bits=6)
    assert prove(lookups_agree(settings), timeout_s=600)
