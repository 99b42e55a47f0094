"""ONNX's operations in the words of text models, one function each.

Each is given the importer and a node, and writes the node's lines.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fewbits.unroll.importers.writer import refuse


def _padding(settings: dict[str, Any], rank: int) -> tuple[int, ...]:
    refuse(settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"), "automatic padding")
    pads = list(settings.get("pads", [0] * 2 * rank))
    refuse(pads[:rank] != pads[rank:], "padding that differs before and after")
    return tuple(pads[:rank])


def _learned(it: Any, node: Any, *names: str) -> dict[str, tuple[str, Any]]:
    """Inputs after the first that are given, under the text's names."""
    given = zip(names, node.input[1:], strict=False)
    return {key: (source, it.values[source]) for key, source in given if source}


def _conv(it: Any, node: Any) -> None:
    settings, held = it.settings(node), _learned(it, node, "weight", "bias")
    weight = held["weight"][1]
    rank = weight.ndim - 2
    transposed = node.op_type == "ConvTranspose"
    groups = settings.get("group", 1)
    more: dict[str, Any] = {} if "bias" in held else {"bias": False}
    if transposed:
        more["output_padding"] = tuple(settings.get("output_padding", [0] * rank))
        refuse("output_shape" in settings, "output_shape")
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


def _gemm(it: Any, node: Any) -> None:
    settings = it.settings(node)
    factors = (settings.get("alpha", 1.0), settings.get("beta", 1.0))
    refuse(factors != (1.0, 1.0) or settings.get("transA", 0), "factors, or a transposed A")
    held = _learned(it, node, "weight", "bias")
    source, weight = held["weight"]
    held["weight"] = (source, weight if settings.get("transB", 0) else weight.T)
    more = {} if "bias" in held else {"bias": False}
    out = held["weight"][1].shape[0]
    it.write(node, "linear", [it.tensor(node.input[0])], held, out=out, **more)


def _matmul(it: Any, node: Any) -> None:
    weight = it.values.get(node.input[1])
    if weight is None or weight.ndim != 2:
        it.write(node, "matmul", [it.tensor(name) for name in node.input])
        return
    held = {"weight": (node.input[1], weight.T)}
    x = [it.tensor(node.input[0])]
    it.write(node, "linear", x, held, out=weight.shape[1], bias=False)


def _batch_norm(it: Any, node: Any) -> None:
    held = _learned(it, node, "weight", "bias")
    it.writer.comment("by the batch's own statistics; the running ones of the file are not used")
    eps = round(it.settings(node).get("epsilon", 1e-5), 12)
    it.write(node, "batchnorm", [it.tensor(node.input[0])], held, eps=eps)


def _layer_norm(it: Any, node: Any) -> None:
    settings, held = it.settings(node), _learned(it, node, "weight", "bias")
    refuse("bias" not in held, "layer norm without bias")
    x = it.tensor(node.input[0])
    axis = settings.get("axis", -1)
    dims = -axis if axis < 0 else len(it.shape(x)) - axis
    eps = round(settings.get("epsilon", 1e-5), 12)
    it.write(node, "layernorm", [x], held, dims=dims, eps=eps)


def _pool(it: Any, node: Any) -> None:
    settings = it.settings(node)
    kernel = tuple(settings["kernel_shape"])
    stride = tuple(settings.get("strides", (1, 1)))
    padding = _padding(settings, 2)
    refuse(set(settings.get("dilations", (1, 1))) != {1}, "dilated pooling")
    mean, ceil = node.op_type == "AveragePool", bool(settings.get("ceil_mode", 0))
    refuse(mean and ceil, "ceil_mode of means")
    refuse(
        mean and any(padding) and not settings.get("count_include_pad", 0),
        "means that leave out padding",
    )
    stride_word = None if stride == kernel else stride
    x = [it.tensor(node.input[0])]
    name = "avgpool2d" if mean else "maxpool2d"
    more: dict[str, Any] = {} if mean else {"ceil": ceil}
    it.write(node, name, x, kernel=kernel, stride=stride_word, padding=padding, **more)


def _shape(it: Any, node: Any) -> None:
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


def _transpose(it: Any, node: Any) -> None:
    it.write(node, "transpose", [it.tensor(node.input[0])], dims=tuple(it.settings(node)["perm"]))


