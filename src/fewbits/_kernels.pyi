"""Types of the compiled module; the sources are in ``src/kernels``."""

from collections.abc import Sequence

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
