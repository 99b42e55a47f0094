"""GPUs by their rooflines: the common yardstick.

>>> from fewbits.machines import networks
>>> from fewbits.machines.traffic import NONE, Traffic
>>> net = networks.load("llama-3-8b", mode="decode").with_bits(16, 16)
>>> fast = constants("h100").with_values({"unpack_values_per_s": 1e13})
>>> plain, packed = (simulate(net, t, fast) for t in (NONE, Traffic("rans", weights=0.66)))
>>> round(plain.total_latency_s / packed.total_latency_s, 2)
1.43

Each operation takes the longest of three times, and a fixed time to start:

    compute  its products, through the tensor cores' peak and the share of it that kernels reach
    memory   weights, and activations that do not fit the cache, after packing
    engine   the packed bytes' values, through the rate at which the GPU unpacks (or packs) them

Attention's scores stay on the chip, as in FlashAttention. Unpacking is taken to be fused with the
product that reads it: what is unpacked does not cross again, and its time hides behind the others.
Rates of today's unpackers bind where weights stream, see ``unpack_values_per_s``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.constants import Constant, Constants
from fewbits.machines.parts.dram import memory, preset
from fewbits.machines.result import Result, Roof
from fewbits.machines.traffic import NONE, Traffic
from fewbits.machines.workload import Workload


@dataclass(frozen=True)
class _Sheet:
    """What a data sheet says. ``tflops``: fp16 with tensor cores, dense."""

    title: str
    tflops: float
    gbytes_per_s: float
    memory_gbytes: float
    cache_mbytes: float
    watts: float
    dram: str
    source: str


SHEETS = {
    "a100": _Sheet("NVIDIA A100 SXM 80 GB", 312, 2039, 80, 40, 400, "hbm2e",
                   "NVIDIA A100 data sheet"),
    "h100": _Sheet("NVIDIA H100 SXM", 989, 3350, 80, 50, 700, "hbm3", "NVIDIA H100 data sheet"),
    "h200": _Sheet("NVIDIA H200 SXM", 989, 4800, 141, 50, 700, "hbm3", "NVIDIA H200 data sheet"),
    "orin-agx": _Sheet("NVIDIA Jetson AGX Orin 64 GB", 42.5, 204.8, 64, 4, 60, "lpddr5",
                       "NVIDIA Jetson AGX Orin data sheet: 85 dense int8 TOPS of the GPU, halved"),
    "orin-nano": _Sheet("NVIDIA Jetson Orin Nano 8 GB", 10, 68, 8, 2, 15, "lpddr5",
                        "NVIDIA Jetson Orin Nano data sheet: 20 dense int8 TOPS, halved"),
}  # fmt: skip


def names() -> tuple[str, ...]:
    """The GPUs there are."""
    return tuple(SHEETS)


def title(name: str) -> str:
    """A GPU's full name."""
    return _sheet(name).title


def _sheet(name: str) -> _Sheet:
    if name not in SHEETS:
        hint = did_you_mean(name, SHEETS)
        raise FewbitsError(f"no GPU is called {name!r}{hint}; known: {', '.join(SHEETS)}")
    return SHEETS[name]


def constants(name: str = "a100") -> Constants:
    """All that can be set; ``FewbitsError`` with the nearest name for a GPU that is not known."""
    sheet = _sheet(name)
    peak = sheet.gbytes_per_s * 1e9
    dram = {constant.name: constant for constant in preset(sheet.dram)}
    source = sheet.source
    return Constants(
        Constant("peak_flops", sheet.tflops * 1e12, "FLOP/s", f"{source}; fp16, dense", "cited"),
        Constant("int8_speedup", 2, "", f"{source}: int8 beside fp16", "cited", low=1),
        Constant("matmul_efficiency", 0.7, "", "what large products reach", "assumed", high=1),
        Constant("dram_peak_bytes_per_s", peak, "B/s", source, "cited", low=1),
        Constant("dram_efficiency", 0.85, "", "what streaming kernels reach", "assumed", high=1),
        dram["dram_pj_per_bit"],
        Constant("memory_bytes", sheet.memory_gbytes * 1e9, "B", source, "cited"),
        Constant("cache_bytes", sheet.cache_mbytes * 1e6, "B", source, "cited"),
        Constant("launch_s", 2e-6, "s", "a kernel's start, graphs in use", "assumed"),
        Constant(
            "unpack_values_per_s", 300e9 * sheet.gbytes_per_s / 1555, "1/s",
            "DietGPU's float codec: up to 600 GB/s of 16-bit values on an A100 of 1555 GB/s; in "
            "proportion to the memory",
            "derived", low=1,
        ),
        Constant("flop_pj", sheet.watts * 0.5 / sheet.tflops, "pJ",
                 f"half of the {sheet.watts:g} W of the sheet at peak", "derived"),
        Constant("idle_w", 0.2 * sheet.watts, "W", "a fifth of the power of the sheet", "assumed"),
        Constant("weight_traffic", 0.66, "", "bf16 weights packed without loss: about 1/1.52; "
                 "fewbits bench tells for yours", "derived", low=1e-3),
        Constant("activation_traffic", 1.0, "", "activations stay as they are", "assumed",
                 low=1e-3),
    )  # fmt: skip


