"""Masks in the C++ kernels (``src/kernels/lossy_mask.hpp``)."""

import torch

from fewbits import _kernels
from fewbits.lossy.bitpack import RUNS
from fewbits.lossy.native import FLOATS, address, threads


def pack_mask(tensor: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The bits of a tensor of at most 32-bit floats, and whether an element is below zero."""
    tensor = tensor.contiguous()
    bits = torch.empty(-(-tensor.numel() // RUNS), dtype=torch.uint8)
    below = _kernels.pack_mask(
        FLOATS[tensor.dtype], address(tensor), tensor.numel(), address(bits), threads()
    )
    return bits, below


def apply_mask(values: torch.Tensor, bits: torch.Tensor, positive: bool) -> torch.Tensor:
    """What `Mask` decodes to, in the shape of the values."""
    values, bits = values.contiguous(), bits.contiguous()
    out = torch.empty(values.shape, dtype=values.dtype)
    _kernels.apply_mask(
        FLOATS[values.dtype],
        address(values),
        address(bits),
        values.numel(),
        positive,
        address(out),
        threads(),
    )
    return out


def spread_mask(value: torch.Tensor, bits: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The one element of ``value`` where a bit is set, 0 elsewhere."""
    out = torch.empty(shape, dtype=value.dtype)
    bits = bits.contiguous()
    _kernels.spread_mask(
        FLOATS[value.dtype], address(value), address(bits), out.numel(), address(out), threads()
    )
    return out
