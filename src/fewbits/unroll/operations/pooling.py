"""Pooling: the largest or the mean of each window."""

from collections.abc import Callable

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Local,
    Operation,
    Shape,
    ShapeError,
    options,
    plain,
    show,
    size,
)


def _sizes(call: Call) -> tuple[int, ...]:
    if len(call.x) != 4:
        raise ShapeError(f"x must have 4 dimensions, and is {show(call.x)}")
    return call.x[2:]


def _stride(call: Call) -> tuple[int, ...]:
    return tuple(call.stride or call.kernel)


def _windows(call: Call) -> Shape:
    for name in ("kernel", "stride"):
        if min(call.attributes[name] or (1,)) < 1:
            raise ShapeError(f"{name} must be 1 or more", name)
    if any(not 0 <= p <= k // 2 for p, k in zip(call.padding, call.kernel, strict=True)):
        raise ShapeError("padding must be at most half the kernel", "padding")
    if size(call.kernel) > 255:
        raise ShapeError("windows of more than 255 elements are not supported", "kernel")
    ceil = call.attributes.get("ceil", False)
    sizes = tuple(
        _count(length, k, s, p, ceil)
        for length, k, s, p in zip(
            _sizes(call), call.kernel, _stride(call), call.padding, strict=True
        )
    )
    if min(sizes) < 1:
        raise ShapeError(f"kernel is larger than x, {show(call.x)}", "kernel")
    return (*call.x[:2], *sizes)


def _count(length: int, kernel: int, stride: int, padding: int, ceil: bool) -> int:
    """Windows along a dimension; with ``ceil`` also one that ends outside, if it starts inside."""
    room = length + 2 * padding - kernel
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - ((count - 1) * stride >= length + padding)


def _constants(call: Call) -> dict[str, str]:
    spread = tuple(
        (made - 1) * s - 2 * p + k
        for made, k, s, p in zip(call.y[2:], call.kernel, _stride(call), call.padding, strict=True)
    )
    missing = tuple(a - b for a, b in zip(_sizes(call), spread, strict=True))
    settings: dict[str, tuple[object, object]] = {"padding": (call.padding, (0, 0))}
    if call.stride:
        settings = {"stride": (call.stride, call.kernel), **settings}
    settings["ceil_mode"] = (call.attributes.get("ceil", False), False)
    return {
        "window": plain(call.kernel),
        "kernel_pair": repr(call.kernel),
        "stride_pair": repr(_stride(call)),
        "padding_pair": repr(call.padding),
        "count_pair": repr(call.y[2:]),
        "options": options(settings),
        "shape": repr(call.x),
        "planes": f"(-1, 1, {call.y[2]}, {call.y[3]})",
        "share": repr(1 / size(call.kernel)),
        # What windows leave over at the end may exceed a stride, which output_padding cannot say.
        "spread_options": options({"stride": (_stride(call), (1, 1))}),
        "crop": _crop(call, missing),
        "dtype": "torch.uint8",
    }


def _crop(call: Call, missing: tuple[int, ...]) -> str:
    """Take the padding off and add the rows and columns that no window saw."""
    (top, left), (bottom, right) = call.padding, missing
    widths = (-left, -left + right, -top, -top + bottom)
    return f", {widths}" if any(widths) else ""


_ATTRIBUTES = {
    "kernel": Attribute("ints", count=2),
    "stride": Attribute("ints", None, count=2),
    "padding": Attribute("ints", (0, 0), count=2),
}
_GEOMETRY = "{kernel_pair}, {stride_pair}, {padding_pair}"


def _means(lengths: Callable[[Call], tuple[int, ...]]) -> Callable[[Call], dict[str, str]]:
    def constants(call: Call) -> dict[str, str]:
        (height, width), (rows, columns) = _sizes(call), lengths(call)
        return {"h": f"{rows}, {height}", "w": f"{columns}, {width}"}

    return constants


OPERATIONS = (
    Operation(
        name="maxpool2d",
        summary="the largest of each window; ceil=yes has windows that end outside, too",
        attributes={**_ATTRIBUTES, "ceil": Attribute("bool", False)},
        shape=_windows,
        constants=_constants,
        forward="""
        {y}, {index} = max_pool({x}, {count_pair}, """
        + _GEOMETRY
        + """)
        """,
        plain="{y} = F.max_pool2d({x}, {window}{options})",
        backward="{dx} = unpool({dy}, {index}, {shape}, " + _GEOMETRY + ")",
        portable_forward="""
        {y}, {index} = max_windows({x}, {count_pair}, """
        + _GEOMETRY
        + """)
        """,
        portable_backward="{dx} = spread_windows({dy}, {index}, {shape}, " + _GEOMETRY + ")",
        locals={"index": Local("index", lambda call: call.y)},
    ),
    Operation(
        name="avgpool2d",
        summary="the mean of each window, padding counted as zeros",
        attributes=_ATTRIBUTES,
        shape=_windows,
        constants=_constants,
        forward="{y} = F.avg_pool2d({x}, {window}{options})",
        backward="{dx} = spread_means({dy}, {shape}, " + _GEOMETRY + ")",
    ),
    Operation(
        name="avgpool_global",
        summary="the mean of each channel",
        shape=lambda call: (call.x[0], call.x[1]) if _sizes(call) else (),
        constants=lambda call: {
            "shape": repr(call.x),
            "share": repr(size(call.x[2:])),
        },
        forward="{y} = {x}.mean((2, 3))",
        backward="{dx} = ({dy} / {share})[:, :, None, None].expand({shape})",
    ),
    Operation(
        name="adaptive_avgpool2d",
        summary="means of windows as large as the result asks for",
        attributes={"size": Attribute("ints", count=2)},
        shape=lambda call: (*call.x[:2], *call.size) if _sizes(call) else (),
        constants=_means(lambda call: tuple(call.size)),
        # Means over rows and over columns are two products with constant matrices.
        forward="{y} = window_means({h}, {x}) @ {x} @ window_means({w}, {x}).T",
        backward="{dx} = window_means({h}, {dy}).T @ {dy} @ window_means({w}, {dy})",
    ),
)
