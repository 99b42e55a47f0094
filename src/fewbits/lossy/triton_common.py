"""What the Triton kernels share: the noise, floats in order, codes to words, and how to launch.

A kernel works on a block of whole rows (`fewbits.lossy.bitpack`), one run of each after another, so
that the codes of 8 runs meet in the word they share. Kernels are launched without fusing products
with sums, as the plain forms round each. With ``TRITON_INTERPRET=1`` they run on the CPU.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

#: Elements that one program works on, about; it takes whole rows.
BLOCK = 4096


@triton.jit
def fraction(place, key0, key1):
    """`fewbits.lossy.noise.fractions` at these places (uint32)."""
    x = place ^ key0
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = ((x ^ (x >> 15)) ^ key1) * 0x846CA68B
    x = x ^ (x >> 16)
    return (x >> 16).to(tl.int32).to(tl.float32) * (1.0 / 65536)


@triton.jit
def ordered(bits):
    """int32 in the order of the floats whose bits these are, and back; NaNs lie at the ends."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def widened(value):
    """A float of at most 32 bits as float32; bfloat16 by its bits, for `narrowed`'s reason."""
    if value.dtype == tl.bfloat16:
        return (value.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return value.to(tl.float32)


@triton.jit
def narrowed(value, dtype: tl.constexpr):
    """Float32 as a type of at most 32 bits, to the nearest, ties to even.

    Spelled out for bfloat16, as the interpreter cuts off instead, and loses subnormal numbers.
    """
    if dtype == tl.bfloat16:
        bits = value.to(tl.int32, bitcast=True)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        rounded = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FC00000, rounded)
        return (rounded >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
    else:
        return value.to(dtype)


@triton.jit
def store_word(word, pointers, run, mask, BITS: tl.constexpr):
    """A word of BITS bytes, one byte to each plane of a row; ``pointers`` are those of plane 0."""
    for plane in tl.static_range(BITS):
        tl.store(pointers + plane * run, ((word >> (8 * plane)) & 255).to(tl.uint8), mask=mask)


@triton.jit
def load_word(pointers, run, mask, BITS: tl.constexpr):
    """What `store_word` stored, as uint32, or uint64 for more than 4 bits."""
    word_type: tl.constexpr = tl.uint32 if BITS <= 4 else tl.uint64
    word = tl.load(pointers, mask=mask, other=0).to(word_type)
    for plane in tl.static_range(1, BITS):
        byte = tl.load(pointers + plane * run, mask=mask, other=0)
        word |= byte.to(word_type) << (8 * plane)
    return word


def launch(kernel: Any, rows: int, run: int, device: torch.device, *args: Any, **kw: Any) -> None:
    """Runs a kernel on rows of 8 runs; it gets the block's shape as ``ROWS`` and ``RUN``."""
    width = triton.next_power_of_2(run)
    block = max(1, BLOCK // (8 * width))
    grid = (triton.cdiv(rows, block),)
    with on_device(device):
        kernel[grid](*args, rows, run, ROWS=block, RUN=width, enable_fp_fusion=False, **kw)


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """A kernel runs on the current device, which need not be the tensor's."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
