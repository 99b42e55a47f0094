"""`Bounded` in the C++ kernels (``src/kernels/lossy_bounded.hpp``)."""

import torch

from fewbits import _kernels
from fewbits.lossy.native import FLOATS, address, threads
from fewbits.lossy.noise import keys

BLOCK = 32


def encode(
    flat: torch.Tensor, step: torch.Tensor, limit: torch.Tensor, seed: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The words and entries of a flat tensor; ``seed`` where rounding is dithered."""
    flat, count = flat.contiguous(), flat.numel()
    blocks = -(-count // BLOCK)
    words = torch.empty(blocks * int(flat.dtype.itemsize) * 8, dtype=torch.int32)
    entries = torch.empty(blocks, dtype=torch.uint8)
    used = _kernels.bound_encode(
        step.item(),
        (1 / step).item(),
        limit.item(),
        seed is not None,
        *keys(seed or 0),
        FLOATS[flat.dtype],
        address(flat),
        count,
        address(words),
        address(entries),
        threads(),
    )
    return words[:used].clone(), entries  # a view would keep the room for the worst case


def decode(
    words: torch.Tensor, entries: torch.Tensor, step: torch.Tensor, count: int, dtype: torch.dtype
) -> torch.Tensor:
    """The flat tensor that the parts stand for."""
    words, entries = words.contiguous(), entries.contiguous()
    if words.dtype != torch.int32 or step.dtype != torch.float32:
        raise ValueError("the words must be int32 and the step float32")
    out = torch.empty(count, dtype=dtype)
    _kernels.bound_decode(
        step.item(),
        FLOATS[dtype],
        address(words),
        words.numel(),
        address(entries),
        count,
        address(out),
        threads(),
    )
    return out
