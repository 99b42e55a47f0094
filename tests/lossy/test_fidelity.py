import math

import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy import fidelity  # noqa: E402


def test_formula():
    x = torch.tensor([0.0, 2.0, 4.0, 6.0])  # the deviation is the root of 5
    y = x + torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert fidelity(x, y) == pytest.approx(1 - 1 / math.sqrt(5))
    assert fidelity(x, x) == 1.0
    assert fidelity(x, torch.full((4,), 3.0)) == pytest.approx(0.0)
    assert fidelity(x, x + 100) == 0.0


def test_constants_and_nothing():
    ones = torch.ones(5)
    assert fidelity(ones, ones) == 1.0
    assert fidelity(ones, ones * 1.001) == 0.0
    assert fidelity(torch.empty(0), torch.empty(0)) == 1.0


def test_what_is_not_finite_must_come_back():
    x = torch.tensor([1.0, 2.0, math.nan, math.inf, -math.inf])
    assert fidelity(x, x) == 1.0
    for place, other in ((2, 0.0), (3, math.nan), (4, math.inf), (0, math.nan)):
        y = x.clone()
        y[place] = other
        assert fidelity(x, y) == 0.0


def test_any_dtype_and_gradients():
    x = torch.randn(100, requires_grad=True)
    assert 0.98 < fidelity(x, x.to(torch.bfloat16)) < 1.0
