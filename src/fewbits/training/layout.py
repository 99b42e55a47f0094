"""Saved tensors as runs of memory, so that views of the same elements are packed once.

A tensor whose elements fill a stretch of memory without gaps, in whatever order of dimensions, is
that stretch: its **run**. The output of a layer, its flattened view, and its transpose are one run
with three shapes. Decoded, a run becomes any of them again by its strides.
"""

from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class View:
    """How a saved tensor looks at its run."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, run: torch.Tensor) -> torch.Tensor:
        """The tensor, from a run of one dimension."""
        return run.as_strided(self.shape, self.strides)


class Keys:
    """Keys that stay good: weak references keep their addresses from being used for others."""

    def __init__(self) -> None:
        self._guards: dict[int, StorageWeakRef] = {}

    def of(self, tensor: torch.Tensor) -> Key:
        """`key_of`, until `clear`."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._guards:
            self._guards[storage._cdata] = StorageWeakRef(storage)
        return key_of(tensor)

    def clear(self) -> None:
        """No key will be asked for again."""
        self._guards.clear()


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Do the elements fill a stretch of memory, each place once?"""
    expected = 1
    for stride, size in sorted(
        (stride, size) for stride, size in zip(strides, shape, strict=True) if size != 1
    ):
        if stride != expected:
            return False
        expected *= size
    return True


def overlaps(tensor: torch.Tensor) -> bool:
    """May two elements share a place in memory, as in what `unfold` gives?"""
    if tensor.is_contiguous():
        return False
    reach = 1 + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return bool(tensor.numel() > reach)


def compact(tensor: torch.Tensor) -> tuple[torch.Tensor, View]:
    """The tensor without repetition and gaps, and how to see the original in its run.

    A tensor that is dense, but for repetition, is returned as it is, without a copy.
    """
    tensor = tensor.detach()
    if tensor.is_contiguous():
        return tensor, View(tuple(tensor.shape), tensor.stride())
    shape, strides = tuple(tensor.shape), tensor.stride()
    if 0 in strides:
        base, view = compact(once(tensor))
        kept = tuple(0 if s == 0 else new for s, new in zip(strides, view.strides, strict=True))
        return base, View(shape, kept)
    if is_dense(shape, strides):
        return tensor, View(shape, strides)
    copied = torch.empty_like(tensor, memory_format=torch.preserve_format).copy_(tensor)
    return copied, View(shape, copied.stride())


def view_of(tensor: torch.Tensor) -> View:
    """How a tensor looks at its run, as `compact` would say, without a copy."""
    if tensor.is_contiguous():
        return View(tuple(tensor.shape), tensor.stride())
    return compact(torch.empty_strided(tensor.shape, tensor.stride(), device="meta"))[1]


def once(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without what `expand` repeats."""
    sizes = [1 if s == 0 else n for n, s in zip(tensor.shape, tensor.stride(), strict=True)]
    return tensor.as_strided(sizes, [s or 1 for s in tensor.stride()], tensor.storage_offset())


def key_of(tensor: torch.Tensor) -> Key:
    """What tensors with the same elements, not modified in between, have in common.

    Dense tensors share it with every view of the same stretch of memory. It holds while the
    storage lives, or while someone keeps its address from being used again.
    """
    place = (tensor.untyped_storage()._cdata, tensor.dtype, tensor.storage_offset())
    if not tensor.is_contiguous():
        single = once(tensor)
        if not is_dense(tuple(single.shape), single.stride()):
            return (*place, tuple(tensor.shape), tensor.stride(), tensor._version)
        tensor = single
    return (*place, tensor.numel(), tensor._version)


def in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """A dense tensor as its run: one dimension, no copy."""
    if tensor.is_contiguous():
        return tensor
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def restored(decoded: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """The run of a decoded contiguous tensor, in the order of memory that the strides say."""
    if decoded.stride() == strides or (decoded.is_contiguous() and decoded.numel() <= 1):
        return decoded.reshape(-1)
    ordered = torch.empty_strided(
        decoded.shape, strides, dtype=decoded.dtype, device=decoded.device
    )
    ordered.copy_(decoded)
    return in_memory_order(ordered)
