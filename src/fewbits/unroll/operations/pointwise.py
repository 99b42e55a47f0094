"""Operations on each element by itself, and sums and products of tensors."""

from fewbits.unroll.operations.base import (
    Attribute,
    Call,
    Local,
    Operation,
    Parameter,
    Shape,
    broadcast,
    same,
    summed,
)

_MASK = {"mask": Local("bit", same)}


def _pair(call: Call) -> Shape:
    return broadcast(call.shapes)


def _sums(call: Call) -> dict[str, str]:
    return {
        "sum_x": summed(call.y, call.shapes[0]),
        "sum_z": summed(call.y, call.shapes[1]),
    }


def _pairwise(name: str, summary: str, forward: str, backward: str) -> Operation:
    return Operation(
        name=name,
        summary=summary,
        arguments=("x", "z"),
        shape=_pair,
        constants=_sums,
        forward=forward,
        backward=backward,
    )


_BY_SLOPE = {"slope": Local("value", same)}


def _sloped(name: str) -> str:
    """The gradient of what has its derivative as a function that generated files carry."""
    return f"""
    {{slope}} = {name}_slope({{x}})
    {{dx}} = {{dy}} * {{slope}}
    """


def _activation(name: str, summary: str, call: str) -> Operation:
    return Operation(
        name=name,
        summary=summary,
        forward=f"{{y}} = {call}",
        backward=_sloped(name),
        locals=_BY_SLOPE,
    )


OPERATIONS = (
    Operation(
        name="relu",
        summary="max(x, 0)",
        forward="""
        {y} = F.relu({x})
        {mask} = {y} > 0
        """,
        backward="{dx} = {dy} * {mask}",
        locals=_MASK,
        nonzero="mask",
    ),
    Operation(
        name="leaky_relu",
        summary="x, or slope * x where x is negative",
        attributes={"slope": Attribute("float", 0.01)},
        forward="""
        {mask} = {x} > 0
        {y} = torch.where({mask}, {x}, {slope} * {x})
        """,
        backward="{dx} = torch.where({mask}, {dy}, {slope} * {dy})",
        locals=_MASK,
    ),
    _activation("gelu", "x times the normal distribution's share below x", "F.gelu({x})"),
    _activation("gelu_tanh", "gelu by its tanh approximation", 'F.gelu({x}, approximate="tanh")'),
    _activation("silu", "x * sigmoid(x)", "F.silu({x})"),
    Operation(
        name="sigmoid",
        summary="1 / (1 + exp(-x))",
        forward="{y} = torch.sigmoid({x})",
        backward="{dx} = {dy} * {y} * (1 - {y})",
    ),
    Operation(
        name="tanh",
        summary="hyperbolic tangent",
        forward="{y} = torch.tanh({x})",
        backward="{dx} = {dy} * (1 - {y} * {y})",
    ),
    Operation(
        name="exp",
        summary="e to the x",
        forward="{y} = torch.exp({x})",
        backward="{dx} = {dy} * {y}",
    ),
    Operation(
        name="square",
        summary="x * x",
        forward="{y} = {x} * {x}",
        backward="{dx} = 2 * {dy} * {x}",
    ),
    Operation(
        name="affine",
        summary="scale * x + shift, with numbers",
        attributes={"scale": Attribute("float", 1.0), "shift": Attribute("float", 0.0)},
        constants=lambda call: {"plus": f" + {call.shift}" if call.shift else ""},
        forward="{y} = {scale} * {x}{plus}",
        backward="{dx} = {scale} * {dy}",
    ),
    _pairwise("add", "x + z", "{y} = {x} + {z}", "{dx} = {dy}{sum_x}\n{dz} = {dy}{sum_z}"),
    _pairwise("sub", "x - z", "{y} = {x} - {z}", "{dx} = {dy}{sum_x}\n{dz} = -{dy}{sum_z}"),
    _pairwise(
        "mul",
        "x * z",
        "{y} = {x} * {z}",
        "{dx} = ({dy} * {z}){sum_x}\n{dz} = ({dy} * {x}){sum_z}",
    ),
    Operation(
        name="dropout",
        summary="zero a share of the elements, by chance from the step's seed",
        attributes={"rate": Attribute("float", 0.5)},
        constants=lambda call: {
            "shape": repr(call.x),
            "keep": repr(1 - call.rate),
            "scale": repr(1 / (1 - call.rate)),
        },
        forward="""
        {mask} = keep_mask({shape}, {keep}, {seed}, {input}.device)
        {y} = {x} * {mask} * {scale}
        """,
        backward="{dx} = {dy} * {mask} * {scale}",
        locals=_MASK,
        nonzero="mask",
    ),
    Operation(
        name="parameter",
        summary="a learned tensor by itself, such as position embeddings",
        arguments=(),
        attributes={"shape": Attribute("ints"), "deviation": Attribute("float", 0.02)},
        parameters=lambda call: {"value": Parameter(call.attributes["shape"], call.deviation)},
        shape=lambda call: call.attributes["shape"],
        forward="{y} = {value}",
        backward="{dvalue} = {dy}",
        view=True,
    ),
)
