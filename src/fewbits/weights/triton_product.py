"""The product of a packed matrix and a vector in Triton: tile by tile, as the tiles are decoded.

A program decodes one block, a round of lanes at a time, multiplies each round with the part of the
vector that it meets, and adds a row's sum to the result when the row ends. Unpacked weights never
leave the registers. With ``TRITON_INTERPRET=1`` it runs on the CPU.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from fewbits.errors import CorruptError
from fewbits.lossy.triton_common import on_device as current_device
from fewbits.weights.device_frame import COLUMNS
from fewbits.weights.triton_rans import DeviceWeight, element_of, home, load_states, step

_COLUMNS = tl.constexpr(len(COLUMNS))
# What an element is, by the dtype of the weight.
_KINDS = {torch.bfloat16: 0, torch.float16: 1, torch.int8: 2}


@triton.jit
def _number(element, KIND: tl.constexpr):
    """An element, a uint32, as float32."""
    if KIND == 0:
        return (element << 16).to(tl.float32, bitcast=True)
    elif KIND == 1:
        return element.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        return (element ^ 128).to(tl.int32).to(tl.float32) - 128.0


@triton.jit
def _multiply(
    payload, lines, all_ends, vectors, out, faults, order, columns, rows,
    counts, positions, starts, state_bits, spill_bits, count_bits,
    STRIDE: tl.constexpr, VERBATIM: tl.constexpr, SPILLS: tl.constexpr, REMAP: tl.constexpr,
    WIDTH: tl.constexpr, ORDERED: tl.constexpr, KIND: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    line = lines + tl.program_id(0) * _COLUMNS
    vector, sums = vectors + tl.program_id(1) * columns, out + tl.program_id(1) * rows
    first, coded, lanes = tl.load(line), tl.load(line + 1), tl.load(line + 2)
    loaded, word, end = tl.load(line + 3), tl.load(line + 7), tl.load(line + 8)
    verbatim, spill = tl.load(line + 5), 8 * tl.load(line + 6)
    table, runs = tl.load(line + 9).to(tl.int32), tl.load(line + 10).to(tl.int32)
    ends = all_ends + tl.load(line + 11)
    lane = tl.arange(0, LANES).to(tl.int64)
    present = lane < lanes
    x = load_states(payload, tl.load(line + 4), lane, present)
    which = tl.full((LANES,), 0, tl.int32) + table
    row_sum = tl.zeros((LANES,), tl.float32)
    for turn in range(coded // lanes + loaded):
        at = turn * lanes
        if at < coded:
            value, x, word, spill = step(
                payload, x, at + lane, present, word, end, verbatim, spill, which, runs, ends,
                counts, positions, starts, state_bits, spill_bits, count_bits,
                STRIDE, VERBATIM, SPILLS,
            )  # fmt: skip
        else:
            value = (x >> ((turn - coded // lanes) * WIDTH)).to(tl.uint32) & ((1 << WIDTH) - 1)
        number = _number(element_of(value, REMAP, WIDTH).to(tl.uint32), KIND)
        column = (first + at) % columns + lane
        row_sum += number * tl.load(vector + column, mask=present, other=0.0)
        done = first + at + lanes
        if (done % columns == 0) | (turn == coded // lanes + loaded - 1):
            row = (done - 1) // columns
            if ORDERED:
                row = tl.load(order + row)
            tl.atomic_add(sums + row, tl.sum(tl.where(present, row_sum, 0.0), 0))
            row_sum = tl.zeros((LANES,), tl.float32)
    well = home(x, present, word, end, loaded)
    tl.store(faults + tl.program_id(0), 1 - well.to(tl.int32))


def can_multiply(weight: DeviceWeight) -> bool:
    """Whether a matrix's rows are whole rounds of its lanes, and its elements of a known kind."""
    if weight.dtype not in _KINDS or len(weight.shape) != 2 or len(weight.planes) != 1:
        return False
    plane, columns = weight.planes[0], weight.shape[1]
    if not plane.count or plane.others or weight.row_elements not in (0, columns):
        return False
    lines = plane.lines.cpu().numpy()
    first, coded, lanes = (lines[:, COLUMNS.index(name)] for name in ("first", "coded", "lanes"))
    return not np.any((columns % lanes) | (first % lanes) | (coded % lanes))


def multiply(weight: DeviceWeight, vectors: torch.Tensor) -> torch.Tensor:
    """``vectors @ weight.T`` in float32, for float32 vectors (count, columns) on the device.

    The rows that two blocks share are added in any order; other sums have one. `CorruptError` if a
    stream does not end as it must.
    """
    rows, columns = weight.shape
    plane = weight.planes[0]
    out = torch.zeros(len(vectors), rows, dtype=torch.float32, device=weight.device)
    faults = torch.zeros(plane.count, dtype=torch.int32, device=weight.device)
    tables, compiled = plane.arguments()
    order = weight.order if weight.order is not None else plane.ends
    with current_device(weight.device):
        _multiply[(plane.count, len(vectors))](
            weight.payload, plane.lines, plane.ends, vectors.contiguous(), out, faults, order,
            columns, rows, *tables, REMAP=int(weight.plan.remap),
            ORDERED=int(weight.order is not None), KIND=_KINDS[weight.dtype], **compiled,
        )  # fmt: skip
    if bool(faults.any()):
        raise CorruptError(f"block {int(faults.nonzero()[0])} is damaged")
    return out
