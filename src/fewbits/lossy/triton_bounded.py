"""`Bounded` in Triton kernels, the same bytes as the plain form in ``bounded.py``.

Where a block's words begin follows from the entries of all blocks before it. So encoding runs
twice: for the entries, and, after their sum, for the words.

Importing this module needs Triton (the extra ``gpu``).
"""

import torch
import triton
import triton.language as tl

from fewbits.lossy.noise import keys
from fewbits.lossy.triton_common import fraction, narrowed, on_device

BLOCK = 32
_BLOCKS = 32


@triton.jit
def _integer(x, place, valid, scale, key0, key1, DITHER: tl.constexpr):
    """The integers of elements, and whether each comes back within the limit."""
    step, inverse, limit = tl.load(scale), tl.load(scale + 1), tl.load(scale + 2)
    value = tl.load(x + place, mask=valid, other=0.0).to(tl.float32)
    at = value * inverse
    if DITHER:
        at = at + fraction(place.to(tl.uint32), key0.to(tl.uint32), key1.to(tl.uint32))
    else:
        at = at + 0.5
    held = (at < 1073741824.0) & (at > -1073741824.0)
    at = tl.where(held, at, 0.0)
    cut = at.to(tl.int32)
    # The floor, without its instruction, which takes subnormal numbers for zero.
    whole = cut - (cut.to(tl.float32) > at).to(tl.int32)
    error = value - narrowed(whole.to(tl.float32) * step, x.dtype.element_ty).to(tl.float32)
    return whole, held & (tl.abs(error) <= limit)


@triton.jit
def _zigzag(whole):
    return ((whole << 1) ^ (whole >> 31)).to(tl.uint32, bitcast=True)


@triton.jit
def _bit_length(numbers):
    """Bits of the largest of each row."""
    largest = tl.max(numbers, 1)
    bits = tl.zeros_like(largest).to(tl.int32)
    for p in tl.static_range(32):
        bits += (largest >= (1 << p)).to(tl.int32)
    return bits


