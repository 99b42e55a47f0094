"""Which core sends how much to which, from the mapping: the flows of one layer and one sequence.

A norm's output goes from the systolic tier down to the query, key and value matrices, their results
up, the context down to the output projection and up again, the next norm's output down to the
feed-forward part, across it, and up. Systolic cores share the heads and tokens evenly. The backward
pass sends gradients the same ways back.
"""

from collections import defaultdict

from fewbits.machines.atleus.constants import Hardware
from fewbits.machines.atleus.mapping import Mapping, Matrix, matrices
from fewbits.machines.parts.noc import Flows, Network, curve, mesh


def network(hardware: Hardware, *, curves: bool = True) -> Network:
    """The stack's network: a mesh on the systolic tier, space-filling curves on the others.

    ``curves=False`` gives meshes everywhere, which is what the search starts from.
    """
    rows, columns = hardware.cores
    return mesh(hardware.tiers, rows, columns, curves=hardware.reram_places if curves else ())


def layer_flows(mapping: Mapping, layer: int, tokens: int, bits: int, input_bits: int) -> Flows:
    """Bits between routers (numbered as `fewbits.machines.parts.noc.grid`) for one layer forward.

    ``bits``: of a value over a link; ``input_bits`` of one that goes into crossbars.
    """
    hardware, net = mapping.hardware, mapping.net
    order = curve(*hardware.cores)
    columns = hardware.cores[1]
    level = hardware.cores_a_tier
    arrays = [hardware.systolic_place * level + core for core in range(level)]

    def holders(matrix: Matrix) -> dict[int, float]:
        found = {}
        for tier, part in mapping.tiers(matrix).items():
            for step, share in mapping.cores(layer).items():
                row, column = order[step]
                found[tier * level + row * columns + column] = part * share
        return found

    table: dict[tuple[int, int], float] = defaultdict(float)

    def send(sources: dict[int, float], targets: dict[int, float], amount: float) -> None:
        for source, part in sources.items():
            for target, share in targets.items():
                table[source, target] += amount * part * share

    systolic = dict.fromkeys(arrays, 1 / len(arrays))
    held = {matrix.name: holders(matrix) for matrix in matrices(net)}
    sizes = {matrix.name: matrix for matrix in matrices(net)}
    # One copy of the norm's output serves query, key and value, where they share a core.
    attention = {name: held[name] for name in ("query", "key", "value")}
    weights = sum(sizes[name].weights for name in attention)
    joint: dict[int, float] = defaultdict(float)
    for name, places in attention.items():
        for place, share in places.items():
            joint[place] += share * sizes[name].weights / weights
    send(systolic, joint, tokens * net.hidden * input_bits)
    for name, places in attention.items():
        send(places, systolic, tokens * sizes[name].n * bits)
    send(systolic, held["output"], tokens * net.attention * input_bits)
    send(held["output"], systolic, tokens * net.hidden * bits)
    first = held["up"]
    send(systolic, first, tokens * net.hidden * input_bits)
    if net.gated:
        send(systolic, held["gate"], tokens * net.hidden * input_bits)
        send(held["gate"], first, tokens * net.inner * input_bits)
    send(first, held["down"], tokens * net.inner * input_bits)
    send(held["down"], systolic, tokens * net.hidden * bits)
    return Flows.of(dict(table))


def backwards(flows: Flows, by: float) -> Flows:
    """The same flows the other way round, times the ratio of the gradients' bits."""
    return Flows(flows.targets, flows.sources, flows.bits * by)


def joined(flows: list[Flows]) -> Flows:
    """All flows together, those of one pair as one."""
    table: dict[tuple[int, int], float] = defaultdict(float)
    for flow in flows:
        for source, target, bits in zip(
            flow.sources.tolist(), flow.targets.tolist(), flow.bits.tolist(), strict=True
        ):
            table[source, target] += bits
    return Flows.of(dict(table))
