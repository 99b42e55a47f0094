"""Types of the compiled module; the sources are in ``src/kernels``."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint8] | NDArray[np.uint16]

class Table:
    """A range table as the kernels take it."""

    def __init__(
        self,
        width: int,
        count_bits: int,
        starts: Sequence[int],
        offset_lengths: Sequence[int],
        counts: Sequence[int],
    ) -> None: ...

class Plane:
    """One field of the elements and the tables that code it."""

    def __init__(
        self, bytes: int, offset: int, coder: int, verbatim_bits: int, tables: Sequence[Table]
    ) -> None: ...

class Plan:
    """How a tensor is cut, remapped and coded."""

    def __init__(
        self, element_bytes: int, remap: int, block_elements: int, planes: Sequence[Plane]
    ) -> None: ...
    def pack(
        self, data: NDArray[np.uint8], threads: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint64]]: ...
    def unpack(
        self,
        payload: NDArray[np.uint8],
        modes: NDArray[np.uint8],
        lengths: NDArray[np.uint32],
        checksums: NDArray[np.uint64],
        out: NDArray[np.uint8],
        verify: bool,
        threads: int,
    ) -> int: ...
    def histogram(self, plane: int, data: NDArray[np.uint8]) -> NDArray[np.uint64]: ...

def rans_encode(values: Values, table: Table, verbatim_bits: int = 0) -> NDArray[np.uint8]: ...
def rans_decode(data: NDArray[np.uint8], table: Table, verbatim_bits: int, out: Values) -> bool: ...
def arithmetic_encode(values: Values, table: Table) -> NDArray[np.uint8]: ...
def arithmetic_decode(data: NDArray[np.uint8], table: Table, out: Values) -> bool: ...
def xxh3(data: NDArray[np.uint8]) -> int: ...
def simd() -> str: ...
def set_simd(name: str) -> None: ...
def available_simd() -> list[str]: ...
def optimal_rows(
    histogram: NDArray[np.int64],
    rows: int,
    counts: int,
    covering: bool,
    max_offset_length: int,
    verbatim_bits: int,
    exact: bool,
    plain_up_to: int = 512,
) -> tuple[list[int], list[int]]:
    """Row starts and offset lengths of the cheapest table; none where no table obeys the limit.

    With more than ``plain_up_to`` places for a boundary the plain program gives way to another.
    """

def paper_rows(
    histogram: NDArray[np.int64], rows: int, max_offset_length: int, threshold: float, depth: int
) -> list[int]:
    """Row starts that Listing 1 of the APack paper finds."""
