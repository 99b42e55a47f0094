"""Module trees as ``print(model)`` shows them, where they tell the order: nested Sequential."""

import ast
import re
from collections.abc import Callable
from typing import Any

from fewbits.unroll.faults import ModelError, Place
from fewbits.unroll.importers.writer import Imported, Writer

_ENTRY = re.compile(r"(?P<indent>\s*)(?:\((?P<name>[^)\s]+)\): )?(?P<kind>\w+)\((?P<rest>.*)\Z")


def from_printed(
    dump: str, shape: tuple[int, ...], *, loss: str | None = None, file: str = "the dump"
) -> Imported:
    """The text of a printed tree, for an input of this shape.

    Raises:
        ModelError: A module that is not known, or one that holds others in an order that its print
            does not tell.
    """
    writer = Writer(f"{file.rpartition('.')[0] or 'A model'}, from a printed tree")
    x = writer.input("x", shape)
    path: list[str] = []
    opened = 0
    for count, raw in enumerate(dump.splitlines(), 1):
        if not raw.strip():
            continue
        if raw.strip() == ")":
            opened -= 1
            path = path[:-1]
            continue
        match = _ENTRY.match(raw)
        column = len(raw) - len(raw.lstrip()) + 1
        place = Place(file, count, column, raw)
        if not match:
            raise ModelError("no module such as '(0): Linear(in_features=3, ...)'", place)
        name = match["name"] or ""
        if not raw.rstrip().endswith(")"):
            if match["kind"] != "Sequential":
                raise ModelError(
                    f"{match['kind']} does not tell in which order it calls its parts; only "
                    "Sequential does. Import the module itself with torch.export",
                    place,
                )
            opened += 1
            path.append(name)
            continue
        wanted = "_".join(part for part in (*path, name) if part)
        x = _module(writer, match["kind"], match["rest"].rstrip()[:-1], wanted, x, place)
    if opened:
        raise ModelError(f"{file}: the tree is cut off")
    return writer.finish([x], loss)


def _module(writer: Writer, kind: str, rest: str, wanted: str, x: str, place: Place) -> str:
    handle = TABLE.get(kind)
    if handle is None:
        known = ", ".join(sorted(TABLE))
        raise ModelError(f"no operation for {kind}; importable are: {known}", place)
    try:
        call = ast.parse(f"f({rest})", mode="eval").body
        assert isinstance(call, ast.Call)
        arguments = [ast.literal_eval(item) for item in call.args]
        settings = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    except (SyntaxError, ValueError):
        raise ModelError(f"cannot read the settings of {kind}", place) from None
    try:
        made = handle(arguments, settings)
    except ValueError as error:
        raise ModelError(str(error), place) from None
    if made is None:
        return x
    operation, attributes = made
    name = f"m{wanted}" if wanted[:1].isdigit() else wanted or kind.lower()
    return writer.line(name, operation, [x], **attributes)


Made = tuple[str, dict[str, Any]] | None


def _conv(operation: str) -> Callable[[list[Any], dict[str, Any]], Made]:
    def read(arguments: list[Any], settings: dict[str, Any]) -> Made:
        attributes = {
            "out": arguments[1],
            "kernel": settings["kernel_size"],
            "stride": settings.get("stride"),
            "padding": settings.get("padding"),
            "dilation": settings.get("dilation"),
            "groups": settings.get("groups"),
            "bias": settings.get("bias", True),
        }
        if "output_padding" in settings:
            attributes["output_padding"] = settings["output_padding"]
        return operation, attributes

    return read


def _pool(operation: str) -> Callable[[list[Any], dict[str, Any]], Made]:
    def read(arguments: list[Any], settings: dict[str, Any]) -> Made:
        kernel = settings["kernel_size"]
        stride = settings.get("stride", kernel)
        ceil = settings.get("ceil_mode", False)
        if ceil and operation != "maxpool2d":
            raise ValueError("ceil_mode of means is not supported")
        return operation, {
            **({"ceil": True} if ceil else {}),
            "kernel": _pair(kernel),
            "stride": None if _pair(stride) == _pair(kernel) else _pair(stride),
            "padding": _pair(settings.get("padding", 0)),
        }

    return read


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple) else (value, value)


def _linear(arguments: list[Any], settings: dict[str, Any]) -> Made:
    return "linear", {"out": settings["out_features"], "bias": settings.get("bias", True)}


def _norm(operation: str) -> Callable[[list[Any], dict[str, Any]], Made]:
    def read(arguments: list[Any], settings: dict[str, Any]) -> Made:
        affine = settings.get("affine", settings.get("elementwise_affine", True))
        attributes = {"eps": settings.get("eps"), "affine": affine}
        if operation == "groupnorm":
            attributes["groups"] = arguments[0]
        if operation == "layernorm":
            attributes["dims"] = len(arguments[0])
        return operation, attributes

    return read


def _plain(operation: str) -> Callable[[list[Any], dict[str, Any]], Made]:
    return lambda arguments, settings: (operation, {})


TABLE: dict[str, Callable[[list[Any], dict[str, Any]], Made]] = {
    **{f"Conv{rank}d": _conv(f"conv{rank}d") for rank in (1, 2, 3)},
    **{f"ConvTranspose{rank}d": _conv(f"conv_transpose{rank}d") for rank in (1, 2, 3)},
    **{f"BatchNorm{rank}d": _norm("batchnorm") for rank in (1, 2, 3)},
    "LayerNorm": _norm("layernorm"),
    "GroupNorm": _norm("groupnorm"),
    "Linear": _linear,
    "MaxPool2d": _pool("maxpool2d"),
    "AvgPool2d": _pool("avgpool2d"),
    "AdaptiveAvgPool2d": lambda arguments, settings: (
        "adaptive_avgpool2d",
        {"size": _pair(settings["output_size"])},
    ),
    "Flatten": lambda arguments, settings: ("flatten", {"start": settings.get("start_dim", 1)}),
    "Dropout": lambda arguments, settings: ("dropout", {"rate": settings["p"]}),
    "Softmax": lambda arguments, settings: ("softmax", {"dim": settings["dim"]}),
    "LeakyReLU": lambda arguments, settings: (
        "leaky_relu",
        {"slope": settings["negative_slope"]},
    ),
    "GELU": lambda arguments, settings: (
        "gelu_tanh" if settings.get("approximate") == "tanh" else "gelu",
        {},
    ),
    "Identity": lambda arguments, settings: None,
    **{
        kind: _plain(operation)
        for kind, operation in (
            ("ReLU", "relu"),
            ("SiLU", "silu"),
            ("Sigmoid", "sigmoid"),
            ("Tanh", "tanh"),
        )
    },
}
