"""So many bits for each value, exactly: small blocks, transformed, bits spent where they count.

In the manner of ZFP (Lindstrom, 2014): blocks of 4, 4 x 4 or 4 x 4 x 4 elements get the same number
of bits each, so that the size is known before, and any block can be decoded alone. How a block is
written is in ``torch_fixedrate.py``; here is how tensors are cut into blocks.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fewbits.lossy import native_fixedrate
from fewbits.lossy import torch_fixedrate as plain
from fewbits.lossy.backend import backend_for
from fewbits.lossy.codec import Codec, Parts, TensorSpec

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def _groups(dims: int, last: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Coefficients by total frequency and index, and how many end each group at these totals."""
    totals = [sum(place) for place in itertools.product(range(plain.SIDE), repeat=dims)]
    group = [next(g for g, most in enumerate(last) if total <= most) for total in totals]
    order = sorted(range(len(totals)), key=lambda j: (totals[j], j))
    return tuple(order), tuple(group.count(g) for g in range(len(last)))


#: The order of coefficients and the sizes of their groups. Finer groups gain nothing in 2
#: dimensions, and in 1 cost more than they give.
_GROUPS = {
    1: _groups(1, (0, 3)),
    2: _groups(2, (0, 1, 2, 3, 6)),
    3: _groups(3, tuple(range(10))),
}


