"""What a trace holds, and its file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits import archive
from fewbits.errors import CorruptError, FewbitsError
from fewbits.machines.networks import from_rows, to_row
from fewbits.machines.workload import Workload

Array = NDArray[Any]

_KEY = "fewbits_trace"
_WEIGHT, _INPUT = ".weight", ".input."


@dataclass(frozen=True)
class Trace:
    """What a model holds and reads, layer by layer.

    ``weights``: an array a layer. ``inputs``: for each layer its samples in order, all of one
    dtype. ``workload``: the operations, under the layers' names; None in a trace of weights alone.
    """

    weights: Mapping[str, Array]
    inputs: Mapping[str, Sequence[Array]]
    workload: Workload | None = None

    def save(self, path: str | Path) -> None:
        """Write the trace as an archive, packed without loss."""
        tensors = {f"{name}{_WEIGHT}": array for name, array in self.weights.items()}
        for name, samples in self.inputs.items():
            tensors |= {f"{name}{_INPUT}{index}": array for index, array in enumerate(samples)}
        about: dict[str, Any] = {}
        if self.workload is not None:
            rows = [to_row(operation) for operation in self.workload.operations]
            about = {"name": self.workload.name, "operations": rows}
        archive.save(tensors, str(path), metadata={_KEY: json.dumps(about)})

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        samples = (array for one in self.inputs.values() for array in one)
        return sum(array.nbytes for array in (*self.weights.values(), *samples))


def load(path: str | Path) -> Trace:
    """A trace that ``Trace.save`` wrote, or any safetensors file as a trace of weights.

    ``FewbitsError`` if it holds nothing to measure.
    """
    weights: dict[str, Array] = {}
    inputs: dict[str, dict[int, Array]] = {}
    with archive.open(str(path)) as opened:
        about = (opened.metadata or {}).get(_KEY, "{}")
        for name in opened:
            layer, found, index = name.rpartition(_INPUT)
            if found and index.isdigit():
                inputs.setdefault(layer, {})[int(index)] = np.array(opened[name])
                continue
            array = np.array(opened[name])
            if name.endswith(_WEIGHT) or array.ndim > 1:
                weights[name.removesuffix(_WEIGHT)] = array
    if not weights and not inputs:
        raise FewbitsError(f"{path}: no weights and no activations to measure")
    samples = {name: [found[i] for i in sorted(found)] for name, found in inputs.items()}
    return Trace(weights, samples, _workload(about, path))


def _workload(about: str, path: str | Path) -> Workload | None:
    """The workload in a trace's metadata, which may be anybody's."""
    try:
        found = json.loads(about)
        if not found.get("operations"):
            return None
        return Workload(str(found["name"]), from_rows(found["operations"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: the workload of this trace is damaged: {error!r}") from None
