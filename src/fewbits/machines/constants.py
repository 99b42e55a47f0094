"""Constants with a unit, a source and a kind, and sets of them that know which ones were read.

>>> clock = Constant("clock_hz", 1e9, "Hz", "APack, Table III", "paper")
>>> lanes = Constant("lanes", 64, "", "a guess", "assumed")
>>> machine = Constants(clock, lanes)
>>> machine.with_values({"clock_hz": 2e9})["clock_hz"]
2000000000.0
>>> [constant.name for constant in machine.used]
[]
>>> run = machine.recording()
>>> run["lanes"] * 2
128.0
>>> [constant.name for constant in run.used]
['lanes']
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from fewbits.errors import FewbitsError, did_you_mean

Kind = Literal["paper", "cited", "derived", "assumed", "given"]
KINDS: tuple[Kind, ...] = ("paper", "cited", "derived", "assumed", "given")
SWEPT = "varied in a sweep"


@dataclass(frozen=True)
class Constant:
    """A number of a model.

    ``kind``: ``paper`` (the one that is reproduced), ``cited`` (another publication), ``derived``
    (worked out from others; ``source`` says how), ``assumed`` (nobody says), ``given`` (by whoever
    runs the model). ``unit``: SI, or empty for a plain number. ``low``: the least value that makes
    sense, itself excluded where ``positive`` is set.
    """

    name: str
    value: float
    unit: str
    source: str
    kind: Kind
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: unknown kind {self.kind!r}")
        if not self.source:
            raise ValueError(f"{self.name}: a constant needs a source")
        self.check(self.value)

    def check(self, value: Any) -> None:
        """``FewbitsError`` unless all of ``value`` (a number or an array) is in range."""
        values = np.asarray(value, np.float64)
        wrong = values[~(np.isfinite(values) & (values >= self.low) & (values <= self.high))]
        if wrong.size:
            most = "" if self.high == math.inf else f" and at most {self.high:g}"
            raise FewbitsError(
                f"{self.name}: {wrong.flat[0]:g} must be at least {self.low:g}{most}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The constant in types that JSON knows."""
        return {
            "name": self.name,
            "value": np.asarray(self.value).ravel().tolist() if np.ndim(self.value) else self.value,
            "unit": self.unit,
            "kind": self.kind,
            "source": self.source,
        }


class Constants(Mapping[str, float]):
    """Constants by name, in order. Looking one up gives its value and notes that it was used.

    In a sweep a value is an array of shape (configurations, 1). Models that are written with NumPy
    then give results of shape (configurations, layers) in one pass; ``float`` as the type of a
    value is what holds outside of sweeps.
    """

    def __init__(self, *constants: Constant) -> None:
        self._constants = {constant.name: constant for constant in constants}
        if len(self._constants) != len(constants):
            names = [constant.name for constant in constants]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two constants are called {twice!r}")
        self._used: dict[str, Constant] = {}

    def __getitem__(self, name: str) -> float:
        constant = self.describe(name)
        self._used[name] = constant
        value = constant.value
        return value if np.ndim(value) else float(value)

    def __contains__(self, name: object) -> bool:
        return name in self._constants

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def __len__(self) -> int:
        return len(self._constants)

    def describe(self, name: str) -> Constant:
        """The constant itself; ``FewbitsError`` with the nearest name if there is none."""
        try:
            return self._constants[name]
        except KeyError:
            raise FewbitsError(
                f"no constant is called {name!r}{did_you_mean(name, self._constants)}"
            ) from None

    @property
    def used(self) -> tuple[Constant, ...]:
        """The constants that were looked up, in the order of the first time."""
        return tuple(self._used.values())

    def recording(self) -> Self:
        """The same constants, none of them used yet: what a model starts a run with."""
        return type(self)(*self._constants.values())

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same constants with some values replaced (kind ``given``), by numbers or arrays.

        ``FewbitsError`` for an unknown name or a value that makes no sense.
        """
        changed = dict(self._constants)
        for name, value in values.items():
            constant = self.describe(name)
            constant.check(value)
            source = SWEPT if np.ndim(value) else "given by the user"
            changed[name] = replace(
                constant,
                value=value if np.ndim(value) else float(value),
                source=source,
                kind="given",
            )
        return type(self)(*changed.values())

    def with_constants(self, *constants: Constant) -> Self:
        """More constants; those of the same name are replaced."""
        merged = self._constants | {constant.name: constant for constant in constants}
        return type(self)(*merged.values())

    def derive(self, name: str, value: float, unit: str, source: str) -> float:
        """Note a number that the model worked out from others, so that ``--explain`` shows it."""
        self._used[name] = Constant(name, value, unit, source, "derived", low=-math.inf)
        return value
