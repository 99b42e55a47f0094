"""Convolutions of one, two and three dimensions, and their transposes.

The gradient to the input of a convolution is the transposed one with the same weight; that to the
weight is a convolution of the input with the gradient, where stride and dilation change places.
"""

import math

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Operation,
    Parameter,
    Shape,
    ShapeError,
    options,
    show,
)


def _attributes(rank: int) -> dict[str, Attribute]:
    return {
        "out": Attribute("int"),
        "kernel": Attribute("ints", count=rank),
        "stride": Attribute("ints", (1,) * rank, count=rank),
        "padding": Attribute("ints", (0,) * rank, count=rank),
        "dilation": Attribute("ints", (1,) * rank, count=rank),
        "groups": Attribute("int", 1),
        "bias": Attribute("bool", True),
    }


def _checked(call: Call, rank: int) -> None:
    if len(call.x) != rank + 2:
        raise ShapeError(f"x must have {rank + 2} dimensions, and is {show(call.x)}")
    for name in ("kernel", "stride", "dilation"):
        if min(call.attributes[name]) < 1:
            raise ShapeError(f"{name} must be 1 or more", name)
    if min(call.padding) < 0:
        raise ShapeError("padding must be 0 or more", "padding")
    if call.out < 1:
        raise ShapeError("out must be 1 or more", "out")
    if call.groups < 1 or call.x[1] % call.groups or call.out % call.groups:
        raise ShapeError(
            f"groups={call.groups} does not divide {call.x[1]} and {call.out} channels", "groups"
        )


def _windows(call: Call) -> tuple[int, ...]:
    return tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(
            call.x[2:], call.kernel, call.stride, call.padding, call.dilation, strict=True
        )
    )


def _spread(call: Call, sizes: Shape) -> tuple[int, ...]:
    """Sizes that a transposed convolution makes of these, without output padding."""
    return tuple(
        (size - 1) * s - 2 * p + d * (k - 1) + 1
        for size, k, s, p, d in zip(
            sizes, call.kernel, call.stride, call.padding, call.dilation, strict=True
        )
    )


def _settings(call: Call, rank: int) -> dict[str, tuple[object, object]]:
    one, none = (1,) * rank, (0,) * rank
    return {
        "stride": (call.stride, one),
        "padding": (call.padding, none),
        "dilation": (call.dilation, one),
        "groups": (call.groups, 1),
    }


def _convolution(rank: int) -> Operation:
    def shape(call: Call) -> Shape:
        _checked(call, rank)
        sizes = _windows(call)
        if min(sizes) < 1:
            raise ShapeError(f"kernel is larger than x, {show(call.x)}", "kernel")
        return (call.x[0], call.out, *sizes)

    def parameters(call: Call) -> dict[str, Parameter]:
        inner = call.x[1] // call.groups
        weight = (call.out, inner, *call.kernel)
        # As He et al., "Delving Deep into Rectifiers", for a ReLU that follows.
        deviation = math.sqrt(2 / (inner * math.prod(call.kernel)))
        bias = {"bias": Parameter((call.out,))} if call.bias else {}
        return {"weight": Parameter(weight, deviation), **bias}

    def constants(call: Call) -> dict[str, str]:
        missing = tuple(
            size - made for size, made in zip(call.x[2:], _spread(call, call.y[2:]), strict=True)
        )
        settings = _settings(call, rank)
        back = {**settings, "output_padding": (missing, (0,) * rank)}
        return {
            "options": options(settings),
            "back_options": options(back),
            "weight_shape": repr((call.out, call.x[1] // call.groups, *call.kernel)),
            "beside": repr((0, *range(2, rank + 2))),
        }

    conv = f"conv{rank}d"
    back = f"""
    {{dweight}} = WEIGHT({{x}}, {{weight_shape}}, {{dy}}{{options}})
    {{dbias}} = {{dy}}.sum({{beside}})
    {{dx}} = F.conv_transpose{rank}d({{dy}}, {{weight}}{{back_options}})
    """
    return Operation(
        name=conv,
        summary=f"convolution over {rank} dimension{'s' * (rank > 1)}",
        attributes=_attributes(rank),
        parameters=parameters,
        shape=shape,
        constants=constants,
        forward=f"{{y}} = F.{conv}({{x}}, {{weight}}{{with_bias}}{{options}})",
        backward=back.replace("WEIGHT", f"torch.nn.grad.{conv}_weight"),
        portable_backward=back.replace("WEIGHT", f"{conv}_weight"),
        flops=lambda call: (
            2.0 * math.prod(call.y) * (call.x[1] // call.groups) * math.prod(call.kernel)
        ),
    )


def _transposed(rank: int) -> Operation:
    def shape(call: Call) -> Shape:
        _checked(call, rank)
        sizes = tuple(
            made + more
            for made, more in zip(_spread(call, call.x[2:]), call.output_padding, strict=True)
        )
        if min(sizes) < 1:
            raise ShapeError("padding leaves nothing", "padding")
        return (call.x[0], call.out, *sizes)

    def parameters(call: Call) -> dict[str, Parameter]:
        weight = (call.x[1], call.out // call.groups, *call.kernel)
        deviation = math.sqrt(2 / (call.x[1] // call.groups * math.prod(call.kernel)))
        bias = {"bias": Parameter((call.out,))} if call.bias else {}
        return {"weight": Parameter(weight, deviation), **bias}

    def constants(call: Call) -> dict[str, str]:
        settings = _settings(call, rank)
        forth = {**settings, "output_padding": (call.output_padding, (0,) * rank)}
        return {
            "options": options(settings),
            "forth_options": options(forth),
            "weight_shape": repr((call.x[1], call.out // call.groups, *call.kernel)),
            "sizes": repr(call.x[2:]),
            "beside": repr((0, *range(2, rank + 2))),
        }

    conv = f"conv{rank}d"
    # The gradient plays the part of the input, and the input that of the gradient.
    back = f"""
    {{dweight}} = WEIGHT({{dy}}, {{weight_shape}}, {{x}}{{options}})
    {{dbias}} = {{dy}}.sum({{beside}})
    {{dx}} = F.{conv}({{dy}}, {{weight}}{{options}})
    """
    return Operation(
        name=f"conv_transpose{rank}d",
        summary=f"transposed convolution over {rank} dimension{'s' * (rank > 1)}",
        attributes={
            **_attributes(rank),
            "output_padding": Attribute("ints", (0,) * rank, count=rank),
        },
        parameters=parameters,
        shape=shape,
        constants=constants,
        forward=f"{{y}} = F.conv_transpose{rank}d({{x}}, {{weight}}{{with_bias}}{{forth_options}})",
        backward=back.replace("WEIGHT", f"torch.nn.grad.{conv}_weight"),
        portable_backward=back.replace("WEIGHT", f"{conv}_weight"),
        flops=lambda call: (
            2.0 * math.prod(call.x) * (call.out // call.groups) * math.prod(call.kernel)
        ),
    )


OPERATIONS = (
    *(_convolution(rank) for rank in (1, 2, 3)),
    *(_transposed(rank) for rank in (1, 2, 3)),
)
