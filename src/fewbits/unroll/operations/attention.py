"""Softmax, and attention made of it."""

import math

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Local,
    Operation,
    Shape,
    ShapeError,
    broadcast,
    normalized,
    show,
    summed,
)


def _attended(call: Call) -> Shape:
    q, k, v, *mask = call.shapes
    if len(q) < 3 or q[:-2] != k[:-2] or k[:-1] != v[:-1] or q[-1] != k[-1]:
        raise ShapeError(f"{show(q)}, {show(k)} and {show(v)} do not go together")
    if call.attributes.get("causal", False) and q[-2] != k[-2]:
        raise ShapeError("causal attention needs as many queries as keys", "causal")
    square = (*q[:-1], k[-2])
    if mask and broadcast((mask[0], square)) != square:
        raise ShapeError(f"the mask {show(mask[0])} is not for weights of {show(square)}")
    return (*q[:-1], v[-1])


def _square(call: Call) -> Shape:
    q, k = call.shapes[:2]
    return (*q[:-1], k[-2])


def _constants(call: Call) -> dict[str, str]:
    length = call.shapes[1][-2]
    scale = call.scale or 1 / math.sqrt(call.x[-1])
    if len(call.shapes) == 4:
        plus, kind, back = " + {mask}", "attn_mask={mask}, ", summed(_square(call), call.shapes[3])
    elif call.causal:
        plus, kind, back = f" + causal_mask({length}, {{x}})", "is_causal=True, ", ""
    else:
        plus = kind = back = ""
    return {
        "plus_mask": plus,
        "factor": repr(scale),
        "options": f"{kind}scale={scale}",
        "sum_mask": back,
    }


def _one_along(call: Call) -> Shape:
    dim = normalized(call.dim, len(call.x))
    return (*call.x[:dim], 1, *call.x[dim + 1 :])


_ROW = {"row": Local("exact", _one_along)}

_ATTENTION = """
{scores} = {x} @ {z}.transpose(-1, -2) * {factor}
{weights} = F.softmax({scores}{plus_mask}, -1)
{y} = {weights} @ {v}
"""
_ATTENTION_BACK = """
{dv} = {weights}.transpose(-1, -2) @ {dy}
{pull} = {dy} @ {v}.transpose(-1, -2)
{row} = sum_of_products({pull}, {weights}, (-1,), True)
{back} = ({pull} - {row}) * {weights}
MASK{g} = {back} * {factor}
{dx} = {g} @ {z}
{dz} = {g}.transpose(-1, -2) @ {x}
"""


def _attention(name: str, summary: str, masked: bool) -> Operation:
    scale = {"scale": Attribute("float", 0.0)}
    return Operation(
        name=name,
        summary=summary,
        arguments=("x", "z", "v", "mask") if masked else ("x", "z", "v"),
        attributes=scale if masked else {"causal": Attribute("bool", False), **scale},
        shape=_attended,
        constants=_constants,
        forward=_ATTENTION,
        plain="{y} = F.scaled_dot_product_attention({x}, {z}, {v}, {options})",
        backward=_ATTENTION_BACK.replace("MASK", "{dmask} = {back}{sum_mask}\n" if masked else ""),
        locals={
            "row": Local("exact", lambda call: (*_square(call)[:-1], 1)),
            **{key: Local("value", _square) for key in _SQUARES},
        },
        flops=lambda call: 2.0 * math.prod(_square(call)) * call.x[-1],
    )


_SQUARES = ("scores", "weights", "pull", "back", "g")
# The gradient of a softmax, p * (g - sum(p * g)).
OPERATIONS = (
    Operation(
        name="softmax",
        summary="exp(x), made to sum to 1 along a dimension",
        attributes={"dim": Attribute("int", -1)},
        shape=lambda call: call.x if normalized(call.dim, len(call.x)) >= 0 else (),
        forward="{y} = F.softmax({x}, {dim})",
        backward="""
        {row} = sum_of_products({dy}, {y}, ({dim},), True)
        {dx} = ({dy} - {row}) * {y}
        """,
        locals=_ROW,
    ),
    Operation(
        name="log_softmax",
        summary="the logarithm of softmax",
        attributes={"dim": Attribute("int", -1)},
        shape=lambda call: call.x if normalized(call.dim, len(call.x)) >= 0 else (),
        forward="{y} = F.log_softmax({x}, {dim})",
        backward="""
        {row} = {dy}.sum({dim}, keepdim=True)
        {dx} = {dy} - torch.exp({y}) * {row}
        """,
        locals=_ROW,
    ),
    _attention("attention", "scaled dot-product attention: softmax(x z^T * scale) v", False),
    _attention("masked_attention", "the same, with a mask of floats added to x z^T * scale", True),
)
