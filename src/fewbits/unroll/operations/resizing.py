"""Upsampling and padding."""

from fewbits.unroll.operations.base import Attribute, Call, Operation, Shape, ShapeError, show


def _larger(call: Call) -> Shape:
    if len(call.x) != 4:
        raise ShapeError(f"x must have 4 dimensions, and is {show(call.x)}")
    if min(call.scale) < 1:
        raise ShapeError("scale must be 1 or more", "scale")
    batch, channels, height, width = call.x
    return (batch, channels, height * call.scale[0], width * call.scale[1])


def _repeat_constants(call: Call) -> dict[str, str]:
    batch, channels, height, width = call.x
    rows, columns = call.scale
    split = (batch, channels, height, rows, width, columns)
    return {"split": repr(split), "shape": repr(call.y)}


def _bilinear_constants(call: Call) -> dict[str, str]:
    corners = ", corners=True" if call.corners else ""
    return {
        "h": f"{call.y[2]}, {call.x[2]}",
        "w": f"{call.y[3]}, {call.x[3]}",
        "like_x": f"{{x}}{corners}",
        "like_dy": f"{{dy}}{corners}",
    }


def _padded(call: Call) -> Shape:
    widths = call.widths
    if len(widths) % 2 or len(widths) > 2 * len(call.x):
        raise ShapeError(
            "widths come in pairs, before and after, the last dimension first", "widths"
        )
    shape = list(call.x)
    for pair in range(len(widths) // 2):
        shape[-1 - pair] += widths[2 * pair] + widths[2 * pair + 1]
    return tuple(shape)


_SCALE = Attribute("ints", count=2)

OPERATIONS = (
    Operation(
        name="upsample_nearest",
        summary="repeat rows and columns",
        attributes={"scale": _SCALE},
        shape=_larger,
        constants=_repeat_constants,
        forward="{y} = {x}[:, :, :, None, :, None].expand({split}).reshape({shape})",
        backward="{dx} = {dy}.reshape({split}).sum((3, 5))",
    ),
    Operation(
        name="upsample_bilinear",
        summary="interpolate between rows and between columns",
        attributes={"scale": _SCALE, "corners": Attribute("bool", False)},
        shape=_larger,
        constants=_bilinear_constants,
        # Interpolation along one dimension is a product with a constant matrix.
        forward="{y} = interpolation({h}, {like_x}) @ {x} @ interpolation({w}, {like_x}).T",
        backward="{dx} = interpolation({h}, {like_dy}).T @ {dy} @ interpolation({w}, {like_dy})",
    ),
    Operation(
        name="pad",
        summary="add constants around: widths before and after, last dimension first",
        attributes={"widths": Attribute("ints"), "value": Attribute("float", 0.0)},
        shape=_padded,
        constants=lambda call: {
            "widths": repr(tuple(call.widths)),
            "back": repr(tuple(-width for width in call.widths)),
            "with_value": f", value={call.value}" if call.value else "",
        },
        forward="{y} = F.pad({x}, {widths}{with_value})",
        backward="{dx} = F.pad({dy}, {back})",
    ),
)
