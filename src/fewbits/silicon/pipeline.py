"""One step of a unit as a list of segments, and registers between them where it is cut.

A segment is a function that reads signals from a dictionary and adds its own. The registers after
a cut hold the whole dictionary; what nobody reads any more has no register after synthesis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from amaranth.hdl import Module, Signal, Value

Live = dict[str, Any]

# What says whether the rest means anything. The rest needs no reset.
CONTROL = ("valid", "start", "flush")


@dataclass(frozen=True)
class Segment:
    """A part of a step. ``delay`` is relative, for placing cuts."""

    name: str
    work: Callable[[Module, Live], None]
    delay: float


def cuts(delays: Sequence[float], stages: int) -> tuple[int, ...]:
    """Segments before which to cut, so that the slowest of ``stages`` stages is as fast as can be.

    >>> cuts([1, 1, 4, 1, 2], 3)
    (2, 3)

    There cannot be more stages than segments; more registers would only add turns.
    """
    stages = min(stages, len(delays))

    def slowest(at: tuple[int, ...]) -> float:
        bounds = (0, *at, len(delays))
        return max(sum(delays[a:b]) for a, b in pairwise(bounds))

    return min(combinations(range(1, len(delays)), stages - 1), key=slowest)


def run(
    m: Module, segments: Sequence[Segment], stages: int, live: Mapping[str, Any], advance: Value
) -> Live:
    """Do the segments in order in ``stages`` stages; what is live after the last.

    Stages beyond the number of segments become registers before the first one, since every stream
    needs its place in the loop.
    """
    state = dict(live)
    for extra in range(stages - len(segments)):
        state = registers(m, state, advance, f"wait{extra}")
    before = cuts([segment.delay for segment in segments], stages)
    for number, segment in enumerate(segments):
        if number in before:
            state = registers(m, state, advance, f"stage{before.index(number) + 1}")
        block(m, segment.name, segment.work, state)
    return state


def block(m: Module, name: str, work: Callable[[Module, Live], None], live: Live) -> None:
    """Do some work in a module of its own: a simulator then repeats only what has changed."""
    part = Module()
    m.submodules[name] = part
    work(part, live)


def registers(m: Module, live: Live, advance: Value, name: str) -> Live:
    """The same signals a cycle later, if the cycle counts."""
    held = {}
    for key, value in live.items():
        held[key] = Signal(
            Value.cast(value).shape(), name=f"{name}_{key}", reset_less=key not in CONTROL
        )
    with m.If(advance):
        for key, register in held.items():
            m.d.sync += register.eq(live[key])
    return held
