"""How each activation gets from forward to backward, under a budget of memory.

Without a budget everything passes its codec. With one, an activation is kept as it is unless the
step would not fit: then those go first that save the most bytes for a modelled second, packed or
made again, whichever is cheaper, until it fits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fewbits.unroll.codecs import Choose, Emitted
from fewbits.unroll.program import Line, Program
from fewbits.unroll.schedule import (
    AGAIN,
    BITS,
    KEEP,
    Rest,
    Schedule,
    make_schedule,
    rest_bytes,
)

# Smaller tensors are not worth a codec's calls.
_LEAST_BYTES = 1024
# Lines that may be run again to have one activation.
_LONGEST_CHAIN = 12
# Reads and writes of a tensor that packing and unpacking take together.
_PACKING_PASSES = 6


@dataclass(frozen=True)
class Machine:
    """What modelled times are computed from; the defaults are those of no device in particular."""

    flop_per_s: float = 10e12
    bandwidth_bytes_per_s: float = 500e9


@dataclass(frozen=True)
class Planned:
    """A schedule, the same without codecs, and what there is to say about it."""

    schedule: Schedule
    before: Schedule
    note: str
    extra_s: float = 0.0

    @property
    def fits(self) -> bool:
        """Is the step within its budget?"""
        return not self.note.startswith("does not fit")


def make_plan(
    program: Program,
    choose: Choose,
    *,
    budget: int | None = None,
    machine: Machine | None = None,
) -> Planned:
    """Decide for every activation that the backward pass needs."""
    planner = _Planner(program, choose, machine or Machine())
    before = make_schedule(program, planner.finished({}))
    if budget is None:
        plan = planner.finished({o.name: o.rest for o in planner.options() if o.rest.how == "pack"})
        schedule = make_schedule(program, plan)
        return Planned(schedule, before, "", planner.seconds(plan))
    if before.peak <= budget:
        note = f"nothing needs compressing: the step takes {before.peak:,} bytes as it is"
        return Planned(before, before, note)
    options = sorted(planner.options(), key=lambda option: option.seconds / option.saved)
    # Made again is exact and cheap, but what is made stands beside what it is made of; packing
    # alone may reach a lower peak.
    packing = [option for option in options if option.rest.how == "pack"]
    best = _fewest(planner, options, budget)
    if best.peak > budget:
        best = min(best, _fewest(planner, packing, budget), key=lambda schedule: schedule.peak)
    plan = dict(best.plan)
    hows = [rest.how for rest in plan.values()]
    counts = f"{hows.count('pack')} packed, {hows.count('again')} made again"
    note = f"fits: {best.peak:,} bytes of {budget:,}; {counts}"
    if best.peak > budget:
        note = f"does not fit: {best.peak:,} bytes at least, and the budget is {budget:,}"
    return Planned(best, before, note, planner.seconds(plan))


def _fewest(planner: "_Planner", options: list["_Option"], budget: int) -> Schedule:
    """The fewest options from the front that make the step fit; all of them if none do."""
    low, high = 1, len(options)
    best = make_schedule(planner.program, planner.taken(options))
    while low < high:
        middle = (low + high) // 2
        tried = make_schedule(planner.program, planner.taken(options[:middle]))
        if tried.peak <= budget:
            high, best = middle, tried
        else:
            low = middle + 1
    return best


@dataclass(frozen=True)
class _Option:
    name: str
    rest: Rest
    saved: int
    seconds: float
    sources: tuple[str, ...] = ()  # resting activations that it is made of again


class _Planner:
    def __init__(self, program: Program, choose: Choose, machine: Machine) -> None:
        self.program, self.machine = program, machine
        self.makers = {name: line for line in program.forward for name in line.writes}
        self.given = {*program.inputs, "seed"}
        self.needed = self._closure()
        operations = {node.name: node.operation.name for node in program.graph.nodes}
        self.codecs: dict[str, Emitted | None] = {
            name: choose(line.node, operations[line.node], program.variables[name].shape)
            for name in self.needed
            if self._packable(name, line := self.makers[name])
        }
        program.seeded |= any(codec is not None and codec.seeded for codec in self.codecs.values())

    def _closure(self) -> list[str]:
        """What must rest: needs, with views followed to what they are views of."""
        found: dict[str, None] = {}

        def follow(name: str) -> None:
            line = self.makers.get(name)
            if line is None or name in self.given:
                return
            if line.view or self._free(name):
                for read in line.reads:
                    follow(read)
            else:
                found[name] = None

        for name in self.program.needs():
            follow(name)
        return list(found)

    def _free(self, name: str) -> bool:
        """Can it be had from the step's arguments alone, such as a dropout's mask?"""
        line = self.makers[name]
        kind = self.program.variables[name].kind
        return kind == "bit" and all(read in self.given for read in line.reads)

    def _packable(self, name: str, line: Line) -> bool:
        variable = self.program.variables[name]
        loss = self.program.graph.loss
        last_use = next(
            later
            for later in reversed(self.program.forward)
            if name in (*later.reads, *later.writes)
        )
        # What the loss is made of is used again at once.
        return (
            variable.kind == "value" and variable.nbytes >= _LEAST_BYTES and last_use.node != loss
        )

    def finished(self, chosen: dict[str, Rest]) -> dict[str, Rest]:
        """A plan for all that must rest; masks of what is kept exactly are made from it again."""
        plan = {name: chosen.get(name, KEEP) for name in self.needed}
        for name in self.needed:
            if self.program.variables[name].kind != "bit":
                continue
            reads = self.makers[name].reads
            exact = all(plan.get(read, AGAIN).how == "keep" for read in reads)
            plan[name] = AGAIN if exact else BITS
        return plan

    def taken(self, options: list[_Option]) -> dict[str, Rest]:
        """A plan that takes these options in order; a later one stands if it saves more.

        What another activation is made of again has to rest itself, or making one would make all
        those before it, and hold them.
        """
        best: dict[str, _Option] = {}
        sources: dict[str, set[str]] = {}
        for option in options:
            name = option.name
            if name in best and option.saved <= best[name].saved:
                continue
            if option.rest.how == "again":
                made_of = set(option.sources)
                if any(name in used for used in sources.values()):
                    continue
                if any(best[s].rest.how == "again" for s in made_of if s in best):
                    continue
                sources[name] = made_of
            best[name] = option
        return self.finished({name: option.rest for name, option in best.items()})

    def options(self) -> Iterator[_Option]:
        """Every way to have an activation take fewer bytes than it has."""
        for name in self.needed:
            variable = self.program.variables[name]
            if variable.kind != "value" or variable.nbytes < _LEAST_BYTES:
                continue
            codec = self.codecs.get(name)
            if codec is not None:
                rest = Rest("pack", codec)
                saved = variable.nbytes - rest_bytes(self.program, name, rest)
                yield _Option(name, rest, saved, self._packing_s(variable.nbytes))
            lines = self._chain(name)
            if lines is not None:
                made = {made for line in lines for made in line.writes}
                reads = {read for line in lines for read in line.reads}
                yield _Option(
                    name, AGAIN, variable.nbytes, self._running_s(lines), tuple(reads - made)
                )

    def _chain(self, name: str) -> list[Line] | None:
        """The lines that make an activation out of others that rest; None if too many."""
        lines: dict[int, Line] = {}
        waiting = [name]
        while waiting:
            line = self.makers[waiting.pop()]
            if id(line) in lines:
                continue
            lines[id(line)] = line
            if len(lines) > _LONGEST_CHAIN:
                return None
            waiting += [
                read for read in line.reads if read not in self.given and read not in self.needed
            ]
        reads = {read for line in lines.values() for read in line.reads}
        return None if name in reads else list(lines.values())

    def _packing_s(self, nbytes: int) -> float:
        return _PACKING_PASSES * nbytes / self.machine.bandwidth_bytes_per_s

    def _running_s(self, lines: list[Line]) -> float:
        seconds = 0.0
        for line in lines:
            names = [n for n in (*line.reads, *line.writes) if n in self.program.variables]
            moved = sum(self.program.variables[name].nbytes for name in names)
            seconds += line.flops / self.machine.flop_per_s
            seconds += moved / self.machine.bandwidth_bytes_per_s
        return seconds

    def seconds(self, plan: dict[str, Rest]) -> float:
        """Modelled time that a plan costs beyond keeping everything."""
        total = 0.0
        for name, rest in plan.items():
            if rest.how == "pack":
                total += self._packing_s(self.program.variables[name].nbytes)
            elif rest.how == "again":
                total += self._running_s(self._chain(name) or [])
        return total
