"""When each activation is made, put to rest, taken up again, and freed: liveness of a program.

A plan says for each activation that the backward pass needs how it gets there: kept, packed by a
codec, or made again. The schedule is the lines in order with packing and freeing put in: packing
right after the last use in forward, unpacking right before the first in backward. A last use that
can write over the activation comes after its packing. What backward reads by helpers that take
examples in turn stays packed, and they unpack it. Bytes are counted on the schedule line by line;
what a line needs inside, while it runs, is not counted.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fewbits.unroll.codecs import Emitted
from fewbits.unroll.inplace import shares, written_over
from fewbits.unroll.memory import Memory
from fewbits.unroll.operations.base import size
from fewbits.unroll.program import Line, Program


@dataclass(frozen=True)
class Rest:
    """How an activation gets from forward to backward."""

    how: Literal["keep", "pack", "again"]
    codec: Emitted | None = None  # of packed values; masks are packed to bits


KEEP, AGAIN, BITS = Rest("keep"), Rest("again"), Rest("pack")
#: How the line begins that leaves it to those who read an activation to unpack parts of it.
STAYS_PACKED = "Packed("
Plan = Mapping[str, Rest]
_FLOATS = ("value", "exact")
# Elements from which an activation is unpacked part by part, and for each of its uses again.
_LARGE = 8192


@dataclass
class Step:
    """One line of the schedule, what is freed after it, and the bytes held then."""

    kind: Literal["line", "pack", "unpack"]
    line: Line
    name: str = ""
    frees: tuple[str, ...] = ()
    backward: bool = False
    live: int = 0
    resting: int = 0


@dataclass
class Schedule:
    """A program with a plan carried out."""

    program: Program
    plan: Plan
    steps: list[Step] = field(default_factory=list)
    #: Bytes that rest between forward and backward, for each activation.
    resting: dict[str, int] = field(default_factory=dict)
    parameters: int = 0

    @property
    def resting_bytes(self) -> int:
        """Bytes that rest between forward and backward."""
        return sum(self.resting.values())

    @property
    def peak(self) -> int:
        """The most bytes that parameters, gradients and activations take after any line."""
        return self.parameters + max(step.live for step in self.steps)


def rest_bytes(program: Program, name: str, rest: Rest) -> int:
    """Bytes of an activation at rest."""
    variable = program.variables[name]
    if rest.how == "again":
        return 0
    if rest.how == "keep":
        return variable.nbytes
    if rest.codec is not None:
        return rest.codec.nbytes(variable.shape)
    return -(-size(variable.shape) // 8)


def make_schedule(program: Program, plan: Plan) -> Schedule:
    """Carry out a plan; activations that it does not name are made again."""
    schedule = Schedule(program, plan)
    schedule.parameters = 4 * sum(size(p.shape) for p in program.graph.parameters.values())
    backward = list(_backward(program, plan, schedule))
    _leave_packed(schedule, backward)
    forward = [Step("line", line) for line in program.forward]
    for ordinal, name in enumerate(schedule.resting, len(program.graph.nodes)):
        if plan[name].how == "pack":
            _insert_pack(forward, program, name, plan[name], ordinal)
    schedule.steps = forward + backward
    _free(schedule)
    _settle(schedule)
    return schedule


def _backward(program: Program, plan: Plan, schedule: Schedule) -> Iterator[Step]:
    makers = {name: line for line in program.forward for name in line.writes}
    here = {*program.inputs, "seed"}

    def take(name: str) -> Iterator[Step]:
        if name in here or name not in makers:
            return
        here.add(name)
        rest = plan.get(name, AGAIN)
        if rest.how == "again":
            line = makers[name]
            here.update(line.writes)
            for read in line.reads:
                yield from take(read)
            yield Step("line", line, backward=True)
            return
        schedule.resting[name] = rest_bytes(program, name, rest)
        if rest.how == "pack":
            mask = program.nonzero.get(name)
            masked = mask is not None and plan.get(mask, AGAIN).how != "again"
            if mask is not None and masked:
                yield from take(mask)
            reads = (packed(program, name), *((mask,) if mask and masked else ()))
            code = _unpacking(program, name, rest, mask if masked else None)
            yield Step("unpack", Line((name,), code, reads, name), name, backward=True)

    for line in program.backward:
        for name in line.reads:
            yield from take(name)
        yield Step("line", line, backward=True)


def packed(program: Program, name: str) -> str:
    """The variable that holds an activation while it rests packed."""
    free = f"{name}_packed"
    return free + "_" * (free in program.variables)


def _unpacking(program: Program, name: str, rest: Rest, mask: str | None) -> str:
    shape = program.variables[name].shape
    if rest.codec is None:
        return f"unpack_bits({packed(program, name)}, {shape})"
    times = f" * {mask}" if mask else ""
    return f"decompress_{rest.codec.name}({packed(program, name)}, {shape}){times}"


def _leave_packed(schedule: Schedule, backward: list[Step]) -> None:
    """What all its readers can take example by example is unpacked by them."""
    program = schedule.program
    for step in backward:
        if step.kind != "unpack" or program.profile != "torch":
            continue
        name, shape = step.name, program.variables[step.name].shape
        codec, masked = schedule.plan[name].codec, len(step.line.reads) > 1
        if size(shape) < _LARGE or shape[0] == 1 or masked or not (codec and codec.splits(shape)):
            continue
        readers = " ".join(other.line.code for other in backward if name in other.line.reads)
        by_parts = re.findall(rf"(?:sum_of_products|less_products_)\([^()]*, {name}, ", readers)
        if len(by_parts) == len(re.findall(rf"\b{name}\b", readers)):
            code = STAYS_PACKED + step.line.code.replace("(", ", ", 1)
            step.line = replace(step.line, code=code)


def _insert_pack(
    forward: list[Step], program: Program, name: str, rest: Rest, ordinal: int
) -> None:
    code = f"pack_bits({name})"
    reads: tuple[str, ...] = (name,)
    if rest.codec is not None:
        # Each activation rounds by chances of its own.
        seed = f", seed + {ordinal}" if rest.codec.seeded else ""
        code = f"compress_{rest.codec.name}({name}{seed})"
        reads = (name, "seed") if seed else (name,)
    last = max(
        index
        for index, step in enumerate(forward)
        if name in step.line.reads or name in step.line.writes
    )
    ends = forward[last].line
    # Packed before a line that can write over it, a tensor of its size is saved.
    before = program.profile == "torch" and _over(program, ends, {name}) != ends
    line = Line((packed(program, name),), code, reads, name)
    forward.insert(last + (not before), Step("pack", line, name))


def _free(schedule: Schedule) -> None:
    """After its last use, a variable is freed; a name that is written again starts anew."""
    program = schedule.program
    # The step's results and arguments outlive it.
    alive = {*program.inputs, *(("seed",) if program.seeded else ())}
    if program.graph.loss:
        alive.add(program.names[program.graph.loss])
    else:
        alive.update(program.outputs)
    for step in reversed(schedule.steps):
        reads = [name for name in step.line.reads if not name.startswith("g[")]
        writes = [name for name in step.line.writes if not name.startswith("g[")]
        ends = [n for n in dict.fromkeys([*writes, *reads]) if n not in alive and n != "seed"]
        step.frees = tuple(ends)
        alive.update(reads)
        # What a line writes and does not read was not there before it.
        alive.difference_update(name for name in writes if name not in reads)


def _settle(schedule: Schedule) -> None:
    """Lines that write over what dies in them, and the bytes held after each."""
    program = schedule.program
    memory = Memory()
    waiting: dict[str, int] = {}
    for step in schedule.steps:
        if program.profile == "torch":
            step.line = _written_over(program, step, memory)
        for name in step.line.writes:
            memory.write(name, _bytes(schedule, step, name), shares(step.line.code))
        for name in step.frees:
            memory.free(name)
        step.live = memory.nbytes
        _note_resting(schedule, step, waiting)
        step.resting = sum(waiting.values())


def _written_over(program: Program, step: Step, memory: Memory) -> Line:
    """The line as it is written where memory is spare."""
    # A name that a line writes again ends in it as well.
    ends = {*step.frees, *step.line.writes}
    return _over(program, step.line, {name for name in ends if memory.alone(name)})


def _over(program: Program, line: Line, ends: Collection[str]) -> Line:
    """The line as it is written where these may be overwritten."""
    variables = program.variables
    (name, *others) = line.writes
    if others or name not in variables or variables[name].kind not in _FLOATS:
        return line
    wide = {
        read
        for read in line.reads
        if read in variables
        and variables[read].shape == variables[name].shape
        and variables[read].kind in _FLOATS
    }
    return replace(line, code=written_over(line.code, spare=wide & set(ends), wide=wide))


def _note_resting(schedule: Schedule, step: Step, waiting: dict[str, int]) -> None:
    """Follow what rests: from its last use in forward to its first in backward."""
    if not step.backward:
        for name in (*step.line.reads, *step.line.writes, step.name):
            kept = name in schedule.resting and schedule.plan[name].how == "keep"
            if kept or (step.kind == "pack" and name == step.name):
                waiting[name] = schedule.resting[name]
        return
    for name in (*step.line.reads, step.name):
        if step.kind == "unpack" or schedule.plan.get(name, AGAIN).how == "keep":
            waiting.pop(name, None)


def _bytes(schedule: Schedule, step: Step, name: str) -> int:
    if name.startswith("g["):
        return _parameter_bytes(schedule.program, name)
    if step.kind == "pack" or step.line.code.startswith(STAYS_PACKED):
        return schedule.resting[step.name]
    return schedule.program.variables[name].nbytes


def _parameter_bytes(program: Program, target: str) -> int:
    return 4 * size(program.graph.parameters[target[3:-2]].shape)
