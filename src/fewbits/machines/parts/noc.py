"""A network-on-chip in three dimensions: routers, links, routes, and the loads of given flows.

Routers stand at (tier, row, column). Links join two routers of a tier, or two that lie above each
other; both ways work at once. A message takes the route of least delay, one for each pair, found in
advance: (router + link) cycles a hop. What `load` says of a phase's flows:

    time of a phase  >=  flits on the fullest link or node port, one a cycle, plus the longest route
    energy            =  bits · (routers passed · router energy + wire energy of the links)

`fewbits.machines.parts.flits` sends the same flows flit by flit, and tests hold the two together.

>>> net = mesh(1, 2, 2)
>>> len(net.links), net.hops().max()
(4, np.int64(2))
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, int, int]
Floats = NDArray[np.float64]
_NOWHERE = -9999  # what SciPy writes where there is no way


@dataclass(frozen=True)
class Wires:
    """What routers and links take: cycles, joules, and the flit's width.

    A link within a tier takes ``pitch_cycles`` for each pitch of its Manhattan length.
    """

    flit_bits: int
    clock_hz: float
    router_cycles: int
    pitch_cycles: int
    vertical_cycles: int
    pitch_m: float
    router_j_per_bit: float
    wire_j_per_bit_m: float
    vertical_j_per_bit: float


@dataclass(frozen=True)
class Network:
    """Routers by place, and links as pairs of their numbers, the lower first."""

    places: tuple[Place, ...]
    links: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(set(self.places)) != len(self.places):
            raise ValueError("two routers stand in one place")
        if len(set(self.links)) != len(self.links):
            raise ValueError("a link is there twice")
        for a, b in self.links:
            if not 0 <= a < b < len(self.places):
                raise ValueError(f"a link from router {a} to {b} of {len(self.places)}")
            (tier, row, column), (other, row2, column2) = self.places[a], self.places[b]
            if tier != other and ((row, column) != (row2, column2) or abs(tier - other) != 1):
                raise ValueError(f"no wire runs from {self.places[a]} to {self.places[b]}")

    @cached_property
    def _ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ends = np.array(self.links, np.int64).reshape(-1, 2)
        return ends[:, 0], ends[:, 1]

    @cached_property
    def pitches(self) -> NDArray[np.int64]:
        """Manhattan length of each link in pitches; 0 where it is vertical."""
        places = np.array(self.places, np.int64)
        a, b = self._ends
        return np.asarray(np.abs(places[a, 1:] - places[b, 1:]).sum(1))

    def degrees(self) -> NDArray[np.int64]:
        """Links of each router."""
        return np.bincount(np.concatenate(self._ends), minlength=len(self.places))

    def cycles(self, wires: Wires) -> NDArray[np.int64]:
        """Cycles of each link."""
        planar = np.maximum(self.pitches * wires.pitch_cycles, 1)
        return np.where(self.pitches == 0, wires.vertical_cycles, planar)

    def routes(self, wires: Wires | None = None) -> "Routes":
        """The route of least delay between any two routers (of fewest hops without ``wires``)."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import shortest_path

        a, b = self._ends
        count = len(self.places)
        delay = np.ones(a.size) if wires is None else wires.router_cycles + self.cycles(wires)
        # A little more for the higher number, so that equal routes are told apart the same way.
        delay = delay + 1e-6 * np.arange(1, a.size + 1) / max(a.size, 1)
        graph = csr_matrix((delay, (a, b)), shape=(count, count))
        distance, before = shortest_path(graph, directed=False, return_predecessors=True)
        return Routes(self, before, np.floor(distance + 1e-3))

    def hops(self) -> NDArray[np.int64]:
        """Hops between any two routers, by the fewest."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import shortest_path

        a, b = self._ends
        graph = csr_matrix((np.ones(a.size), (a, b)), shape=(len(self.places),) * 2)
        hops = shortest_path(graph, directed=False, unweighted=True)
        return np.where(np.isinf(hops), -1, hops).astype(np.int64)

    def connected(self) -> bool:
        """Can every router reach every other?"""
        return bool((self.hops() >= 0).all())


@dataclass(frozen=True)
class Flows:
    """``bits[i]`` to be sent from router ``sources[i]`` to ``targets[i]`` in one phase."""

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    bits: Floats

    @classmethod
    def of(cls, table: dict[tuple[int, int], float]) -> "Flows":
        """Flows from a dictionary; those from a router to itself and of no bits are left out."""
        kept = [(a, b, bits) for (a, b), bits in sorted(table.items()) if a != b and bits > 0]
        columns = zip(*kept, strict=True) if kept else ((), (), ())
        sources, targets, bits = columns
        return cls(np.array(sources, np.int64), np.array(targets, np.int64), np.array(bits, float))

    def scaled(self, by: float) -> "Flows":
        """The same flows with so many times the bits."""
        return Flows(self.sources, self.targets, self.bits * by)


@dataclass(frozen=True)
class Load:
    """What flows do to a network: bits on links and node ports, hops, delay, energy.

    ``link_bits``: (2, links), from the lower number to the higher and back. ``port_bits``:
    (2, routers), out of the node and into it. Means are over bits.
    """

    link_bits: Floats
    port_bits: Floats
    mean_hops: float
    mean_cycles: float
    longest_cycles: int
    time_s: float
    energy_j: float

    @property
    def fullest_bits(self) -> float:
        """Bits on the fullest link, in the direction that has more, or into or out of a node."""
        return float(max(self.link_bits.max(initial=0.0), self.port_bits.max(initial=0.0)))


@dataclass(frozen=True)
class Routes:
    """For each router and target what comes before the target, and the delay in cycles."""

    network: Network
    before: NDArray[np.int32]
    delay: Floats

    def path(self, source: int, target: int) -> list[int]:
        """Routers from source to target, both included; ``ValueError`` where there is no way."""
        path = [target]
        while path[-1] != source:
            path.append(int(self.before[source, path[-1]]))
            if path[-1] == _NOWHERE:
                raise ValueError(f"no way leads from router {source} to {target}")
        return path[::-1]

    def load(self, flows: Flows, wires: Wires) -> Load:
        """Loads, delays and energy of flows; the fullest link sets the time."""
        count = len(self.network.places)
        bits = np.zeros((count, count))
        hops = np.zeros(flows.bits.size)
        at, open_ = flows.targets.copy(), np.arange(flows.bits.size)
        while open_.size:
            came = self.before[flows.sources[open_], at[open_]].astype(np.int64)
            if (came == _NOWHERE).any():
                lost = open_[came == _NOWHERE][0]
                pair = f"{flows.sources[lost]} to {flows.targets[lost]}"
                raise ValueError(f"no way leads from router {pair}")
            np.add.at(bits, (came, at[open_]), flows.bits[open_])
            hops[open_] += 1
            at[open_] = came
            open_ = open_[at[open_] != flows.sources[open_]]
        a, b = self.network._ends
        both = np.stack([bits[a, b], bits[b, a]])
        total = flows.bits.sum()
        delay = self.delay[flows.sources, flows.targets] + wires.router_cycles
        longest = int(delay.max(initial=0))
        ports = np.stack(
            [np.bincount(ends, flows.bits, count) for ends in (flows.sources, flows.targets)]
        ).astype(np.float64)
        cycles = max(both.max(initial=0.0), ports.max(initial=0.0)) / wires.flit_bits
        return Load(
            link_bits=both,
            port_bits=ports,
            mean_hops=float(hops @ flows.bits / total) if total else 0.0,
            mean_cycles=float(delay @ flows.bits / total) if total else 0.0,
            longest_cycles=longest,
            time_s=(cycles + longest) / wires.clock_hz if total else 0.0,
            energy_j=self._energy_j(both.sum(0), hops @ flows.bits + total, wires),
        )

    def _energy_j(self, link_bits: Floats, router_bits: float, wires: Wires) -> float:
        pitches = self.network.pitches
        wire = wires.pitch_m * pitches * wires.wire_j_per_bit_m
        per_bit = np.where(pitches == 0, wires.vertical_j_per_bit, wire)
        return float(router_bits * wires.router_j_per_bit + link_bits @ per_bit)

    def router_bits(self, load: Load, flows: Flows) -> Floats:
        """Bits that each router passes on or takes in."""
        count = len(self.network.places)
        a, b = self.network._ends
        passed = np.bincount(b, load.link_bits[0], count) + np.bincount(a, load.link_bits[1], count)
        return np.asarray(passed + np.bincount(flows.sources, flows.bits, count))


def grid(tiers: int, rows: int, columns: int) -> tuple[Place, ...]:
    """Places of a full stack: router number (tier · rows + row) · columns + column."""
    if min(tiers, rows, columns) < 1:
        raise ValueError(f"no floor plan of {tiers} tiers of {rows}x{columns} routers")
    return tuple((t, r, c) for t in range(tiers) for r in range(rows) for c in range(columns))


def mesh(
    tiers: int, rows: int, columns: int, *, curves: Iterable[int] = (), columns_up: bool = True
) -> Network:
    """Tiers as meshes, those in ``curves`` as one chain along `curve`; links up in every column."""
    places = grid(tiers, rows, columns)
    number = {place: index for index, place in enumerate(places)}
    curved = set(curves)
    links: list[tuple[int, int]] = []
    for tier in range(tiers):
        if tier in curved:
            chain = [number[tier, row, column] for row, column in curve(rows, columns)]
            links += [tuple(sorted(pair)) for pair in itertools.pairwise(chain)]  # type: ignore[misc]
            continue
        for row in range(rows):
            for column in range(columns):
                here = number[tier, row, column]
                if column + 1 < columns:
                    links.append((here, number[tier, row, column + 1]))
                if row + 1 < rows:
                    links.append((here, number[tier, row + 1, column]))
    if columns_up:
        level = rows * columns
        links += [(here, here + level) for here in range((tiers - 1) * level)]
    return Network(places, tuple(sorted(links)))


def curve(rows: int, columns: int) -> list[tuple[int, int]]:
    """A walk over all cells, one step at a time: Hilbert's curve on 2^k x 2^k, else a snake."""
    if rows != columns or rows & (rows - 1):
        return [
            (row, column if row % 2 == 0 else columns - 1 - column)
            for row in range(rows)
            for column in range(columns)
        ]
    return [_hilbert(rows, step) for step in range(rows * columns)]


