"""Graph networks on a wafer, and on what stands beside it.

``formulations`` has five trainable ways to write a graph convolution, ``make_plan`` says which to
take for a graph on a device, ``measure`` times them here.

>>> from fewbits.machines import wafer
>>> plan = wafer.make_plan(wafer.shape(2_000, 22_000), wafer.Layers(), wafer.device("cs2"))
>>> plan.best, sorted(plan.faults)
('dense-linear', ['csr', 'gather'])
"""

from fewbits.machines.wafer.devices import DEVICES, device
from fewbits.machines.wafer.graphs import NAMED, Graph, Shape, from_edges, named, power_law, shape
from fewbits.machines.wafer.planner import Plan, fault, make_plan, most_nodes
from fewbits.machines.wafer.plans import FORMULATIONS, Layers, Memory, memory, simulate

__all__ = [
    "DEVICES",
    "FORMULATIONS",
    "NAMED",
    "Graph",
    "Layers",
    "Memory",
    "Plan",
    "Shape",
    "device",
    "fault",
    "from_edges",
    "make_plan",
    "memory",
    "most_nodes",
    "named",
    "power_law",
    "shape",
    "simulate",
]
