"""Losses: a single number from what a model says and what it should have said."""

import math

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Local,
    Operation,
    Shape,
    ShapeError,
    normalized,
    same,
    show,
)


def _classes(call: Call) -> Shape:
    dim = normalized(call.dim, len(call.x))
    wanted = (*call.x[:dim], *call.x[dim + 1 :])
    if call.shapes[1] != wanted:
        raise ShapeError(f"classes must be {show(wanted)}, and are {show(call.shapes[1])}")
    below = call.below[1]
    if below is not None and below > call.x[dim]:
        raise ShapeError(f"classes go below {below}, and x has {call.x[dim]}", "dim")
    return ()


def _class_constants(call: Call) -> dict[str, str]:
    dim = normalized(call.dim, len(call.x))
    # PyTorch wants classes in the second dimension, where there are more than one.
    swapped = "" if dim == min(1, len(call.x) - 1) else f".movedim({dim}, 1)"
    return {
        "flat": f"{{x}}{swapped}",
        "axis": repr(dim),
        "classes": repr(call.x[dim]),
        "count": repr(math.prod(call.x) // call.x[dim]),
    }


def _equal(call: Call) -> Shape:
    if call.shapes[0] != call.shapes[1]:
        raise ShapeError(f"{show(call.shapes[0])} and {show(call.shapes[1])} differ")
    return ()


OPERATIONS = (
    Operation(
        name="cross_entropy",
        summary="mean of -log softmax(x) at the right classes",
        arguments=("x", "target"),
        integers=("target",),
        attributes={"dim": Attribute("int", -1)},
        shape=_classes,
        constants=_class_constants,
        forward="""
        {logs} = F.log_softmax({x}, {axis})
        {y} = -{logs}.gather({axis}, {target}.unsqueeze({axis})).mean()
        """,
        plain="{y} = F.cross_entropy({flat}, {target})",
        backward="""
        {chances} = torch.exp({logs})
        {wrong} = less_one_({chances}, {target}, {axis})
        {dx} = {wrong} * ({dy} / {count})
        """,
        portable_backward="""
        {wrong} = torch.exp({logs}) - one_hot({target}, {classes}, {axis}, {logs})
        {dx} = {wrong} * ({dy} / {count})
        """,
        locals={name: Local("value", same) for name in ("logs", "chances", "wrong")},
    ),
    Operation(
        name="mse",
        summary="mean of the squared differences",
        arguments=("x", "z"),
        shape=_equal,
        constants=lambda call: {"twice": repr(2 / math.prod(call.x))},
        forward="""
        {difference} = {x} - {z}
        {y} = ({difference} * {difference}).mean()
        """,
        plain="{y} = F.mse_loss({x}, {z})",
        backward="""
        {dx} = {difference} * ({dy} * {twice})
        {dz} = {difference} * ({dy} * -{twice})
        """,
        locals={"difference": Local("value", same)},
    ),
)
