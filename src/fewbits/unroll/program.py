"""Forward and backward as lines: formulas with names put in, and what each line reads and writes.

The backward lines run from the loss to the first node, and are written by the operations' own
formulas. What nobody reads is left out, so a backward line says by what it reads what must rest.
"""

import keyword
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fewbits.unroll.carried import in_profile, is_taken
from fewbits.unroll.graph import Graph, Node
from fewbits.unroll.operations.base import Kind, Profile, Shape, size

_FIELDS = string.Formatter()
_TAKEN = {"torch", "F", "p", "g", "parameters", "gradients", "state", "seed", "update"}
# Bytes of an element; masks rest in bits, but are booleans of a byte while they are used.
_WIDTH: dict[Kind, int] = {"value": 4, "exact": 4, "bit": 1, "index": 1, "int": 8}


@dataclass(frozen=True)
class Variable:
    """A tensor of the program."""

    name: str
    shape: Shape
    kind: Kind = "value"

    @property
    def nbytes(self) -> int:
        """Bytes while it is in use."""
        return size(self.shape) * _WIDTH[self.kind]


@dataclass(frozen=True)
class Line:
    """``writes = code``; a write of ``g["..."]`` goes to the gradients and is no variable."""

    writes: tuple[str, ...]
    code: str
    reads: tuple[str, ...]
    node: str
    flops: float = 0.0
    view: bool = False

    @property
    def text(self) -> str:
        """The line of Python."""
        return f"{', '.join(self.writes)} = {self.code}"


@dataclass
class Program:
    """A model's forward and backward lines, and every variable in them."""

    graph: Graph
    profile: Profile
    forward: list[Line] = field(default_factory=list)
    plain: list[Line] = field(default_factory=list)  # forward by PyTorch's own operations
    backward: list[Line] = field(default_factory=list)
    variables: dict[str, Variable] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of the graph's tensors
    nonzero: dict[str, str] = field(default_factory=dict)  # a variable and the mask of its zeros
    seeded: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Variables that the step is given."""
        return tuple(self.names[tensor.name] for tensor in self.graph.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Variables that ``forward`` returns, besides the loss."""
        return tuple(self.names[name] for name in self.graph.outputs)

    def needs(self) -> Iterator[str]:
        """What backward lines read of what forward lines write, first reading first."""
        made = {name for line in self.forward for name in line.writes}
        seen: set[str] = set()
        for line in self.backward:
            for name in line.reads:
                if name in made and name not in seen:
                    seen.add(name)
                    yield name


def write_program(graph: Graph, profile: Profile = "torch") -> Program:
    """Write out a graph; without a loss there is only the forward part."""
    return _Writer(graph, profile).write()


def _rows(formula: str) -> Iterator[tuple[str, str]]:
    """Targets and right side of each line of a formula."""
    for row in formula.splitlines():
        if row.strip():
            targets, _, code = row.strip().partition(" = ")
            yield targets, code


def _used(template: str) -> list[str]:
    return [name for _, name, _, _ in _FIELDS.parse(template) if name]


