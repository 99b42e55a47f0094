"""Designing the network-on-chip: a search over where cores stand and which links there are.

A design says for every tier which core stands where, which links it has within the tier (each spans
at most `REACH` pitches), and in which order the tiers are stacked; links between tiers stand in
every column. It may take no more wire than a mesh, no more ports than a router of a three-
dimensional mesh, and must join all. Objectives, all to be small, for the traffic of a job:

    latency       mean cycles of a bit from source to target
    fullest link  bits on the fullest link in one pass, which is 1 / throughput
    energy        of routers and wires in one pass
    temperature   of the hottest core, with the routers' own power

The search is NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002) as
pymoo has it, from the mesh, the space-filling curves, and changes of both; the operators are ours.
The group behind Atleus designs networks for these objectives by other searches (MOO-STAGE, 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.errors import FewbitsError
from fewbits.machines.atleus import traffic
from fewbits.machines.atleus.heat import core_power_w
from fewbits.machines.atleus.machine import Job, Machine, build, simulate
from fewbits.machines.constants import Constants
from fewbits.machines.parts.noc import Flows, Network, Place

OBJECTIVES = ("latency_cycles", "fullest_bits", "energy_j", "hottest_k")
REACH = 3
#: Links that a router has at most: four within the tier, two between tiers.
MOST_LINKS = 6
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """A network with its objectives.

    ``stands``: for every place (numbered as the network's routers) the core there, by its number in
    the machine that the search began with. ``tiers``: the tiers from the heat sink, likewise.
    """

    name: str
    network: Network
    stands: tuple[int, ...]
    tiers: tuple[int, ...]
    objectives: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """A row of the front's table."""
        return {
            "name": self.name,
            **dict(zip(OBJECTIVES, self.objectives, strict=True)),
            "links": len(self.network.links),
            "wire_pitches": int(self.network.pitches.sum()),
            "tiers_from_sink": " ".join(map(str, self.tiers)),
        }


class Space:
    """Designs as rows of whole numbers, and what each is worth.

    A row is the order of the tiers, then each tier's cores by place, then a 0 or 1 for each link
    that a tier may have.
    """

    def __init__(self, machine: Machine, constants: Constants) -> None:
        self.machine = machine
        hardware = machine.hardware
        self.tiers, (self.rows, self.columns) = hardware.tiers, hardware.cores
        self.level = self.rows * self.columns
        if self.level < 2 or self.tiers < 2:
            raise FewbitsError(
                f"a stack of {self.tiers} tiers of {self.rows}x{self.columns} cores has no network "
                "to design"
            )
        self.candidates = _candidates(self.rows, self.columns)
        self.spans = np.array([abs(a - c) + abs(b - d) for (a, b), (c, d) in self.candidates])
        self.wires = hardware.wires
        layers = machine.job.net.layers
        flows = [flow for layer in range(layers) for flow in machine.flows(layer)]
        self.flows = traffic.joined(flows)
        result = simulate(machine.job, constants)
        seconds = result.total_latency_s
        watts = {part: float(joules.sum()) / seconds for part, joules in result.energy_j.items()}
        self.core_w = core_power_w(machine, watts).reshape(-1)
        self.pass_s = seconds / machine.job.batch
        self.influence = hardware.stack.influence_k_per_w(self.tiers, self.rows, self.columns)
        self.ambient_k = hardware.stack.ambient_k
        mesh_row = self.encode(traffic.network(hardware, curves=False))
        self.most_wire = int(self._links(mesh_row) @ np.tile(self.spans, self.tiers))

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return self.tiers + self.tiers * self.level + self.tiers * len(self.candidates)

    def encode(self, network: Network) -> Integers:
        """The row of a network in which every core stands where it did."""
        index = {pair: number for number, pair in enumerate(self.candidates)}
        links = np.zeros((self.tiers, len(self.candidates)), np.int64)
        for a, b in network.links:
            (tier, *one), (other, *two) = network.places[a], network.places[b]
            if tier == other:
                links[tier, index[tuple(one), tuple(two)]] = 1  # type: ignore[index]
        stands = np.tile(np.arange(self.level), self.tiers)
        return np.concatenate([np.arange(self.tiers), stands, links.ravel()])

    def split(self, row: Integers) -> tuple[Integers, Integers, Integers]:
        """Order of tiers; cores by (tier, place); links by (tier, candidate), tiers by place."""
        order, rest = row[: self.tiers], row[self.tiers :]
        stands = rest[: self.tiers * self.level].reshape(self.tiers, self.level)
        return order, stands, rest[self.tiers * self.level :].reshape(self.tiers, -1)

    def _links(self, row: Integers) -> Integers:
        return self.split(row)[2].ravel()

    def network(self, row: Integers) -> Network:
        """The network of a row."""
        _, _, links = self.split(row)
        places: list[Place] = [
            (t, r, c)
            for t in range(self.tiers)
            for r in range(self.rows)
            for c in range(self.columns)
        ]
        found = [
            (t * self.level + a * self.columns + b, t * self.level + c * self.columns + d)
            for t in range(self.tiers)
            for on, ((a, b), (c, d)) in zip(links[t], self.candidates, strict=True)
            if on
        ]
        found += [(i, i + self.level) for i in range((self.tiers - 1) * self.level)]
        return Network(tuple(places), tuple(sorted(found)))

    def cores_at(self, row: Integers) -> Integers:
        """For each router's place the number of the core that stands there."""
        order, stands, _ = self.split(row)
        return (order[:, None] * self.level + stands).ravel()

    def worth(self, row: Integers) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Objectives, and by how much rules are broken (0 or less: kept)."""
        network = self.network(row)
        over_wire = float(self._links(row) @ np.tile(self.spans, self.tiers) - self.most_wire)
        over_ports = float(np.maximum(network.degrees() - MOST_LINKS, 0).sum())
        routes = network.routes(self.wires)
        if np.isinf(routes.delay).any():
            lost = float(np.isinf(routes.delay).sum())
            return (1e9, 1e18, 1e9, 1e9), (over_wire, over_ports, lost)
        at = self.cores_at(row)
        place = np.empty_like(at)
        place[at] = np.arange(at.size)
        flows = Flows(place[self.flows.sources], place[self.flows.targets], self.flows.bits)
        load = routes.load(flows, self.wires)
        passed = routes.router_bits(load, flows)
        power = self.core_w[at] + load.energy_j / self.pass_s * passed / max(passed.sum(), 1.0)
        hottest = float((self.influence @ power).max()) + self.ambient_k
        values = (load.mean_cycles, load.fullest_bits, load.energy_j, hottest)
        return values, (over_wire, over_ports, 0.0)

    def design(self, row: Integers, name: str) -> Design:
        """A row as a design."""
        order = tuple(int(tier) for tier in self.split(row)[0])
        stands = tuple(int(core) for core in self.cores_at(row))
        return Design(name, self.network(row), stands, order, self.worth(row)[0])

    def starts(self, count: int, rng: np.random.Generator) -> Integers:
        """Rows to begin with: the mesh, the curves, and changes of both."""
        hardware = self.machine.hardware
        known = [self.encode(traffic.network(hardware, curves=on)) for on in (False, True)]
        rows = list(known)
        while len(rows) < count:
            row = known[len(rows) % 2].copy()
            for _ in range(int(rng.integers(1, 8))):
                row = self.changed(row, rng)
            rows.append(row)
        return np.stack(rows[:count])

    def changed(self, row: Integers, rng: np.random.Generator) -> Integers:
        """A row with two cores swapped, a link moved, added or removed, or two tiers swapped."""
        row = row.copy()
        order, stands, links = self.split(row)  # views
        tier = int(rng.integers(self.tiers))
        what = rng.random()
        if what < 0.4:
            a, b = rng.choice(self.level, 2, replace=False)
            stands[tier, [a, b]] = stands[tier, [b, a]]
        elif what < 0.9:
            on, off = np.flatnonzero(links[tier]), np.flatnonzero(links[tier] == 0)
            if on.size and (what < 0.75 or what >= 0.85):
                links[tier, rng.choice(on)] = 0
            if off.size and what < 0.85:
                links[tier, rng.choice(off)] = 1
        else:
            a, b = rng.choice(self.tiers, 2, replace=False)
            order[[a, b]] = order[[b, a]]
        return row

    def mixed(self, one: Integers, other: Integers, rng: np.random.Generator) -> Integers:
        """A row that takes each tier's cores, its links, and the order, from either parent."""
        child = one.copy()
        mine, theirs = self.split(child), self.split(other)
        if rng.random() < 0.5:
            mine[0][:] = theirs[0]
        for part in (1, 2):
            take = rng.random(self.tiers) < 0.5
            mine[part][take] = theirs[part][take]
        return child


@dataclass(frozen=True)
class Front:
    """What a search found: designs that no other beats in all objectives, and where it began."""

    designs: tuple[Design, ...]
    mesh: Design
    curves: Design
    evaluations: int

    def best(self) -> Design:
        """The design nearest to the least of every objective, each scaled to the front's range."""
        values = np.array([design.objectives for design in self.designs])
        low, high = values.min(0), values.max(0)
        scaled = (values - low) / np.where(high > low, high - low, 1.0)
        return self.designs[int(np.linalg.norm(scaled, axis=1).argmin())]


def search(
    job: Job,
    constants: Constants,
    *,
    generations: int = 100,
    population: int = 40,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> Front:
    """Search for networks; ``advance(1)`` is called after each generation.

    Raises:
        FewbitsError: pymoo is not installed, or there is no network to design.
    """
    if generations < 1 or population < 4:
        raise FewbitsError("a search takes 1 generation and a population of 4 at least")
    space = Space(build(job, constants), constants)
    rows = _nsga2(space, generations, population, seed, advance)
    known = [
        space.design(space.encode(traffic.network(space.machine.hardware, curves=on)), name)
        for on, name in ((False, "mesh"), (True, "curves"))
    ]
    # The search may end with the same network drawn twice, once for each order of equal cores.
    found: dict[tuple[float, ...], Design] = {}
    for row in rows:
        design = space.design(row, "")
        found.setdefault(tuple(np.round(design.objectives, 12)), design)
    ordered = sorted(found.values(), key=lambda design: design.objectives)
    named = tuple(replace(design, name=f"network-{n:02}") for n, design in enumerate(ordered, 1))
    return Front(named, known[0], known[1], generations * population)


def _nsga2(
    space: Space, generations: int, population: int, seed: int, advance: Callable[[int], None]
) -> Integers:
    """The rows of the last front."""
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.callback import Callback
        from pymoo.core.crossover import Crossover
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import Problem
        from pymoo.optimize import minimize
    except ImportError:
        raise FewbitsError(
            "designing a network needs pymoo: pip install 'fewbits[design]'"
        ) from None
    rng = np.random.default_rng(seed)

    class Networks(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=space.size, n_obj=len(OBJECTIVES), n_ieq_constr=3, xl=0, xu=999,
                             vtype=int)  # fmt: skip

        def _evaluate(self, rows: Integers, out: dict[str, Any], *_: Any, **__: Any) -> None:
            worth = [space.worth(row) for row in rows.astype(np.int64)]
            out["F"] = np.array([values for values, _ in worth])
            out["G"] = np.array([broken for _, broken in worth])

    class Mixing(Crossover):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(2, 2)

        def _do(self, problem: Any, parents: Integers, *_: Any, **__: Any) -> Integers:
            one, other = parents.astype(np.int64)
            children = [
                [space.mixed(a, b, rng) for a, b in zip(one, other, strict=True)],
                [space.mixed(b, a, rng) for a, b in zip(one, other, strict=True)],
            ]
            return np.array(children)

    class Changing(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, rows: Integers, *_: Any, **__: Any) -> Integers:
            return np.stack([space.changed(row, rng) for row in rows.astype(np.int64)])

    class Telling(Callback):  # type: ignore[misc]
        def notify(self, algorithm: Any) -> None:
            advance(1)

    found = minimize(
        Networks(),
        NSGA2(
            pop_size=population,
            sampling=space.starts(population, rng),
            crossover=Mixing(),
            mutation=Changing(),
        ),
        ("n_gen", generations),
        seed=seed,
        callback=Telling(),
        verbose=False,
    )
    return np.atleast_2d(found.X).astype(np.int64)


def _candidates(rows: int, columns: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of places of a tier that a link may join."""
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    return [
        (one, other)
        for index, one in enumerate(cells)
        for other in cells[index + 1 :]
        if abs(one[0] - other[0]) + abs(one[1] - other[1]) <= REACH
    ]
