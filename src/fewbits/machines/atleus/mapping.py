"""What goes where: static weights to crossbars, everything dynamic to the systolic tier.

A layer's matrices stand one after another in a row of crossbars, attention first. The row is cut
into as many equal parts as there are ReRAM tiers, and each layer takes the cores that its place
among the layers points to. For GPT-2 and BERT that puts attention, and each of the two feed-forward
matrices, on a tier of its own: 12·d² parts into three times 4·d².
"""

import re
from dataclasses import dataclass
from typing import Literal

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.atleus.constants import Hardware
from fewbits.machines.transformers import Transformer

Backward = Literal["transposed", "duplicated"]
_MIXED = re.compile(r"[Mm](?P<attention>[0-9]+)[Ff](?P<feedforward>[0-9]+)")


@dataclass(frozen=True)
class Matrix:
    """A static matrix of one layer: ``k`` inputs, ``n`` outputs, and which part it belongs to."""

    name: str
    part: Literal["attention", "feedforward"]
    k: int
    n: int

    @property
    def weights(self) -> int:
        """Its elements."""
        return self.k * self.n


def matrices(net: Transformer) -> tuple[Matrix, ...]:
    """The static matrices of one layer, in the order in which they stand."""
    kv = net.kv_heads * net.head
    up = [Matrix("up", "feedforward", net.hidden, net.inner)]
    if net.gated:
        up = [Matrix("gate", "feedforward", net.hidden, net.inner), *up]
    return (
        Matrix("query", "attention", net.hidden, net.attention),
        Matrix("key", "attention", net.hidden, kv),
        Matrix("value", "attention", net.hidden, kv),
        Matrix("output", "attention", net.attention, net.hidden),
        *up,
        Matrix("down", "feedforward", net.inner, net.hidden),
    )


def mixed_bits(text: str) -> tuple[int, int]:
    """Bits of attention and feed-forward weights from ``M8F4``, or ``8`` for both."""
    if text.isdigit():
        return int(text), int(text)
    match = _MIXED.fullmatch(text)
    if match is None:
        raise FewbitsError(f"{text!r} are no bits such as 8 or M8F4 (attention 8, feed-forward 4)")
    return int(match["attention"]), int(match["feedforward"])


@dataclass(frozen=True)
class Mapping:
    """A network's matrices on the crossbars.

    ``demand``: crossbars of one layer, by matrix. ``copies``: how often the whole network stands.
    ``backward``: how the backward pass reads, None where there is none.
    """

    net: Transformer
    hardware: Hardware
    demand: dict[str, int]
    copies: int
    backward: Backward | None = None

    @property
    def needed(self) -> int:
        """Crossbars of all layers, once."""
        return self.net.layers * sum(self.demand.values())

    @property
    def written(self) -> int:
        """How often each weight is programmed: its copies, and transposed ones."""
        return self.copies * (2 if self.backward == "duplicated" else 1)

    @property
    def fill(self) -> float:
        """Share of the crossbars that hold weights, copies included."""
        return self.needed * self.copies / self.hardware.crossbars

    def bits(self, matrix: Matrix) -> int:
        """Bits of its weights."""
        return int(self.hardware.constants[f"{matrix.part}_bits"])

    def tiers(self, matrix: Matrix) -> dict[int, float]:
        """Places of the ReRAM tiers that hold a matrix, and its share on each."""
        total = sum(self.demand.values())
        start = 0
        for name, count in self.demand.items():
            if name == matrix.name:
                break
            start += count
        places = self.hardware.reram_places
        shares = overlaps(start / total, (start + self.demand[matrix.name]) / total, len(places))
        return {places[tier]: share for tier, share in shares.items()}

    def cores(self, layer: int) -> dict[int, float]:
        """Cores along a tier's curve that hold a layer, and its share on each."""
        layers = self.net.layers
        return overlaps(layer / layers, (layer + 1) / layers, self.hardware.cores_a_tier)


def overlaps(start: float, end: float, parts: int) -> dict[int, float]:
    """Shares of [start, end), within [0, 1), on each of so many equal parts."""
    found = {}
    for part in range(parts):
        shared = min(end, (part + 1) / parts) - max(start, part / parts)
        if shared > 1e-12:
            found[part] = shared / (end - start)
    return found


def map_network(net: Transformer, hardware: Hardware, backward: Backward | None = None) -> Mapping:
    """Map a network; ``backward`` says how the backward pass reads, None where there is none.

    ``transposed`` drives the columns and converts the rows of the same crossbars, ``duplicated``
    keeps a transposed copy.

    Raises:
        FewbitsError: It does not fit; the message says by how much, and what would.
    """
    crossbar, constants = hardware.crossbar, hardware.constants
    demand = {}
    for matrix in matrices(net):
        bits = int(constants[f"{matrix.part}_bits"])
        try:
            count = crossbar.count(matrix.k, matrix.n, bits)
            if backward == "duplicated":
                count += crossbar.count(matrix.n, matrix.k, bits)
        except ValueError as error:
            raise FewbitsError(f"{matrix.part}_bits: {error}") from None
        demand[matrix.name] = count
    needed = net.layers * sum(demand.values())
    if needed > hardware.crossbars:
        raise FewbitsError(_too_large(net, hardware, needed, backward))
    copies = min(hardware.crossbars // needed, int(constants["most_copies"]))
    return Mapping(net, hardware, demand, copies, backward)


def _too_large(net: Transformer, hardware: Hardware, needed: int, backward: str | None) -> str:
    """By how much, and what would fit."""
    c = hardware.constants
    have = hardware.crossbars
    tiers = -(-needed * int(c["reram_tiers"]) // have)
    advice = [f"{tiers} ReRAM tiers (--set reram_tiers={tiers})"]
    if backward == "duplicated":
        advice.append("transposed reads (--backward transposed)")
    for bits in range(int(max(c["attention_bits"], c["feedforward_bits"])) - 1, 1, -1):
        fewer = sum(hardware.crossbar.count(m.k, m.n, bits) for m in matrices(net))
        if fewer * net.layers * (2 if backward == "duplicated" else 1) <= have:
            advice.append(f"{bits}-bit weights (--bits {bits})")
            break
    return (
        f"the weights do not fit: {needed} crossbars of {have} there are "
        f"({needed / have:.1f} times as many); {' or '.join(advice)} would"
    )


TARGETS = ("query", "key", "value", "output", "gate", "up", "down")


def check_targets(targets: tuple[str, ...], net: Transformer) -> tuple[Matrix, ...]:
    """The matrices of these names; ``FewbitsError`` with the nearest where one is not there."""
    known = {matrix.name: matrix for matrix in matrices(net)}
    short = {"q": "query", "k": "key", "v": "value", "o": "output"}
    found = []
    for target in targets:
        name = short.get(target, target)
        if name not in known:
            hint = did_you_mean(name, known)
            raise FewbitsError(
                f"no matrix is called {target!r}{hint}; there are {', '.join(known)}"
            )
        found.append(known[name])
    return tuple(found)
