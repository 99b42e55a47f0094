"""Papers remade: each module here rebuilds one paper's figures with the public machines.

A module ``studies/NAME.py`` has a function ``study(advance) -> Study``, and ``fewbits reproduce
NAME`` finds it by its name. It calls ``advance(1)`` when one of its ``STEPS`` is done. ``reports``
makes the page of it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.studies.figures import Bars, Figure, Lines, Spans, Table

if TYPE_CHECKING:
    from fewbits.machines.constants import Constant

__all__ = [
    "Advance", "Bars", "Claim", "Entry", "Figure", "Lines", "Spans", "Study", "Table", "load",
    "names",
]  # fmt: skip

Advance = Callable[[int], None]
# Modules of this room that are no study.
_COMMON = ("figures",)


@dataclass(frozen=True)
class Claim:
    """A figure of the paper beside ours.

    ``paper`` is what the paper says, as text (``1.44x``, ``17-20x``). ``ours`` must lie in
    ``band``, (low, high), for the study to hold; ``setting`` says what ours was reached with.
    """

    what: str
    paper: str
    ours: float
    band: tuple[float, float]
    unit: str = "x"
    setting: str = ""

    @property
    def holds(self) -> bool:
        """Whether ours lies in the band."""
        return bool(self.band[0] <= self.ours <= self.band[1])

    def to_dict(self) -> dict[str, Any]:
        """The claim in types that JSON knows."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return found | {"band": list(self.band), "holds": self.holds}


@dataclass(frozen=True)
class Study:
    """A paper remade: what it claims, what came here, and what lies between.

    ``text``: paragraphs, plain. ``parts``: tables and figures in the order to read them.
    """

    name: str
    title: str
    source: str
    text: Sequence[str]
    claims: Sequence[Claim]
    parts: Sequence[Table | Figure] = ()
    constants: Sequence["Constant"] = field(default_factory=tuple)

    @property
    def holds(self) -> bool:
        """Whether every figure lies in its band."""
        return all(claim.holds for claim in self.claims)


@dataclass(frozen=True)
class Entry:
    """A study that can be run: ``run(advance)`` calls ``advance(1)`` ``steps`` times."""

    name: str
    steps: int
    run: Callable[[Advance], Study]


def names() -> tuple[str, ...]:
    """The studies there are."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name not in _COMMON))


def load(name: str) -> Entry:
    """A study by name; ``FewbitsError`` with the nearest name if there is none."""
    if name not in names():
        hint = did_you_mean(name, names())
        raise FewbitsError(f"no study is called {name!r}{hint}; known: {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    return Entry(name, module.STEPS, module.study)
