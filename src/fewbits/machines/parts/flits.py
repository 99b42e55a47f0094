"""A network-on-chip flit by flit: what the loads of `fewbits.machines.parts.noc` are checked with.

Time goes in cycles. A packet of F flits takes its route as a worm: its head takes a virtual channel
of each link in turn, its tail gives it back. In a cycle a link carries one flit, of the packet that
waits longest in total (the lowest start, then number); a flit goes only where the buffer behind
the link has room, and a credit is back in the same cycle. A node feeds one flit a cycle into its
router and takes one out. So a packet that meets no other, over H hops with links of d cycles and
routers of r, is there after

    1 + (H + 1) · r + H · d + F   cycles

counting from its start: into the first router, through H + 1 routers and H links, and out.
"""

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fewbits.machines.parts.noc import Flows, Network, Routes, Wires, virtual_layers

Link = tuple[int, int]
_IN, _OUT = -1, -2  # the node's side of its router


@dataclass(frozen=True)
class Packet:
    """So many flits from one router's node to another's, from a cycle on."""

    source: int
    target: int
    flits: int
    start: int = 0
    layer: int = 0

    def __post_init__(self) -> None:
        if self.flits < 1 or self.start < 0 or self.source == self.target:
            raise ValueError(f"{self}: a packet has flits, a start from 0, and goes elsewhere")


@dataclass(frozen=True)
class Delivery:
    """When the last flit of each packet was out, and how many flits each link carried."""

    finished: tuple[int, ...]
    link_flits: dict[Link, int]

    @property
    def cycles(self) -> int:
        """Cycles until all was delivered."""
        return max(self.finished, default=0)


@dataclass
class _Worm:
    """A packet under way: flits that crossed each link, and those in the buffer behind it."""

    number: int
    packet: Packet
    links: list[Link]
    delays: list[int]
    crossed: list[int] = field(init=False)
    buffers: list[deque[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.crossed = [0] * len(self.links)
        self.buffers = [deque() for _ in self.links]

    def ready(self, hop: int) -> int | None:
        """The cycle in which the next flit may cross a link, None while there is none."""
        if hop == 0:
            return self.packet.start if self.crossed[0] < self.packet.flits else None
        return self.buffers[hop - 1][0] if self.buffers[hop - 1] else None


def packets_of(flows: Flows, routes: Routes, wires: Wires, *, flits: int = 8) -> list[Packet]:
    """Flows cut into packets of so many flits, all from cycle 0, on layers that cannot deadlock."""
    pairs = list(zip(flows.sources.tolist(), flows.targets.tolist(), strict=True))
    layers = virtual_layers(routes, pairs)
    found = []
    for (source, target), bits, layer in zip(pairs, flows.bits.tolist(), layers, strict=True):
        left = math.ceil(bits / wires.flit_bits)
        sizes = [flits] * (left // flits) + [left % flits] * (left % flits > 0)
        found += [Packet(source, target, size, 0, layer) for size in sizes]
    return found


def deliver(
    network: Network,
    routes: Routes,
    wires: Wires,
    packets: Sequence[Packet],
    *,
    buffer_flits: int = 4,
) -> Delivery:
    """Send packets; ``ValueError`` naming one of them where they wait for each other for ever."""
    if buffer_flits < 1:
        raise ValueError(f"a buffer holds 1 flit at least, not {buffer_flits}")
    cycles = dict(zip(network.links, map(int, network.cycles(wires)), strict=True))
    worms = [_worm(n, packet, routes, cycles) for n, packet in enumerate(packets)]
    owners: dict[tuple[Link, int], int] = {}
    carried: dict[Link, int] = {}
    finished = [0] * len(worms)
    active = sorted(worms, key=lambda worm: (worm.packet.start, worm.number))
    now = 0
    while active:
        moves = _choose(active, owners, now, buffer_flits)
        if not moves:
            now = _later(active, now)
            continue
        for worm, hop in moves:
            link, key = worm.links[hop], (worm.links[hop], worm.packet.layer)
            owners[key] = worm.number
            carried[link] = carried.get(link, 0) + 1
            worm.crossed[hop] += 1
            if hop:
                worm.buffers[hop - 1].popleft()
            if worm.crossed[hop] == worm.packet.flits:
                del owners[key]
            if hop + 1 < len(worm.links):
                worm.buffers[hop].append(now + worm.delays[hop] + wires.router_cycles)
            elif worm.crossed[hop] == worm.packet.flits:
                finished[worm.number] = now + 1
        active = [worm for worm in active if not finished[worm.number]]
        now += 1
    real = {link: count for link, count in carried.items() if min(link) >= 0}
    return Delivery(tuple(finished), real)


def _worm(number: int, packet: Packet, routes: Routes, cycles: dict[Link, int]) -> _Worm:
    path = routes.path(packet.source, packet.target)
    hops = list(itertools.pairwise(path))
    delays = [cycles[min(hop), max(hop)] for hop in hops]
    links = [(_IN, packet.source), *hops, (packet.target, _OUT)]
    return _Worm(number, packet, links, [1, *delays, 1])


def _choose(
    active: list[_Worm], owners: dict[tuple[Link, int], int], now: int, buffer_flits: int
) -> list[tuple[_Worm, int]]:
    """The flits that move in this cycle; ``active`` stands in the order of right of way."""
    taken: set[Link] = set()
    claimed: set[tuple[Link, int]] = set()
    moves = []
    for worm in active:
        if worm.packet.start > now:
            break
        for hop in range(len(worm.links) - 1, -1, -1):
            ready, link = worm.ready(hop), worm.links[hop]
            if ready is None or ready > now or link in taken:
                continue
            key = (link, worm.packet.layer)
            if owners.get(key, worm.number) != worm.number or key in claimed:
                continue
            if hop + 1 < len(worm.links) and len(worm.buffers[hop]) >= buffer_flits:
                continue
            taken.add(link)
            claimed.add(key)
            moves.append((worm, hop))
    return moves


def _later(active: list[_Worm], now: int) -> int:
    """The next cycle in which a flit becomes ready."""
    times = [worm.ready(hop) for worm in active for hop in range(len(worm.links))]
    coming = [time for time in times if time is not None and time > now]
    if not coming:
        packet = active[0].packet
        raise ValueError(
            f"deadlock after {now} cycles: the packet from router {packet.source} to "
            f"{packet.target} waits in a circle; put routes on layers of their own (virtual_layers)"
        )
    return min(coming)
