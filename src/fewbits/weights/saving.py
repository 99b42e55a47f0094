"""Writes a model whose weights rest packed: their frames as they are, everything else packed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from fewbits.archive import write_archive
from fewbits.atomic import atomic_file
from fewbits.frame import pack_parts
from fewbits.frameworks import as_array
from fewbits.sources import PathLike
from fewbits.weights.packed import Packed
from fewbits.weights.quantized import SCALES, SCHEMES_KEY, Quantized, marks_of
from fewbits.weights.tensor import PackedWeight


def save(
    model: torch.nn.Module | Mapping[str, torch.Tensor],
    path: PathLike,
    *,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> None:
    """Save a model, or a mapping of names to tensors, as a packed file that ``attach`` reads.

    Packed weights are written as they rest, nothing is unpacked. Without quantized weights it is
    the file that ``fewbits.save`` writes; those have their codes in it, and their scales beside.
    """
    state = model.state_dict() if isinstance(model, torch.nn.Module) else dict(model)
    quantized = {name: kept for name, kept in _kept(state) if isinstance(kept, Quantized)}
    if quantized:
        metadata = {**(metadata or {}), SCHEMES_KEY: marks_of(quantized)}
    entries = state | {name + SCALES: kept.scales for name, kept in quantized.items()}
    with atomic_file(path) as file:
        write_archive(file, entries, entries, _frames(entries.values(), threads), metadata)


def _kept(state: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, Packed]]:
    """What weights rest in, where that is all of the weight as it stands."""
    for name, tensor in state.items():
        if isinstance(tensor, PackedWeight) and tensor.is_whole and not tensor.is_cast:
            yield name, tensor.packed


def _frames(tensors: Iterable[torch.Tensor], threads: int | None) -> Iterator[Iterable[Any]]:
    for tensor in tensors:
        kept = next(_kept({"": tensor}), None)
        if kept is not None:
            yield (kept[1].frame(),)
        else:
            plain = tensor.in_scratch() if isinstance(tensor, PackedWeight) else tensor
            yield pack_parts(as_array(plain), threads=threads)
