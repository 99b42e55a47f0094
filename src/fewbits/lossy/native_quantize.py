"""`Quantize` in the C++ kernels (``src/kernels/lossy_quantize.hpp``)."""

from typing import TYPE_CHECKING

import torch

from fewbits import _kernels
from fewbits.lossy.bitpack import packed_size
from fewbits.lossy.codec import Parts
from fewbits.lossy.native import FLOATS, address, threads
from fewbits.lossy.noise import keys

if TYPE_CHECKING:
    from fewbits.lossy.quantize import Quantize


def _kernel(codec: "Quantize", seed: int = 0) -> _kernels.Quantizer:
    stochastic = codec.rounding == "stochastic"
    return _kernels.Quantizer(codec.bits, codec.group, stochastic, codec.zeros, *keys(seed))


def encode(codec: "Quantize", flat: torch.Tensor, seed: int) -> Parts:
    """Codes and grids of a flat tensor of at most 32-bit floats."""
    count, flat = flat.numel(), flat.contiguous()
    codes = torch.empty(packed_size(count, codec.bits, codec.group), dtype=torch.uint8)
    grids = torch.empty((-(-count // codec.group), 2), dtype=torch.bfloat16)
    _kernel(codec, seed).encode(
        FLOATS[flat.dtype], address(flat), count, address(codes), address(grids), threads()
    )
    return codes, grids


def decode(codec: "Quantize", parts: Parts, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The flat tensor of at most 32-bit floats that the parts stand for."""
    codes, grids = parts[0].contiguous(), parts[1].contiguous()
    out = torch.empty(count, dtype=dtype)
    _kernel(codec).decode(
        FLOATS[dtype], address(codes), address(grids), count, address(out), threads()
    )
    return out
