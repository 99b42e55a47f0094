"""Packed files as a source of weights, and whether they fit a model."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewbits import archive
from fewbits.archive import Archive
from fewbits.container import NAMES, Entry
from fewbits.delta import DeltaTensor
from fewbits.errors import CorruptError, FewbitsError
from fewbits.frame import PackedTensor, pack
from fewbits.frameworks import to_torch
from fewbits.sources import is_remote
from fewbits.weights.packed import Packed
from fewbits.weights.quantized import SCALES, SCHEMES_KEY, of_mark
from fewbits.weights.scratch import Scratch, torch_dtype
from fewbits.weights.settings import Settings

INDEX = "model.safetensors.index.json"


class Weights:
    """The tensors of one or more packed (or plain) files, by name."""

    def __init__(self, archives: list[Archive], threads: int | None) -> None:
        self.where = ", ".join(opened.path for opened in archives)
        self._threads = threads
        self._schemes: dict[str, list[str]] = {}
        for opened in archives:
            self._schemes |= json.loads((opened.metadata or {}).get(SCHEMES_KEY, "{}"))
        scales = {name + SCALES for name in self._schemes}
        self._all = {name: opened for opened in archives for name in opened}
        self._home = {name: opened for name, opened in self._all.items() if name not in scales}
        self._found: dict[str, Packed] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._home

    def entries(self) -> list[Entry]:
        """Names, dtypes and shapes as the model has them; where they lie is not told."""
        found = []
        for name in self._home:
            tensor = self._home[name][name]
            dtype = tensor.dtype.name
            if name in self._schemes:
                dtype = self._schemes[name][1]
            found.append(Entry(name, NAMES.get(dtype, "U8"), tuple(tensor.shape), 0, 0))
        return found

    def packed(self, name: str) -> Packed:
        """A tensor as it rests in its file; one that is plain there or a change is packed."""
        if name not in self._found:
            opened = self._home[name]
            found = opened[name]
            if not isinstance(found, PackedTensor) or isinstance(found, DeltaTensor):
                array = found.unpack() if isinstance(found, PackedTensor) else found
                found = PackedTensor.of(pack(array, threads=self._threads))
            else:  # which outlives the archive: a mapping, or the bytes that were fetched
                frame = np.frombuffer(found.read(0, found.packed_bytes), np.uint8).data
                found = replace(found, read=partial(_part, frame))
            packed = Packed(name, found)
            if name in self._schemes:
                packed = of_mark(packed, self._schemes[name], self._scales(name))
            self._found[name] = packed
        return self._found[name]

    def plain(self, name: str) -> torch.Tensor:
        """A tensor unpacked."""
        if name in self._schemes:
            return self.packed(name).unpack(Scratch(), self._threads, verify=True)
        return _plain(self._home[name][name])

    def _scales(self, name: str) -> torch.Tensor:
        if name + SCALES not in self._all:
            raise CorruptError(f"{self.where}: quantized weight {name!r} has no scales")
        return _plain(self._all[name + SCALES][name + SCALES])

    def check(self, model: torch.nn.Module, strict: bool) -> None:
        """`FewbitsError` that lists all in which the files and the model differ."""
        faults: list[str] = []
        known: set[str] = set()
        held: dict[int, list[str]] = {}
        tensors: dict[int, torch.Tensor] = {}
        temporary = {
            f"{prefix}.{name}" if prefix else name
            for prefix, module in model.named_modules()
            for name in module._non_persistent_buffers_set
        }
        named = [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
        for name, tensor in named:
            held.setdefault(id(tensor), []).append(name)
            tensors[id(tensor)] = tensor
        for key, names in held.items():
            known.update(names)
            there = [name for name in names if name in self]
            if not there and not set(names) <= temporary and (strict or tensors[key].is_meta):
                faults.append(f"missing {names[0]}")
            faults += [fault for name in there for fault in self._misfit(name, tensors[key])]
        if strict:
            faults += [f"left over {name}" for name in self._home if name not in known]
        if faults:
            raise FewbitsError(f"{self.where} does not match the model: {'; '.join(faults)}")

    def _misfit(self, name: str, tensor: torch.Tensor) -> Iterator[str]:
        found = self._home[name][name]
        try:
            quantized = name in self._schemes
            dtype = self.packed(name).dtype if quantized else torch_dtype(found.dtype)
        except TypeError as error:
            yield f"{name}: {error}"
            return
        if tuple(found.shape) != tuple(tensor.shape):
            yield f"{name} is {list(found.shape)}, not {list(tensor.shape)}"
        if dtype != tensor.dtype:
            mine, its = (str(d).removeprefix("torch.") for d in (tensor.dtype, dtype))
            yield f"{name} is {its}, not {mine}"


def _plain(found: PackedTensor | NDArray[Any]) -> torch.Tensor:
    return to_torch(found.unpack() if isinstance(found, PackedTensor) else found.copy())


def _part(frame: memoryview, start: int, stop: int) -> memoryview:
    return frame[start:stop]


@contextmanager
def open_weights(
    source: str | Path | Sequence[str | Path], settings: Settings
) -> Iterator[Weights]:
    """Open the files that a path, a folder or a list of paths stands for.

    A mapped file stays mapped while a weight of it is in use.
    """
    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                archive.open(path, threads=settings.threads, verify=bool(settings.verify))
            )
            for path in _paths(source)
        ]
        yield Weights(opened, settings.threads)


def _paths(source: str | Path | Sequence[str | Path]) -> list[str | Path]:
    if not isinstance(source, str | Path):
        return list(source)
    if is_remote(source) or not Path(source).is_dir():
        return [source]
    folder = Path(source)
    if (folder / INDEX).exists():
        index = json.loads((folder / INDEX).read_text("utf-8"))
        return [folder / name for name in sorted(set(index["weight_map"].values()))]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise FewbitsError(f"{folder}: no safetensors files in this folder")
    return list(found)
