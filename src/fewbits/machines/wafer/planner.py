"""Which formulation for a graph on a device, and why.

>>> from fewbits.machines.wafer.devices import device
>>> from fewbits.machines.wafer.graphs import shape
>>> plan = make_plan(shape(1_000_000, 11_000_000), Layers(), device("a100"), name="a100")
>>> plan.best, plan.faults["dense-linear"]
('csr', 'needs 4,001.3 GB of 80.0 GB')
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constants
from fewbits.machines.result import Result
from fewbits.machines.wafer.graphs import Shape, shape
from fewbits.machines.wafer.plans import FORMULATIONS, Layers, memory, simulate


@dataclass(frozen=True)
class Plan:
    """Results of the formulations that can run, faults of those that cannot, and the best."""

    graph: Shape
    results: Mapping[str, Result]
    faults: Mapping[str, str]
    reason: str

    @property
    def best(self) -> str:
        """The formulation to take: the fastest."""
        return min(self.results, key=lambda name: self.results[name].total_latency_s)


def make_plan(graph: Shape, layers: Layers, constants: Constants, *, name: str = "") -> Plan:
    """Weigh every formulation. ``FewbitsError`` if none can run."""
    faults = {}
    results = {}
    for formulation in FORMULATIONS:
        if problem := fault(formulation, graph, layers, constants):
            faults[formulation] = problem
        else:
            results[formulation] = simulate(formulation, graph, layers, constants, device=name)
    if not results:
        told = "; ".join(f"{formulation} {problem}" for formulation, problem in faults.items())
        raise FewbitsError(f"{graph.name} fits nowhere on {name or 'it'}: {told}")
    plan = Plan(graph, results, faults, "")
    return Plan(graph, results, faults, _reason(plan))


def fault(formulation: str, graph: Shape, layers: Layers, constants: Constants) -> str:
    """Why a formulation cannot run, or nothing."""
    if not constants[f"takes_{formulation}"]:
        return "is not taken by its compiler"
    needs = memory(formulation, graph, layers, constants["element_bytes"]).total
    room = constants["capacity_bytes"]
    return f"needs {needs / 1e9:,.1f} GB of {room / 1e9:,.1f} GB" if needs > room else ""


def most_nodes(
    formulation: str, layers: Layers, constants: Constants, *, degree: float = 10.0
) -> int:
    """The largest graph, with ``degree`` edges a node, that fits in a formulation."""

    def fits(nodes: int) -> bool:
        entries = min(nodes * nodes, round(nodes * (degree + 1)))
        needs = memory(formulation, shape(nodes, entries), layers, constants["element_bytes"])
        return needs.total <= constants["capacity_bytes"]

    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _reason(plan: Plan) -> str:
    graph, best = plan.graph, plan.results[plan.best]
    facts = [f"{_percent(graph.density)} of the matrix is not zero"]
    ranked = sorted(plan.results.items(), key=lambda item: item[1].total_latency_s)
    if len(ranked) > 1:
        second, result = ranked[1]
        times = result.total_latency_s / best.total_latency_s
        facts.append(f"{second} takes {times:.1f} times as long")
    facts.append(f"its steps are bound by {best.bound}")
    return f"{plan.best}: " + "; ".join(facts)


def _percent(share: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(100 * share)))
    return f"{100 * share:.{digits}f} %"
