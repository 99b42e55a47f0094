"""Runs a mapped netlist, many streams at once, and counts how often each net toggles.

A net's value is a Python integer with a bit for each stream, so that one pass over the gates is a
cycle of all streams. There are no delays, and so no glitches: what is counted is the one change
that settles. Every flip-flop and clock gate has the same clock.
"""

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

from fewbits.silicon.library import CELLS, CLOCK_GATE, CLOCK_PIN_EFFORT, FLIP_FLOP
from fewbits.silicon.technology import TECHNOLOGY

_GATES = {cell.name: cell for cell in CELLS}


def _kind(cell: Mapping[str, Any]) -> tuple[str, int]:
    name, _, drive = cell["type"].lstrip("\\").partition("_X")
    return name, int(drive or 1)


class Netlist:
    """A netlist of our library, ready to run ``streams`` copies of it side by side."""

    def __init__(self, module: Mapping[str, Any], streams: int) -> None:
        self.all = (1 << streams) - 1
        self.streams = streams
        self.ports = {
            name: (port["direction"], port["bits"]) for name, port in module["ports"].items()
        }
        self.gates, self.flip_flops, enables = [], [], {}
        for cell in module["cells"].values():
            name, drive = _kind(cell)
            pins = {pin: bits[0] for pin, bits in cell["connections"].items()}
            if name == FLIP_FLOP:
                self.flip_flops.append(pins)
            elif name == CLOCK_GATE:
                enables[pins["GCK"]] = pins["E"]
            else:
                self.gates.append((name, drive, pins))
        self.enables = enables
        self.nets: dict[Any, int] = {"0": 0, "x": 0, "1": 1}
        self.state: list[int] = []
        self._settle = self._compile()
        self.values: list[int] = [0] * len(self.nets)
        self.values[1] = self.all
        self.loads = self._loads()
        self.clock_f = self._clock()
        self.reset_counts()

    def _compile(self) -> Any:
        """One function that computes every gate's output, in order of dependence."""
        for _, bits in self.ports.values():
            for bit in bits:
                self._add(bit)
        for pins in self.flip_flops:
            for net in pins.values():
                self._add(net)
        driver = {pins["Y"]: place for place, (_, _, pins) in enumerate(self.gates)}
        order = TopologicalSorter(
            {
                place: {driver[net] for pin, net in pins.items() if pin != "Y" and net in driver}
                for place, (_, _, pins) in enumerate(self.gates)
            }
        )
        lines = ["def settle(v, M):"]
        for place in order.static_order():
            name, _, pins = self.gates[place]
            for net in pins.values():
                self._add(net)
            text = _GATES[name].function.replace("!", "~")
            inputs = {pin: f"v[{self.nets[net]}]" for pin, net in pins.items()}
            text = re.sub(r"\b[A-DS]\b", "{\\g<0>}", text).format(**inputs)
            lines.append(f" v[{self.nets[pins['Y']]}] = ({text}) & M")
        scope: dict[str, Any] = {}
        exec("\n".join(lines), scope)
        return scope["settle"]

    def _add(self, net: Any) -> None:
        if net not in self.nets:
            self.nets[net] = len(self.nets) - 1

    def _loads(self) -> list[float]:
        """What each net charges when it toggles: inputs, wire, and its driver's own output."""
        inverter, wire = TECHNOLOGY["inverter_f"].value, TECHNOLOGY["wire_f"].value
        loads = [0.0] * len(self.values)
        for name, drive, pins in self.gates:
            cell = _GATES[name]
            growth = drive if not cell.output_pairs else 1
            for pin, effort in zip(cell.inputs, cell.efforts, strict=True):
                loads[self.nets[pins[pin]]] += effort * growth * inverter + wire
            loads[self.nets[pins["Y"]]] += cell.parasitic * drive * inverter
        for pins in self.flip_flops:
            loads[self.nets[pins["D"]]] += inverter + wire
            # The two latches' nodes change with the output.
            loads[self.nets[pins["Q"]]] += 4 * inverter
        return loads

    def _clock(self) -> float:
        """What one flip-flop's clock pin charges every cycle, its share of the tree included."""
        inverter, wire = TECHNOLOGY["inverter_f"].value, TECHNOLOGY["wire_f"].value
        pin = CLOCK_PIN_EFFORT * inverter + wire
        return pin * TECHNOLOGY["clock_tree"].value + TECHNOLOGY["clock_inside"].value * inverter

    def reset_counts(self) -> None:
        """Count toggles from here on."""
        self.toggles = [0] * len(self.values)
        self.clocked = 0
        self.cycles = 0
        self._before: list[int] = []

    def set(self, port: str, values: list[int]) -> None:
        """Set an input port: a value for each stream."""
        for place, bit in enumerate(self.ports[port][1]):
            if isinstance(bit, int):
                packed = 0
                for stream, value in enumerate(values):
                    packed |= (value >> place & 1) << stream
                self.values[self.nets[bit]] = packed

    def set_all(self, port: str, value: int) -> None:
        """Set an input port alike for all streams."""
        for place, bit in enumerate(self.ports[port][1]):
            if isinstance(bit, int):
                self.values[self.nets[bit]] = self.all if value >> place & 1 else 0

    def get(self, port: str) -> list[int]:
        """The value of a port for each stream."""
        found = [0] * self.streams
        for place, bit in enumerate(self.ports[port][1]):
            packed = self.values[self.nets[bit]]
            for stream in range(self.streams):
                found[stream] |= (packed >> stream & 1) << place
        return found

    def settle(self) -> None:
        """Let inputs and registers through the gates."""
        self._settle(self.values, self.all)

    def tick(self) -> None:
        """A clock edge, after ``settle``; count what has changed since the last one."""
        values = self.values
        if self.cycles:
            before = self._before
            self.toggles = [
                n + (a ^ b).bit_count()
                for n, a, b in zip(self.toggles, values, before, strict=True)
            ]
        self._before = list(values)
        self.cycles += 1
        following = []
        for pins in self.flip_flops:
            q, d = self.nets[pins["Q"]], values[self.nets[pins["D"]]]
            enable = self.enables.get(pins["CK"])
            if enable is None:
                self.clocked += self.streams
            else:
                on = values[self.nets[enable]]
                self.clocked += on.bit_count()
                d = (d & on) | (values[q] & ~on)
            following.append((q, d))
        for q, d in following:
            values[q] = d

    @property
    def energy_j(self) -> float:
        """Energy of a cycle of one stream so far, without leakage: C V^2 / 2 for every toggle."""
        cycles = max(1, self.cycles - 1) * self.streams
        charged = sum(n * load for n, load in zip(self.toggles, self.loads, strict=True))
        clock = self.clocked / self.cycles / self.streams * self.clock_f
        return float((charged / cycles / 2 + clock) * TECHNOLOGY["supply_v"].value ** 2)
