"""fewbits writes what docs/format.md says: the independent reader reads it, or refuses it."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import xxhash
from safetensors.numpy import save_file

import fewbits
import fewbits.files
import independent_reader as reader
from fewbits.frame import PackedTensor
from fewbits.frame_header import Header, to_bytes
from fewbits.lossless.histogram import histogram
from fewbits.lossless.plan import Coder, Mode, Plan, Plane, RowClasses
from fewbits.lossless.search import find_table
from fewbits.lossless.table import RangeTable
from fewbits.values.types import Remap
from independent_xxh3 import xxh3

SAFETENSORS = (
    "BOOL U8 I8 I16 U16 I32 U32 I64 U64 F16 BF16 F32 F64 C64 F8_E4M3 F8_E5M2 F8_E8M0 "
    "F8_E4M3FNUZ F8_E5M2FNUZ F4 F6_E2M3 F6_E3M2"
)
DTYPES = "int4 uint4 bool int8 uint8 int16 int64 float8_e4m3fn bfloat16 float16 float32 complex64"
KINDS = ["laplace", "sparse", "random", "constant", "nibbles"]
SIZES = [0, 1, 100, 5000]


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype of that name."""
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def make(name: str, kind: str, size: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """An array with values of a certain kind."""
    rng, dtype = np.random.default_rng([seed, size]), dtype_of(name)
    if kind == "random" and name not in ("int4", "uint4", "bool"):
        return np.frombuffer(rng.bytes(size * dtype.itemsize), dtype)
    values = rng.laplace(size=size) * 3
    if kind == "sparse":
        values *= rng.random(size) < 0.001
    elif kind == "constant":
        values[:] = 1
    elif kind == "nibbles":
        values = rng.integers(0, 3, size) * 16.0 + rng.geometric(0.5, size).clip(0, 15)
    if "int" in name:
        info = ml_dtypes.iinfo(dtype)
        values = values.clip(info.min, info.max)
    return values.astype(dtype)


def bytes_of(array: np.ndarray[Any, Any]) -> bytes:
    """The array's bytes, two values of 4 bits in each."""
    if array.dtype.name not in ("int4", "uint4"):
        return array.tobytes()
    halves = array.reshape(-1).view(np.uint8) & 15
    halves = np.append(halves, np.zeros(len(halves) % 2, np.uint8))
    return (halves[::2] | halves[1::2] << 4).tobytes()


def check(array: np.ndarray[Any, Any], **options: Any) -> None:
    """What the reader makes of the array's frame is the array."""
    frame = fewbits.pack(array, fewbits.Lossless(**options))
    name, shape, raw = reader.read_frame(frame)
    assert (name, shape) == (array.dtype.name, array.shape)
    assert raw == bytes_of(array)


def file_of(text: bytes, body: bytes) -> bytes:
    """A safetensors file with a header written by hand."""
    return struct.pack("<Q", len(text)) + text + body


def resealed(header: bytes) -> bytes:
    """A frame's header with its checksum renewed."""
    zeroed = header[:24] + bytes(8) + header[32:]
    return header[:24] + struct.pack("<Q", xxh3(zeroed)) + header[32:]


def archive_of(data: bytes, folder: Path) -> bytes:
    """The archive of a safetensors file."""
    (folder / "a.safetensors").write_bytes(data)
    fewbits.files.pack_path(folder / "a.safetensors", folder / "b.safetensors", force=True)
    return (folder / "b.safetensors").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 5000])
def test_hash_is_xxh3(size: int) -> None:
    data = bytes(i * 167 % 251 for i in range(size))
    assert xxh3(data) == xxhash.xxh3_64_intdigest(data)


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DTYPES.split())
def test_frames_of_all_types(name: str, kind: str, coder: str) -> None:
    for size in SIZES:
        check(make(name, kind, size), coder=coder)


