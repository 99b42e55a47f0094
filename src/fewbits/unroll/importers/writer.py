"""What all importers write with: lines of a text model, and the weights that go with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fewbits.errors import FewbitsError
from fewbits.unroll.graph import read_model
from fewbits.unroll.operations import OPERATIONS
from fewbits.unroll.operations.base import REQUIRED


class Unsupported(ValueError):
    """A setting of an operation that text models do not have."""


def refuse(fault: object, what: str) -> None:
    """`Unsupported` if there is a fault."""
    if fault:
        raise Unsupported(what)


@dataclass(frozen=True)
class Imported:
    """A text model, and weights by the names of its parameters (empty where none are known)."""

    text: str
    weights: dict[str, Any]


class Writer:
    """Collects the lines of a text model."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._inputs: list[str] = []
        self._lines: list[str] = []
        self._names: set[str] = {"loss"}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.weights: dict[str, Any] = {}
        self._owners: dict[Any, str] = {}

    def free(self, wanted: str) -> str:
        """A name like the wanted one that no line has yet."""
        name = re.sub(r"\W", "_", wanted) or "x"
        name = f"_{name}" if name[0].isdigit() else name
        if name in ("let", "input", "output", "block", "end"):
            name += "_"
        plain, count = name, 1
        while name in self._names:
            count += 1
            name = f"{plain}_{count}"
        self._names.add(name)
        return name

    def input(self, wanted: str, shape: Sequence[int], below: int | None = None) -> str:
        """An input line; its name."""
        name = self.free(wanted)
        bound = f" below={below}" if below else ""
        self._inputs.append(f"input {name} {' '.join(map(str, shape))}{bound}")
        self.shapes[name] = tuple(shape)
        return name

    def rebound(self, name: str, below: int) -> None:
        """Say of an input that it holds integers below this."""
        for index, line in enumerate(self._inputs):
            if line.split()[1] == name:
                self._inputs[index] = f"{line.partition(' below=')[0]} below={below}"

    def line(self, wanted: str, operation: str, arguments: Sequence[str], **attributes: Any) -> str:
        """An operation's line, without what it has by default; its name."""
        name = self.free(wanted)
        known = OPERATIONS[operation].attributes
        words = []
        for key, value in attributes.items():
            value = tuple(value) if isinstance(value, list) else value
            default = known[key].default if key in known else REQUIRED
            if value is not None and value != default:
                short = key in known and known[key].count is not None
                words.append(f"{key}={_spelt(value, short)}")
        self._lines.append(" ".join([f"{name} = {operation}", *arguments, *words]))
        return name

    def owned(self, identity: Any, name: str, key: str, value: Any) -> dict[str, str]:
        """Give a line's parameter its value; a word for the line if another one has it already.

        Call it before `line`, with the name that `line` will give.
        """
        if identity in self._owners:
            return {key: self._owners[identity]}
        self._owners[identity] = f"{name}.{key}"
        self.weights[f"{name}.{key}"] = value
        return {}

    def will_be(self, wanted: str) -> str:
        """The name that `line` will give for a wanted one."""
        name = self.free(wanted)
        self._names.discard(name)
        return name

    def comment(self, text: str) -> None:
        """A line for people."""
        self._lines.append(f"# {text}")

    def so_far(self) -> str:
        """The text of the lines that are written."""
        return self._joined([])

    def finish(self, outputs: Sequence[str], loss: str | None = None) -> Imported:
        """The text, checked by reading it; with a loss and its target where one is asked for."""
        ending = []
        if loss is not None:
            graph = read_model(self._joined([f"output {outputs[0]}"]))
            ending = self._loss(loss, outputs[0], graph.tensors[outputs[0]].shape)
        elif outputs:
            ending = [f"output {' '.join(dict.fromkeys(outputs))}"]
        text = self._joined(ending)
        graph = read_model(text, file="the import")
        for name, parameter in graph.parameters.items():
            if name in self.weights and tuple(self.weights[name].shape) != parameter.shape:
                raise FewbitsError(
                    f"{name}: shape {tuple(self.weights[name].shape)} is not expected"
                )
        return Imported(text, self.weights)

    def _loss(self, loss: str, output: str, shape: tuple[int, ...]) -> list[str]:
        if loss not in ("cross_entropy", "mse"):
            raise FewbitsError(f"no loss {loss!r}; there are: cross_entropy, mse")
        if loss == "mse":
            target = self.input("target", shape)
            return [f"loss = mse {output} {target}"]
        # Classes stand second where there is a map of them, last elsewhere, as in PyTorch and text.
        dim = 1 if len(shape) == 4 else -1
        classes = shape[dim]
        rest = [length for axis, length in enumerate(shape) if axis != dim % len(shape)]
        target = self.input("target", rest, classes)
        word = " dim=1" if dim == 1 else ""
        return [f"loss = cross_entropy {output} {target}{word}"]

    def _joined(self, ending: list[str]) -> str:
        parts = [f"# {self._title}", "", *self._inputs, "", *self._lines, *ending]
        return "\n".join(parts) + "\n"


def _spelt(value: Any, short: bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return str(value[0]) if short and len(set(value)) == 1 else ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)
