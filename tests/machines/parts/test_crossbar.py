import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbits.machines.atleus.constants import CONSTANTS, Hardware
from fewbits.machines.parts.crossbar import Crossbar

CROSSBAR = Hardware.of(CONSTANTS.recording()).crossbar


def crossbar(**changes):
    from dataclasses import replace

    return replace(CROSSBAR, **changes)


def test_cells_and_counts_by_hand():
    assert [CROSSBAR.cells(bits) for bits in (1, 2, 3, 4, 8)] == [1, 1, 2, 2, 4]
    assert CROSSBAR.count(1024, 1024, 8) == 8 * 32
    assert CROSSBAR.count(129, 33, 8) == 2 * 2
    assert CROSSBAR.count(128, 128, 2) == 1
    # 5-bit cells of 3: cut between weights, never in one
    assert crossbar(columns=8).count(128, 3, 6) == 2


def test_isaac_takes_22_cycles_for_16_bits():
    assert CROSSBAR.cycles(1, 16) == 22
    assert CROSSBAR.cycles(10, 8) == 86
    assert crossbar(dac_bits=2).cycles(10, 8) == 46


def test_a_cycle_takes_a_crossbars_share_of_isaacs_tile():
    assert pytest.approx(0.330 / 96 * 100e-9, rel=0.01) == CROSSBAR.cycle_j


def test_energy_of_a_product_by_hand():
    # One full crossbar of 32 weights of 8 bits across, 3 vectors of 4 bits: 12 cycles.
    assert CROSSBAR.product_j(128, 32, 8, 3, 4) == pytest.approx(12 * CROSSBAR.cycle_j)
    assert CROSSBAR.scaling_j(129, 32, 3) == pytest.approx(3 * 2 * 32 * CROSSBAR.scale_j)


def test_programming_and_wear_by_hand():
    made = CROSSBAR.programming(1000, 8)
    assert made.energy_j == pytest.approx(1000 * 4 * 2 * 2.3e-12 * 4)
    assert made.latency_s == pytest.approx(128 * 50e-9 * 4)
    assert CROSSBAR.lifetime_s(50) == pytest.approx(1e6 / 50)
    assert CROSSBAR.lifetime_s(0) == math.inf


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 16), st.integers(1, 16))
def test_more_bits_never_take_fewer_crossbars_or_less_energy(k, n, bits, more):
    low, high = min(bits, more), max(bits, more)
    assert CROSSBAR.count(k, n, low) <= CROSSBAR.count(k, n, high)
    assert CROSSBAR.product_j(k, n, low, 5, 8) <= CROSSBAR.product_j(k, n, high, 5, 8)
    cells = k * n * CROSSBAR.cells(high)
    assert CROSSBAR.count(k, n, high) * 128 * 128 >= cells


def test_bits_that_no_row_holds_are_named():
    with pytest.raises(ValueError, match="no 128x4 crossbar holds weights of 16 bits"):
        crossbar(columns=4).count(10, 10, 16)
    with pytest.raises(ValueError, match="1 bit at least, not 0"):
        CROSSBAR.count(10, 10, 0)
    assert isinstance(CROSSBAR, Crossbar)
