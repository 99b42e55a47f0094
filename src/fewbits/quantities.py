"""Amounts of bytes, as people write and read them."""

import re

_UNITS = {f"{prefix}B": 1000**n for n, prefix in enumerate(("", "K", "M", "G", "T"))}
_UNITS |= {f"{prefix}IB": 1024**n for n, prefix in enumerate(("", "K", "M", "G", "T")) if n}


def parse_bytes(text: str | int) -> int:
    """``"2GB"`` (10^9), ``"900 MiB"`` (2^20), or a number of bytes; letters of either case.

    Raises:
        ValueError: It is neither, or not above 0.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?B?)\s*", str(text), re.IGNORECASE)
    unit = match[2].upper().removesuffix("B") + "B" if match else ""
    if not match or unit not in _UNITS or isinstance(text, bool):
        raise ValueError(f"a budget is bytes, such as '2GB' or '900MiB', not {text!r}")
    found = int(float(match[1]) * _UNITS[unit])
    if found <= 0:
        raise ValueError(f"a budget must be above 0, not {text!r}")
    return found


def size(count: float) -> str:
    """Bytes in SI units: ``90.9 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