@triton.jit(do_not_specialize=["key0", "key1"])
def _encode(
    x, entries, words, starts, scale, n, blocks, key0, key1,
    DITHER: tl.constexpr, WRITE: tl.constexpr, ELEMENT_BITS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    lane = tl.arange(0, 32)
    place = block[:, None] * 32 + lane[None, :]
    valid = place < n
    whole, good = _integer(x, place, valid, scale, key0, key1, DITHER)
    # What fills up the last block is not at risk: it comes back as whatever it is.
    behind = valid & (lane > 0)[None, :]
    before, _ = _integer(x, place - 1, behind, scale, key0, key1, DITHER)
    before = tl.where((lane > 0)[None, :], before, 0)
    zigzagged, difference = _zigzag(whole), _zigzag(whole - before)
    as_is = whole.to(tl.uint32, bitcast=True)
    bits = tl.where(tl.min(whole, 1) < 0, ELEMENT_BITS, _bit_length(as_is))
    way = tl.zeros_like(bits)
    other = _bit_length(zigzagged)
    way = tl.where(other < bits, 1, way)
    bits = tl.minimum(bits, other)
    other = _bit_length(difference)
    way = tl.where(other < bits, 2, way)
    bits = tl.minimum(bits, other)
    lost = tl.min(good.to(tl.int32), 1) == 0
    verbatim = lost | (bits >= ELEMENT_BITS)
    way = tl.where(verbatim, 3, way)
    if not WRITE:
        entry = tl.where(verbatim, 0, bits) | (way << 6)
        tl.store(entries + block, entry.to(tl.uint8), mask=block < blocks)
    else:
        own = tl.load(x + place, mask=valid, other=0.0)
        if ELEMENT_BITS == 16:
            raw = own.to(tl.uint16, bitcast=True).to(tl.uint32)
        else:
            raw = own.to(tl.uint32, bitcast=True)
        column = way[:, None]
        number = tl.where(column == 0, as_is, tl.where(column == 1, zigzagged, difference))
        number = tl.where(column == 3, raw, number)
        count = tl.where(verbatim, ELEMENT_BITS, bits)
        start = tl.load(starts + block, mask=block < blocks, other=0)
        for p in tl.static_range(ELEMENT_BITS):
            word = tl.sum(((number >> p) & 1) << lane.to(tl.uint32)[None, :], 1)
            used = (block < blocks) & (p < count)
            tl.store(words + start + p, word.to(tl.int32, bitcast=True), mask=used)


@triton.jit
def _decode(
    words, entries, starts, step, x, n, blocks,
    ELEMENT_BITS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    lane = tl.arange(0, 32)
    real = block < blocks
    entry = tl.load(entries + block, mask=real, other=0).to(tl.int32)
    way = entry >> 6
    count = tl.where(way == 3, ELEMENT_BITS, entry & 63)
    start = tl.load(starts + block, mask=real, other=0)
    number = tl.zeros((BLOCKS, 32), tl.uint32)
    for p in tl.static_range(ELEMENT_BITS):
        word = tl.load(words + start + p, mask=real & (p < count), other=0)
        bit = (word.to(tl.uint32, bitcast=True)[:, None] >> lane.to(tl.uint32)[None, :]) & 1
        number |= bit << p
    signed = number.to(tl.int32, bitcast=True)
    plain = (number >> 1).to(tl.int32, bitcast=True) ^ -(signed & 1)
    column = way[:, None]
    whole = tl.where(column == 0, signed, tl.where(column == 1, plain, tl.cumsum(plain, 1)))
    value = narrowed(whole.to(tl.float32) * tl.load(step), x.dtype.element_ty)
    if ELEMENT_BITS == 16:
        own = number.to(tl.uint16).to(x.dtype.element_ty, bitcast=True)
    else:
        own = number.to(x.dtype.element_ty, bitcast=True)
    place = block[:, None] * 32 + lane[None, :]
    tl.store(x + place, tl.where(column == 3, own, value), mask=place < n)


def _starts(entries: torch.Tensor, element_bits: int) -> tuple[torch.Tensor, int]:
    """Where each block's words begin, and how many there are of all blocks."""
    bits = (entries & 63).to(torch.int64)
    counts = torch.where(entries >> 6 == 3, element_bits, bits)
    ends = counts.cumsum(0)
    return ends - counts, int(ends[-1]) if len(ends) else 0


def encode(
    flat: torch.Tensor, step: torch.Tensor, limit: torch.Tensor, seed: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The words and entries of a flat tensor; ``seed`` where rounding is dithered."""
    flat, count = flat.contiguous(), flat.numel()
    blocks = -(-count // BLOCK)
    element_bits = 8 * int(flat.dtype.itemsize)
    key0, key1 = (key - (key >> 31 << 32) for key in keys(seed or 0))  # as int32 sees them
    scale = torch.cat([step, 1 / step, limit])
    entries = torch.empty(blocks, dtype=torch.uint8, device=flat.device)
    starts = torch.empty(0, dtype=torch.int64, device=flat.device)
    words = torch.empty(0, dtype=torch.int32, device=flat.device)
    for write in (False, True) if blocks else ():
        with on_device(flat.device):
            _encode[(triton.cdiv(blocks, _BLOCKS),)](
                flat, entries, words, starts, scale, count, blocks, key0, key1,
                DITHER=seed is not None, WRITE=write, ELEMENT_BITS=element_bits, BLOCKS=_BLOCKS,
                enable_fp_fusion=False,
            )  # fmt: skip
        if not write:
            starts, total = _starts(entries, element_bits)
            words = torch.empty(total, dtype=torch.int32, device=flat.device)
    return words, entries


def decode(
    words: torch.Tensor, entries: torch.Tensor, step: torch.Tensor, count: int, dtype: torch.dtype
) -> torch.Tensor:
    """The flat tensor that the parts stand for."""
    element_bits = 8 * int(dtype.itemsize)
    out = torch.empty(count, dtype=dtype, device=words.device)
    starts, total = _starts(entries, element_bits)
    if total != words.numel() or len(entries) != -(-count // BLOCK):
        raise ValueError("the entries do not ask for as many words as there are")
    if count:
        with on_device(out.device):
            _decode[(triton.cdiv(len(entries), _BLOCKS),)](
                words.contiguous(), entries.contiguous(), starts, step, out, count, len(entries),
                ELEMENT_BITS=element_bits, BLOCKS=_BLOCKS, enable_fp_fusion=False,
            )  # fmt: skip
    return out
