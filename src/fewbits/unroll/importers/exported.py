"""Models as `torch.export` sees them: any module whose operations text models have.

``torch.fx`` graphs are modules as well, and go the same way.
"""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fewbits.errors import FewbitsError
from fewbits.unroll.importers.aten import TABLE
from fewbits.unroll.importers.writer import Imported, Unsupported, Writer


def from_module(
    module: torch.nn.Module, example: tuple[Any, ...], *, loss: str | None = None
) -> Imported:
    """The text of a module (or of a `torch.fx.GraphModule`) for inputs like the example.

    Import it in training mode, ``module.train()``: batch norm by running statistics has no
    training step. ``loss`` adds ``cross_entropy`` or ``mse`` of the first output and a target.

    Raises:
        FewbitsError: An operation that text models do not have, with its place in the model.
    """
    try:
        program = torch.export.export(module, example)
    except FewbitsError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FewbitsError(f"torch.export cannot take the model: {first}") from error
    return from_exported(program, loss=loss, title=type(module).__name__)


def load_exported(path: Path) -> Any:
    """A program that `torch.export.save` wrote."""
    try:
        return torch.export.load(path)
    except OSError:
        raise
    except Exception as error:
        raise FewbitsError(f"{path}: not a program of torch.export") from error


def from_exported(program: Any, *, loss: str | None = None, title: str = "A model") -> Imported:
    """The text of an exported program."""
    return _Importer(program, title).run(loss)


class _Importer:
    """Walks a graph; the table's functions call back for names, parameters and settings."""

    def __init__(self, program: Any, title: str) -> None:
        self.program = program
        self.writer = Writer(f"{title}, from torch.export")
        signature = program.graph_signature
        self.tensors: dict[str, Any] = {**program.state_dict, **getattr(program, "constants", {})}
        self.parameters: dict[str, str] = {**signature.inputs_to_parameters}
        self.buffers: dict[str, str] = {
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.names: dict[Any, Any] = {}  # what nodes are called in the text

    def run(self, loss: str | None) -> Imported:
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                results = node.args[0][-len(self.program.graph_signature.user_outputs) :]
                outputs = [self.tensor(result) for result in results if result is not None]
        return self.writer.finish(outputs, loss)

    def _placeholder(self, node: Any) -> None:
        if node.name in self.parameters or node.name in self.buffers:
            return
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor):
            self.names[node] = node.args[0] if node.args else None
            return
        name = self.writer.input(node.name, [int(length) for length in value.shape])
        if not value.dtype.is_floating_point:
            self.writer.rebound(name, 2)  # until an embedding says better
        self.names[node] = name

    def _call(self, node: Any) -> None:
        if node.target is operator.getitem:
            self.names[node] = self.names[node.args[0]][node.args[1]]
            return
        name = str(node.target).removeprefix("aten.").rpartition(".")[0].rstrip("_")
        handle: Callable[[Any, Any], Any] | None = TABLE.get(name)
        touched = [a for a in node.args if getattr(a, "name", None) in self.buffers]
        if name == "add" and touched and touched[0] is node.args[0]:
            return  # a counter of batches
        if handle is None:
            raise FewbitsError(self._fault(node, f"no operation for {node.target}"))
        try:
            self.names[node] = handle(self, node)
        except Unsupported as error:
            raise FewbitsError(self._fault(node, str(error))) from None

    def _fault(self, node: Any, what: str) -> str:
        trace = (node.stack_trace or "").strip().splitlines()
        where = f" ({trace[-1].strip()})" if trace else ""
        return f"{node.name}: {what}{where}; importable are: {', '.join(sorted(TABLE))}"

    # What the table's functions use.

    def shape(self, node: Any) -> tuple[int, ...]:
        """Sizes of a node's result."""
        return tuple(int(length) for length in node.meta["val"].shape)

    def tensor(self, node: Any) -> str:
        """The name of a tensor; a parameter that is used by itself gets a line."""
        if node in self.names:
            return str(self.names[node])
        path = self.parameters.get(node.name)
        if path is None:
            held = self.buffers.get(node.name, node.name)
            raise Unsupported(f"constant tensors such as {held} are not supported")
        wanted = path.replace(".", "_")
        name = self.writer.will_be(wanted)
        self.writer.owned(path, name, "value", self.tensors[path].detach())
        shape = tuple(self.tensors[path].shape)
        self.names[node] = self.writer.line(wanted, "parameter", [], shape=shape)
        return str(self.names[node])

    def is_integer(self, node: Any) -> bool:
        """Does the node hold integers?"""
        return not node.meta["val"].dtype.is_floating_point

    def write(
        self,
        node: Any,
        operation: str,
        arguments: list[Any],
        parameters: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        """A line; named after the module that has its parameters, else after the node."""
        names = [a if isinstance(a, str) else self.tensor(a) for a in arguments]
        wanted, shared = node.name, {}
        held = {key: p for key, p in (parameters or {}).items() if p is not None}
        paths = {key: self.parameters.get(p.name) for key, p in held.items()}
        if held and all(paths.values()):
            wanted = str(paths[next(iter(held))]).rpartition(".")[0].replace(".", "_") or wanted
        name = self.writer.will_be(wanted)
        for key, path in paths.items():
            if path is None:
                raise Unsupported(f"{key} is no parameter of the model")
            shared.update(self.writer.owned(path, name, key, self.tensors[path].detach()))
        return self.writer.line(wanted, operation, names, **attributes, **shared)
