"""Models from ONNX files.

Weights come as NumPy arrays turned into tensors; an initializer that two nodes use is tied. Batch
norm is imported as training computes it, by the batch's own statistics.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.unroll.graph import read_model
from fewbits.unroll.importers.writer import Imported, Writer


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


class _Fault(ValueError):
    """What an operation has that text models have not."""


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
            except (_Fault, KeyError) as error:
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


def _refuse(fault: object, what: str) -> None:
    if fault:
        raise _Fault(what)


def _padding(settings: dict[str, Any], rank: int) -> tuple[int, ...]:
    _refuse(settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"), "automatic padding")
    pads = list(settings.get("pads", [0] * 2 * rank))
    _refuse(pads[:rank] != pads[rank:], "padding that differs before and after")
    return tuple(pads[:rank])


def _learned(it: _Importer, node: Any, *names: str) -> dict[str, tuple[str, Any]]:
    """Inputs after the first that are given, under the text's names."""
    given = zip(names, node.input[1:], strict=False)
    return {key: (source, it.values[source]) for key, source in given if source}


def _conv(it: _Importer, node: Any) -> None:
    settings, held = it.settings(node), _learned(it, node, "weight", "bias")
    weight = held["weight"][1]
    rank = weight.ndim - 2
    transposed = node.op_type == "ConvTranspose"
    groups = settings.get("group", 1)
    more: dict[str, Any] = {} if "bias" in held else {"bias": False}
    if transposed:
        more["output_padding"] = tuple(settings.get("output_padding", [0] * rank))
        _refuse("output_shape" in settings, "output_shape")
    it.write(
        node,
        f"conv_transpose{rank}d" if transposed else f"conv{rank}d",
        [it.tensor(node.input[0])],
        held,
        out=weight.shape[1] * groups if transposed else weight.shape[0],
        kernel=weight.shape[2:],
        stride=tuple(settings.get("strides", [1] * rank)),
        padding=_padding(settings, rank),
        dilation=tuple(settings.get("dilations", [1] * rank)),
        groups=groups,
        **more,
    )


def _gemm(it: _Importer, node: Any) -> None:
    settings = it.settings(node)
    factors = (settings.get("alpha", 1.0), settings.get("beta", 1.0))
    _refuse(factors != (1.0, 1.0) or settings.get("transA", 0), "factors, or a transposed A")
    held = _learned(it, node, "weight", "bias")
    source, weight = held["weight"]
    held["weight"] = (source, weight if settings.get("transB", 0) else weight.T)
    more = {} if "bias" in held else {"bias": False}
    out = held["weight"][1].shape[0]
    it.write(node, "linear", [it.tensor(node.input[0])], held, out=out, **more)


def _matmul(it: _Importer, node: Any) -> None:
    weight = it.values.get(node.input[1])
    if weight is None or weight.ndim != 2:
        it.write(node, "matmul", [it.tensor(name) for name in node.input])
        return
    held = {"weight": (node.input[1], weight.T)}
    x = [it.tensor(node.input[0])]
    it.write(node, "linear", x, held, out=weight.shape[1], bias=False)


def _batch_norm(it: _Importer, node: Any) -> None:
    held = _learned(it, node, "weight", "bias")
    it.writer.comment("by the batch's own statistics; the running ones of the file are not used")
    eps = round(it.settings(node).get("epsilon", 1e-5), 12)
    it.write(node, "batchnorm", [it.tensor(node.input[0])], held, eps=eps)


def _layer_norm(it: _Importer, node: Any) -> None:
    settings, held = it.settings(node), _learned(it, node, "weight", "bias")
    _refuse("bias" not in held, "layer norm without bias")
    x = it.tensor(node.input[0])
    axis = settings.get("axis", -1)
    dims = -axis if axis < 0 else len(it.shape(x)) - axis
    eps = round(settings.get("epsilon", 1e-5), 12)
    it.write(node, "layernorm", [x], held, dims=dims, eps=eps)


def _pool(it: _Importer, node: Any) -> None:
    settings = it.settings(node)
    kernel = tuple(settings["kernel_shape"])
    stride = tuple(settings.get("strides", (1, 1)))
    padding = _padding(settings, 2)
    _refuse(settings.get("ceil_mode", 0), "ceil_mode")
    _refuse(set(settings.get("dilations", (1, 1))) != {1}, "dilated pooling")
    mean = node.op_type == "AveragePool"
    _refuse(
        mean and any(padding) and not settings.get("count_include_pad", 0),
        "means that leave out padding",
    )
    stride_word = None if stride == kernel else stride
    x = [it.tensor(node.input[0])]
    name = "avgpool2d" if mean else "maxpool2d"
    it.write(node, name, x, kernel=kernel, stride=stride_word, padding=padding)


def _shape(it: _Importer, node: Any) -> None:
    x = it.tensor(node.input[0])
    before = it.shape(x)
    if node.op_type == "Flatten":
        axis = it.settings(node).get("axis", 1)
        sizes = [int(np.prod(before[:axis])), int(np.prod(before[axis:]))]
    elif node.op_type == "Reshape":
        wanted = it.integers(node, 1, "shape")
        sizes = [before[i] if size == 0 else size for i, size in enumerate(wanted)]
    elif node.op_type == "Unsqueeze":
        axes = it.integers(node, 1, "axes")
        rank = len(before) + len(axes)
        rest = iter(before)
        places = {axis % rank for axis in axes}
        sizes = [1 if axis in places else next(rest) for axis in range(rank)]
    else:
        axes = [axis % len(before) for axis in it.integers(node, 1, "axes")]
        sizes = [size for axis, size in enumerate(before) if axis not in axes]
    it.write(node, "reshape", [x], shape=tuple(sizes))