@dataclass(frozen=True)
class FixedRate(Codec):
    """``bits`` for each value, 1 to 16, in blocks of ``4^dims`` over the last ``dims`` dimensions.

    The payload is ``ceil(blocks 4^dims bits / 8)`` bytes, where a size that is no multiple of 4 is
    filled up by repeating the edge. ``dims=1`` takes any tensor as one run, at least 3 bits; with
    more dimensions neighbours of every direction help, and the header costs less.

    **Error.** The transform is exact up to rounding, so a block's error follows from its exponents
    and bits: a coefficient with b bits is off by ``2^(E - b)`` at most, and an element by the sum
    of these, each times ``sqrt(2)`` for every dimension in which its frequency is not 0
    (`allowed_error`). Blocks with NaN, inf or magnitudes from 2^126 decode to NaN; zeros stay zeros
    in blocks of zeros. Arithmetic is in float32; float64 is refused.
    """

    bits: int
    dims: Literal[1, 2, 3] = 2

    def __post_init__(self) -> None:
        if self.dims not in _GROUPS:
            raise ValueError(f"dims must be 1, 2 or 3, not {self.dims!r}")
        least = 3 if self.dims == 1 else 1
        if not (isinstance(self.bits, int) and least <= self.bits <= 16):
            raise ValueError(
                f"bits must be {least} to 16 in {self.dims} dimensions, not {self.bits!r}"
            )

    @property
    def flat(self) -> bool:  # type: ignore[override]
        """In one dimension, a tensor is a plain run."""
        return self.dims == 1

    @property
    def layout(self) -> plain.Layout:
        """What follows from the settings alone."""
        order, sizes = _GROUPS[self.dims]
        budget = self.bits * len(order)
        fall = min(7, (budget - plain.EXPONENT_BITS) // (len(sizes) - 1))
        return plain.Layout(len(order), budget, order, sizes, fall)

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        tensor = tensor.detach()
        if backend_for(tensor) == "native":
            return (native_fixedrate.encode(self, tensor),)
        layout = self.layout
        blocks = self._blocks(tensor).to(torch.float32)
        coefficients = plain.transform(blocks, self.dims)[:, list(layout.order)]
        header = plain.measure(coefficients, layout)
        codes = plain.codes_of(coefficients, header, layout)
        return (_bits(tensor).pack(codes, header, layout),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        (payload,) = parts
        if payload.dtype != torch.uint8 or payload.numel() != self.nbytes(spec):
            raise ValueError(f"{payload.nbytes} bytes are not the payload of {spec} in {self!r}")
        if backend_for(payload) == "native":
            return native_fixedrate.decode(self, payload, spec)
        layout = self.layout
        header = plain.read(payload, self._count(spec.shape), layout)
        places = plain.places_of(header, layout)
        codes = _bits(payload).unpack(payload, places, plain.spread(header.bits, layout))
        coefficients = plain.values_of(codes, header, layout)
        back = [layout.order.index(j) for j in range(layout.block)]
        elements = plain.restore(coefficients[:, back], self.dims)
        broken = header.exponent[:, None] == plain.NOT_FINITE
        elements = torch.where(broken, torch.full_like(elements, torch.nan), elements)
        if spec.dtype == torch.float16:  # what rounds up past the largest number would be inf
            elements = elements.clamp(-65504.0, 65504.0)
        return self._assemble(elements.to(spec.dtype), spec.shape)

    def payload(self, spec: TensorSpec) -> TensorSpec:
        bits = self._count(spec.shape) * self.bits * plain.SIDE**self.dims
        return TensorSpec((-(-bits // 8),), torch.uint8)

    def nbytes(self, spec: TensorSpec) -> int:
        return self.payload(spec).nbytes

    def refusal(self, spec: TensorSpec) -> str | None:
        if spec.dtype not in _FLOATS:
            return f"FixedRate holds float32, float16 and bfloat16, not {spec.dtype}"
        if 1 < self.dims > len(spec.shape):
            return f"{self!r} takes tensors of {self.dims} dimensions or more"
        return None

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        layout = self.layout
        coefficients = plain.transform(self._blocks(tensor.detach()).to(torch.float32), self.dims)
        header = plain.measure(coefficients[:, list(layout.order)], layout)
        places = list(itertools.product(range(plain.SIDE), repeat=self.dims))
        gains = torch.tensor(
            [2.0 ** (sum(k > 0 for k in places[j]) / 2) for j in layout.order],
            dtype=torch.float64,
        )
        reach = torch.stack([part.sum() for part in gains.split(list(layout.sizes))])
        exponent = (header.exponent[:, None] - 126 - header.falls).double()
        off = (torch.exp2(exponent - header.bits) * reach.to(exponent.device)).sum(1)
        size = torch.exp2(header.exponent.double() - 126)  # float32's rounding, and the dtype's
        off = off + size * (2.0**-18 + 4 * torch.finfo(tensor.dtype).eps * 2**self.dims)
        off = off.clamp(min=2.0**-126 * layout.block)
        off = torch.where(header.exponent == plain.NOT_FINITE, torch.inf, off)
        spread = off[:, None].expand(-1, layout.block).reshape(-1, layout.block)
        return self._assemble(spread, tuple(tensor.shape))

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape as (what blocks do not cross, then each dimension that they cover)."""
        split = len(shape) - self.dims
        outer, inner = math.prod(shape[:split]), shape[split:]
        if self.flat:
            outer, inner = 1, (math.prod(shape),)
        return (outer, *inner)

    def _count(self, shape: tuple[int, ...]) -> int:
        """Blocks of a tensor."""
        outer, *inner = self.grid(shape)
        return outer * math.prod([-(-size // plain.SIDE) for size in inner])

    def _blocks(self, tensor: torch.Tensor) -> torch.Tensor:
        """(blocks, 4^dims)."""
        grid = self.grid(tuple(tensor.shape))
        lines = tensor.reshape(grid)
        for dim in range(1, self.dims + 1):
            missing = -lines.shape[dim] % plain.SIDE
            if missing:
                edge = lines.narrow(dim, lines.shape[dim] - 1, 1)
                lines = torch.cat([lines, *[edge] * missing], dim)
        counts = [size // plain.SIDE for size in lines.shape[1:]]
        cut = lines.reshape(grid[0], *itertools.chain(*((count, plain.SIDE) for count in counts)))
        order = [0, *range(1, 2 * self.dims, 2), *range(2, 2 * self.dims + 1, 2)]
        return cut.permute(order).reshape(-1, plain.SIDE**self.dims)

    def _assemble(self, blocks: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """A tensor of this shape from (blocks, 4^dims)."""
        grid = self.grid(shape)
        counts = [-(-size // plain.SIDE) for size in grid[1:]]
        cut = blocks.reshape(grid[0], *counts, *[plain.SIDE] * self.dims)
        order = [0, *itertools.chain(*((1 + d, 1 + d + self.dims) for d in range(self.dims)))]
        lines = cut.permute(order).reshape(grid[0], *[count * plain.SIDE for count in counts])
        for dim, size in enumerate(grid[1:], 1):
            lines = lines.narrow(dim, 0, size)
        return lines.reshape(shape).contiguous()


def _bits(tensor: torch.Tensor) -> Any:
    """The module that has ``pack`` and ``unpack`` in the form for this tensor."""
    if backend_for(tensor) == "triton":
        from fewbits.lossy import triton_fixedrate

        return triton_fixedrate
    return plain
