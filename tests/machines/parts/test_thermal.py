import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from fewbits.machines.parts.thermal import Stack

STACK = Stack(10e-3, 8e-3, 150e-6, 20e-6, 130.0, 4.0, 0.1, 318.15)

powers = st.lists(st.floats(0, 50), min_size=1, max_size=5)


@given(powers, st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_even_power_gives_the_one_dimensional_stack(tier_w, rows, columns):
    power = np.array(tier_w)[:, None, None] * np.ones((1, rows, columns)) / (rows * columns)
    wanted = STACK.stacked_k(np.array(tier_w))
    got = STACK.temperatures_k(power)
    assert got == pytest.approx(np.broadcast_to(wanted[:, None, None], got.shape), abs=1e-6)


def test_one_tier_by_hand():
    # 0.1 K/W of sink, and silicon 150 um / 130 / 80 mm2 and bond 20 um / 4 / 80 mm2
    step = 150e-6 / (130 * 80e-6) + 20e-6 / (4 * 80e-6)
    assert STACK.stacked_k(np.array([10.0])) == pytest.approx([318.15 + 10 * (0.1 + step)])


def test_heat_goes_out_where_it_comes_in():
    rng = np.random.default_rng(0)
    power = rng.random((3, 4, 5))
    rise = STACK.temperatures_k(power)[0] - STACK.ambient_k
    out = rise.sum() / ((STACK.sink_k_per_w + STACK.tier_k_per_w) * 20)
    assert out == pytest.approx(power.sum())


def test_a_hot_core_is_hottest_and_far_ones_are_cooler():
    power = np.zeros((2, 4, 4))
    power[1, 0, 0] = 1.0
    got = STACK.temperatures_k(power)
    assert got.argmax() == 16
    assert got[1, 0, 0] > got[1, 0, 3] > got[1, 3, 3] > STACK.ambient_k
    assert got[0, 0, 0] < got[1, 0, 0]


@given(st.integers(0, 31), st.floats(0.01, 5))
@settings(max_examples=20, deadline=None)
def test_more_power_anywhere_cools_nothing(cell, watts):
    power = np.linspace(0, 1, 32).reshape(2, 4, 4)
    more = power.copy()
    more.flat[cell] += watts
    assert (STACK.temperatures_k(more) >= STACK.temperatures_k(power) - 1e-9).all()


def test_influence_is_the_same_solve():
    power = np.random.default_rng(1).random((3, 2, 4))
    influence = STACK.influence_k_per_w(3, 2, 4)
    rise = influence @ power.ravel()
    assert STACK.ambient_k + rise == pytest.approx(STACK.temperatures_k(power).ravel())
    assert influence == pytest.approx(influence.T)  # what heats whom is mutual


def test_wrong_power_and_stacks_are_named():
    for bad in (np.zeros((2, 2)), np.full((1, 1, 1), -1.0), np.full((1, 1, 1), np.nan)):
        with pytest.raises(ValueError, match="one finite number of 0 or more"):
            STACK.temperatures_k(bad)
    with pytest.raises(ValueError, match="die_m is 0, not above 0"):
        Stack(1e-2, 1e-2, 0, 20e-6, 130, 4, 0.1, 318)
