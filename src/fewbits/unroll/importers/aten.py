"""PyTorch's operations in the words of text models, one function each.

Each is given the importer and a node, and returns the name of the line it wrote (or a list of
names, where the result is several tensors).
"""

import math
from collections.abc import Callable
from typing import Any

from fewbits.unroll.importers.writer import refuse


def _argument(node: Any, index: int, name: str, default: Any = None) -> Any:
    if len(node.args) > index:
        return node.args[index]
    return node.kwargs.get(name, default)


def _pair(value: Any, rank: int = 2) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * rank
    found = tuple(int(item) for item in value)
    return found * rank if len(found) == 1 else found


def _unary(operation: str) -> Callable[[Any, Any], str]:
    return lambda it, node: it.write(node, operation, [node.args[0]])


def _nothing(it: Any, node: Any) -> Any:
    return it.tensor(node.args[0])


def _conv(rank: int) -> Callable[[Any, Any], str]:
    def write(it: Any, node: Any) -> str:
        x, weight = node.args[:2]
        bias = _argument(node, 2, "bias")
        padding = _argument(node, 4, "padding", 0)
        shape = it.shape(weight)
        dilation = _pair(_argument(node, 5, "dilation", 1), rank)
        if isinstance(padding, str):
            spans = tuple(d * (k - 1) for d, k in zip(dilation, shape[2:], strict=True))
            refuse(padding == "same" and any(span % 2 for span in spans), "uneven padding")
            padding = tuple(span // 2 for span in spans) if padding == "same" else (0,) * rank
        return str(
            it.write(
                node,
                f"conv{rank}d",
                [x],
                {"weight": weight, "bias": bias},
                out=shape[0],
                kernel=shape[2:],
                stride=_pair(_argument(node, 3, "stride", 1), rank),
                padding=_pair(padding, rank),
                dilation=dilation,
                groups=_argument(node, 6, "groups", 1),
                **({} if bias is not None else {"bias": False}),
            )
        )

    return write


def _conv_transpose(rank: int) -> Callable[[Any, Any], str]:
    def write(it: Any, node: Any) -> str:
        x, weight = node.args[:2]
        bias = _argument(node, 2, "bias")
        groups = _argument(node, 6, "groups", 1)
        shape = it.shape(weight)
        return str(
            it.write(
                node,
                f"conv_transpose{rank}d",
                [x],
                {"weight": weight, "bias": bias},
                out=shape[1] * groups,
                kernel=shape[2:],
                stride=_pair(_argument(node, 3, "stride", 1), rank),
                padding=_pair(_argument(node, 4, "padding", 0), rank),
                output_padding=_pair(_argument(node, 5, "output_padding", 0), rank),
                groups=groups,
                dilation=_pair(_argument(node, 7, "dilation", 1), rank),
                **({} if bias is not None else {"bias": False}),
            )
        )

    return write


def _linear(it: Any, node: Any) -> str:
    x, weight = node.args[:2]
    bias = _argument(node, 2, "bias")
    more = {} if bias is not None else {"bias": False}
    parameters = {"weight": weight, "bias": bias}
    return str(it.write(node, "linear", [x], parameters, out=it.shape(weight)[0], **more))


def _batch_norm(it: Any, node: Any) -> str:
    x, weight, bias, _, _, training, _, eps = node.args[:8]
    refuse(not training, "batch norm by running statistics; call model.train() first")
    refuse((weight is None) != (bias is None), "batch norm with only one of weight and bias")
    parameters = {"weight": weight, "bias": bias}
    return str(it.write(node, "batchnorm", [x], parameters, eps=eps, affine=weight is not None))


def _layer_norm(it: Any, node: Any) -> str:
    x, dims = node.args[:2]
    weight, bias = _argument(node, 2, "weight"), _argument(node, 3, "bias")
    refuse((weight is None) != (bias is None), "layer norm with only one of weight and bias")
    eps = _argument(node, 4, "eps", 1e-5)
    parameters = {"weight": weight, "bias": bias}
    settings = {"dims": len(dims), "eps": eps, "affine": weight is not None}
    return str(it.write(node, "layernorm", [x], parameters, **settings))


def _group_norm(it: Any, node: Any) -> str:
    x, groups = node.args[:2]
    weight, bias = _argument(node, 2, "weight"), _argument(node, 3, "bias")
    refuse((weight is None) != (bias is None), "group norm with only one of weight and bias")
    eps = _argument(node, 4, "eps", 1e-5)
    parameters = {"weight": weight, "bias": bias}
    settings = {"groups": groups, "eps": eps, "affine": weight is not None}
    return str(it.write(node, "groupnorm", [x], parameters, **settings))


def _rms_norm(it: Any, node: Any) -> str:
    x, dims = node.args[:2]
    weight, eps = _argument(node, 2, "weight"), _argument(node, 3, "eps")
    refuse(len(dims) != 1 or weight is None, "RMS norm other than of the last dimension")
    eps = 1.1920928955078125e-07 if eps is None else eps
    return str(it.write(node, "rmsnorm", [x], {"weight": weight}, eps=eps))


def _max_pool(it: Any, node: Any) -> str:
    refuse(set(_pair(_argument(node, 4, "dilation", 1))) != {1}, "dilated pooling")
    return _pool(it, node, "maxpool2d", ceil=bool(_argument(node, 5, "ceil_mode", False)))


def _avg_pool(it: Any, node: Any) -> str:
    refuse(_argument(node, 4, "ceil_mode", False), "ceil_mode of means")
    padding = _pair(_argument(node, 3, "padding", 0))
    counted = _argument(node, 5, "count_include_pad", True)
    refuse(any(padding) and not counted, "means that leave out padding")
    refuse(_argument(node, 6, "divisor_override"), "divisor_override")
    return _pool(it, node, "avgpool2d")


def _pool(it: Any, node: Any, operation: str, **more: Any) -> str:
    kernel = _pair(node.args[1])
    stride = _pair(_argument(node, 2, "stride") or kernel)
    return str(
        it.write(
            node,
            operation,
            [node.args[0]],
            kernel=kernel,
            stride=None if stride == kernel else stride,
            padding=_pair(_argument(node, 3, "padding", 0)),
            **more,
        )
    )


def _adaptive(it: Any, node: Any) -> str:
    return str(it.write(node, "adaptive_avgpool2d", [node.args[0]], size=_pair(node.args[1])))


def _upsample(operation: str) -> Callable[[Any, Any], str]:
    def write(it: Any, node: Any) -> str:
        before, after = it.shape(node.args[0])[2:], it.shape(node)[2:]
        refuse(any(b % a for a, b in zip(before, after, strict=True)), "scales that are not whole")
        scale = tuple(b // a for a, b in zip(before, after, strict=True))
        corners = operation == "upsample_bilinear" and bool(_argument(node, 2, "align_corners"))
        more = {"corners": True} if corners else {}
        return str(it.write(node, operation, [node.args[0]], scale=scale, **more))

    return write


def _reshape(it: Any, node: Any) -> str:
    return str(it.write(node, "reshape", [node.args[0]], shape=it.shape(node)))


def _transpose(it: Any, node: Any) -> str:
    return str(it.write(node, "transpose", [node.args[0]], dims=tuple(node.args[1:3])))


def _permute(it: Any, node: Any) -> str:
    dims = tuple(node.args[1])
    rank = len(dims)
    refuse(rank == 1, "permute of one dimension")
    return str(it.write(node, "transpose", [node.args[0]], dims=tuple(d % rank for d in dims)))


def _slice(it: Any, node: Any) -> str:
    x = node.args[0]
    dim = _argument(node, 1, "dim", 0)
    length = it.shape(x)[dim]
    start, stop = _argument(node, 2, "start", 0) or 0, _argument(node, 3, "end", length)
    refuse(_argument(node, 4, "step", 1) != 1, "slices with steps")
    start = max(start + length, 0) if start < 0 else start
    stop = length if stop is None else min(stop + length if stop < 0 else stop, length)
    if (start, stop) == (0, length):
        return str(it.tensor(x))
    end = None if stop == length else stop
    return str(it.write(node, "slice", [x], dim=dim, start=start, stop=end))


def _select(it: Any, node: Any) -> str:
    x, dim, index = node.args
    length = it.shape(x)[dim]
    start = index % length
    stop = None if start + 1 == length else start + 1
    one = it.write(node, "slice", [x], dim=dim, start=start, stop=stop)
    return str(it.write(node, "reshape", [one], shape=it.shape(node)))


def _pieces(it: Any, node: Any) -> list[str]:
    x = node.args[0]
    dim = _argument(node, 2, "dim", 0)
    start, names = 0, []
    for part in node.meta["val"]:
        stop = start + int(part.shape[dim])
        end = None if stop == it.shape(x)[dim] else stop
        names.append(it.write(node, "slice", [x], dim=dim, start=start, stop=end))
        start = stop
    return names


def _concat(it: Any, node: Any) -> str:
    return str(it.write(node, "concat", list(node.args[0]), dim=_argument(node, 1, "dim", 0)))


def _expand(it: Any, node: Any) -> str:
    return str(it.write(node, "expand", [node.args[0]], shape=it.shape(node)))


def _reduce(operation: str) -> Callable[[Any, Any], str]:
    def write(it: Any, node: Any) -> str:
        dims = _argument(node, 1, "dim") or ()
        dims = (dims,) if isinstance(dims, int) else tuple(dims)
        keep = bool(_argument(node, 2, "keepdim", False))
        return str(it.write(node, operation, [node.args[0]], dims=dims, keep=keep))

    return write


def _sum_or_difference(sign: int) -> Callable[[Any, Any], str]:
    def write(it: Any, node: Any) -> str:
        x, z = node.args[:2]
        alpha = node.kwargs.get("alpha", 1)
        if isinstance(z, int | float):
            return str(it.write(node, "affine", [x], shift=float(sign * alpha * z)))
        refuse(alpha != 1, "a factor of the second summand")
        return str(it.write(node, "add" if sign > 0 else "sub", [x, z]))

    return write


def _product(it: Any, node: Any) -> str:
    x, z = node.args[:2]
    if isinstance(z, int | float):
        return str(it.write(node, "affine", [x], scale=float(z)))
    return str(it.write(node, "mul", [x, z]))


def _quotient(it: Any, node: Any) -> str:
    x, z = node.args[:2]
    refuse(not isinstance(z, int | float), "division by a tensor")
    return str(it.write(node, "affine", [x], scale=1.0 / z))


def _power(it: Any, node: Any) -> str:
    refuse(node.args[1] != 2, "powers other than 2")
    return str(it.write(node, "square", [node.args[0]]))


def _dropout(it: Any, node: Any) -> str:
    x, rate, training = node.args[:3]
    if not training or rate == 0:
        return str(it.tensor(x))
    return str(it.write(node, "dropout", [x], rate=float(rate)))


def _gelu(it: Any, node: Any) -> str:
    tanh = node.kwargs.get("approximate", "none") == "tanh"
    return str(it.write(node, "gelu_tanh" if tanh else "gelu", [node.args[0]]))


def _leaky(it: Any, node: Any) -> str:
    slope = float(_argument(node, 1, "negative_slope", 0.01))
    return str(it.write(node, "leaky_relu", [node.args[0]], slope=slope))


def _softmax(operation: str) -> Callable[[Any, Any], str]:
    return lambda it, node: str(it.write(node, operation, [node.args[0]], dim=node.args[1]))


def _embedding(it: Any, node: Any) -> str:
    weight, ids = node.args[:2]
    refuse(_argument(node, 2, "padding_idx", -1) not in (-1, None), "padding_idx")
    count, width = it.shape(weight)
    it.writer.rebound(it.tensor(ids), count)
    return str(it.write(node, "embedding", [ids], {"weight": weight}, count=count, width=width))


def _attention(it: Any, node: Any) -> str:
    q, k, v = node.args[:3]
    mask = _argument(node, 3, "attn_mask")
    refuse(
        mask is not None and it.is_integer(mask),
        "attention with a mask of booleans; give floats, 0 and minus infinity",
    )
    refuse(_argument(node, 4, "dropout_p", 0.0), "attention with dropout inside")
    causal, scale = _argument(node, 5, "is_causal", False), node.kwargs.get("scale")
    default = 1 / math.sqrt(it.shape(q)[-1])
    scale = 0.0 if scale is None or math.isclose(scale, default) else float(scale)
    if mask is not None:
        return str(it.write(node, "masked_attention", [q, k, v, mask], scale=scale))
    return str(it.write(node, "attention", [q, k, v], causal=bool(causal), scale=scale))


def _pad(it: Any, node: Any) -> str:
    x, widths = node.args[:2]
    refuse(_argument(node, 2, "mode", "constant") != "constant", "padding other than by constants")
    value = float(_argument(node, 3, "value") or 0.0)
    return str(it.write(node, "pad", [x], widths=tuple(widths), value=value))


TABLE: dict[str, Callable[[Any, Any], Any]] = {
    **{name: _unary(name) for name in ("relu", "sigmoid", "tanh", "silu", "exp", "square")},
    **{f"conv{rank}d": _conv(rank) for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _conv_transpose(rank) for rank in (1, 2, 3)},
    **dict.fromkeys(
        ("contiguous", "clone", "to", "alias", "detach", "_assert_tensor_metadata"), _nothing
    ),
    "add": _sum_or_difference(1),
    "sub": _sum_or_difference(-1),
    "mul": _product,
    "div": _quotient,
    "pow": _power,
    "linear": _linear,
    "matmul": lambda it, node: it.write(node, "matmul", list(node.args[:2])),
    "bmm": lambda it, node: it.write(node, "matmul", list(node.args[:2])),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive,
    "upsample_nearest2d": _upsample("upsample_nearest"),
    "upsample_bilinear2d": _upsample("upsample_bilinear"),
    **dict.fromkeys(("view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten"), _reshape),
    "transpose": _transpose,
    "permute": _permute,
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), _pieces),
    "cat": _concat,
    "expand": _expand,
    "mean": _reduce("mean"),
    "sum": _reduce("sum"),
    "dropout": _dropout,
    "gelu": _gelu,
    "leaky_relu": _leaky,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "embedding": _embedding,
    "scaled_dot_product_attention": _attention,
    "pad": _pad,
}
