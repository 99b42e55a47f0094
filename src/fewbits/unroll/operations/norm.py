"""Normalizations, all by the statistics of the tensor itself.

With ``hat = (x - mean) / std`` and g the gradient to hat, the gradient to x is
``(g - mean(g) - hat * mean(g * hat)) / std`` (Ioffe and Szegedy, "Batch Normalization", section 3),
with means over the normalized dimensions. So ``hat`` rests and x does not.
"""

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Local,
    Operation,
    Parameter,
    Shape,
    ShapeError,
    same,
    show,
    size,
)

_FORWARD = """
{var}, {mean} = torch.var_mean({x}, {dims}, correction=0, keepdim=True)
{rstd} = ({var} + {eps}).rsqrt()
{centred} = {x} - {mean}
{hat} = {centred} * {rstd}
{y} = {hat}{times_weight}{plus_bias}
"""
_PORTABLE_FORWARD = """
{mean} = {x}.mean({dims}, keepdim=True)
{centred} = {x} - {mean}
{rstd} = (({centred} * {centred}).mean({dims}, keepdim=True) + {eps}).rsqrt()
{hat} = {centred} * {rstd}
{y} = {hat}{times_weight}{plus_bias}
"""
_BACKWARD = """
{dweight} = sum_of_products({dy}, {hat}, {others})
{dbias} = {dy}.sum({others})
{g} = {dy}{times_weight}
{g_mean} = {g}.mean({dims}, keepdim=True)
{g_hat} = sum_of_products({g}, {hat}, {dims}, True) / {count}
{dx} = ({g} - {g_mean} - {hat} * {g_hat}) * {rstd}
"""


# A channel's weight is the same over all that is averaged, so it can wait: one large tensor less.
# The normalized input is read by helpers that take parts of it, so it is never unpacked as a whole.
_CHANNEL_BACKWARD = """
{g_mean} = {dy}.mean({dims}, keepdim=True)
{g_hat} = sum_of_products({dy}, {hat}, {dims}, True) / {count}
{dx} = less_products_({dy} - {g_mean}, {hat}, {g_hat}) * ({rstd}{times_weight})
{dweight} = {g_hat}.flatten() * {count}
{dbias} = {g_mean}.flatten() * {count}
"""
_PORTABLE_CHANNEL_BACKWARD = _CHANNEL_BACKWARD.replace(
    "less_products_({dy} - {g_mean}, {hat}, {g_hat})", "({dy} - {g_mean} - {hat} * {g_hat})"
)


def _affine(shape: Shape) -> dict[str, Parameter]:
    return {"weight": Parameter(shape, constant=1.0), "bias": Parameter(shape)}


def _constants(
    dims: tuple[int, ...], others: tuple[int, ...], view: str, affine: bool, bias: bool = True
) -> dict[str, str]:
    return {
        "dims": repr(dims),
        "others": repr(others),
        "times_weight": f" * {{weight}}{view}" if affine else "",
        "plus_bias": f" + {{bias}}{view}" if affine and bias else "",
        "weight_and_bias": ", {weight}, {bias}" if affine else "",
    }


def _channels(call: Call) -> Shape:
    if len(call.x) < 2:
        raise ShapeError(f"x must have 2 dimensions or more, and is {show(call.x)}")
    return call.x


def _per_channel(call: Call) -> str:
    return f".view({(-1, *(1,) * (len(call.x) - 2))})" if len(call.x) > 2 else ""