class _Writer:
    def __init__(self, graph: Graph, profile: Profile) -> None:
        self.graph, self.profile = graph, profile
        self.program = Program(graph, profile)
        self.learned = self._learned()
        self.gradients: dict[str, str] = {}
        self.locals: dict[tuple[str, str], str] = {}
        self.stated: set[str] = set()  # gradients that have a first term

    def write(self) -> Program:
        program = self.program
        for tensor in self.graph.inputs:
            self._name(tensor.name, tensor.shape, "int" if tensor.integer else "value")
        for ordinal, node in enumerate(self.graph.nodes):
            integer = self.graph.tensors[node.name].integer
            self._name(node.name, node.call.y, "int" if integer else "value")
            self._forward(node, ordinal)
        if self.graph.loss:
            loss = program.names[self.graph.loss]
            first = self._incoming(self.graph.loss)
            self.stated.add(first)
            program.backward.append(
                Line((first,), f"torch.ones_like({loss})", (loss,), self.graph.loss)
            )
            for ordinal, node in reversed(list(enumerate(self.graph.nodes))):
                self._backward(node, ordinal)
            program.backward = only(program.backward, ())
        wanted = {*program.needs(), *program.outputs}
        if self.graph.loss:
            wanted.add(program.names[self.graph.loss])
        program.forward = only(program.forward, wanted)
        program.seeded = any("seed" in line.reads for line in program.forward + program.backward)
        return program

    def _learned(self) -> set[str]:
        """Tensors that a gradient goes through on its way to a parameter."""
        found: set[str] = set()
        for node in self.graph.nodes:
            if node.parameters or any(name in found for name in node.inputs):
                found.add(node.name)
        return found

    def _name(self, name: str, shape: Shape, kind: Kind) -> None:
        self.program.names[name] = self._variable(name.replace(".", "_"), shape, kind)

    def _variable(self, wanted: str, shape: Shape, kind: Kind = "value") -> str:
        """A new variable, called as wanted where that is free."""
        name = wanted
        taken = self.program.variables.keys() | _TAKEN
        while name in taken or keyword.iskeyword(name) or is_taken(name):
            name += "_"
        self.program.variables[name] = Variable(name, shape, kind)
        return name

    def _incoming(self, tensor: str) -> str:
        """The name of the gradient to a tensor of the graph."""
        if tensor not in self.gradients:
            shape = self.graph.tensors[tensor].shape
            self.gradients[tensor] = self._variable(f"d_{self.program.names[tensor]}", shape)
        return self.gradients[tensor]

    def _symbols(self, node: Node, ordinal: int) -> tuple[dict[str, str], dict[str, str]]:
        """Constants of a node's formulas, and the names its fields stand for."""
        operation, call = node.operation, node.call
        constants = {
            key: repr(value) for key, value in call.attributes.items() if key not in node.parameters
        }
        constants["with_bias"] = ", {bias}" if "bias" in node.parameters else ""
        constants |= operation.constants(call)
        names = {key: f'p["{full}"]' for key, full in node.parameters.items()}
        names["y"] = self.program.names[node.name]
        inputs = [self.program.names[name] for name in node.inputs]
        if operation.variadic:
            names |= {f"x{index}": name for index, name in enumerate(inputs)}
            constants["xs"] = ", ".join(f"{{x{index}}}" for index in range(len(inputs)))
        else:
            names |= dict(zip(operation.arguments, inputs, strict=True))
        # The device of a mask is that of the step's arguments, which are there at any time.
        names["input"] = (*self.program.inputs, *inputs)[0] if inputs else ""
        names["seed"] = "seed" if ordinal == 0 else f"(seed + {ordinal})"
        return constants, names

    def _forward(self, node: Node, ordinal: int) -> None:
        constants, names = self._symbols(node, ordinal)
        y = names["y"]
        forward = node.operation.formulas(self.profile)[0]
        plain = node.operation.plain if self.profile == "torch" else None
        for lines, formula in (
            (self.program.forward, forward),
            (self.program.plain, plain or forward),
        ):
            for targets, code in _rows(formula):
                writes = tuple(self._local(node, key, names) for key in _used(targets))
                self._add(lines, node, writes, code, constants, names, "{y}" in targets)
        if node.operation.nonzero:
            self.program.nonzero[y] = names[node.operation.nonzero]

    def _local(self, node: Node, key: str, names: dict[str, str]) -> str:
        if key not in names:
            local = node.operation.locals.get(key)
            shape = local.shape(node.call) if local else (node.call.shapes or (node.call.y,))[0]
            full = (node.name, key)
            if full not in self.locals:
                kind: Kind = local.kind if local else "value"
                self.locals[full] = self._variable(f"{names['y']}_{key}", shape, kind)
            names[key] = self.locals[full]
        return names[key]

    def _backward(self, node: Node, ordinal: int) -> None:
        dy = self._incoming(node.name)
        if dy not in self.stated:
            return
        constants, names = self._symbols(node, ordinal)
        for targets, _ in _rows(node.operation.formulas(self.profile)[0]):
            for key in _used(targets):
                self._local(node, key, names)
        names["dy"] = dy
        for targets, code in _rows(node.operation.formulas(self.profile)[1]):
            if targets == "{dxs}":
                for index in range(len(node.inputs)):
                    assert node.operation.each is not None
                    extra = node.operation.each(node.call, index)
                    self._gradient(node, f"dx{index}", code, constants | extra, names)
                continue
            self._gradient(node, _used(targets)[0], code, constants, names)

    def _gradient(
        self, node: Node, key: str, code: str, constants: dict[str, str], names: dict[str, str]
    ) -> None:
        """A backward line: a gradient that goes out, or a step on the way to one."""
        source, what = self._going_out(node, key)
        if what == "local":
            writes = self._local(node, key, names)
            self._add(self.program.backward, node, (writes,), code, constants, names)
            return
        if what == "parameter" and source in node.parameters:
            full = node.parameters[source]
            target = f'g["{full}"]'
        elif what == "argument" and source in self.learned:
            target = self._incoming(source)
        else:
            return
        more = target in self.stated
        if more:
            code = f"{target} + {code}" if code[0] != "-" else f"{target} - {code[1:]}"
        self.stated.add(target)
        line = self._add(self.program.backward, node, (target,), code, constants, names, True)
        if more and not target.startswith("g["):
            self.program.backward[-1] = _reading(line, target)

    def _going_out(self, node: Node, key: str) -> tuple[str, str]:
        arguments = (
            tuple(f"x{index}" for index in range(len(node.inputs)))
            if node.operation.variadic
            else node.operation.arguments
        )
        name = key.removeprefix("d")
        if key.startswith("d") and name in arguments:
            return node.inputs[arguments.index(name)], "argument"
        owned = node.operation.parameters(node.call)
        if key.startswith("d") and (name in owned or name in ("weight", "bias", "value")):
            return name, "parameter"
        return key, "local"

    def _add(
        self,
        lines: list[Line],
        node: Node,
        writes: tuple[str, ...],
        code: str,
        constants: dict[str, str],
        names: dict[str, str],
        heavy: bool = False,
    ) -> Line:
        template = _filled(code, constants)
        template = _filled(template, constants)
        used = _used(template)
        text = in_profile(template.format(**names), self.profile)
        reads = tuple(
            dict.fromkeys(
                "seed" if key == "seed" else names[key]
                for key in used
                if not names[key].startswith("p[")
            )
        )
        view = node.operation.view and heavy
        flops = self._flops(node, writes, heavy)
        line = Line(writes, text, reads, node.name, flops, view or text in reads)
        lines.append(line)
        return line

    def _flops(self, node: Node, writes: tuple[str, ...], heavy: bool) -> float:
        if heavy and node.operation.flops:
            return node.operation.flops(node.call)
        return float(
            sum(
                size(self.program.variables[name].shape)
                for name in writes
                if name in self.program.variables
            )
        )


def _filled(template: str, constants: dict[str, str]) -> str:
    """Put constants in; the other fields stay."""
    parts = []
    for text, name, _, _ in _FIELDS.parse(template):
        parts.append(text)
        if name is not None:
            parts.append(constants.get(name, f"{{{name}}}"))
    return "".join(parts)


def _reading(line: Line, name: str) -> Line:
    return Line(line.writes, line.code, (name, *line.reads), line.node, line.flops, False)


def only(lines: list[Line], wanted: Iterable[str]) -> list[Line]:
    """The lines that something wanted, or a gradient of a parameter, depends on."""
    needed, kept = set(wanted), []
    for line in reversed(lines):
        if any(name in needed or name.startswith("g[") for name in line.writes):
            needed.update(line.reads)
            kept.append(line)
    return kept[::-1]
