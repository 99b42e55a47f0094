"""The tensor-core accelerator of APack's Table III: 64 cores, buffers of 4 MB, DDR4 and engines.

>>> from fewbits.machines import networks
>>> from fewbits.machines.traffic import NONE, Traffic
>>> net = networks.load("resnet50")
>>> plain = simulate(net, NONE)
>>> packed = simulate(net, Traffic("apack", 0.60, 0.48))
>>> packed.total_latency_s < plain.total_latency_s
True

The unit of work is a product of matrices (convolutions as such, without copies). For each:

    compute  cycles of 4x4 tiles dealt to the cores (``parts.compute``)
    memory   what crosses to DRAM after packing, through its sustained bandwidth
    engine   the values that cross, through the engines, if packed
    time     the longest of the three, as far as they overlap

Each tensor crosses once. ``policy`` says which do: ``all``: weights, inputs, outputs. ``reads``:
weights and inputs, as in APack's Figure 6. ``fit``: as ``all``, but activations that fit their
buffer stay, and so do the weights of a network that fits theirs.
"""

from typing import Any, Literal

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constant, Constants
from fewbits.machines.parts.compute import Tiles, tile_cycles
from fewbits.machines.parts.dram import memory, preset
from fewbits.machines.parts.engine import APACK, engines
from fewbits.machines.parts.sram import fits, through_buffers_bytes
from fewbits.machines.result import Array, Result, Roof
from fewbits.machines.traffic import AVERAGES, NONE, Traffic
from fewbits.machines.workload import Workload

Policy = Literal["all", "reads", "fit"]
POLICIES: tuple[Policy, ...] = ("all", "reads", "fit")
_TABLE = "APack, Table III"

CHIP = (
    Constant("clock_hz", 1e9, "Hz", _TABLE, "paper", low=1.0),
    Constant("cores", 64, "", _TABLE, "paper", low=1),
    Constant("core_rows", 4, "", f"{_TABLE}: 4x4 elements", "paper", low=1),
    Constant("core_columns", 4, "", f"{_TABLE}: 4x4 elements", "paper", low=1),
    Constant("core_depth", 4, "", f"{_TABLE}: 4 MACs an element and cycle", "paper", low=1),
    Constant("weight_buffer_bytes", 4 << 20, "B", f"{_TABLE}: 16 banks of 256 KB", "paper"),
    Constant("activation_buffer_bytes", 4 << 20, "B", f"{_TABLE}: 16 banks of 256 KB", "paper"),
    Constant(
        "mac_pj", 0.45, "pJ",
        "int8 multiply 0.2 and add 0.03 at 45 nm (Horowitz, ISSCC 2014), twice that for 65 nm and "
        "registers",
        "assumed",
    ),
    Constant(
        "sram_pj_per_byte", 1.5, "pJ/B", "banks of 256 KB at 65 nm; not in the paper", "assumed"
    ),
    Constant(
        "overlap", 1.0, "", "double buffers: transfers hide behind products", "assumed", high=1.0
    ),
)  # fmt: skip


def constants(dram: str = "ddr4-3200") -> Constants:
    """All that can be set: chip, memory, engines, average traffic."""
    return Constants(*CHIP, *preset(dram), *APACK, *AVERAGES)


def simulate(
    net: Workload,
    traffic: Traffic = NONE,
    c: Constants | None = None,
    *,
    policy: Policy = "all",
) -> Result:
    """One pass of a network. Arrays in the constants give a result for each of their rows."""
    if policy not in POLICIES:
        raise FewbitsError(f"unknown policy {policy!r}: {', '.join(POLICIES)}")
    c = (c or constants()).recording()
    net = net.products()
    groups, m, n, k, macs = map(net.column, ("groups", "m", "n", "k", "macs"))
    tiles = Tiles(c["cores"], c["core_rows"], c["core_columns"], c["core_depth"])
    compute_s = tile_cycles(groups, m, n, k, tiles) / c["clock_hz"]

    plain = _crossing(net, policy, c)
    packed = {
        "weights": plain["weights"] * traffic.weights_of(net),
        "inputs": plain["inputs"] * traffic.inputs_of(net),
        "outputs": plain["outputs"] * traffic.outputs_of(net),
    }
    dram = memory(c)
    memory_s = sum(packed.values()) / dram.bytes_per_s
    busy: dict[str, Any] = {"compute": compute_s, "memory": memory_s}
    if traffic.codec != "none":
        bank = engines(c, traffic.codec)
        busy["engine"] = bank.seconds(_values(net, plain))

    moving = np.maximum(memory_s, busy.get("engine", 0.0))
    overlapped = np.maximum(compute_s, moving)
    latency = c["overlap"] * overlapped + (1 - c["overlap"]) * (compute_s + moving)
    energy = {
        "dram": dram.energy_j(
            memory_s, latency, packed["weights"] + packed["inputs"], packed["outputs"]
        ),
        "mac": 1e-12 * c["mac_pj"] * macs,
        "sram": 1e-12 * c["sram_pj_per_byte"]
        * through_buffers_bytes(groups, m, n, k, rows=tiles.rows, columns=tiles.columns),
    }  # fmt: skip
    extra: dict[str, Any] = {"policy": policy, "codec": traffic.codec}
    extra["traffic_origin"] = traffic.origin
    if "engine" in busy:
        extra["engine_area_mm2"] = bank.area_mm2
        energy["engine"] = bank.energy_j(busy["engine"], latency)

    shape = np.broadcast_shapes(latency.shape, *(np.shape(v) for v in energy.values()))
    return Result(
        machine="tensor-core accelerator",
        workload=net.name,
        layers=net.names,
        latency_s=np.broadcast_to(latency, shape),
        energy_j=_all(energy, shape),
        traffic_bytes=_all(packed, shape),
        busy_s=_all(busy, shape),
        macs=macs,
        roof=Roof(tiles.macs_per_cycle * c["clock_hz"], dram.bytes_per_s),
        constants=c.used,
        extra=extra,
    )


def _all(parts: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Array]:
    return {name: np.broadcast_to(values, shape) for name, values in parts.items()}


def _crossing(net: Workload, policy: Policy, c: Constants) -> dict[str, Any]:
    """Plain bytes that cross to memory, by class."""
    weights, inputs, outputs = map(net.column, ("weight_bytes", "input_bytes", "output_bytes"))
    if policy == "reads":
        outputs = np.zeros_like(outputs)
    if policy == "fit":
        weights = weights * ~fits(net.stored_bytes, c["weight_buffer_bytes"])
        kept = fits(inputs + outputs, c["activation_buffer_bytes"])
        # The first input comes from outside and the last output goes there. What an operation
        # leaves in the buffer, the next one does not read again.
        before = np.concatenate([np.zeros_like(kept[..., :1]), kept[..., :-1]], axis=-1)
        last = np.arange(len(net)) == len(net) - 1
        inputs, outputs = inputs * ~before, outputs * (~kept | last)
    return {"weights": weights, "inputs": inputs, "outputs": outputs}


def _values(net: Workload, plain: dict[str, Any]) -> Any:
    """Values among the bytes that cross."""
    activations = plain["inputs"] + plain["outputs"]
    return 8 * (
        plain["weights"] / net.column("weight_bits") + activations / net.column("activation_bits")
    )
