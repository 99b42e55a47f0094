"""Bytes are shared out well, and budgets are read or refused."""

from itertools import pairwise, product

import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from fewbits.lossy.lossless import Exact
from fewbits.training.budget import Curve, Option, allocate, score

options = st.lists(
    st.builds(lambda b, f: (b, f), st.integers(1, 100), st.floats(0, 1)), min_size=1, max_size=4
)


def curve(nbytes: int, ways: list[tuple[float, float]], floor: float = 0.0) -> Curve:
    return Curve.of(nbytes, [Option(Exact(), b, f) for b, f in ways], floor)


def curves_of(tensors: list[list[tuple[float, float]]]) -> dict[str, Curve]:
    return {str(i): curve(100, [(100.0, 1.0), *ways]) for i, ways in enumerate(tensors)}


def held(chosen: dict[str, Option]) -> float:
    return sum(option.nbytes for option in chosen.values())


@given(st.lists(options, min_size=1, max_size=4), st.floats(0.05, 1))
def test_a_target_is_met_in_few_bytes(tensors, target):
    curves = curves_of(tensors)
    chosen = allocate(curves, target=target)
    assert score(curves, chosen) >= target - 1e-6
    best = min(
        sum(option.nbytes for option in way)
        for way in product(*([Option(Exact(), b, f) for b, f in [(100.0, 1.0), *ways]]
                             for ways in tensors))
        if sum(1 - option.fidelity for option in way) <= (1 - target) * len(tensors) + 1e-9
    )  # fmt: skip
    step = max(
        (a.nbytes - b.nbytes for c in curves.values()
         for a, b in zip(c.options, c.options[1:], strict=False)), default=0.0,
    )  # fmt: skip
    assert best <= held(chosen) <= best + step + 1e-6


@given(st.lists(options, min_size=1, max_size=4), st.integers(1, 500))
def test_a_budget_is_met_where_it_can_be(tensors, budget):
    curves = curves_of(tensors)
    chosen = allocate(curves, budget=budget)
    smallest = sum(c.options[-1].nbytes for c in curves.values())
    assert held(chosen) <= max(budget, smallest)
    if budget >= 100 * len(tensors):
        assert score(curves, chosen) == 1.0


@given(options, st.floats(0, 1))
def test_a_curve_bends_one_way_and_keeps_to_the_floor(ways, floor):
    kept = curve(100, ways, floor).options
    best = max(f for _, f in ways)
    assert kept[0].fidelity == best
    assert all(option.fidelity >= min(floor, best) for option in kept)
    steps = list(pairwise(kept))
    assert all(b.nbytes < a.nbytes and b.fidelity <= a.fidelity for a, b in steps)
    slopes = [(a.nbytes - b.nbytes) / max(a.fidelity - b.fidelity, 1e-300) for a, b in steps]
    assert slopes == sorted(slopes, reverse=True)


def test_bytes_go_where_they_buy_the_most():
    curves = {
        "cheap": curve(1000, [(1000, 1.0), (100, 0.9)]),
        "dear": curve(1000, [(1000, 1.0), (900, 0.9)]),
    }
    chosen = allocate(curves, target=0.95)
    assert (chosen["cheap"].nbytes, chosen["dear"].nbytes) == (100, 1000)