@pytest.mark.parametrize("search", ["optimal", "paper"])
@pytest.mark.parametrize("rows", [1, 3, 16, 40])
@pytest.mark.parametrize(
    ("coder", "count_bits"),
    [*(("rans", m) for m in (8, 10, 12, 16)), *(("arithmetic", m) for m in (8, 10, 12, 14))],
)
def test_frames_of_all_tables(coder: str, count_bits: int, rows: int, search: str) -> None:
    options = {"coder": coder, "count_bits": count_bits, "rows": rows, "search": search}
    for name in ("int4", "int8", "int16", "bfloat16"):
        check(make(name, "laplace", 1000), **options)


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "bfloat16", "float16"])
def test_frames_of_many_lanes(name: str, coder: str) -> None:
    check(make(name, "laplace", 40_000), coder=coder)


@pytest.mark.parametrize("shape", [(), (3, 0, 2), (5, 1, 7), (1,) * 9])
@pytest.mark.parametrize("name", ["int4", "float32", "complex64"])
def test_frames_of_many_shapes(name: str, shape: tuple[int, ...]) -> None:
    check(make(name, "laplace", int(np.prod(shape))).reshape(shape))


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
def test_frames_of_several_blocks(coder: str) -> None:
    array = np.full(600_000, 3, np.int8)
    array[300_000:330_000] = make("int8", "laplace", 30_000)
    frame = fewbits.pack(array, fewbits.Lossless(coder=coder))
    assert reader.read_frame(frame) == ("int8", array.shape, array.tobytes())
    assert len(frame) < 40_000


def frame_with(plan: Plan, array: np.ndarray) -> bytes:
    """A frame by this plan, whatever the library would choose."""
    data = np.frombuffer(bytes_of(array), np.uint8)
    payload, modes, lengths, checksums = plan.kernel.pack(plan.arrangement(data.size), data, 1)
    header = Header(array.dtype.name, array.shape, 0.0, plan, modes, lengths, checksums)
    return to_bytes(header) + payload.tobytes()


def check_plan(plan: Plan, array: np.ndarray) -> np.ndarray:
    """Both readers read a frame by this plan; its modes."""
    frame = frame_with(plan, array)
    assert reader.read_frame(frame) == (array.dtype.name, array.shape, bytes_of(array))
    assert fewbits.unpack(frame).tobytes() == array.tobytes()
    return PackedTensor.of(frame).header.modes


def chosen(array: np.ndarray, **settings: Any) -> Plan:
    """The plan that the library chooses."""
    return PackedTensor.of(fewbits.pack(array, fewbits.Lossless(**settings))).header.plan


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
def test_frames_with_two_tables(coder: str) -> None:
    """A table that no block uses is put before the one that a frame has."""
    array = make("int8", "laplace", 600)
    plan = chosen(array, coder=coder, rows=3, count_bits=8)
    other = RangeTable(8, 8, (7, 128), (7, 7), (128, 128))
    plane = plan.planes[0]
    plan = replace(plan, planes=(replace(plane, tables=(other, *plane.tables)),))
    assert set(check_plan(plan, array)) == {3}


