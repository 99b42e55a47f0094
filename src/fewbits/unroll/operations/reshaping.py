"""The same values in another arrangement, parts of them, and means."""

import math
from itertools import accumulate

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Operation,
    Shape,
    ShapeError,
    broadcast,
    normalized,
    show,
    summed,
)


def _reshaped(call: Call) -> Shape:
    wanted = list(call.attributes["shape"])
    if wanted.count(-1) > 1 or any(length < 1 and length != -1 for length in wanted):
        raise ShapeError("one size may be -1, the others are 1 or more", "shape")
    total, known = math.prod(call.x), math.prod(length for length in wanted if length != -1)
    if -1 in wanted and known and total % known == 0:
        wanted[wanted.index(-1)] = total // known
    if math.prod(wanted) != total:
        raise ShapeError(f"{show(call.x)} does not fit into {show(tuple(wanted))}", "shape")
    return tuple(wanted)


def _flattened(call: Call) -> Shape:
    start = normalized(call.start, len(call.x), "start")
    return (*call.x[:start], math.prod(call.x[start:]))


def _swapped(call: Call) -> list[int]:
    if len(call.dims) == 2 and len(call.x) != 2:
        order = list(range(len(call.x)))
        first, second = (normalized(d, len(call.x), "dims") for d in call.dims)
        order[first], order[second] = order[second], order[first]
        return order
    order = [normalized(d, len(call.x), "dims") for d in call.dims]
    if sorted(order) != list(range(len(call.x))):
        raise ShapeError("dims must name two dimensions, or all of them once", "dims")
    return order


def _transpose_constants(call: Call) -> dict[str, str]:
    order = _swapped(call)
    return {
        "order": repr(tuple(order)),
        "back": repr(tuple(order.index(d) for d in range(len(order)))),
    }


def _cut(call: Call) -> tuple[int, int, int]:
    dim = normalized(call.dim, len(call.x))
    length = call.x[dim]
    stop = length if call.stop is None else call.stop
    start, stop = (end + length if end < 0 else end for end in (call.start, stop))
    if not 0 <= start < stop <= length:
        raise ShapeError(f"{call.start} to {call.stop} of {length}", "start")
    return dim, start, stop


def _sliced(call: Call) -> Shape:
    dim, start, stop = _cut(call)
    return (*call.x[:dim], stop - start, *call.x[dim + 1 :])


def _slice_constants(call: Call) -> dict[str, str]:
    dim, start, stop = _cut(call)
    length = call.x[dim]
    widths = (0, 0) * (len(call.x) - 1 - dim) + (start, length - stop)
    inside = f"{start or ''}:{stop if stop < length else ''}"
    return {"part": f"[{':, ' * dim}{inside}]", "widths": repr(widths)}


def _joined(call: Call) -> Shape:
    dim = normalized(call.dim, len(call.x))
    for shape in call.shapes[1:]:
        if len(shape) != len(call.x) or any(
            a != b for axis, (a, b) in enumerate(zip(shape, call.x, strict=True)) if axis != dim
        ):
            raise ShapeError(f"{show(call.x)} and {show(shape)} do not go together")
    return (*call.x[:dim], sum(shape[dim] for shape in call.shapes), *call.x[dim + 1 :])


def _concat_part(call: Call, index: int) -> dict[str, str]:
    dim = normalized(call.dim, len(call.x))
    ends = [0, *accumulate(shape[dim] for shape in call.shapes)]
    return {"part": f"[{':, ' * dim}{ends[index] or ''}:{ends[index + 1]}]"}


def _dims(call: Call) -> tuple[int, ...]:
    dims = call.dims or tuple(range(len(call.x)))
    found = tuple(sorted(normalized(dim, len(call.x), "dims") for dim in dims))
    if len(set(found)) != len(found):
        raise ShapeError("a dimension is named twice", "dims")
    return found


def _reduced(call: Call) -> Shape:
    dims = _dims(call)
    return tuple(
        1 if axis in dims else length
        for axis, length in enumerate(call.x)
        if call.keep or axis not in dims
    )


def _reduce_constants(call: Call) -> dict[str, str]:
    dims = _dims(call)
    kept = tuple(1 if axis in dims else length for axis, length in enumerate(call.x))
    return {
        "dims": repr(dims),
        "with_keep": ", keepdim=True" if call.keep else "",
        "kept": "" if call.keep else f".reshape({kept})",
        "shape": repr(call.x),
        "count": repr(math.prod(call.x[dim] for dim in dims)),
    }


def _expanded(call: Call) -> Shape:
    wanted = tuple(call.attributes["shape"])
    if broadcast((call.x, wanted)) != wanted:
        raise ShapeError(f"{show(call.x)} does not expand to {show(wanted)}", "shape")
    return wanted


_REDUCE = {"dims": Attribute("ints", ()), "keep": Attribute("bool", False)}

OPERATIONS = (
    Operation(
        name="reshape",
        summary="another shape; one size may be -1",
        attributes={"shape": Attribute("ints")},
        shape=_reshaped,
        constants=lambda call: {"to": repr(call.y), "from_": repr(call.x)},
        forward="{y} = {x}.reshape({to})",
        backward="{dx} = {dy}.reshape({from_})",
        view=True,
    ),
    Operation(
        name="flatten",
        summary="all dimensions from start on as one",
        attributes={"start": Attribute("int", 1)},
        shape=_flattened,
        constants=lambda call: {"to": repr(call.y), "from_": repr(call.x)},
        forward="{y} = {x}.reshape({to})",
        backward="{dx} = {dy}.reshape({from_})",
        view=True,
    ),
    Operation(
        name="transpose",
        summary="swap two dimensions, or put all into another order",
        attributes={"dims": Attribute("ints")},
        shape=lambda call: tuple(call.x[d] for d in _swapped(call)),
        constants=_transpose_constants,
        forward="{y} = {x}.permute({order})",
        backward="{dx} = {dy}.permute({back})",
        view=True,
    ),
    Operation(
        name="slice",
        summary="from start up to stop along one dimension",
        attributes={
            "dim": Attribute("int", -1),
            "start": Attribute("int", 0),
            "stop": Attribute("int", None),
        },
        shape=_sliced,
        constants=_slice_constants,
        forward="{y} = {x}{part}",
        backward="{dx} = F.pad({dy}, {widths})",
    ),
    Operation(
        name="concat",
        summary="one after another along a dimension",
        arguments=("xs",),
        attributes={"dim": Attribute("int", 1)},
        shape=_joined,
        each=_concat_part,
        forward="{y} = torch.cat([{xs}], {dim})",
        backward="{dxs} = {dy}{part}",
    ),
    Operation(
        name="expand",
        summary="repeat along dimensions of size 1, or new ones in front",
        attributes={"shape": Attribute("ints")},
        shape=_expanded,
        constants=lambda call: {"to": repr(call.y), "sum_x": summed(call.y, call.x)},
        forward="{y} = {x}.expand({to})",
        backward="{dx} = {dy}{sum_x}",
    ),
    Operation(
        name="mean",
        summary="mean over dimensions (default: all)",
        attributes=_REDUCE,
        shape=_reduced,
        constants=_reduce_constants,
        forward="{y} = {x}.mean({dims}{with_keep})",
        backward="{dx} = ({dy} / {count}){kept}.expand({shape})",
    ),
    Operation(
        name="sum",
        summary="sum over dimensions (default: all)",
        attributes=_REDUCE,
        shape=_reduced,
        constants=_reduce_constants,
        forward="{y} = {x}.sum({dims}{with_keep})",
        backward="{dx} = {dy}{kept}.expand({shape})",
    ),
)
