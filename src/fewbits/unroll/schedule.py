"""When each activation is made, put to rest, taken up again, and freed: liveness of a program.

A plan says for each activation that the backward pass needs how it gets there: kept, packed by a
codec, or made again. The schedule is the lines in order with packing and freeing put in: packing
right after the last use in forward, unpacking right before the first in backward. Bytes are counted
on it line by line; what a line needs inside, while it runs, is not counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fewbits.unroll.codecs import Emitted
from fewbits.unroll.operations.base import size
from fewbits.unroll.program import Line, Program


@dataclass(frozen=True)
class Rest:
    """How an activation gets from forward to backward."""

    how: Literal["keep", "pack", "again"]
    codec: Emitted | None = None  # of packed values; masks are packed to bits


KEEP, AGAIN, BITS = Rest("keep"), Rest("again"), Rest("pack")
Plan = Mapping[str, Rest]


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
    forward = [Step("line", line) for line in program.forward]
    for name in schedule.resting:
        if plan[name].how == "pack":
            _insert_pack(forward, program, name)
    schedule.steps = forward + backward
    _free(schedule)
    _count(schedule)
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


def _insert_pack(forward: list[Step], program: Program, name: str) -> None:
    last = max(
        index
        for index, step in enumerate(forward)
        if name in step.line.reads or name in step.line.writes
    )
    forward.insert(last + 1, Step("pack", Line((packed(program, name),), "", (name,), name), name))


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


def _count(schedule: Schedule) -> None:
    """Bytes held after each step; a view shares the memory of what it is a view of."""
    program = schedule.program
    memory: dict[str, tuple[str, int]] = {}  # variable -> its memory
    users: Counter[tuple[str, int]] = Counter()
    bytes_of: dict[tuple[str, int], int] = {}
    given = {*program.inputs}
    waiting: dict[str, int] = {}
    gradients = 0

    def release(name: str) -> None:
        if name in memory:
            block = memory.pop(name)
            users[block] -= 1
            if not users[block]:
                del bytes_of[block]

    for ordinal, step in enumerate(schedule.steps):
        line = step.line
        for name in line.writes:
            if name.startswith("g["):
                gradients += 0 if name in line.code else _parameter_bytes(program, name)
                continue
            source = memory.get(line.reads[0]) if line.view and line.reads else None
            release(name)
            block = source or (name, ordinal)
            memory[name] = block
            users[block] += 1
            if (line.view and not line.reads) or (line.view and line.reads[0] in given):
                bytes_of.setdefault(block, 0)
            bytes_of.setdefault(block, _bytes(schedule, step, name))
        for name in step.frees:
            release(name)
        step.live = sum(bytes_of.values()) + gradients
        _note_resting(schedule, step, waiting)
        step.resting = sum(waiting.values())


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
    if step.kind == "pack":
        return schedule.resting[step.name]
    return schedule.program.variables[name].nbytes


def _parameter_bytes(program: Program, target: str) -> int:
    return 4 * size(program.graph.parameters[target[3:-2]].shape)