def _batch_constants(call: Call) -> dict[str, str]:
    dims = (0, *range(2, len(call.x)))
    constants = _constants(dims, dims, _per_channel(call), call.affine)
    return {**constants, "count": repr(size(call.x) // call.x[1])}


def _batch_shape(call: Call) -> Shape:
    shape = _channels(call)
    if size(shape) == shape[1]:
        raise ShapeError("one value a channel has no variance")
    return shape


def _channel_statistics(call: Call) -> Shape:
    return (1, call.x[1], *(1,) * (len(call.x) - 2))


def _last_constants(call: Call) -> dict[str, str]:
    last = len(call.x) - call.dims
    dims, others = tuple(range(last, len(call.x))), tuple(range(last))
    return {
        **_constants(dims, others, "", call.affine),
        "count": repr(size(call.x[last:])),
        "normal_shape": repr(call.x[last:]),
    }


def _last_shape(call: Call) -> Shape:
    if not 1 <= call.dims < len(call.x):
        raise ShapeError(f"dims={call.dims} of {show(call.x)}", "dims")
    return call.x


def _last_statistics(call: Call) -> Shape:
    return (*call.x[: len(call.x) - call.dims], *(1,) * call.dims)


def _group_shape(call: Call) -> Shape:
    shape = _channels(call)
    if call.groups < 1 or shape[1] % call.groups:
        raise ShapeError(f"groups={call.groups} does not divide {shape[1]} channels", "groups")
    return shape


def _grouped(call: Call) -> Shape:
    return (call.x[0], call.groups, size(call.x[1:]) // call.groups)


def _group_constants(call: Call) -> dict[str, str]:
    dims = (0, *range(2, len(call.x)))
    return {
        **_constants((2,), dims, _per_channel(call), call.affine),
        "grouped": repr(_grouped(call)),
        "shape": repr(call.x),
        "count": repr(_grouped(call)[2]),
    }


_STATISTICS = ("mean", "var", "rstd", "g_mean", "g_hat")
_AFFINE = Attribute("bool", True)
_EPS = Attribute("float", 1e-5)


_GROUPED = ("split", "centred", "scaled", "g", "parts", "pull")


def _value_locals(*names: str) -> dict[str, Local]:
    return {name: Local("value", same) for name in names}


def _locals(statistics: object) -> dict[str, Local]:
    small = {name: Local("exact", statistics) for name in _STATISTICS}  # type: ignore[arg-type]
    return {**small, **_value_locals("centred", "hat", "g")}


OPERATIONS = (
    Operation(
        name="batchnorm",
        summary="normalize each channel over the batch (training statistics)",
        attributes={"eps": _EPS, "affine": _AFFINE},
        parameters=lambda call: _affine((call.x[1],)) if call.affine else {},
        shape=_batch_shape,
        constants=_batch_constants,
        forward=_FORWARD,
        plain="{y} = F.batch_norm({x}, None, None{weight_and_bias}, training=True, eps={eps})",
        portable_forward=_PORTABLE_FORWARD,
        backward=_CHANNEL_BACKWARD,
        portable_backward=_PORTABLE_CHANNEL_BACKWARD,
        locals=_locals(_channel_statistics),
    ),
    Operation(
        name="layernorm",
        summary="normalize over the last dimensions",
        attributes={"dims": Attribute("int", 1), "eps": _EPS, "affine": _AFFINE},
        parameters=lambda call: _affine(call.x[len(call.x) - call.dims :]) if call.affine else {},
        shape=_last_shape,
        constants=_last_constants,
        forward=_FORWARD,
        plain="{y} = F.layer_norm({x}, {normal_shape}{weight_and_bias}, eps={eps})",
        portable_forward=_PORTABLE_FORWARD,
        backward=_BACKWARD,
        locals=_locals(_last_statistics),
    ),
    Operation(
        name="groupnorm",
        summary="normalize groups of channels of each example",
        attributes={"groups": Attribute("int"), "eps": _EPS, "affine": _AFFINE},
        parameters=lambda call: _affine((call.x[1],)) if call.affine else {},
        shape=_group_shape,
        constants=_group_constants,
        forward="""
        {split} = {x}.reshape({grouped})
        {var}, {mean} = torch.var_mean({split}, {dims}, correction=0, keepdim=True)
        {rstd} = ({var} + {eps}).rsqrt()
        {centred} = {split} - {mean}
        {scaled} = {centred} * {rstd}
        {hat} = {scaled}.reshape({shape})
        {y} = {hat}{times_weight}{plus_bias}
        """,
        plain="{y} = F.group_norm({x}, {groups}{weight_and_bias}, eps={eps})",
        portable_forward="""
        {split} = {x}.reshape({grouped})
        {mean} = {split}.mean({dims}, keepdim=True)
        {centred} = {split} - {mean}
        {rstd} = (({centred} * {centred}).mean({dims}, keepdim=True) + {eps}).rsqrt()
        {hat} = ({centred} * {rstd}).reshape({shape})
        {y} = {hat}{times_weight}{plus_bias}
        """,
        backward="""
        {dweight} = sum_of_products({dy}, {hat}, {others})
        {dbias} = {dy}.sum({others})
        {whole} = {dy}{times_weight}
        {g} = {whole}.reshape({grouped})
        {parts} = {hat}.reshape({grouped})
        {g_mean} = {g}.mean({dims}, keepdim=True)
        {g_hat} = sum_of_products({g}, {parts}, {dims}, True) / {count}
        {pull} = ({g} - {g_mean} - {parts} * {g_hat}) * {rstd}
        {dx} = {pull}.reshape({shape})
        """,
        locals={
            **_locals(lambda call: (*_grouped(call)[:2], 1)),
            **{name: Local("value", _grouped) for name in _GROUPED},
        },
    ),
    Operation(
        name="rmsnorm",
        summary="divide by the root of the mean square over the last dimension",
        attributes={"eps": Attribute("float", 1e-6)},
        parameters=lambda call: {"weight": Parameter((call.x[-1],), constant=1.0)},
        shape=_channels,
        constants=lambda call: {
            "others": repr(tuple(range(len(call.x) - 1))),
            "count": repr(call.x[-1]),
        },
        # As above, without the mean (Zhang and Sennrich, "Root Mean Square Layer Normalization").
        forward="""
        {rstd} = (sum_of_products({x}, {x}, (-1,), True) / {count} + {eps}).rsqrt()
        {hat} = {x} * {rstd}
        {y} = {hat} * {weight}
        """,
        plain="{y} = F.rms_norm({x}, ({count},), {weight}, {eps})",
        backward="""
        {dweight} = sum_of_products({dy}, {hat}, {others})
        {g} = {dy} * {weight}
        {g_hat} = sum_of_products({g}, {hat}, (-1,), True) / {count}
        {dx} = ({g} - {hat} * {g_hat}) * {rstd}
        """,
        locals={
            **{name: Local("exact", lambda call: (*call.x[:-1], 1)) for name in ("rstd", "g_hat")},
            **_value_locals("hat", "g"),
        },
    ),
)
