"""Memory and time of a graph convolution in each formulation, on a device.

A step of training goes through ``layers`` layers, forward and backward. Each layer multiplies by
the graph's matrix A twice, once each way, and by its weights three times. Equations are on the
machine's page; N nodes, E entries of A, T tiles of t x t, D features, e bytes an element.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fewbits.machines.constants import Constants
from fewbits.machines.result import Result, Roof
from fewbits.machines.wafer.graphs import Shape

#: In the order of the page; the first is what the others are compared with.
FORMULATIONS = ("dense-matmul", "dense-linear", "csr", "blocked", "gather")
_INDEX_BYTES = 8
_CSR_INDEX_BYTES = 4


@dataclass(frozen=True)
class Layers:
    """A network: so many layers, all from ``features`` to ``features``."""

    features: int = 64
    count: int = 2


@dataclass(frozen=True)
class Memory:
    """Bytes of training with one formulation.

    ``operator``: the matrix A. ``activations``: what is saved for the backward pass. ``work``: what
    a product needs beside its operands while it runs. ``weights``: with gradients and momentum.
    """

    operator: float
    activations: float
    work: float
    weights: float

    @property
    def total(self) -> float:
        """Bytes at once."""
        return self.operator + self.activations + self.work + self.weights


@dataclass(frozen=True)
class Product:
    """One product by A: operations, bytes in order, bytes of rows from anywhere, kernels."""

    flop: float
    streamed: float
    scattered: float
    kernels: int


def operator_bytes(formulation: str, graph: Shape, element_bytes: float) -> float:
    """Bytes that hold A."""
    n, entries, tiles = graph.nodes, graph.entries, graph.tiles
    held: dict[str, float] = {
        "dense-matmul": n * n * element_bytes,
        "dense-linear": n * n * element_bytes,
        "csr": entries * (element_bytes + _CSR_INDEX_BYTES) + (n + 1) * _CSR_INDEX_BYTES,
        "blocked": tiles * (graph.tile**2 * element_bytes + 2 * _INDEX_BYTES),
        "gather": entries * (element_bytes + 2 * _INDEX_BYTES),
    }
    return held[formulation]


def memory(formulation: str, graph: Shape, layers: Layers, element_bytes: float) -> Memory:
    """Bytes of a training step. A is symmetric, so its transpose costs nothing.

    A layer saves its input and its output (for the ReLU after it). Gathering holds a message for
    every entry, as fetched and as scaled; tiles hold the strips they read and their products.
    """
    strip = graph.nodes * layers.features * element_bytes
    work: dict[str, Callable[[], float]] = {
        "dense-matmul": lambda: 2 * strip,
        "dense-linear": lambda: 2 * strip,
        "csr": lambda: 2 * strip,
        "blocked": lambda: (
            2 * strip + 2 * graph.tiles * graph.tile * layers.features * element_bytes
        ),
        "gather": lambda: 2 * strip + 2 * graph.entries * layers.features * element_bytes,
    }
    return Memory(
        operator=operator_bytes(formulation, graph, element_bytes),
        activations=(layers.count + 1) * strip,
        work=work[formulation](),
        weights=3 * layers.count * layers.features**2 * element_bytes,
    )


def product(formulation: str, graph: Shape, features: int, element_bytes: float) -> Product:
    """What one product of A by [nodes, features] takes."""
    n, entries, tiles, tile = graph.nodes, graph.entries, graph.tiles, graph.tile
    row = features * element_bytes
    held = operator_bytes(formulation, graph, element_bytes)
    if formulation.startswith("dense"):
        return Product(2.0 * n * n * features, held + 2 * n * row, 0, 1)
    if formulation == "csr":
        return Product(2.0 * entries * features, held + n * row, entries * row, 1)
    if formulation == "blocked":
        strips = tiles * tile * row
        # Strips are fetched and written, read again; products written, read, added to their rows.
        return Product(2.0 * tiles * tile**2 * features, held + 7 * strips + n * row, 0, 4)
    messages = entries * row
    # Rows fetched, written; read, scaled, written; read, added to rows that are read and written.
    return Product(2.0 * entries * features, held + 4 * messages + n * row, 3 * messages, 4)


def simulate(
    formulation: str, graph: Shape, layers: Layers, constants: Constants, *, device: str = ""
) -> Result:
    """A step of training, a row for each part of it; whether it fits is ``planner.fault``'s matter.

    Compute and memory overlap; loading does not. What a step is given is loaded for each step where
    the device takes nothing else as an input; all else once in ``steps``.
    """
    known = constants.recording()
    room, _ = known["capacity_bytes"], known[f"takes_{formulation}"]  # what the planner goes by
    size, features, count = known["element_bytes"], layers.features, layers.count
    needs = memory(formulation, graph, layers, size)
    again = known["reloads"] if formulation == "dense-matmul" else 0.0
    loaded = needs.operator * max(again, 1 / known["steps"])
    one = product(formulation, graph, features, size)
    own = Product(2.0 * graph.nodes * features**2, 3 * graph.nodes * features * size, 0.0, 1)
    nothing = Product(0.0, 0.0, 0.0, 0)
    rows = {
        "load the graph": (0, nothing, loaded),
        "aggregate": (count, one, 0.0),
        "aggregate, backward": (count, one, 0.0),
        "weights": (count, own, 0.0),
        "weights, backward": (2 * count, own, 0.0),
    }
    flop, streamed, scattered, kernels, load = (
        np.array(column, float)
        for column in zip(
            *(
                (times * p.flop, times * p.streamed, times * p.scattered, times * p.kernels, extra)
                for times, p, extra in rows.values()
            ),
            strict=True,
        )
    )
    bandwidth, rate = known["bandwidth_bytes_per_s"], known["efficiency"] * known["flop_per_s"]
    rows_fit = graph.nodes * features * size <= known["cache_bytes"]
    share = 1.0 if rows_fit else known["row_share"]
    rates = np.array([known["tile_share"] if formulation == "blocked" else 1.0] * 3 + [1.0] * 2)
    memory_s = streamed / bandwidth + scattered / (share * bandwidth)
    compute_s, launch_s = flop / (rate * rates), kernels * known["launch_s"]
    load_s = load / known["load_bytes_per_s"]
    latency_s = np.maximum(compute_s, memory_s) + launch_s + load_s
    return Result(
        machine=device or "wafer",
        workload=f"{graph.name}, {count} layers of {features} features",
        layers=tuple(rows),
        latency_s=latency_s,
        energy_j={"device": latency_s * known["power_w"]},
        traffic_bytes={"memory": streamed + scattered, "load": load},
        busy_s={"compute": compute_s, "memory": memory_s, "launch": launch_s, "load": load_s},
        macs=flop / 2,
        roof=Roof(rate / 2, bandwidth),
        constants=known.used,
        extra={
            "formulation": formulation,
            "memory_bytes": needs.total,
            "matrix_bytes": needs.operator,
            "room_bytes": room,
        },
    )
