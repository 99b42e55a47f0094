"""Models from ONNX files.

Weights come as NumPy arrays turned into tensors; an initializer that two nodes use is tied. Batch
norm is imported as training computes it, by the batch's own statistics.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.unroll.graph import read_model
from fewbits.unroll.importers.onnx_table import TABLE
from fewbits.unroll.importers.writer import Imported, Unsupported, Writer


def from_onnx(path: Path, *, loss: str | None = None) -> Imported:
    """The text of an ONNX file whose sizes are all fixed.

    Raises:
        FewbitsError: ``onnx`` is not installed, the file is none, or it has an operation that text
            models do not have.
    """
    try:
        import onnx
    except ImportError:
        raise FewbitsError("reading ONNX needs the package onnx: pip install onnx") from None
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else "damaged"
        raise FewbitsError(f"{path}: not an ONNX model: {first}") from error
    return _Importer(model, path.name).run(loss)


class _Importer:
    def __init__(self, model: Any, file: str) -> None:
        from onnx import numpy_helper

        self.graph, self.file = model.graph, file
        self.writer = Writer(f"{model.graph.name or 'A model'}, from ONNX")
        self.values: dict[str, np.ndarray[Any, Any]] = {
            item.name: numpy_helper.to_array(item) for item in model.graph.initializer
        }
        self.names: dict[str, str] = {}
        self.lines: dict[str, tuple[int, ...]] = {}

    def run(self, loss: str | None) -> Imported:
        for item in self.graph.input:
            if item.name not in self.values:
                self._input(item)
        for node in self.graph.node:
            handle = TABLE.get(node.op_type)
            if handle is None:
                known = ", ".join(sorted(TABLE))
                raise FewbitsError(
                    f"{self.file}: node {node.name or node.output[0]!r}: no operation for "
                    f"{node.op_type}; importable are: {known}"
                )
            try:
                handle(self, node)
            except (Unsupported, KeyError) as error:
                what = f"needs {error}" if isinstance(error, KeyError) else str(error)
                raise FewbitsError(
                    f"{self.file}: node {node.name or node.output[0]!r} ({node.op_type}): {what}"
                ) from None
        return self.writer.finish([self.names[item.name] for item in self.graph.output], loss)

    def _input(self, item: Any) -> None:
        kind = item.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        if not all(size > 0 for size in sizes):
            raise FewbitsError(f"{self.file}: input {item.name!r} has sizes that are not fixed")
        below = 2 if kind.elem_type in (6, 7) else None  # int32, int64
        self.names[item.name] = self.writer.input(item.name, sizes, below)

    # What the table's functions use.

    def settings(self, node: Any) -> dict[str, Any]:
        """A node's attributes."""
        from onnx import helper

        return {item.name: helper.get_attribute_value(item) for item in node.attribute}

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor of the text, by reading what is written so far."""
        if name not in self.lines:
            text = self.writer.so_far()
            graph = read_model(text, file=self.file)
            self.lines = {key: tensor.shape for key, tensor in graph.tensors.items()}
        return self.lines[name]

    def tensor(self, name: str) -> str:
        """The name of an activation; an initializer by itself becomes a parameter."""
        if name in self.names:
            return self.names[name]
        value = self.values[name]
        wanted = self.writer.will_be(name)
        self.writer.owned((name, "value"), wanted, "value", _as_tensor(value))
        self.names[name] = self.writer.line(name, "parameter", [], shape=value.shape or (1,))
        return self.names[name]

    def number(self, name: str) -> float | None:
        """A constant with a single value."""
        value = self.values.get(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def integers(self, node: Any, index: int, attribute: str) -> list[int]:
        """Integers that are an input in newer versions and an attribute in older ones."""
        if len(node.input) > index and node.input[index]:
            return [int(item) for item in self.values[node.input[index]].reshape(-1)]
        return [int(item) for item in self.settings(node)[attribute]]

    def write(
        self,
        node: Any,
        operation: str,
        arguments: list[str],
        parameters: dict[str, tuple[str, np.ndarray[Any, Any]]] | None = None,
        **attributes: Any,
    ) -> str:
        """The line of a node; named after its parameters, else after its result."""
        wanted = node.output[0]
        held = parameters or {}
        if held:
            first = next(iter(held.values()))[0]
            wanted = first.rpartition(".")[0] or node.name or wanted
        name = self.writer.will_be(wanted)
        shared: dict[str, str] = {}
        for key, (source, value) in held.items():
            shared |= self.writer.owned((source, key), name, key, _as_tensor(value))
        made = self.writer.line(wanted, operation, arguments, **attributes, **shared)
        self.names[node.output[0]] = made
        return made


def _as_tensor(value: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(np.array(value, np.float32))
