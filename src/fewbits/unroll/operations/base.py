"""What an operation is: formulas for forward and backward, and the shapes around them.

Formulas are lines of Python with fields in braces. ``{x}`` is an argument, ``{y}`` the result,
``{weight}`` a parameter, ``{stride}`` an attribute, ``{dy}`` the gradient that comes in, ``{dx}``
and ``{dweight}`` those that go out; any other name is a local of the line, or a constant.

Nothing says what a gradient needs: it needs the fields that its formula mentions. A backward line
that reads ``{mask}`` makes the mask rest, one that reads ``{x}`` the input. Lines that nothing
reads are left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Shape = tuple[int, ...]
Profile = Literal["torch", "portable"]

#: How a tensor may rest. ``value``: through any codec. ``exact``: as it is (statistics). ``bit``:
#: one bit an element. ``index``: small whole numbers, one byte each.
Kind = Literal["value", "exact", "bit", "index", "int"]

REQUIRED = object()


class ShapeError(ValueError):
    """Shapes or attributes that do not fit an operation; ``attribute`` names the one at fault."""

    def __init__(self, message: str, attribute: str | None = None) -> None:
        super().__init__(message)
        self.attribute = attribute


@dataclass(frozen=True)
class Attribute:
    """A setting of an operation: what kind of value it takes, and its default."""

    kind: Literal["int", "ints", "float", "bool", "word"]
    default: Any = REQUIRED
    words: tuple[str, ...] = ()
    count: int | None = None  # of ``ints``: one value stands for so many

    def describe(self, name: str) -> str:
        """As ``--list-ops`` shows it: ``kernel=ints``, ``stride=1``."""
        if self.default is REQUIRED:
            return f"{name}={'|'.join(self.words) or self.kind}"
        shown = self.default
        if isinstance(shown, bool):
            shown = "yes" if shown else "no"
        elif isinstance(shown, tuple):
            shown = shown[0] if len(set(shown)) == 1 else ",".join(map(str, shown))
        return f"{name}={'' if shown is None else shown}"


@dataclass(frozen=True)
class Parameter:
    """A learned tensor: its shape, and the standard deviation it starts with (or a constant)."""

    shape: Shape
    deviation: float = 0.0
    constant: float = 0.0


@dataclass(frozen=True)
class Local:
    """A tensor that an operation makes besides its result."""

    kind: Kind
    shape: Callable[["Call"], Shape]


@dataclass(frozen=True)
class Call:
    """An operation applied: shapes of its arguments and values of its attributes."""

    shapes: tuple[Shape, ...]
    attributes: Mapping[str, Any]
    below: tuple[int | None, ...] = ()  # of integer arguments: the bound on their values
    y: Shape = ()

    @property
    def x(self) -> Shape:
        """Shape of the first argument."""
        return self.shapes[0]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.attributes[name]
        except KeyError:
            raise AttributeError(name) from None


def _no_parameters(call: Call) -> dict[str, Parameter]:
    return {}


def _no_constants(call: Call) -> dict[str, str]:
    return {}


def _none_refused(call: Call) -> None:
    return None


def same(call: Call) -> Shape:
    """The shape of the first argument."""
    return call.x


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of a text model; see the module's text for the formulas."""

    name: str
    summary: str
    forward: str
    backward: str = ""
    arguments: tuple[str, ...] = ("x",)
    #: Arguments (and only those) that hold integers, which have no gradient.
    integers: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    parameters: Callable[[Call], dict[str, Parameter]] = _no_parameters
    shape: Callable[[Call], Shape] = same
    constants: Callable[[Call], dict[str, str]] = _no_constants
    #: One line of the backward formula for each of any number of arguments: constants of the i-th.
    each: Callable[[Call, int], dict[str, str]] | None = None
    locals: Mapping[str, Local] = field(default_factory=dict)
    #: PyTorch's own way to the result, where that is not what ``forward`` says: it stands in the
    #: function ``forward`` of a generated file, and gradients are verified against it.
    plain: str | None = None
    #: Formulas that stand in for the others in the portable profile.
    portable_forward: str | None = None
    portable_backward: str | None = None
    #: Floating-point operations of the line that makes ``y`` (default: one an element).
    flops: Callable[[Call], float] | None = None
    #: Is the result the same values in another shape?
    view: bool = False
    #: A local mask that says where the result is not zero.
    nonzero: str | None = None

    @property
    def variadic(self) -> bool:
        """Does the operation take any number of arguments?"""
        return self.each is not None

    def formulas(self, profile: Profile) -> tuple[str, str]:
        """Forward and backward in this profile."""
        if profile == "torch":
            return self.forward, self.backward
        forward, backward = self.portable_forward, self.portable_backward
        return (
            self.forward if forward is None else forward,
            self.backward if backward is None else backward,
        )


def options(values: Mapping[str, tuple[Any, Any]]) -> str:
    """Keyword arguments that differ from their defaults: ``, stride=2, padding=1``."""
    return "".join(
        f", {name}={plain(value)}" for name, (value, default) in values.items() if value != default
    )


def plain(value: Any) -> str:
    """A value as a person writes it: ``(1, 1)`` is 1."""
    if isinstance(value, tuple) and len(set(value)) == 1:
        return repr(value[0])
    return repr(value)


def normalized(axis: int, rank: int, name: str = "dim") -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise ShapeError(f"{name}={axis} for a tensor of {rank} dimensions", name)
    return axis % rank


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that these broadcast to."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            raise ShapeError(f"shapes {' and '.join(map(show, shapes))} do not go together")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def summed(wide: Shape, narrow: Shape) -> str:
    """What turns a gradient of a broadcast result into that of its argument, as a suffix."""
    if wide == narrow:
        return ""
    lead = len(wide) - len(narrow)
    axes = [
        axis
        for axis, size in enumerate(wide)
        if axis < lead or (narrow[axis - lead] == 1 and size != 1)
    ]
    suffix = f".sum({tuple(axes)})" if axes else ""
    left = tuple(size for axis, size in enumerate(wide) if axis not in axes)
    return suffix + ("" if left == narrow else f".reshape({narrow})")


def show(shape: Shape) -> str:
    """``32x3x224x224``; a single number is ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


def size(shape: Shape) -> int:
    """Elements."""
    return math.prod(shape)
