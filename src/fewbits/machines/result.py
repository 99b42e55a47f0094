"""What a machine answers: time, energy and traffic of every layer, and what bounds it.

>>> result = Result(
...     machine="abacus", workload="two sums", layers=("first", "second"),
...     latency_s=np.array([2.0, 1.0]),
...     energy_j={"beads": np.array([0.5, 0.25])},
...     traffic_bytes={"weights": np.array([3.0, 4.0])},
...     busy_s={"compute": np.array([2.0, 0.5]), "memory": np.array([1.0, 1.0])},
... )
>>> result.total_latency_s, result.total_energy_j, result.bound
(3.0, 0.75, 'compute')
>>> [row["bound"] for row in result.rows()]
['compute', 'memory']
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fewbits.machines.constants import Constant

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Roof:
    """The most that a machine can do: products a second, and bytes a second to its memory."""

    macs_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Result:
    """One workload on one machine in one setting.

    Arrays have shape (layers,), in a vectorised sweep (configurations, layers).

    ``latency_s``: time each layer adds. ``energy_j``: by part of the machine. ``traffic_bytes``: by
    class of tensor (``weights``, ``inputs``, ``outputs``, ``activations``, ``gradients``, ...), as
    they cross the border that the machine's page names, so after packing. ``busy_s``: for each
    resource (``compute``, ``memory``, ``engine``, ``link``, ...) how long it is needed; the longest
    is what bounds the layer. ``macs`` of each layer and ``roof`` are there for roofline figures.
    ``extra``: what only this machine has to say, in types that JSON knows
    (bytes of memory, utilization, a schedule); ``notes``: sentences for people.
    """

    machine: str
    workload: str
    layers: tuple[str, ...]
    latency_s: Array
    energy_j: Mapping[str, Array]
    traffic_bytes: Mapping[str, Array]
    busy_s: Mapping[str, Array]
    macs: Array | None = None
    roof: Roof | None = None
    constants: tuple[Constant, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.layers)
        for name, part in (
            ("latency_s", {"": self.latency_s}),
            ("energy_j", self.energy_j),
            ("traffic_bytes", self.traffic_bytes),
            ("busy_s", self.busy_s),
        ):
            for key, values in part.items():
                if values.shape[-1:] != (count,):
                    raise ValueError(f"{name} {key}: shape {values.shape} for {count} layers")

    @property
    def total_latency_s(self) -> float:
        """Seconds of all layers; in a sweep an array of them, as for the other totals."""
        return _total(self.latency_s)

    @property
    def total_energy_j(self) -> float:
        """Joules of all layers and parts."""
        return _total(sum(self.energy_j.values(), np.zeros(len(self.layers))))

    @property
    def total_traffic_bytes(self) -> float:
        """Bytes of all layers and classes of tensors."""
        return _total(sum(self.traffic_bytes.values(), np.zeros(len(self.layers))))

    @property
    def bounds(self) -> NDArray[np.str_]:
        """For each layer the resource that is needed longest."""
        names = np.array(tuple(self.busy_s))
        busy = np.stack(np.broadcast_arrays(*self.busy_s.values()))
        return np.asarray(names[np.argmax(busy, axis=0)])

    def bound_shares(self) -> dict[str, float]:
        """For each resource the share of the time that is spent in layers it bounds."""
        total = np.maximum(self.total_latency_s, np.finfo(np.float64).tiny)
        bounds = self.bounds
        return {name: _total(self.latency_s * (bounds == name)) / total for name in self.busy_s}

    def shortage(self, resource: str) -> float:
        """How many times as fast ``resource`` would have to be to bound no layer; 1 if it is."""
        others = [busy for name, busy in self.busy_s.items() if name != resource]
        if resource not in self.busy_s or not others:
            return 1.0
        most = np.maximum.reduce(np.broadcast_arrays(*others))
        needed = self.busy_s[resource] / np.maximum(most, np.finfo(np.float64).tiny)
        return float(np.max(needed, initial=1.0))

    @property
    def bound(self) -> Any:
        """The resource that bounds the layers which take most of the time."""
        shares = self.bound_shares()
        names = np.array(tuple(shares))
        most = names[np.argmax(np.stack(np.broadcast_arrays(*shares.values())), axis=0)]
        return str(most) if np.ndim(most) == 0 else most

    def totals(self) -> dict[str, Any]:
        """Flat totals: a row of a table. In a sweep each is an array over the configurations."""
        return {
            "latency_s": self.total_latency_s,
            "energy_j": self.total_energy_j,
            "traffic_bytes": self.total_traffic_bytes,
            "bound": self.bound,
            **{f"energy_{part}_j": _total(values) for part, values in self.energy_j.items()},
            **{
                f"traffic_{name}_bytes": _total(values)
                for name, values in self.traffic_bytes.items()
            },
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a layer; not for sweeps."""
        bounds = self.bounds
        return [
            {
                "layer": layer,
                "latency_s": float(self.latency_s[index]),
                "bound": str(bounds[index]),
                **{f"busy_{name}_s": float(v[index]) for name, v in self.busy_s.items()},
                **{f"energy_{part}_j": float(v[index]) for part, v in self.energy_j.items()},
                **{
                    f"traffic_{name}_bytes": float(v[index])
                    for name, v in self.traffic_bytes.items()
                },
            }
            for index, layer in enumerate(self.layers)
        ]

    def to_dict(self, *, layers: bool = True, constants: bool = True) -> dict[str, Any]:
        """Everything in types that JSON knows."""
        found: dict[str, Any] = {
            "machine": self.machine,
            "workload": self.workload,
            **self.totals(),
            "bound_shares": self.bound_shares(),
            **({"extra": dict(self.extra)} if self.extra else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }
        if layers:
            found["layers"] = self.rows()
        if constants:
            found["constants"] = [constant.to_dict() for constant in self.constants]
        return found


def _total(values: Any) -> float:
    """The sum over layers: a number, or an array over the configurations of a sweep."""
    total = np.sum(values, axis=-1)
    return float(total) if np.ndim(total) == 0 else total


def _ratio(above: float, below: float) -> float:
    """A quotient of numbers or arrays; where both are nothing, nothing changed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((above == 0) & np.equal(below, 0), 1.0, np.divide(above, below))
    return float(ratio) if ratio.ndim == 0 else cast(float, ratio)


def compare(results: Mapping[str, Result]) -> dict[str, dict[str, Any]]:
    """Speedup and energy efficiency over the first of ``results``, and traffic relative to it."""
    if not results:
        raise ValueError("no results to compare")
    base = next(iter(results.values()))
    return {
        name: {
            "speedup": _ratio(base.total_latency_s, result.total_latency_s),
            "energy_efficiency": _ratio(base.total_energy_j, result.total_energy_j),
            "traffic": _ratio(result.total_traffic_bytes, base.total_traffic_bytes),
        }
        for name, result in results.items()
    }