@pytest.mark.parametrize("search", ["optimal", "paper"])
def test_frames_with_a_spill_section(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, spills = np.random.default_rng(3), []
    array = (rng.laplace(size=60_000) * 3 + 9000 * rng.integers(0, 2, 60_000)).astype(np.int16)
    array[::7] = rng.integers(-(2**15), 2**15, len(array[::7]))
    decode = reader.decode_rans

    def spy(data: bytes, tables: list[reader.Table], plane: reader.Plane) -> list[int]:
        spills.append(max(tables[0].length) - plane.verbatim > 16 - tables[0].m)
        return decode(data, tables, plane)

    monkeypatch.setattr(reader, "decode_rans", spy)
    check(array, search=search, count_bits=12)
    assert spills == [True]


@pytest.mark.parametrize("name", ["int8", "bfloat16", "float32", "float8_e4m3fn", "int4"])
@pytest.mark.parametrize("shape", [(100, 400), (80_000,)])
def test_frames_with_classes(name: str, shape: tuple[int, ...]) -> None:
    array = make(name, "laplace", prod(shape)).reshape(shape)
    scales = np.repeat(np.array([1, 0.1, 0.7, 0.1] * 2, np.float32), 10_000)[: array.size]
    array = (array.astype(np.float32) * scales.reshape(shape)).astype(array.dtype)
    plan = chosen(array)
    assert plan.classes is not None or name == "int4"
    assert Mode.BY_CLASS in check_plan(plan, array) or name == "int4"


@pytest.mark.parametrize("starts_group", [(True, False, True, False), (False, True, True, True)])
@pytest.mark.parametrize("row_elements", [1, 7, 64, 3000])
@pytest.mark.parametrize("block_elements", [100, 4096])
def test_frames_with_any_classes(
    starts_group: tuple[bool, ...], row_elements: int, block_elements: int
) -> None:
    array = make("int16", "laplace", 2999)
    rng = np.random.default_rng(row_elements)
    rows = -(-array.size // row_elements)
    classes = RowClasses(row_elements, rng.integers(0, 3, rows).astype(np.uint8), starts_group)
    plan = chosen(array)
    plane = plan.planes[0]
    others = [chosen(array * n).planes[0].tables[0] for n in (2, 3, 5)]
    plane = replace(plane, tables=(*plane.tables, *others))
    plan = replace(plan, planes=(plane,), block_elements=block_elements, classes=classes)
    check_plan(plan, array)


@pytest.mark.parametrize("verbatim_bits", [1, 3, 5])
def test_classes_that_end_amid_a_byte_of_verbatim_bits(verbatim_bits: int) -> None:
    rng = np.random.default_rng(verbatim_bits)
    array = rng.geometric(0.05, 2990).clip(0, 255).astype(np.int16)
    classes = RowClasses(13, rng.integers(0, 3, 230).astype(np.uint8), (True, False, False))
    table = find_table(
        histogram(array.view(np.uint16), 16),
        count_bits=12,
        max_offset_length=verbatim_bits + 4,
        verbatim_bits=verbatim_bits,
    )
    plane = Plane(2, 0, Coder.RANS, verbatim_bits, (table,) * 3)
    plan = Plan(2, Remap.IDENTITY, 999, (plane,), classes)
    assert set(check_plan(plan, array)) == {Mode.BY_CLASS}


@pytest.mark.parametrize("name", ["int8", "uint16", "float32", "int4"])
@pytest.mark.parametrize("others", [0, 1, 5])
def test_frames_with_sparse_planes(name: str, others: int) -> None:
    array = np.zeros(9000, dtype_of(name))
    array[np.random.default_rng(others).permutation(9000)[:others]] = 3
    modes = PackedTensor.of(fewbits.pack(array)).header.modes
    assert (Mode.SPARSE in modes) == (others > 0)
    check(array)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"é": 'a"\n\\', "b": "", "/": "/"}])
