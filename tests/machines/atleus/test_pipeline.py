import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbits.machines.atleus.pipeline import (
    Stages,
    balance,
    batch_events_s,
    batch_s,
    layer_events_s,
    layer_s,
)

seconds = st.floats(1e-3, 10)
stages = st.builds(
    Stages,
    st.integers(1, 300),
    seconds,
    st.floats(0, 3000),
    st.tuples(seconds) | st.tuples(seconds, seconds, seconds) | st.just(()),
    st.floats(0, 10),
    st.booleans(),
)


@given(stages)
@settings(max_examples=200, deadline=None)
def test_a_layer_takes_what_the_recurrence_says(one):
    assert layer_s(one) == pytest.approx(layer_events_s(one), rel=1e-9)


def test_a_layer_by_hand():
    # 3 tokens; before 1 s each, attention 1, 2, 3 s, after 2 s.
    # token 0: 1, 2, 4; token 1: 2, 4, 6; token 2: 3, 7, 9.
    assert layer_s(Stages(3, 1.0, 6.0, (2.0,), 0.5, True)) == pytest.approx(9.5)
    # Bidirectional: attention 2 s each, from 3 on: 5, 7, 9; after: 7, 9, 11.
    assert layer_s(Stages(3, 1.0, 6.0, (2.0,), 0.0, False)) == pytest.approx(11.0)


@given(
    st.integers(1, 40),
    st.integers(1, 32),
    st.floats(1e-3, 3),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_batch_takes_what_the_events_say(batch, layers, systolic, causal):
    layer = max(1.0, systolic) + (0 if causal else 1)
    closed = batch_s(batch, layers, layer, 1.0, systolic)
    events = batch_events_s(batch, layers, 1.0, systolic, causal=causal)
    assert closed == pytest.approx(events, rel=0.02 if layers >= 6 else 0.05)


def test_a_batch_by_hand():
    # Two sequences, two layers of 1 s, arrays fast: 2 s for the first, the other a second behind.
    assert batch_events_s(2, 2, 1.0, 0.1, causal=True) == pytest.approx(3.0)
    assert batch_s(2, 2, 1.0, 1.0, 0.1) == pytest.approx(3.0)
    # Arrays that take 2 s of every layer serve 2 x 2 of them.
    assert batch_events_s(2, 2, 1.0, 2.0, causal=True) == pytest.approx(8.0)
    assert batch_s(2, 2, 2.0, 1.0, 2.0) == pytest.approx(8.0)


@given(stages, st.floats(1.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_slower_stages_are_never_faster(one, factor):
    from dataclasses import replace

    for slower in (
        replace(one, before=one.before * factor),
        replace(one, attention=one.attention * factor),
        replace(one, after=tuple(s * factor for s in one.after)),
    ):
        assert layer_s(slower) >= layer_s(one) * (1 - 1e-12)


def test_balance():
    assert balance([2.0, 2.0]) == 1.0
    assert balance([1.0, 3.0]) == pytest.approx(2 / 3)
    assert balance([]) == 1.0
