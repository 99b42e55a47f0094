"""One pass of the cosine transform, in an order of operations that every form of a codec follows.

The orthonormal DCT-II of n places is ``T[k, i] = sqrt(2 / n) cos((2i + 1) k pi / 2n)``, with
``sqrt(1 / n)`` in row 0. The forward pass here multiplies by ``T / sqrt(n)`` and the inverse by
``sqrt(n) T'``: frequency 0 is the mean, no frequency is larger than the largest element, and a line
of equal elements comes back without an error.

Floats added in another order give other bytes, so the order is fixed: a pass works on mirrored
pairs, ``x[i] + x[n-1-i]`` for even frequencies and the differences for odd ones, and sums them from
the left. Multiplications and additions round one by one: no fused multiply-add.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

Matrix = list[list[float]]


def _multipliers(places: int, single: bool) -> tuple[Matrix, Matrix]:
    k, i = np.mgrid[:places, : places // 2]
    inverse = math.sqrt(2) * np.cos((2 * i + 1) * k * math.pi / (2 * places))
    inverse[0] = 1.0
    kind = np.float32 if single else np.float64
    return (inverse / places).astype(kind).tolist(), inverse.astype(kind).tolist()


#: By places and whether they are rounded to float32: what a forward and an inverse pass multiply
#: by, ``[frequency][place]``, for the first half of the places. Made here once: compilers that
#: trace a codec find constants.
WEIGHTS = {
    (places, single): _multipliers(places, single) for places in (4, 8) for single in (True, False)
}


def low(line: Sequence[torch.Tensor], kept: int) -> list[torch.Tensor]:
    """The first ``kept`` frequencies of a line, given as the tensors of its places."""
    forward, _ = WEIGHTS[len(line), line[0].dtype == torch.float32]
    pairs = list(zip(line, reversed(line), strict=True))[: len(line) // 2]
    halves = [a + b for a, b in pairs], [a - b for a, b in pairs]
    return [_weighted(halves[k % 2], forward[k]) for k in range(kept)]


def line(frequencies: Sequence[torch.Tensor], places: int) -> list[torch.Tensor]:
    """The places of a line of which these are the first frequencies and the others are zero."""
    _, inverse = WEIGHTS[places, frequencies[0].dtype == torch.float32]
    near, far = [], []
    for i in range(places // 2):
        factors = [row[i] for row in inverse]
        even = _weighted(frequencies[0::2], factors[0::2])
        if len(frequencies) == 1:
            near.append(even)
            far.append(even)
        else:
            odd = _weighted(frequencies[1::2], factors[1::2])
            near.append(even + odd)
            far.append(even - odd)
    return near + far[::-1]


def _weighted(values: Sequence[torch.Tensor], factors: Sequence[float]) -> torch.Tensor:
    """``((v[0] f[0] + v[1] f[1]) + v[2] f[2]) + ...``, each step rounded; factors may be more."""
    total = values[0] * factors[0]
    for value, factor in zip(values[1:], factors[1:], strict=False):
        total = total + value * factor
    return total