def test_restores_files(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    names = ["weight", "naïve Ω 😀", "b"]
    tensors = {name: make("float32", "laplace", 50 + i) for i, name in enumerate(names)}
    tensors |= {"none": np.zeros((0, 3), np.int64), "scalar": np.array(3, np.float64)}
    tensors |= {"half": make("bfloat16", "laplace", 900), "bool": make("bool", "laplace", 9)}
    save_file(tensors, tmp_path / "s.safetensors", metadata=metadata)
    original = (tmp_path / "s.safetensors").read_bytes()
    archive = archive_of(original, tmp_path)
    assert reader.restore(archive) == original
    read = reader.read_archive(archive)
    assert read == {n: (a.dtype.name, a.shape, bytes_of(a)) for n, a in tensors.items()}


@pytest.mark.parametrize("name", SAFETENSORS.split())
def test_restores_all_types(name: str, tmp_path: Path) -> None:
    bits = 8 if name == "BOOL" else int("".join(filter(str.isdigit, name.split("_")[0])))
    body = bytes(np.random.default_rng(5).integers(0, 2, 8 * bits, np.uint8))
    entry = {"dtype": name, "shape": [16, 4], "data_offsets": [0, len(body)]}
    text = json.dumps({"x": entry}, separators=(",", ":")).encode()
    original = file_of(text + b" " * (-len(text) % 8), body)
    assert reader.restore(archive_of(original, tmp_path)) == original


@pytest.mark.parametrize(
    "text",
    [
        '{"a":{"shape":[24],"dtype":"U8","data_offsets":[0,24]}}',
        '{"a": {"dtype": "U8", "shape": [24], "data_offsets": [0, 24]}}   ',
        ' {"a":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}',
        '{"__metadata__":{},"a":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}} ',
        '{"__metadata__":{},"a":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}      ',
        '{"a":{"dtype":"U8","shape":[24],"data_offsets":[0,24]},"__metadata__":{"k":"v"}}',
        '{"__metadata__":{"z":"1","a":"2"},"a":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}',
        '{"\\u00e9\\/":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}',
        '{"é😀":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}',
        '{"fewbits.checksum":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}',
        '{"__metadata__":{"a\\"fewbits.checksum":"0123456789abcdef"},'
        '"a":{"dtype":"U8","shape":[24],"data_offsets":[0,24]}}',
        '{"z":{"dtype":"U8","shape":[0],"data_offsets":[8,8]},'
        '"a":{"dtype":"I8","shape":[4,4],"data_offsets":[8,24]},'
        '"y":{"dtype":"U8","shape":[2,0],"data_offsets":[0,0]},'
        '"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}',
    ],
)
def test_restores_headers_written_by_hand(text: str, tmp_path: Path) -> None:
    original = file_of(text.encode(), bytes(range(24)))
    assert reader.restore(archive_of(original, tmp_path)) == original


@pytest.mark.parametrize("text", ["{}", '{"__metadata__":{"k":"v"}}'])
def test_restores_files_without_tensors(text: str, tmp_path: Path) -> None:
    original = file_of(text.encode().ljust(-(-len(text) // 8) * 8), b"")
    assert reader.restore(archive_of(original, tmp_path)) == original


def test_reads_what_save_writes(tmp_path: Path) -> None:
    tensors = {"b": make("int4", "laplace", 9), "a": make("float8_e4m3fn", "laplace", 70)}
    fewbits.save(tensors, tmp_path / "s.safetensors")
    read = reader.read_archive((tmp_path / "s.safetensors").read_bytes())
    assert read == {n: (a.dtype.name, a.shape, bytes_of(a)) for n, a in tensors.items()}
    assert list(read) == ["b", "a"]


def damaged(data: bytes) -> list[bytes]:
    """The data with each byte changed in three ways, and cut short at each place."""
    changed = [
        data[:i] + bytes([data[i] ^ flip]) + data[i + 1 :]
        for i in range(len(data))
        for flip in (1, 0x80, 0xFF)
    ]
    return changed + [data[:i] for i in range(len(data))]


@pytest.mark.parametrize("coder", ["rans", "arithmetic"])
@pytest.mark.parametrize(("name", "size"), [("int4", 301), ("int16", 300), ("float32", 40)])
def test_refuses_damaged_frames(name: str, size: int, coder: str) -> None:
    frame = fewbits.pack(make(name, "laplace", size), fewbits.Lossless(coder=coder))
    assert reader.read_frame(frame)[1] == (size,)
    for data in damaged(frame):
        with pytest.raises(reader.Refused):
            reader.read_frame(data)


def test_refuses_damaged_archives(tmp_path: Path) -> None:
    tensors = {"a": make("int8", "laplace", 100), "é": make("bool", "laplace", 3)}
    save_file(tensors, tmp_path / "s.safetensors", metadata={"k": "v"})
    archive = archive_of((tmp_path / "s.safetensors").read_bytes(), tmp_path)
    assert reader.read_archive(archive)
    for data in damaged(archive):
        with pytest.raises(reader.Refused):
            reader.restore(data)


@pytest.mark.parametrize("offset", [*range(5, 9), 16, 32, 34, *range(38, 64)])
def test_agrees_on_headers_with_a_renewed_checksum(offset: int) -> None:
    """Both readers refuse a frame with a changed field, or both read the same."""
    array, outcomes = make("int8", "laplace", 600), []
    frame = fewbits.pack(array, fewbits.Lossless())
    for value in range(0, 256, 5):
        data = bytearray(frame)
        data[offset] = value
        size = int.from_bytes(data[8:12], "little")
        data[:size] = resealed(bytes(data[:size]))
        try:
            ours = reader.read_frame(bytes(data))
        except reader.Refused:
            ours = None
        try:
            unpacked = fewbits.unpack(bytes(data))
            theirs = (unpacked.dtype.name, unpacked.shape, bytes_of(unpacked))
        except fewbits.FewbitsError:
            theirs = None
        assert ours == theirs
        outcomes.append(ours)
    assert None in outcomes
