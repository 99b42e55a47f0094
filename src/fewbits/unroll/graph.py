"""A model as checked nodes: every operation known, every attribute read, every shape inferred."""

from dataclasses import dataclass, replace
from typing import Any

from fewbits.errors import did_you_mean
from fewbits.unroll.faults import ModelError, Place
from fewbits.unroll.operations import OPERATIONS
from fewbits.unroll.operations.base import (
    REQUIRED,
    Attribute,
    Call,
    Operation,
    Parameter,
    Shape,
    ShapeError,
    show,
)
from fewbits.unroll.text import Numbers, Statement, Text, Word, key_place, number, parse


@dataclass(frozen=True)
class Tensor:
    """An input, or the result of a node."""

    name: str
    shape: Shape
    below: int | None = None  # of integers: the bound on their values

    @property
    def integer(self) -> bool:
        """Does it hold integers?"""
        return self.below is not None


@dataclass(frozen=True)
class Node:
    """One operation applied to named tensors; ``parameters`` maps its own names to full ones."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    call: Call
    parameters: dict[str, str]
    place: Place | None = None


@dataclass(frozen=True)
class Graph:
    """A model: inputs, nodes in order, parameters, and the name of its loss if it has one."""

    title: str
    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    parameters: dict[str, Parameter]
    outputs: tuple[str, ...]
    loss: str | None


def read_model(source: str, *, file: str = "model", settings: Numbers | None = None) -> Graph:
    """A model from its text.

    Raises:
        ModelError: a fault in the text or in the model, with its place.
    """
    return build(parse(source, file=file, settings=settings), file)


def build(text: Text, file: str = "model") -> Graph:
    """Check a text model line by line."""
    tensors = {i.name: Tensor(i.name, i.shape, i.below) for i in text.inputs}
    parameters: dict[str, Parameter] = {}
    nodes: list[Node] = []
    for statement in text.statements:
        node = _node(statement, tensors, parameters)
        below = None
        if node.operation.name in _KEEPS_INTEGERS:
            below = tensors[node.inputs[0]].below
        tensors[node.name] = Tensor(node.name, node.call.y, below)
        nodes.append(node)
    if not nodes:
        raise ModelError(f"{file}: no operations")
    loss = "loss" if any(node.name == "loss" for node in nodes) else None
    if loss and tensors[loss].shape != ():
        place = next(node.place for node in nodes if node.name == "loss")
        raise ModelError(
            f"the loss must be a single number, not {show(tensors[loss].shape)}", place
        )
    outputs = tuple(text.outputs) or (
        (next(node for node in nodes if node.name == "loss").inputs[:1])
        if loss
        else (nodes[-1].name,)
    )
    inputs = tuple(tensors[i.name] for i in text.inputs)
    return Graph(text.title, inputs, tuple(nodes), tensors, parameters, outputs, loss)


# A view of integers is of integers.
_KEEPS_INTEGERS = ("reshape", "flatten", "transpose", "slice")


def _node(
    statement: Statement, tensors: dict[str, Tensor], parameters: dict[str, Parameter]
) -> Node:
    word = statement.operation
    operation = OPERATIONS.get(word.text)
    if operation is None:
        hint = did_you_mean(word.text, OPERATIONS)
        known = ", ".join(sorted(OPERATIONS))
        raise ModelError(f"no operation {word.text!r}{hint}; there are: {known}", word.place)
    inputs = tuple(name for name, _ in statement.arguments)
    _check_arguments(operation, statement, tensors)
    attributes, shared = _attributes(operation, statement)
    call = Call(
        tuple(tensors[name].shape for name in inputs),
        attributes,
        tuple(tensors[name].below for name in inputs),
    )
    try:
        call = replace(call, y=operation.shape(call))
        owned = operation.parameters(call)
    except ShapeError as error:
        wrong = statement.attributes.get(error.attribute or "")
        place = wrong.place if wrong else word.place
        raise ModelError(f"{operation.name}: {error}", place) from None
    if any(length < 1 for length in call.y):
        raise ModelError(f"{operation.name} leaves nothing: {show(call.y)}", word.place)
    names = _own(statement, owned, shared, parameters)
    return Node(statement.name, operation, inputs, call, names, statement.place)


def _check_arguments(
    operation: Operation, statement: Statement, tensors: dict[str, Tensor]
) -> None:
    given, wanted = statement.arguments, operation.arguments
    if len(given) != len(wanted) if not operation.variadic else not given:
        names = " ".join(wanted) + (" ..." if operation.variadic else "")
        raise ModelError(
            f"{operation.name} takes {names or 'no arguments'}, and {len(given)} were given",
            statement.operation.place,
        )
    each = wanted * len(given) if operation.variadic else wanted
    for (name, place), argument in zip(given, each, strict=True):
        tensor = tensors[name]
        if argument in operation.integers and not tensor.integer:
            raise ModelError(f"{operation.name} wants integers, and {name} has floats", place)
        if (
            argument not in operation.integers
            and tensor.integer
            and operation.name not in _KEEPS_INTEGERS
        ):
            raise ModelError(f"{operation.name} wants floats, and {name} has integers", place)


def _attributes(
    operation: Operation, statement: Statement
) -> tuple[dict[str, Any], dict[str, Word]]:
    """Values of the attributes, and the words that name a parameter of another line."""
    values: dict[str, Any] = {}
    shared: dict[str, Word] = {}
    for key, word in statement.attributes.items():
        if key in operation.attributes:
            values[key] = _value(operation.attributes[key], word, statement.numbers)
        elif "." in word.text:
            shared[key] = word
        else:
            hint = did_you_mean(key, operation.attributes)
            raise ModelError(
                f"{operation.name} has no attribute {key!r}{hint}", key_place(key, word)
            )
    for key, attribute in operation.attributes.items():
        if key not in values:
            if attribute.default is REQUIRED:
                raise ModelError(
                    f"{operation.name} needs {attribute.describe(key)}", statement.operation.place
                )
            values[key] = attribute.default
    return values, shared


def _value(attribute: Attribute, word: Word, numbers: Numbers) -> Any:
    if attribute.kind == "int":
        return number(word, numbers)
    if attribute.kind == "ints":
        parts = tuple(number(Word(part, word.place), numbers) for part in word.text.split(","))
        if attribute.count and len(parts) == 1:
            return parts * attribute.count
        if attribute.count and len(parts) != attribute.count:
            raise ModelError(f"expected 1 or {attribute.count} numbers", word.place)
        return parts
    if attribute.kind == "bool":
        if word.text not in ("yes", "no"):
            raise ModelError(f"expected yes or no, not {word.text!r}", word.place)
        return word.text == "yes"
    if attribute.kind == "word":
        if word.text not in attribute.words:
            raise ModelError(
                f"expected {' or '.join(attribute.words)}, not {word.text!r}", word.place
            )
        return word.text
    try:
        return float(word.text)
    except ValueError:
        raise ModelError(f"{word.text!r} is no number", word.place) from None


def _own(
    statement: Statement,
    owned: dict[str, Parameter],
    shared: dict[str, Word],
    parameters: dict[str, Parameter],
) -> dict[str, str]:
    names = {}
    for key, word in shared.items():
        if key not in owned:
            hint = did_you_mean(key, owned)
            raise ModelError(
                f"{statement.operation.text} has no attribute {key!r}{hint}", key_place(key, word)
            )
        if word.text not in parameters:
            hint = did_you_mean(word.text, parameters)
            raise ModelError(f"no parameter {word.text!r} above{hint}", word.place)
        if parameters[word.text].shape != owned[key].shape:
            raise ModelError(
                f"{word.text} is {show(parameters[word.text].shape)}, and {key} must be "
                f"{show(owned[key].shape)}",
                word.place,
            )
        names[key] = word.text
    for key, parameter in owned.items():
        if key not in shared:
            names[key] = f"{statement.name}.{key}"
            parameters[names[key]] = parameter
    return names
