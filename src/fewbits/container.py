"""The safetensors container: eight bytes of length, a JSON header, then the tensors' bytes.

Only what archives need beyond the ``safetensors`` package: the header's exact text (to restore a
file byte for byte), the order of its names, and reading a header without the data behind it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from fewbits.errors import CorruptError

METADATA = "__metadata__"
PREFIX_BYTES = 8
# The reference implementation refuses longer headers, so that a length field cannot exhaust memory.
MAX_HEADER_BYTES = 100_000_000

# Name in the container, NumPy or ml_dtypes name. Types of other than whole bytes are not here.
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
    "C64": "complex64",
}
NAMES = {numpy_name: name for name, numpy_name in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """One tensor of a container; ``start`` and ``stop`` count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Container:
    """A parsed header: entries in the order of the text, and the text itself without its length."""

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str] | None
    text: bytes

    @property
    def data_start(self) -> int:
        """Where the tensors' bytes start in the file."""
        return PREFIX_BYTES + len(self.text)

    @property
    def in_file_order(self) -> list[Entry]:
        """Entries as their bytes follow each other."""
        return sorted(self.entries, key=lambda entry: (entry.start, entry.stop))


def parse(read: Callable[[int, int], Any], size: int) -> Container:
    """Read the header of a container of ``size`` bytes through ``read(start, stop)``.

    ``CorruptError`` unless it is a safetensors file: tensors must follow each other without holes
    and fill the file (a hole could hide another file in it).
    """
    if size < PREFIX_BYTES:
        raise CorruptError("not a safetensors file: too short")
    length = int.from_bytes(bytes(read(0, PREFIX_BYTES)), "little")
    if length > min(size - PREFIX_BYTES, MAX_HEADER_BYTES) or length < 2:
        raise CorruptError("not a safetensors file: no header of a possible length")
    text = bytes(read(PREFIX_BYTES, PREFIX_BYTES + length))
    try:
        fields = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
        metadata = fields.pop(METADATA, None)
        entries = tuple(_entry(name, field) for name, field in fields.items())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CorruptError(f"not a safetensors file: {reason}") from None
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    ):
        raise CorruptError("not a safetensors file: metadata is not a map of strings")
    if not all(map(is_text, (*fields, *(metadata or {}), *(metadata or {}).values()))):
        raise CorruptError("not a safetensors file: a name or metadata is not Unicode")
    container = Container(entries, metadata, text)
    reached = 0
    for entry in container.in_file_order:
        if entry.start != reached or entry.stop < entry.start:
            raise CorruptError(f"not a safetensors file: tensor {entry.name!r} leaves a hole")
        reached = entry.stop
    if container.data_start + reached != size:
        raise CorruptError(
            f"safetensors file of {size} bytes should have {container.data_start + reached}"
        )
    return container


def is_text(string: str) -> bool:
    """Whether UTF-8 can hold a string, as it cannot where JSON escapes half of a surrogate pair."""
    try:
        string.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return fields


def _entry(name: str, field: Mapping[str, Any]) -> Entry:
    dtype, shape, (start, stop) = field["dtype"], field["shape"], field["data_offsets"]
    numbers = [*shape, start, stop]
    if not isinstance(dtype, str) or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise ValueError(f"tensor {name!r} has no proper dtype, shape or offsets")
    if dtype in DTYPES and stop - start != prod(shape) * _bytes_of(dtype):
        raise ValueError(f"tensor {name!r}: {dtype}{shape} does not take {stop - start} bytes")
    return Entry(name, dtype, tuple(shape), start, stop)


def _bytes_of(dtype: str) -> int:
    if dtype.startswith(("F8", "BOOL")):
        return 1
    return int(dtype.lstrip("BFIUC")) // 8


def header_text(
    entries: Sequence[Entry], metadata: Mapping[str, str] | None, *, align: int = 8, least: int = 0
) -> bytes:
    """A header as the reference implementation writes it, spaces up to ``align`` (prefix included).

    At least ``least`` bytes with the prefix, so that a reserved place is filled.
    """
    fields: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    for entry in entries:
        fields[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.stop],
        }
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    size = max(PREFIX_BYTES + len(text), least)
    return text.ljust(-(-size // align) * align - PREFIX_BYTES)


def with_prefix(text: bytes) -> bytes:
    """A header's text behind its length."""
    return len(text).to_bytes(PREFIX_BYTES, "little") + text
