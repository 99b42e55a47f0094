"""Where the power goes, how warm that makes the stack, and what that does to reading crossbars."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewbits.machines.atleus.mapping import matrices
from fewbits.machines.parts.analog import Read
from fewbits.machines.parts.noc import Flows, Routes, curve

if TYPE_CHECKING:
    from fewbits.machines.atleus.machine import Machine

Floats = NDArray[np.float64]
_RERAM = ("reram", "dequantize", "programming")
_SYSTOLIC = ("systolic", "buffers", "softmax and norms", "leakage")


@dataclass(frozen=True)
class Heat:
    """Power and temperature of each core: (tiers from the heat sink, rows, columns)."""

    power_w: Floats
    temperature_k: Floats
    read_noise: float
    reram_k: float

    @property
    def hottest_k(self) -> float:
        """The hottest core."""
        return float(self.temperature_k.max())


def core_shares(machine: "Machine") -> Floats:
    """Share of the crossbars' energy in each core of the stack; the systolic tier has none."""
    hardware, mapping, net = machine.hardware, machine.mapping, machine.job.net
    rows, columns = hardware.cores
    shares = np.zeros((hardware.tiers, rows, columns))
    order = curve(rows, columns)
    along = np.zeros(len(order))
    for layer in range(net.layers):
        for step, share in mapping.cores(layer).items():
            along[step] += share / net.layers
    total = sum(mapping.demand.values())
    for matrix in matrices(net):
        for tier, part in mapping.tiers(matrix).items():
            for step, (row, column) in enumerate(order):
                shares[tier, row, column] += (
                    mapping.demand[matrix.name] / total * part * along[step]
                )
    return shares


def core_power_w(machine: "Machine", watts: Mapping[str, float]) -> Floats:
    """Watts of each core without its router, from the watts of each part of the machine."""
    power = core_shares(machine) * sum(watts.get(part, 0.0) for part in _RERAM)
    digital = sum(watts.get(part, 0.0) for part in _SYSTOLIC)
    power[machine.hardware.systolic_place] += digital / machine.hardware.cores_a_tier
    return power


def heat_map(
    machine: "Machine", energy: Mapping[str, float], latency_s: float, flows: Flows, routes: Routes
) -> Heat:
    """Steady power and temperature while the job repeats; ``energy`` of the whole run, by part.

    Routers' power falls where the bits pass; memory is beside the stack and left out.
    """
    hardware, c = machine.hardware, machine.hardware.constants
    watts = {part: joules / latency_s for part, joules in energy.items()}
    power = core_power_w(machine, watts)
    passed = routes.router_bits(routes.load(flows, hardware.wires), flows)
    if passed.any():
        power += watts.get("network", 0.0) * (passed / passed.sum()).reshape(power.shape)
    temperature = hardware.stack.temperatures_k(power)
    reram_k = float(temperature[list(hardware.reram_places)].max())
    read = Read(c["read_v"], c["on_ohm"], c["read_s"])
    return Heat(power, temperature, read.noise(reram_k), reram_k)
