"""Products with matrices, and rows picked out of them."""

import math

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Operation,
    Parameter,
    Shape,
    ShapeError,
    broadcast,
    show,
    summed,
)


def _linear_parameters(call: Call) -> dict[str, Parameter]:
    features = call.x[-1]
    bias = {"bias": Parameter((call.out,))} if call.bias else {}
    return {"weight": Parameter((call.out, features), math.sqrt(1 / features)), **bias}


def _linear_shape(call: Call) -> Shape:
    if len(call.x) < 2:
        raise ShapeError(f"x must have 2 dimensions or more, and is {show(call.x)}")
    if call.out < 1:
        raise ShapeError("out must be 1 or more", "out")
    return (*call.x[:-1], call.out)


def _linear_constants(call: Call) -> dict[str, str]:
    flat = len(call.x) == 2
    return {
        "dy_rows": "{dy}" if flat else f"{{dy}}.reshape(-1, {call.out})",
        "x_rows": "{x}" if flat else f"{{x}}.reshape(-1, {call.x[-1]})",
        "leading": "0" if flat else repr(tuple(range(len(call.x) - 1))),
    }


def _matmul_shape(call: Call) -> Shape:
    x, z = call.shapes
    if len(x) < 2 or len(z) < 2:
        raise ShapeError("both must have 2 dimensions or more")
    if x[-1] != z[-2]:
        raise ShapeError(f"{show(x)} and {show(z)} do not go together")
    return (*broadcast((x[:-2], z[:-2])), x[-2], z[-1]) if len(x) + len(z) > 4 else (x[0], z[1])


def _matmul_constants(call: Call) -> dict[str, str]:
    x, z = call.shapes
    batch = call.y[:-2]
    return {
        "sum_x": summed((*batch, *x[-2:]), x),
        "sum_z": summed((*batch, *z[-2:]), z),
    }


def _embedding_constants(call: Call) -> dict[str, str]:
    return {"count": repr(call.count), "width": repr(call.width)}


def _embedding_shape(call: Call) -> Shape:
    below = call.below[0]
    if below is not None and below > call.count:
        raise ShapeError(f"x goes below {below}, and count is {call.count}", "count")
    return (*call.x, call.width)


def _rows(call: Call) -> Shape:
    if not call.x:
        raise ShapeError("x must have rows, and is a single number")
    if len(call.shapes[1]) != 1:
        raise ShapeError(f"index must have 1 dimension, and is {show(call.shapes[1])}")
    below = call.below[1]
    if below is not None and below > call.x[0]:
        raise ShapeError(f"index goes below {below}, and x has {call.x[0]} rows")
    return (call.shapes[1][0], *call.x[1:])


def _sums(call: Call) -> Shape:
    if not call.x:
        raise ShapeError("x must have rows, and is a single number")
    if len(call.shapes[1]) != 1 or call.shapes[1][0] != call.x[0]:
        raise ShapeError(f"index must have {call.x[0]} numbers, one a row of x")
    below = call.below[1]
    if below is not None and below > call.rows:
        raise ShapeError(f"index goes below {below}, and rows is {call.rows}", "rows")
    return (call.rows, *call.x[1:])


OPERATIONS = (
    Operation(
        name="linear",
        summary="x times a matrix plus a vector, over the last dimension",
        attributes={"out": Attribute("int"), "bias": Attribute("bool", True)},
        parameters=_linear_parameters,
        shape=_linear_shape,
        constants=_linear_constants,
        forward="{y} = F.linear({x}, {weight}{with_bias})",
        backward="""
        {dweight} = {dy_rows}.T @ {x_rows}
        {dbias} = {dy}.sum({leading})
        {dx} = {dy} @ {weight}
        """,
        flops=lambda call: 2.0 * math.prod(call.y) * call.x[-1],
    ),
    Operation(
        name="matmul",
        summary="matrix product over the last two dimensions",
        arguments=("x", "z"),
        shape=_matmul_shape,
        constants=_matmul_constants,
        forward="{y} = {x} @ {z}",
        backward="""
        {dx} = ({dy} @ {z}.transpose(-1, -2)){sum_x}
        {dz} = ({x}.transpose(-1, -2) @ {dy}){sum_z}
        """,
        flops=lambda call: 2.0 * math.prod(call.y) * call.x[-1],
    ),
    Operation(
        name="embedding",
        summary="row x of a matrix of count rows",
        integers=("x",),
        attributes={"count": Attribute("int"), "width": Attribute("int")},
        parameters=lambda call: {"weight": Parameter((call.count, call.width), 0.02)},
        shape=_embedding_shape,
        constants=_embedding_constants,
        forward="{y} = F.embedding({x}, {weight})",
        backward="""
        {dweight} = sum_rows({dy}.reshape(-1, {width}), {x}.reshape(-1), {count})
        """,
    ),
    Operation(
        name="gather",
        summary="the rows of x that index names: from nodes to edges",
        arguments=("x", "index"),
        integers=("index",),
        shape=_rows,
        constants=lambda call: {"rows": repr(call.x[0])},
        forward="{y} = {x}[{index}]",
        backward="{dx} = sum_rows({dy}, {index}, {rows})",
    ),
    Operation(
        name="scatter_sum",
        summary="sums of the rows of x that have one index: from edges to nodes",
        arguments=("x", "index"),
        integers=("index",),
        attributes={"rows": Attribute("int")},
        shape=_sums,
        forward="{y} = sum_rows({x}, {index}, {rows})",
        backward="{dx} = {dy}[{index}]",
    ),
)
