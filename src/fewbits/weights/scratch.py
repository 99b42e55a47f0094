"""Memory that unpacked weights pass through, used again and again.

A buffer comes back by itself when the last tensor over it is gone, views included: PyTorch's
storage holds on to the array that it was made from, and `weakref.finalize` tells of that one's end.
"""

import threading
import weakref
from collections import deque
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewbits.frameworks import to_torch

Bytes = NDArray[np.uint8]
# PyTorch's own tensors begin at multiples of 64; its kernels may tell the difference.
_ALIGNMENT = 64
# A buffer takes weights down to this part of its size.
_MOST_SPARE = 4


class Scratch:
    """Buffers that are lent out as arrays; it keeps as many bytes as were ever needed at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Arrays may end anywhere, even while the lock is held: appending needs none.
        self._returned: deque[Bytes] = deque()
        self._free: list[Bytes] = []
        self._lent = 0
        self.most_bytes = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[NDArray[Any], torch.Tensor]:
        """An array to fill, and a tensor over the same memory that gives it back at its end."""
        size = prod(shape) * dtype.itemsize
        buffer = self._buffer(size)
        held = buffer[:size]
        tensor = torch.from_numpy(held).view(torch_dtype(dtype)).view(shape)
        weakref.finalize(held, self._returned.append, buffer)
        return buffer[:size].view(dtype).reshape(shape), tensor

    def _buffer(self, size: int) -> Bytes:
        with self._lock:
            self._collect()
            # Fresh memory takes several times as long to fill, so a larger buffer will do; but one
            # for a small weight must not hold on to the memory of the largest.
            fitting = [b for b in self._free if size <= b.size <= _MOST_SPARE * size + 4096]
            unused = min(fitting, key=len, default=None)
            if unused is None:
                unused = max(self._free, key=len, default=None)
                buffer = _aligned(size)
            else:
                buffer = unused
            self._free = [other for other in self._free if other is not unused]
            self._lent += buffer.size
            self.most_bytes = max(self.most_bytes, self.bytes)
            return buffer

    @property
    def bytes(self) -> int:
        """Bytes that are lent out or wait to be."""
        return self._lent + sum(buffer.size for buffer in self._free)

    def held_bytes(self) -> int:
        """Bytes that tensors use now or that wait for the next."""
        with self._lock:
            self._collect()
            return self.bytes

    def clear(self) -> None:
        """Let go of what nothing uses."""
        with self._lock:
            self._collect()
            self._free.clear()

    def _collect(self) -> None:
        while self._returned:
            buffer = self._returned.popleft()
            self._lent -= buffer.size
            self._free.append(buffer)


def _aligned(size: int) -> Bytes:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]


@cache
def torch_dtype(dtype: np.dtype) -> torch.dtype:
    """The dtype that PyTorch has for NumPy's; `TypeError` if none."""
    return to_torch(np.empty(0, dtype)).dtype
