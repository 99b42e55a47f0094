"""Softmax, and attention made of it."""

import math

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Local,
    Operation,
    Shape,
    ShapeError,
    normalized,
    show,
)


def _attended(call: Call) -> Shape:
    q, k, v = call.shapes
    if len(q) < 3 or q[:-2] != k[:-2] or k[:-1] != v[:-1] or q[-1] != k[-1]:
        raise ShapeError(f"{show(q)}, {show(k)} and {show(v)} do not go together")
    if call.causal and q[-2] != k[-2]:
        raise ShapeError("causal attention needs as many queries as keys", "causal")
    return (*q[:-1], v[-1])


def _square(call: Call) -> Shape:
    q, k, _ = call.shapes
    return (*q[:-1], k[-2])


def _constants(call: Call) -> dict[str, str]:
    length = call.shapes[1][-2]
    mask = f" + causal_mask({length}, {{x}})" if call.causal else ""
    scale = call.scale or 1 / math.sqrt(call.x[-1])
    return {"plus_mask": mask, "factor": repr(scale)}


# The gradient of a softmax, p * (g - sum(p * g)).
OPERATIONS = (
    Operation(
        name="softmax",
        summary="exp(x), made to sum to 1 along a dimension",
        attributes={"dim": Attribute("int", -1)},
        shape=lambda call: call.x if normalized(call.dim, len(call.x)) >= 0 else (),
        forward="{y} = F.softmax({x}, {dim})",
        backward="{dx} = {y} * ({dy} - ({dy} * {y}).sum({dim}, keepdim=True))",
    ),
    Operation(
        name="log_softmax",
        summary="the logarithm of softmax",
        attributes={"dim": Attribute("int", -1)},
        shape=lambda call: call.x if normalized(call.dim, len(call.x)) >= 0 else (),
        forward="{y} = F.log_softmax({x}, {dim})",
        backward="{dx} = {dy} - torch.exp({y}) * {dy}.sum({dim}, keepdim=True)",
    ),
    Operation(
        name="attention",
        summary="scaled dot-product attention: softmax(x z^T * scale) v",
        arguments=("x", "z", "v"),
        attributes={"causal": Attribute("bool", False), "scale": Attribute("float", 0.0)},
        shape=_attended,
        constants=_constants,
        forward="""
        {scores} = {x} @ {z}.transpose(-1, -2) * {factor}{plus_mask}
        {weights} = F.softmax({scores}, -1)
        {y} = {weights} @ {v}
        """,
        backward="""
        {dv} = {weights}.transpose(-1, -2) @ {dy}
        {pull} = {dy} @ {v}.transpose(-1, -2)
        {g} = {weights} * ({pull} - ({pull} * {weights}).sum(-1, keepdim=True)) * {factor}
        {dx} = {g} @ {z}
        {dz} = {g}.transpose(-1, -2) @ {x}
        """,
        locals={name: Local("value", _square) for name in ("scores", "weights", "pull", "g")},
        flops=lambda call: 2.0 * math.prod(_square(call)) * call.x[-1],
    ),
)
