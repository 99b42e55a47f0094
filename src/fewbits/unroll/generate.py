"""From a text model to a training step: the whole way as one call.

>>> made = unroll('''
... input x 8 3
... input y 8 below=2
... logits = linear x out=2
... loss = cross_entropy logits y
... ''')
>>> made.source.splitlines()[2]
'Forward and backward written out by `fewbits unroll` from model.'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fewbits.unroll.codecs import CodecChoice
from fewbits.unroll.emit import emit
from fewbits.unroll.faults import ModelError
from fewbits.unroll.graph import Graph, build
from fewbits.unroll.operations.base import Profile
from fewbits.unroll.planner import Machine, Planned, make_plan
from fewbits.unroll.program import write_program
from fewbits.unroll.text import parse

Optimizer = Literal["none", "sgd", "adamw"]


@dataclass(frozen=True)
class Unrolled:
    """A generated step: its source, its plan, and what it was made from."""

    source: str
    planned: Planned
    graph: Graph
    text: str
    file: str
    settings: Mapping[str, int]
    small: Mapping[str, int]
    codec: str
    profile: Profile

    def resized(self, numbers: Mapping[str, int], codec: str | None = None) -> "Unrolled":
        """The same with other numbers for ``let`` names, and perhaps another codec; no budget."""
        return unroll(
            self.text,
            file=self.file,
            settings={**self.settings, **numbers},
            codec=self.codec if codec is None else codec,
            profile=self.profile,
        )


def unroll(
    text: str,
    *,
    file: str = "model",
    settings: Mapping[str, int] | None = None,
    codec: str = "none",
    profile: Profile = "torch",
    budget: int | None = None,
    machine: Machine | None = None,
    optimizer: Optimizer = "none",
) -> Unrolled:
    """Write out a model's training step.

    ``codec`` is a codec's name (`fewbits.lossy.names`), ``none``, or a policy's TOML file;
    ``budget`` bounds the bytes that parameters, gradients and activations take after any line;
    ``settings`` replace the numbers of ``let`` lines.

    Raises:
        ModelError: A fault in the model, with its place.
        FewbitsError: A codec that is unknown, or that a generated step cannot carry.
    """
    read = parse(text, file=file, settings=settings)
    graph = build(read, file)
    if graph.loss is None and (budget is not None or optimizer != "none"):
        raise ModelError(f"{file}: there is no loss; add a line 'loss = cross_entropy ...' or mse")
    program = write_program(graph, profile)
    planned = make_plan(program, CodecChoice(codec, profile), budget=budget, machine=machine)
    source = emit(planned.schedule, optimizer=optimizer, source=file)
    return Unrolled(
        source,
        planned,
        graph,
        text,
        file,
        dict(settings or {}),
        {name: value for name, value in read.small.items() if name not in (settings or {})},
        codec,
        profile,
    )