def _hilbert(side: int, step: int) -> tuple[int, int]:
    """The place of a step (Hilbert, Mathematische Annalen 38, 1891): quadrants, turned to join."""
    row = column = 0
    size = 1
    while size < side:
        down = 1 & (step // 2)
        right = 1 & (step ^ down)
        if right == 0:
            if down == 1:
                row, column = size - 1 - row, size - 1 - column
            row, column = column, row
        row, column = row + size * down, column + size * right
        step //= 4
        size *= 2
    return row, column


def anynet(network: Network, wires: Wires | None = None) -> str:
    """The network in the format of BookSim 2's ``topology = anynet``.

    A line for each router: its node, and the routers with a higher number that it is linked to.
    With ``wires`` each link's cycles follow it, which older versions of BookSim do not read.
    """
    cycles = None if wires is None else network.cycles(wires)
    lines = [f"router {index} node {index}" for index in range(len(network.places))]
    for index, (a, b) in enumerate(network.links):
        lines[a] += f" router {b}" + ("" if cycles is None else f" {cycles[index]}")
    return "\n".join(lines) + "\n"


def virtual_layers(routes: Routes, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """A virtual channel for each pair's route, so that no layer can deadlock.

    Routes deadlock only if their links wait for each other in a circle (Dally and Seitz, IEEE
    Transactions on Computers 36(5), 1987). Each route goes to the first layer that stays without
    one, as Skeie, Lysne and Theiss do for irregular networks (LASH, IPDPS 2002).
    """
    import networkx as nx

    layers: list[nx.DiGraph] = []
    chosen = []
    for source, target in pairs:
        path = routes.path(source, target)
        waits = list(itertools.pairwise(itertools.pairwise(path)))
        number = next((n for n, layer in enumerate(layers) if _takes(layer, waits)), len(layers))
        if number == len(layers):
            layers.append(nx.DiGraph())
            _takes(layers[-1], waits)
        chosen.append(number)
    return chosen


def _takes(layer: Any, waits: Sequence[Any]) -> bool:
    """Adds waits to a graph without circles, if it stays one; otherwise none."""
    import networkx as nx

    added: list[Any] = []
    for before, after in waits:
        if layer.has_edge(before, after):
            continue
        layer.add_nodes_from((before, after))
        if nx.has_path(layer, after, before):
            layer.remove_edges_from(added)
            return False
        layer.add_edge(before, after)
        added.append((before, after))
    return True