def simulate(
    net: Workload, traffic: Traffic = NONE, c: Constants | None = None, *, name: str = ""
) -> Result:
    """One pass of a network. Arrays in the constants give a result for each of their rows.

    ``extra`` has the bytes that weights, and in training saved activations, take in memory.
    """
    c = (c or constants()).recording()
    net = net.products()
    macs = net.column("macs")
    rate = c["peak_flops"] * c["matmul_efficiency"]
    rates = rate * np.where(net.column("weight_bits") <= 8, c["int8_speedup"], 1.0)
    compute_s = 2 * macs / rates

    plain = _crossing(net, c["cache_bytes"])
    packed = {
        "weights": plain["weights"] * traffic.weights_of(net),
        "inputs": plain["inputs"] * traffic.inputs_of(net),
        "outputs": plain["outputs"] * traffic.outputs_of(net),
    }
    dram = memory(c)
    busy: dict[str, Any] = {"compute": compute_s, "memory": sum(packed.values()) / dram.bytes_per_s}
    values = _packed_values(net, plain, traffic)
    if traffic.codec != "none":
        busy["engine"] = values / c["unpack_values_per_s"]
    latency = np.maximum.reduce(np.broadcast_arrays(*busy.values())) + c["launch_s"]
    energy = {
        "dram": dram.energy_j(
            busy["memory"], latency, packed["weights"] + packed["inputs"], packed["outputs"]
        ),
        "compute": 2e-12 * c["flop_pj"] * macs,
        "idle": c["idle_w"] * latency,
    }
    shape = np.broadcast_shapes(*(np.shape(v) for v in (latency, *energy.values())))

    def whole(parts: dict[str, Any]) -> dict[str, Any]:
        return {key: np.broadcast_to(value, shape) for key, value in parts.items()}

    return Result(
        machine=name or "GPU",
        workload=net.name,
        layers=net.names,
        latency_s=np.broadcast_to(latency, shape),
        energy_j=whole(energy),
        traffic_bytes=whole(packed),
        busy_s=whole(busy),
        macs=macs,
        roof=Roof(float(np.max(rates)) / 2, dram.bytes_per_s),
        constants=c.used,
        extra=_memory(net, traffic, c["memory_bytes"]),
    )


def _crossing(net: Workload, cache_bytes: float) -> dict[str, Any]:
    """Plain bytes that cross to memory: weights once, activations that do not fit the cache."""
    inputs, outputs = net.column("input_bytes"), net.column("output_bytes")
    scores = np.array([op.name.endswith(".scores") for op in net.operations])
    mixed = np.array([op.name.endswith(".context") for op in net.operations])
    # Scores go from one product to the next without leaving the chip; values are read.
    left = net.column(lambda op: op.groups * op.m * op.k * op.activation_bits / 8)
    inputs = np.where(mixed, inputs - left, inputs)
    outputs = np.where(scores, 0.0, outputs)
    # Keys and values are old: they come from memory even where they would fit.
    old = net.column(lambda op: op.groups * op.k * op.n * op.activation_bits / 8)
    old = np.where(scores | mixed, old, 0.0)
    fits = inputs + outputs - old <= cache_bytes
    return {
        "weights": net.column("weight_bytes"),
        "inputs": np.where(fits, old, inputs),
        "outputs": np.where(fits, 0.0, outputs),
    }


def _packed_values(net: Workload, plain: dict[str, Any], traffic: Traffic) -> Any:
    """Values that are packed or unpacked: those of tensors whose traffic is not 1."""
    activations = plain["inputs"] * (traffic.inputs_of(net) != 1)
    activations = activations + plain["outputs"] * (traffic.outputs_of(net) != 1)
    weights = plain["weights"] * (traffic.weights_of(net) != 1)
    return 8 * (weights / net.column("weight_bits") + activations / net.column("activation_bits"))


def _memory(net: Workload, traffic: Traffic, capacity: float) -> dict[str, Any]:
    """Bytes in memory; in training with what the backward pass waits for."""
    forward = np.array([op.phase == "forward" for op in net.operations])
    weights = np.sum(net.column("stored_bytes") * forward * traffic.weights_of(net), axis=-1)
    saved = np.zeros_like(weights)
    if not forward.all():
        saved = np.sum(net.column("saved_bytes") * forward * traffic.inputs_of(net), axis=-1)
    total = weights + saved
    return {
        "weight_memory_bytes": _plain(weights),
        "saved_activation_bytes": _plain(saved),
        "fits_memory": _plain(total <= capacity),
    }


def _plain(value: Any) -> Any:
    return value.item() if np.ndim(value) == 0 else np.asarray(value).tolist()
