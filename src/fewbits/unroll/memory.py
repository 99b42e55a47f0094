"""Whose memory is whose: the blocks that a step's variables hold, line by line."""

from collections import Counter
from collections.abc import Iterable

from fewbits.unroll.inplace import OVERLAP

#: The block of what is not the step's own: arguments and parameters.
_GIVEN = 0


class Memory:
    """Blocks, the names that stand for them, and their bytes."""

    def __init__(self) -> None:
        self._block: dict[str, int] = {}
        self._users: Counter[int] = Counter()
        self._bytes: dict[int, int] = {}
        self._overlapping: set[int] = set()
        self._made = _GIVEN

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""
        return sum(self._bytes.values())

    def write(self, name: str, nbytes: int, shared: Iterable[str] = ()) -> None:
        """A line gives a name what it made, or memory of the names that ``shared`` says."""
        others = set(shared)
        blocks = {self._block.get(other, _GIVEN) for other in others - {OVERLAP}}
        block = blocks.pop() if blocks else self._new(nbytes)
        if OVERLAP in others:
            self._overlapping.add(block)
        self._users[block] += 1
        self.free(name)
        self._block[name] = block

    def free(self, name: str) -> None:
        """A name ends, and its block where it was the last."""
        block = self._block.pop(name, _GIVEN)
        self._users[block] -= 1
        if not self._users[block]:
            self._bytes.pop(block, None)

    def alone(self, name: str) -> bool:
        """Is the memory the step's own, of this name only, and each element's its own?"""
        block = self._block.get(name, _GIVEN)
        return block != _GIVEN and self._users[block] == 1 and block not in self._overlapping

    def _new(self, nbytes: int) -> int:
        self._made += 1
        self._bytes[self._made] = nbytes
        return self._made
