"""A systolic array: cycles of a matrix product under three dataflows, and what it moves.

A product of an MxK by a KxN matrix runs on an array of RxC processing elements. Each dataflow lays
two of the three dimensions on the array and lets the third flow through; what does not fit is cut
into **folds** that run one after another. Under each, an array takes (Samajdar et al., SCALE-Sim,
ISPASS 2020, section 2; the same formula there for all three):

    a fold:  2·S_R + S_C + T - 2 cycles       folds:  ceil(rows laid / R) · ceil(columns laid / C)

where S_R and S_C are the array's sides and T what flows. With outputs stationary the array is
filled by the operands that also compute, so the first S_R falls away. SCALE-Sim 3.0.0 counts cycles
from zero and so reports one less; so do we, and the tests hold the two equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Dataflow = Literal["os", "ws", "is"]
DATAFLOWS: tuple[Dataflow, ...] = get_args(Dataflow)


@dataclass(frozen=True)
class Gemm:
    """An MxK by KxN product, done ``count`` times on operands of their own."""

    m: int
    k: int
    n: int
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("m", "k", "n", "count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a matrix product is {getattr(self, name)}, not 1 up")

    @property
    def macs(self) -> int:
        """Multiplications, each with its addition."""
        return self.m * self.k * self.n * self.count


@dataclass(frozen=True)
class Array:
    """An array of ``rows`` x ``columns`` processing elements."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"an array of {self.rows}x{self.columns} elements computes nothing")

    def cycles(self, gemm: Gemm, dataflow: Dataflow) -> int:
        """Cycles of one of the products; see the module's text for the formula."""
        r, c = self.rows, self.columns
        if dataflow == "os":
            return ceil_div(gemm.m, r) * ceil_div(gemm.n, c) * (r + c + gemm.k - 2) - 1
        if dataflow == "ws":
            return ceil_div(gemm.k, r) * ceil_div(gemm.n, c) * (2 * r + c + gemm.m - 2) - 1
        if dataflow == "is":
            return ceil_div(gemm.k, r) * ceil_div(gemm.m, c) * (2 * r + c + gemm.n - 2) - 1
        raise ValueError(f"no dataflow {dataflow!r}; there are {', '.join(DATAFLOWS)}")

    def best(self, gemm: Gemm) -> tuple[int, Dataflow]:
        """The fewest cycles of one of the products, and the dataflow that takes them."""
        return min((self.cycles(gemm, dataflow), dataflow) for dataflow in DATAFLOWS)

    def utilisation(self, gemm: Gemm) -> float:
        """Share of the elements' cycles that multiply, under the best dataflow."""
        one = gemm.macs // gemm.count
        return one / (self.best(gemm)[0] * self.rows * self.columns)

    def operands(self, gemm: Gemm) -> int:
        """Operands that pass between the array and its buffer for all the products.

        With weights stationary: the first matrix is read again for each fold of columns, the second
        once, and the results are read and written for each fold of rows but the first, which only
        writes. The dataflows differ little here; this one is the usual and the plainest.
        """
        folds_k, folds_n = ceil_div(gemm.k, self.rows), ceil_div(gemm.n, self.columns)
        first, second, result = gemm.m * gemm.k, gemm.k * gemm.n, gemm.m * gemm.n
        return gemm.count * (first * folds_n + second + result * (2 * folds_k - 1))


def spread(gemms: Iterable[Gemm], array: Array, arrays: int) -> int:
    """Cycles until ``arrays`` alike have done all products.

    Products of one kind go to the arrays in turn. Where there are fewer products than arrays, each
    is cut along N in 1, 2, 4, ... and along M for the arrays that are left, whichever is quickest.
    """
    total = 0
    for gemm in gemms:
        if gemm.count >= arrays:
            total += ceil_div(gemm.count, arrays) * (array.best(gemm)[0] + 1)
            continue
        each = arrays // gemm.count
        total += 1 + min(
            array.best(Gemm(ceil_div(gemm.m, each // cut), gemm.k, ceil_div(gemm.n, cut)))[0]
            for cut in (1 << bit for bit in range(each.bit_length()))
        )
    return total


def ceil_div(value: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-value // by)
