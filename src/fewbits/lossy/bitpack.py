"""Codes of 1 to 8 bits in bytes, in an order that every form of a codec writes with plain vectors.

A row of codes is cut into 8 equal runs. Code j of run k takes the bits from ``bits * k`` on, lowest
first, of a word of ``bits`` bytes that it shares with code j of the other runs; the first bytes of
all words stand first, then all second bytes, and so on. So no code is moved by less than a run, and
no bit is lost at any width. Rows whose length is no multiple of 8 are filled up with code 0.

A long run of elements is packed in rows of one length, its **group**; the last row may be shorter.
"""

from collections.abc import Iterator

import torch

RUNS = 8


def packed_size(count: int, bits: int, group: int) -> int:
    """Bytes of so many codes in rows of ``group`` codes, a multiple of 8."""
    full, rest = divmod(count, group)
    return full * (group // RUNS) * bits + -(-rest // RUNS) * bits


def rows_of(flat: torch.Tensor, group: int) -> Iterator[torch.Tensor]:
    """Views of a flat tensor, of shape (rows, group) and (1, rest); what would be empty is not."""
    whole = flat.numel() // group * group
    if whole:
        yield flat[:whole].view(-1, group)
    if whole < flat.numel():
        yield flat[whole:].view(1, -1)


def joined(rows: list[torch.Tensor], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The elements of all rows one after another; an empty tensor where there are none."""
    if not rows:
        return torch.empty(0, dtype=dtype, device=device)
    return rows[0].reshape(-1) if len(rows) == 1 else torch.cat([row.reshape(-1) for row in rows])


def pack_rows(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """uint8 codes of shape (rows, n) as bytes of shape (rows, ceil(n / 8) * bits)."""
    rows, count = codes.shape
    run = -(-count // RUNS)
    if run * RUNS != count:
        codes = torch.nn.functional.pad(codes, (0, run * RUNS - count))
    runs = codes.reshape(rows, RUNS, run)
    planes: list[torch.Tensor | None] = [None] * bits

    def put(plane: int, part: torch.Tensor) -> None:
        held = planes[plane]
        planes[plane] = part if held is None else held | part

    for k in range(RUNS):
        plane, shift = divmod(bits * k, 8)
        put(plane, runs[:, k] << shift)
        if shift + bits > 8:
            put(plane + 1, runs[:, k] >> (8 - shift))
    return torch.stack([plane for plane in planes if plane is not None], 1).view(rows, -1)


def unpack_rows(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The ``count`` codes of each row that `pack_rows` made, as uint8 of shape (rows, count)."""
    planes = packed.reshape(packed.shape[0], bits, -1)
    runs = []
    for k in range(RUNS):
        plane, shift = divmod(bits * k, 8)
        run = planes[:, plane] >> shift
        if shift + bits > 8:
            run = run | (planes[:, plane + 1] << (8 - shift))
        runs.append(run & ((1 << bits) - 1))
    return torch.stack(runs, 1).view(packed.shape[0], -1)[:, :count]


def pack_flat(codes: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Flat uint8 codes as flat bytes, `packed_size` of them."""
    rows = [pack_rows(row, bits) for row in rows_of(codes, group)]
    return joined(rows, torch.uint8, codes.device)


def unpack_flat(packed: torch.Tensor, bits: int, group: int, count: int) -> torch.Tensor:
    """The ``count`` codes that `pack_flat` packed."""
    rows = [unpack_rows(row, bits, n) for row, n in packed_rows_of(packed, bits, group, count)]
    return joined(rows, torch.uint8, packed.device)


def packed_rows_of(
    packed: torch.Tensor, bits: int, group: int, count: int
) -> Iterator[tuple[torch.Tensor, int]]:
    """Packed bytes as `rows_of` would cut the codes: bytes of shape (rows, ...), codes in a row."""
    whole, rest = divmod(count, group)
    split = whole * (group // RUNS) * bits
    if whole:
        yield packed[:split].view(whole, -1), group
    if rest:
        yield packed[split:].view(1, -1), rest