def _transpose(it: _Importer, node: Any) -> None:
    it.write(node, "transpose", [it.tensor(node.input[0])], dims=tuple(it.settings(node)["perm"]))


def _slice(it: _Importer, node: Any) -> None:
    x = it.tensor(node.input[0])
    starts, stops = it.integers(node, 1, "starts"), it.integers(node, 2, "ends")
    rank = len(it.shape(x))
    axes = it.integers(node, 3, "axes") if len(node.input) > 3 else list(range(len(starts)))
    steps = it.integers(node, 4, "steps") if len(node.input) > 4 else [1] * len(axes)
    _refuse(set(steps) != {1}, "slices with steps")
    for axis, start, stop in zip(axes, starts, stops, strict=True):
        length = it.shape(x)[axis]
        start = max(start + length, 0) if start < 0 else start
        stop = min(stop + length if stop < 0 else stop, length)
        end = None if stop == length else stop
        x = it.write(node, "slice", [x], dim=axis % rank, start=start, stop=end)
        it.lines = {}


def _split(it: _Importer, node: Any) -> None:
    x = it.tensor(node.input[0])
    axis = it.settings(node).get("axis", 0)
    length, count = it.shape(x)[axis], len(node.output)
    given = len(node.input) > 1 or "split" in it.settings(node)
    if given:
        sizes = it.integers(node, 1, "split")
    else:
        each = -(-length // count)
        sizes = [min(each, length - each * index) for index in range(count)]
    start = 0
    for output, size in zip(node.output, sizes, strict=True):
        stop = None if start + size == length else start + size
        made = it.writer.line(output, "slice", [x], dim=axis, start=start, stop=stop)
        it.names[output] = made
        start += size


def _concat(it: _Importer, node: Any) -> None:
    names = [it.tensor(name) for name in node.input]
    it.write(node, "concat", names, dim=it.settings(node)["axis"])


def _arithmetic(operation: str) -> Callable[[_Importer, Any], None]:
    def write(it: _Importer, node: Any) -> None:
        x, z = node.input
        number = it.number(z)
        if number is None and operation in ("add", "mul") and it.number(x) is not None:
            x, z, number = z, x, it.number(x)
        if number is None or x in it.values:
            _refuse(operation == "div", "division by a tensor")
            it.write(node, operation, [it.tensor(x), it.tensor(z)])
            return
        _refuse(operation == "div" and number == 0, "division by zero")
        change: dict[str, Any] = {
            "add": {"shift": number},
            "sub": {"shift": -number},
            "mul": {"scale": number},
            "div": {"scale": 1 / number if number else 0.0},
        }[operation]
        it.write(node, "affine", [it.tensor(x)], **change)

    return write


def _unary(operation: str) -> Callable[[_Importer, Any], None]:
    def write(it: _Importer, node: Any) -> None:
        it.write(node, operation, [it.tensor(node.input[0])])

    return write


def _softmax(operation: str) -> Callable[[_Importer, Any], None]:
    def write(it: _Importer, node: Any) -> None:
        dim = it.settings(node).get("axis", -1)
        it.write(node, operation, [it.tensor(node.input[0])], dim=dim)

    return write


def _reduce(operation: str) -> Callable[[_Importer, Any], None]:
    def write(it: _Importer, node: Any) -> None:
        settings = it.settings(node)
        listed = len(node.input) > 1 or "axes" in settings
        dims = tuple(it.integers(node, 1, "axes")) if listed else ()
        keep = bool(settings.get("keepdims", 1))
        it.write(node, operation, [it.tensor(node.input[0])], dims=dims, keep=keep)

    return write


def _global_mean(it: _Importer, node: Any) -> None:
    x = it.tensor(node.input[0])
    it.write(node, "mean", [x], dims=(2, 3), keep=True)


def _same(it: _Importer, node: Any) -> None:
    it.names[node.output[0]] = it.tensor(node.input[0])


def _constant(it: _Importer, node: Any) -> None:
    from onnx import numpy_helper

    settings = it.settings(node)
    if "value" in settings:
        it.values[node.output[0]] = numpy_helper.to_array(settings["value"])
        return
    _key, value = next(iter(settings.items()))
    it.values[node.output[0]] = np.array(value)


def _gather(it: _Importer, node: Any) -> None:
    weight = it.values.get(node.input[0])
    axis = it.settings(node).get("axis", 0)
    _refuse(weight is None or weight.ndim != 2 or axis, "other than embeddings")
    assert weight is not None
    ids = it.tensor(node.input[1])
    it.writer.rebound(ids, weight.shape[0])
    count, width = weight.shape
    held = {"weight": (node.input[0], weight)}
    it.write(node, "embedding", [ids], held, count=count, width=width)


def _gelu(it: _Importer, node: Any) -> None:
    tanh = it.settings(node).get("approximate", b"none") == b"tanh"
    it.write(node, "gelu_tanh" if tanh else "gelu", [it.tensor(node.input[0])])


def _leaky(it: _Importer, node: Any) -> None:
    slope = round(it.settings(node).get("alpha", 0.01), 9)
    it.write(node, "leaky_relu", [it.tensor(node.input[0])], slope=slope)


TABLE: dict[str, Callable[[_Importer, Any], None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_mean,
    "Flatten": _shape,
    "Reshape": _shape,
    "Squeeze": _shape,
    "Unsqueeze": _shape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "Gather": _gather,
    "Gelu": _gelu,
    "LeakyRelu": _leaky,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "Identity": _same,
    "Cast": _same,
    "Constant": _constant,
    **{name: _arithmetic(name.lower()) for name in ("Add", "Sub", "Mul", "Div")},
    **{name: _unary(name.lower()) for name in ("Relu", "Sigmoid", "Tanh", "Exp")},
}
