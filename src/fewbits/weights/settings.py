"""How packed weights are unpacked: threads, memory, and what may differ in the last bit."""

from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Settings:
    """What an `Unpacker` goes by.

    ``threads``: for one weight; None for ``FEWBITS_THREADS`` or all processors. ``prefetch``:
    unpack the next weight on a thread while this one computes, which takes scratch for two; None
    where there are more processors than PyTorch has threads. ``verify``: check the checksum of
    every block each time, or ``"once"``, when a weight is first unpacked as a whole or multiplied.

    ``memory_bytes``: most bytes for packed weights, scratch and cache together; what the first two
    leave holds unpacked weights, which then need not be unpacked again. ``cache_bytes``: so many
    bytes of unpacked weights are kept, without a limit on the rest.

    ``fused``: products of a matrix and up to ``fused_rows`` vectors are computed while the matrix
    is decoded, block by block, so that it is never unpacked. Sums are then float32 in an order of
    their own: results may differ from PyTorch's in the last bit. ``tile_bytes``: a linear layer
    whose weight is larger is unpacked and multiplied so many bytes at a time. PyTorch may choose
    another kernel for the smaller products, so that here, too, last bits may differ.
    """

    threads: int | None = None
    prefetch: bool | None = None
    verify: bool | Literal["once"] = True
    memory_bytes: int | None = None
    cache_bytes: int = 0
    fused: bool = False
    fused_rows: int = 16
    tile_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("threads", 1), ("memory_bytes", 1), ("tile_bytes", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if self.verify not in (True, False, "once"):
            raise ValueError(f'verify must be True, False or "once", not {self.verify!r}')
        for name in ("cache_bytes", "fused_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")


def settings_of(options: dict[str, Any]) -> Settings:
    """Settings from keyword arguments; `ValueError` for an unknown one."""
    known = [field.name for field in fields(Settings)]
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name!r}: there are {', '.join(known)}")
    return Settings(**options)
