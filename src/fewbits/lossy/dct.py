"""Low frequencies of 8 x 8 blocks: for maps that are smooth in their last two dimensions.

Each block X of 8 x 8 elements becomes ``Y = T X T'`` with the orthonormal DCT-II matrix ``T[k, i] =
sqrt(1/4) cos((2i + 1) k pi / 16)`` (``sqrt(1/8)`` in row 0), of which only low frequencies are kept
(Shah et al., HPDC 2024, DCT+Chop): the square ``u, v < chop``, (8 / chop)^2 times smaller, or the
triangle ``u + v < chop``. What is stored is ``Y / 8``, so that the first coefficient is the block's
mean and none is larger than the largest element.

>>> import torch
>>> codec = DCT(2)
>>> (payload,) = codec.encode(torch.ones(1, 3, 16, 24))
>>> payload.shape  # frequencies first: neighbours in memory are of one frequency
torch.Size([4, 1, 3, 2, 3])
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch

from fewbits.lossy import native_dct
from fewbits.lossy.backend import backend_for
from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.cosine import line, low
from fewbits.lossy.native import FLOATS

SIDE = 8
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_Pass = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class DCT(Codec):
    """Keeps the low frequencies of 8 x 8 blocks over the last two dimensions.

    For floats of at least 4 dimensions, ``(..., channels, height, width)``, height and width 8 or
    more. A size that is no multiple of 8 is filled up by repeating the edge. The payload is
    ``(kept, ..., ceil(height / 8), ceil(width / 8))`` in the tensor's dtype, frequencies sorted by
    ``(u + v, u)``; the arithmetic is in float32, for float64 in float64. With frequencies first, a
    group that `Quantize` makes holds one of them: 6 to 10 dB less noise than block after block.

    **Error.** The transform is orthonormal, so the squared error of a block sums to that of the
    coefficients that were dropped, up to the rounding of floats; where elements were added at the
    edge, that of the real ones is at most as large. ``DCT(8)`` drops nothing. An element that is
    not finite makes its block so.

    ``tile`` is for compilers with little memory for operands: the plain torch operations then take
    pieces of ``tile x tile`` elements, a multiple of 8, one after another, with the same result.
    """

    chop: int
    keep: Literal["square", "triangle"] = "square"
    tile: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.chop, int) and 1 <= self.chop <= SIDE):
            raise ValueError(f"chop must be 1 to 8, not {self.chop!r}")
        if self.keep not in ("square", "triangle"):
            raise ValueError(f"keep must be 'square' or 'triangle', not {self.keep!r}")
        if self.tile is not None and not (
            isinstance(self.tile, int) and self.tile > 0 and self.tile % SIDE == 0
        ):
            raise ValueError(f"tile must be a multiple of 8, not {self.tile!r}")

    @property
    def frequencies(self) -> tuple[tuple[int, int], ...]:
        """The (vertical, horizontal) frequencies kept, in the order of the payload."""
        kept = [
            (u, v)
            for u, v in product(range(self.chop), repeat=2)
            if self.keep == "square" or u + v < self.chop
        ]
        return tuple(sorted(kept, key=lambda uv: (sum(uv), uv[0])))

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        maps = tensor.detach().reshape(-1, *tensor.shape[-2:])
        kernels = _kernels(tensor)
        if kernels:
            coefficients = kernels.encode(self, maps)
        else:
            coefficients = self._in_tiles(self._forward, _fill_up(maps), SIDE)
        return (coefficients.reshape(self.payload(TensorSpec.of(tensor)).shape),)

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        (payload,) = parts
        if payload.shape != self.payload(spec).shape or payload.dtype != spec.dtype:
            raise ValueError(f"{tuple(payload.shape)} is not the payload of {spec} in {self!r}")
        height, width = spec.shape[-2:]
        coefficients = payload.reshape(len(self.frequencies), -1, *payload.shape[-2:])
        kernels = _kernels(payload)
        if kernels:
            maps = kernels.decode(self, coefficients, height, width)
        else:
            maps = self._in_tiles(self._inverse, coefficients, 1)[..., :height, :width]
        return maps.reshape(spec.shape).contiguous()

    def payload(self, spec: TensorSpec) -> TensorSpec:
        *leading, height, width = spec.shape
        blocks = (-(-height // SIDE), -(-width // SIDE))
        return TensorSpec((len(self.frequencies), *leading, *blocks), spec.dtype)

    def nbytes(self, spec: TensorSpec) -> int:
        return self.payload(spec).nbytes

    def refusal(self, spec: TensorSpec) -> str | None:
        if spec.dtype not in _FLOATS:
            return f"DCT holds floats, not {spec.dtype}"
        if len(spec.shape) < 4:
            return "DCT takes maps of 4 dimensions or more: (..., channels, height, width)"
        if min(spec.shape[-2:]) < SIDE:
            return f"DCT takes maps of 8 x 8 or more, not {spec.shape[-2]} x {spec.shape[-1]}"
        return None

    def _in_tiles(self, work: _Pass, maps: torch.Tensor, side: int) -> torch.Tensor:
        """``work`` on pieces of the last two dimensions, each put back in its place."""
        if self.tile is None:
            return work(maps)
        step = self.tile // SIDE * side
        rows = [
            torch.cat([work(piece) for piece in strip.split(step, -1)], -1)
            for strip in maps.split(step, -2)
        ]
        return torch.cat(rows, -2)

    def _forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(maps, 8h, 8w) -> (frequencies, maps, h, w)."""
        planes, height, width = maps.shape
        blocks = maps.to(_work(maps.dtype)).reshape(
            planes, height // SIDE, SIDE, width // SIDE, SIDE
        )
        rows = torch.stack(low(blocks.unbind(2), self.chop))
        columns = low(rows.unbind(-1), self.chop)
        return torch.stack([columns[v][u] for u, v in self.frequencies]).to(maps.dtype)

    def _inverse(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(frequencies, maps, h, w) -> (maps, 8h, 8w)."""
        dtype = coefficients.dtype
        found = dict(zip(self.frequencies, coefficients.to(_work(dtype)).unbind(0), strict=True))
        nothing = torch.zeros_like(found[0, 0])
        columns = [
            torch.stack([found.get((u, v), nothing) for u in range(self.chop)])
            for v in range(self.chop)
        ]
        rows = torch.stack(line(columns, SIDE), -1)
        maps = torch.stack(line(rows.unbind(0), SIDE), 2)
        if dtype == torch.float16:  # chopping overshoots; beyond the largest number lies inf
            maps = maps.clamp(-65504.0, 65504.0)
        _, planes, height, width = coefficients.shape
        return maps.reshape(planes, height * SIDE, width * SIDE).to(dtype)


def _kernels(tensor: torch.Tensor) -> Any:
    """The module that has ``encode`` and ``decode`` for this tensor; None for the plain form."""
    form = backend_for(tensor) if tensor.dtype in FLOATS else "torch"
    if form == "triton":
        from fewbits.lossy import triton_dct

        return triton_dct
    return native_dct if form == "native" else None


def _work(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _fill_up(maps: torch.Tensor) -> torch.Tensor:
    """Repeats the last row and column up to a multiple of 8."""
    for dim in (-2, -1):
        missing = -maps.shape[dim] % SIDE
        if missing:
            edge = maps.narrow(dim, maps.shape[dim] - 1, 1)
            maps = torch.cat([maps, *[edge] * missing], dim)
    return maps
