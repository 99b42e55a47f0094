"""Group quantization: 1 to 8 bits for each element, and a grid for each group of elements.

A group's grid is two bfloat16 numbers, 4 bytes: the lowest level, ``low``, rounded down from the
smallest element, and the step to the next, ``step``, rounded up. Bfloat16 has the range of float32;
what rounding adds to the range of a group is less than 1 % of it, or of its smallest element.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from fewbits.lossy import native_quantize, torch_quantize
from fewbits.lossy.backend import backend_for
from fewbits.lossy.bitpack import joined, packed_size, rows_of
from fewbits.lossy.codec import Codec, Parts, TensorSpec
from fewbits.lossy.torch_quantize import FLOAT_TYPES, TINY, grid, span, to_float32


@dataclass(frozen=True)
class Quantize(Codec):
    """``bits`` (1 to 8) for each element, on a grid of equal steps for each ``group`` of them.

    Groups are runs of elements, the last one may be shorter; ``group`` is a multiple of 8. Parts:
    the packed codes (uint8, see `fewbits.lossy.bitpack`) and the grids (bfloat16, a row of low and
    step for each group).

    ``rounding="nearest"`` is off by half a step at most. ``"stochastic"`` is off by less than a
    step, and right on average over seeds: the chance to go up is the fraction of the step that is
    left, in 65536ths.

    ``zeros=True`` keeps one code for zero, at no cost beside: what is zero stays zero, and what is
    not does not become zero, so that masks survive (a ReLU's, a dropout's). The other levels then
    span the elements that are not zero. With one bit there is one such level, in the middle.

    **What is not finite** cannot be on a grid: a group that holds an infinity or NaN, or whose
    range comes near the largest float32, decodes to NaN in every place (where ``zeros``, its zeros
    stay), so it cannot pass unnoticed, and other groups are not touched. Whether ``isfinite`` holds
    for the grids tells that all groups were held, for a 128th of the reads of asking the tensor.
    """

    bits: int
    group: int = 256
    rounding: Literal["nearest", "stochastic"] = "nearest"
    zeros: bool = False

    flat = True
    part_count = 2

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 1 <= self.bits <= 8:
            raise ValueError(f"a code has 1 to 8 bits, not {self.bits!r}")
        if not isinstance(self.group, int) or self.group not in range(8, (1 << 16) + 1, 8):
            raise ValueError(f"a group is a multiple of 8 up to 65536, not {self.group!r}")
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(f"rounding is 'nearest' or 'stochastic', not {self.rounding!r}")

    @property
    def steps(self) -> int:
        """Steps from the lowest level to the highest."""
        return (1 << self.bits) - (2 if self.zeros else 1)

    def encode(self, tensor: torch.Tensor, *, seed: int = 0) -> Parts:
        self.insist(tensor)
        flat = to_float32(tensor.detach(), self.zeros).reshape(-1)
        codes, grids = _form(tensor).encode(self, flat, seed)
        return codes, grids

    def decode(self, parts: Parts, spec: TensorSpec) -> torch.Tensor:
        codes, grids = parts
        if TensorSpec.of(codes) != self.payload(spec):
            raise ValueError(
                f"{codes.nbytes} bytes of codes are not those of {spec.numel} elements"
            )
        if TensorSpec.of(grids) != TensorSpec((self._groups(spec), 2), torch.bfloat16):
            raise ValueError(f"{len(grids)} grids are not those of {spec.numel} elements")
        dtype = torch.float32 if spec.dtype == torch.float64 else spec.dtype
        return _form(codes).decode(self, parts, spec.numel, dtype).to(spec.dtype).view(spec.shape)

    def payload(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec((packed_size(spec.numel, self.bits, self.group),), torch.uint8)

    def nbytes(self, spec: TensorSpec) -> int:
        return self.payload(spec).nbytes + 4 * self._groups(spec)

    def _groups(self, spec: TensorSpec) -> int:
        return -(-spec.numel // self.group)

    def refusal(self, spec: TensorSpec) -> str | None:
        return None if spec.dtype in FLOAT_TYPES else f"{spec.dtype} is no float of 16 to 64 bits"

    def allowed_error(self, tensor: torch.Tensor) -> torch.Tensor:
        """Half a step, or a whole one where rounding is stochastic, and what float32 rounds off.

        With one bit and ``zeros``, half the range of the group's elements that are not zero, and
        what bfloat16 rounds off the middle. Infinite in groups that are not held.
        """
        flat = to_float32(tensor.detach(), self.zeros).reshape(-1)
        bounds = []
        for rows in rows_of(flat, self.group):
            step = grid(rows, self)[1].double()
            if self.steps == 0:
                low, high = span(rows, self.zeros)
                middle = (high.double() + low.double()).abs() / 2
                reach = (high.double() - low.double()) / 2 + middle * 2.0**-7
            else:
                reach = step * (0.5 if self.rounding == "nearest" else 1.0)
            slack = (self.steps + 2) * 2.0**-20 * step + TINY
            bound = torch.where(step.isnan(), torch.inf, reach + slack)
            bounds.append(bound.expand(rows.shape))
        bound = joined(bounds, torch.float64, flat.device).view(tensor.shape)
        info = torch.finfo(tensor.dtype)
        rounding = max(info.eps, 2.0**-23) * (tensor.detach().double().abs() + bound)
        return bound + rounding + 2 * float(info.smallest_normal) * info.eps


def _form(tensor: torch.Tensor) -> Any:
    """The module that has ``encode`` and ``decode`` in the form for this tensor."""
    form = backend_for(tensor)
    if form == "triton":
        from fewbits.lossy import triton_quantize

        return triton_quantize
    return native_quantize if form == "native" else torch_quantize