def _slice(it: Any, node: Any) -> None:
    x = it.tensor(node.input[0])
    starts, stops = it.integers(node, 1, "starts"), it.integers(node, 2, "ends")
    rank = len(it.shape(x))
    axes = it.integers(node, 3, "axes") if len(node.input) > 3 else list(range(len(starts)))
    steps = it.integers(node, 4, "steps") if len(node.input) > 4 else [1] * len(axes)
    refuse(set(steps) != {1}, "slices with steps")
    for axis, start, stop in zip(axes, starts, stops, strict=True):
        length = it.shape(x)[axis]
        start = max(start + length, 0) if start < 0 else start
        stop = min(stop + length if stop < 0 else stop, length)
        end = None if stop == length else stop
        x = it.write(node, "slice", [x], dim=axis % rank, start=start, stop=end)
        it.lines = {}


def _split(it: Any, node: Any) -> None:
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


def _concat(it: Any, node: Any) -> None:
    names = [it.tensor(name) for name in node.input]
    it.write(node, "concat", names, dim=it.settings(node)["axis"])


def _arithmetic(operation: str) -> Callable[[Any, Any], None]:
    def write(it: Any, node: Any) -> None:
        x, z = node.input
        number = it.number(z)
        if number is None and operation in ("add", "mul") and it.number(x) is not None:
            x, z, number = z, x, it.number(x)
        if number is None or x in it.values:
            refuse(operation == "div", "division by a tensor")
            it.write(node, operation, [it.tensor(x), it.tensor(z)])
            return
        refuse(operation == "div" and number == 0, "division by zero")
        change: dict[str, Any] = {
            "add": {"shift": number},
            "sub": {"shift": -number},
            "mul": {"scale": number},
            "div": {"scale": 1 / number if number else 0.0},
        }[operation]
        it.write(node, "affine", [it.tensor(x)], **change)

    return write


def _unary(operation: str) -> Callable[[Any, Any], None]:
    def write(it: Any, node: Any) -> None:
        it.write(node, operation, [it.tensor(node.input[0])])

    return write


def _softmax(operation: str) -> Callable[[Any, Any], None]:
    def write(it: Any, node: Any) -> None:
        dim = it.settings(node).get("axis", -1)
        it.write(node, operation, [it.tensor(node.input[0])], dim=dim)

    return write


def _reduce(operation: str) -> Callable[[Any, Any], None]:
    def write(it: Any, node: Any) -> None:
        settings = it.settings(node)
        listed = len(node.input) > 1 or "axes" in settings
        dims = tuple(it.integers(node, 1, "axes")) if listed else ()
        keep = bool(settings.get("keepdims", 1))
        it.write(node, operation, [it.tensor(node.input[0])], dims=dims, keep=keep)

    return write


def _global_mean(it: Any, node: Any) -> None:
    x = it.tensor(node.input[0])
    it.write(node, "mean", [x], dims=(2, 3), keep=True)


def _same(it: Any, node: Any) -> None:
    it.names[node.output[0]] = it.tensor(node.input[0])


def _constant(it: Any, node: Any) -> None:
    from onnx import numpy_helper

    settings = it.settings(node)
    if "value" in settings:
        it.values[node.output[0]] = numpy_helper.to_array(settings["value"])
        return
    _key, value = next(iter(settings.items()))
    it.values[node.output[0]] = np.array(value)


def _gather(it: Any, node: Any) -> None:
    weight = it.values.get(node.input[0])
    axis = it.settings(node).get("axis", 0)
    refuse(weight is None or weight.ndim != 2 or axis, "other than embeddings")
    assert weight is not None
    ids = it.tensor(node.input[1])
    it.writer.rebound(ids, weight.shape[0])
    count, width = weight.shape
    held = {"weight": (node.input[0], weight)}
    it.write(node, "embedding", [ids], held, count=count, width=width)


def _gelu(it: Any, node: Any) -> None:
    tanh = it.settings(node).get("approximate", b"none") == b"tanh"
    it.write(node, "gelu_tanh" if tanh else "gelu", [it.tensor(node.input[0])])


def _leaky(it: Any, node: Any) -> None:
    slope = round(it.settings(node).get("alpha", 0.01), 9)
    it.write(node, "leaky_relu", [it.tensor(node.input[0])], slope=slope)


TABLE: dict[str, Callable[[Any, Any], None]] = {
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
