"""Where a max pool found its maxima: places in the window, a few bits in place of 8 bytes."""

import math
from dataclasses import dataclass

import torch

from fewbits.lossy.bitpack import pack_flat, packed_size, unpack_flat
from fewbits.lossy.codec import Codec, Parts, TensorSpec

_GROUP = 256
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class PoolIndices(Codec):
    """The int64 indices that ``max_pool1d`` to ``3d`` return, exactly, at 1 to 8 bits each.

    ``input_size``, ``kernel``, ``stride``, ``padding`` and ``dilation`` are the pool's, one number
    for each spatial dimension; an index counts elements of the input's spatial dimensions, row by
    row. What is kept is its place in the window of its output, so a window may have 256 places at
    most. A pool of 2 x 2 takes 2 bits.

    ``ValueError`` from `encode` where an index lies outside its window: then they are not from such
    a pool. (A compiler does not trace this check.)
    """

    input_size: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes

    exact = True

    def __post_init__(self) -> None:
        settings = (self.kernel, self.stride, self.padding, self.dilation)
        if not self.input_size or any(len(some) != len(self.input_size) for some in settings):
            raise ValueError("a pool has one number of each kind for each spatial dimension")
        if min(self.input_size + self.kernel + self.stride + self.dilation) < 1:
            raise ValueError("sizes, kernel, stride and dilation of a pool are at least 1")
        if min(self.padding) < 0:
            raise ValueError("padding of a pool is at least 0")

    @property
    def bits(self) -> int:
        """Bits of a place in the window."""
        return max((math.prod(self.kernel) - 1).bit_length(), 1)

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        offset = tensor.detach() - self._starts(tensor)
        offsets = self._offsets()
        known = torch.full((offsets[-1] + 2,), -1, dtype=torch.int16)
        known[torch.tensor(offsets)] = torch.arange(len(offsets), dtype=torch.int16)
        # What no window reaches goes to the last entry, which says so.
        beyond = (offset < 0) | (offset > offsets[-1])
        offset = offset.masked_fill_(beyond, offsets[-1] + 1)
        place = known.to(tensor.device)[offset]
        if not torch.compiler.is_compiling() and place.numel() and int(place.min()) < 0:
            raise ValueError(f"an index lies outside its window: it is not of {self!r}")
        return (pack_flat(place.reshape(-1).to(torch.uint8), self.bits, _GROUP),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        place = unpack_flat(parts[0], self.bits, _GROUP, spec.numel).view(spec.shape)
        offsets = torch.tensor(self._offsets(), device=place.device)
        return offsets[place.to(torch.int64)].add_(self._starts(place))

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec((self.nbytes(spec),), torch.uint8)

    def nbytes(self, spec: TensorSpec) -> int:
        return packed_size(spec.numel, self.bits, _GROUP)

    def refusal(self, spec: TensorSpec) -> str | None:
        if spec.dtype != torch.int64:
            return f"indices of a pool are int64, not {spec.dtype}"
        if math.prod(self.kernel) > 256:
            return "a window has more than 256 places"
        if len(spec.shape) < len(self.kernel):
            return f"{len(spec.shape)} dimensions are fewer than the pool's {len(self.kernel)}"
        return None

    def _offsets(self) -> list[int]:
        """How far each place of a window is from its start, in elements of the input's planes."""
        offsets, unit = [0], math.prod(self.input_size)
        for size, kernel, dilation in zip(self.input_size, self.kernel, self.dilation, strict=True):
            unit //= size
            offsets = [far + step * dilation * unit for far in offsets for step in range(kernel)]
        return offsets

    def _starts(self, like: torch.Tensor) -> torch.Tensor:
        """Where the window of each output starts, broadcastable to ``like``.

        With padding it may start before the input, or before its row: then as if counted on.
        """
        total, unit = torch.zeros((), dtype=torch.int64, device=like.device), 1
        outputs = like.shape[like.dim() - len(self.kernel) :]
        for d in reversed(range(len(self.kernel))):
            start = torch.arange(outputs[d], device=like.device) * self.stride[d] - self.padding[d]
            total = total + (start * unit).view(-1, *[1] * (len(self.kernel) - 1 - d))
            unit *= self.input_size[d]
        return total
