"""A workload from an ONNX model: its convolutions, products and look-ups, by shape inference.

Needs the package ``onnx``; weights that lie in a file of their own are not read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from fewbits.errors import FewbitsError
from fewbits.machines.workload import (
    Convolution,
    Operation,
    Workload,
    convolution,
    embedding,
    linear,
    product,
)

Shape = tuple[int, ...]


def of_onnx(path: str | Path, *, batch: int = 1, tokens: int | None = None) -> Workload:
    """The operations of a model for a batch of samples.

    A first dimension without a number is the batch; any other takes ``tokens``. Products of a
    computed tensor by an initializer are static, of two computed ones dynamic.

    Raises:
        FewbitsError: It is no ONNX model, has sizes that nothing gives, or multiplies nothing.
    """
    try:
        import onnx
    except ImportError:
        raise FewbitsError("ONNX models need the package onnx: pip install onnx") from None
    path = Path(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
        _fix_sizes(model.graph, tokens)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except OSError as error:
        raise FewbitsError(f"{path}: {error.strerror or error}") from error
    except FewbitsError as error:
        raise FewbitsError(f"{path}: {error}") from None
    except Exception as error:  # the library raises its own, and protobuf's
        line = (str(error).strip().splitlines() or ["damaged"])[0]
        raise FewbitsError(f"{path}: not an ONNX model: {line}") from error
    graph = _Graph(model.graph)
    try:
        operations = tuple(graph.operations())
    except FewbitsError as error:
        raise FewbitsError(f"{path}: {error}") from None
    if not operations:
        raise FewbitsError(f"{path}: multiplies nothing")
    net = Workload(path.stem, operations)
    return net.with_batch(batch) if batch != 1 else net


def _fix_sizes(graph: Any, tokens: int | None) -> None:
    """Give every size of the inputs a number: 1 to the batch, ``tokens`` to the others."""
    initialized = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in initialized:
            continue
        for index, size in enumerate(value.type.tensor_type.shape.dim):
            if size.HasField("dim_value") and size.dim_value > 0:
                continue
            if index and tokens is None:
                name = size.dim_param or f"number {index}"
                raise FewbitsError(f"input {value.name!r}: size {name} is open; --tokens gives it")
            size.dim_value = 1 if index == 0 else int(tokens or 1)


@dataclass
class _Graph:
    """Shapes of all tensors, and which are weights."""

    graph: Any

    def __post_init__(self) -> None:
        self.shapes: dict[str, Shape] = {}
        graph = self.graph
        for value in (*graph.input, *graph.value_info, *graph.output):
            sizes = value.type.tensor_type.shape.dim
            if all(size.HasField("dim_value") for size in sizes):
                self.shapes[value.name] = tuple(size.dim_value for size in sizes)
        self.weights = {tensor.name for tensor in graph.initializer}
        self.shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        # What is made of weights alone is a weight: transposed, dequantized, split.
        for node in graph.node:
            if node.op_type == "Constant" or (
                node.input and all(name in self.weights for name in node.input if name)
            ):
                self.weights |= set(node.output)
        self.trained: set[str] = set()  # computed with weights, so that gradients reach them

    def operations(self) -> Iterator[Operation]:
        for index, node in enumerate(self.graph.node):
            make = _MAKERS.get(node.op_type)
            if set(node.output) <= self.weights:
                continue
            # Look-ups in what is computed, such as a size, are no work to speak of.
            if node.op_type == "Gather" and not self._is_table(node.input[0]):
                make = None
            before = bool(self.trained & set(node.input))
            if make is not None:
                name = node.name.strip("/").replace("/", ".") or f"{node.op_type}_{index}"
                made = make(self, node, name)
                yield replace(made, needs_input_gradient=before)
            if before or make is not None:
                self.trained |= set(node.output)

    def _is_table(self, name: str) -> bool:
        return name in self.weights and len(self.shapes.get(name, ())) > 1

    def shape(self, name: str, node: Any) -> Shape:
        if name not in self.shapes:
            raise FewbitsError(f"{node.op_type} {node.name!r}: the shape of {name!r} is not known")
        return self.shapes[name]

    def convolution(self, node: Any, name: str) -> Operation:
        quantized = node.op_type == "QLinearConv"
        x = self.shape(node.input[0], node)
        weight = self.shape(node.input[3 if quantized else 1], node)
        out = self.shape(node.output[0], node)
        if len(weight) > 4:
            raise FewbitsError(f"{name}: convolutions of {len(weight) - 2} dimensions")
        given: dict[str, Any] = {a.name: list(a.ints) or a.i for a in node.attribute}
        groups = int(given.get("group", 1))
        one = len(weight) == 3

        def pair(values: Any) -> tuple[int, int]:
            return (1, int(values[0])) if one else (int(values[0]), int(values[1]))

        window = Convolution(
            x[1], out[1], pair(x[2:]), pair(out[2:]), pair(weight[2:]),
            pair(given.get("strides", (1, 1))), pair(given.get("dilations", (1, 1))), groups,
        )  # fmt: skip
        made = convolution(name, window)
        if node.op_type == "ConvTranspose":
            n = out[1] // groups * prod(window.kernel)
            m, k = prod(window.size), x[1] // groups
            made = replace(made, kind="transposed", m=m, n=n, k=k, window=None)
        return replace(made, m=made.m * x[0], inputs=prod(x), outputs=prod(out))

    def matmul(self, node: Any, name: str) -> Operation:
        places = (0, 3) if node.op_type == "QLinearMatMul" else (0, 1)
        left, right = (node.input[place] for place in places)
        a, b = self.shape(left, node), self.shape(right, node)
        transposed = {x.name: x.i for x in node.attribute}
        if node.op_type == "Gemm":
            a = a[::-1] if transposed.get("transA") else a
            b = b[::-1] if transposed.get("transB") else b
        a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
        m, k, n = a[-2], a[-1], b[-1]
        groups = max(prod(a[:-2]), prod(b[:-2]))
        if right in self.weights and len(b) == 2:
            return linear(name, groups * m, k, n)
        if left in self.weights and len(a) == 2:
            return linear(name, groups * n, k, m)
        return product(name, groups, m, n, k)

    def gather(self, node: Any, name: str) -> Operation:
        table, out = self.shape(node.input[0], node), self.shape(node.output[0], node)
        width = prod(table[1:])
        return embedding(name, prod(out) // width, table[0], width)


_MAKERS: dict[str, Callable[[_Graph, Any, str], Operation]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "QLinearConv", "ConvInteger"), _Graph.convolution),
    **dict.fromkeys(("MatMul", "Gemm", "QLinearMatMul", "MatMulInteger"), _Graph.matmul),
    "Gather": _Graph.gather,
}
