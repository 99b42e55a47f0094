"""Types of the compiled module; the sources are in ``src/kernels``."""

from collections.abc import Callable, Sequence
from typing import overload

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
    @property
    def width(self) -> int: ...
    @property
    def count_bits(self) -> int: ...
    @property
    def starts(self) -> list[int]: ...
    @property
    def offset_lengths(self) -> list[int]: ...
    @property
    def counts(self) -> list[int]: ...

def read_table(data: NDArray[np.uint8], width: int) -> tuple[Table, int]:
    """A table from the front of bytes and how many it took; ``ValueError`` if they hold none."""

def write_table(table: Table) -> bytes:
    """A table as ``read_table`` takes it."""

class Plane:
    """One field of the elements and the tables that code it."""

    def __init__(
        self, bytes: int, offset: int, coder: int, verbatim_bits: int, tables: Sequence[Table]
    ) -> None: ...

class Arrangement:
    """In what order a tensor's elements stand in its frame, and where blocks end in it."""

    @overload
    def __init__(self, elements: int, block_elements: int) -> None: ...
    @overload
    def __init__(
        self,
        elements: int,
        block_elements: int,
        row_elements: int,
        class_of_row: NDArray[np.uint8],
        starts_group: Sequence[bool],
    ) -> None: ...
    @property
    def blocks(self) -> int: ...
    def block_of(self, block: int) -> tuple[int, int]:
        """Where a block starts in stored order and how many elements it holds."""

    def blocks_of(self, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges of the blocks that hold elements ``first`` to ``last - 1`` of the tensor."""

class Plan:
    """How elements are cut, remapped and coded."""

    def __init__(self, element_bytes: int, remap: int, planes: Sequence[Plane]) -> None: ...
    def pack(
        self, arrangement: Arrangement, data: NDArray[np.uint8], threads: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint64]]: ...
    def pack_frame(
        self,
        arrangement: Arrangement,
        data: NDArray[np.uint8],
        threads: int,
        header_bytes: int,
        make_header: Callable[[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint64]], bytes],
    ) -> bytes:
        """What ``make_header`` makes of the block index, of that length, then the payload."""

    def unpack(
        self,
        arrangement: Arrangement,
        payload: NDArray[np.uint8],
        modes: NDArray[np.uint8],
        lengths: NDArray[np.uint32],
        checksums: NDArray[np.uint64],
        first_block: int,
        out: NDArray[np.uint8],
        first_element: int,
        verify: bool,
        threads: int,
    ) -> int: ...
    def multiply(
        self,
        arrangement: Arrangement,
        payload: NDArray[np.uint8],
        modes: NDArray[np.uint8],
        lengths: NDArray[np.uint32],
        checksums: NDArray[np.uint64],
        number: int,
        columns: int,
        vectors: NDArray[np.float32],
        out: NDArray[np.float32],
        verify: bool,
        threads: int,
    ) -> int:
        """Products of a packed matrix and vectors, one row of ``out`` for each vector.

        ``number``: what the elements are, 0 bfloat16, 1 float32, 2 int8. Returns as ``unpack``.
        """

    def histograms(
        self,
        plane: int,
        data: NDArray[np.uint8],
        row_elements: int,
        bin_of_row: NDArray[np.uint8],
        bins: int,
        dropped_bits: int = 0,
        row_step: int = 1,
    ) -> NDArray[np.uint64]: ...

def rans_encode(values: Values, table: Table, verbatim_bits: int = 0) -> NDArray[np.uint8]: ...
def rans_decode(data: NDArray[np.uint8], table: Table, verbatim_bits: int, out: Values) -> bool: ...
def arithmetic_encode(values: Values, table: Table) -> NDArray[np.uint8]: ...
def arithmetic_decode(data: NDArray[np.uint8], table: Table, out: Values) -> bool: ...
def xxh3(data: NDArray[np.uint8]) -> int: ...
def set_team(address: int) -> None: ...
def work_apart() -> None: ...
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

def choose(
    cuts: Sequence[Plan],
    folded: int,
    data: NDArray[np.uint8],
    row_elements: int,
    arithmetic: bool,
    paper: bool,
    thorough: bool,
    rows: int,
    classes: int,
    count_bits: int,
) -> tuple[
    int,
    NDArray[np.uint8],
    list[bool],
    list[tuple[int, int, list[Table]]],
    float,
    float,
]:
    """Which of the cuts; the class of each row (none: no classes) and which classes begin a group;
    of each plane coder, verbatim bits and tables; entropy (bits an element) and price (bits).

    Rows of ``row_elements`` may be told apart as the remap ``folded`` shows them; 0: they may not.
    At most so many ``rows`` and ``classes``; ``count_bits`` of 0: several are tried.
    """

def exact_counts(occurrences: Sequence[int], total: int) -> list[int]:
    """As ``fewbits.lossless.counts.exact_counts`` without ``every_row``."""

def paper_counts(occurrences: Sequence[int], total: int) -> list[int]:
    """As ``fewbits.lossless.counts.paper_counts`` without ``every_row``."""

def quick_rows(
    histogram: NDArray[np.int64],
    rows: int,
    counts: int,
    max_offset_length: int,
    verbatim_bits: int,
) -> tuple[list[int], list[int]]:
    """Like ``optimal_rows``, by the program in vectors that packing uses."""

class Quantizer:
    """Group quantization; ``x``, ``codes``, ``grids`` are addresses (``lossy/native.py``)."""

    def __init__(
        self, bits: int, group: int, stochastic: bool, zeros: bool, key0: int = 0, key1: int = 0
    ) -> None: ...
    def encode(self, kind: int, x: int, n: int, codes: int, grids: int, threads: int) -> None: ...
    def decode(self, kind: int, codes: int, grids: int, n: int, x: int, threads: int) -> None: ...

def bound_encode(
    step: float,
    inverse: float,
    limit: float,
    dither: bool,
    key0: int,
    key1: int,
    kind: int,
    x: int,
    n: int,
    words: int,
    entries: int,
    threads: int,
) -> int:
    """How many words error-bounded blocks take; ``x``, ``words``, ``entries`` are addresses."""

def bound_decode(
    step: float, kind: int, words: int, count: int, entries: int, n: int, x: int, threads: int
) -> None:
    """The elements; ``ValueError`` where the entries do not ask for so many words."""

class Dct:
    """Low frequencies of 8 x 8 blocks of maps, (planes, height, width); the rest are addresses."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        chop: int,
        slot: Sequence[int],
        forward: Sequence[Sequence[float]],
        inverse: Sequence[Sequence[float]],
    ) -> None: ...
    def encode(self, kind: int, x: int, coefficients: int, threads: int) -> None: ...
    def decode(self, kind: int, coefficients: int, x: int, threads: int) -> None: ...

class FixedRate:
    """Fixed-rate blocks of tensors, (outer, 3 sizes); the rest are addresses."""

    def __init__(
        self,
        dims: int,
        budget: int,
        largest_fall: int,
        sizes: Sequence[int],
        order: Sequence[int],
        outer: int,
        size: tuple[int, int, int],
        forward: Sequence[Sequence[float]],
        inverse: Sequence[Sequence[float]],
    ) -> None: ...
    def encode(self, kind: int, x: int, payload: int, threads: int) -> None: ...
    def decode(self, kind: int, payload: int, x: int, threads: int) -> None: ...

def pack_mask(kind: int, x: int, n: int, bits: int, threads: int) -> bool: ...
def apply_mask(
    kind: int, x: int, bits: int, n: int, positive: bool, out: int, threads: int
) -> None: ...
def spread_mask(kind: int, value: int, bits: int, n: int, out: int, threads: int) -> None: ...
