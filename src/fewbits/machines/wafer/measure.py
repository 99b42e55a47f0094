"""What a graph convolution takes here: the formulations timed, and this machine's constants."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from fewbits.machines.constants import Constants
from fewbits.machines.wafer.devices import cpu
from fewbits.machines.wafer.formulations import FORMULATIONS as MODULES
from fewbits.machines.wafer.formulations import TILE, GraphConvolution
from fewbits.machines.wafer.graphs import Graph
from fewbits.machines.wafer.plans import FORMULATIONS, Layers, memory

_FP32 = 4
# Repeated until a measurement has taken so long, in CPU time.
_ENOUGH_S = 0.2
_MOST_REPEATS = 50


@dataclass(frozen=True)
class Measured:
    """One formulation on one graph: seconds of a step (CPU time, the least of several).

    ``operator_bytes``: bytes of the tensors that hold the graph's matrix.
    """

    formulation: str
    step_s: float
    operator_bytes: int


def measure(
    graph: Graph,
    layers: Layers | None = None,
    *,
    formulations: Sequence[str] = FORMULATIONS,
    most_bytes: float = 2e9,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Measured | str]:
    """Time a step of training, forward and backward, on one thread, for every formulation.

    Formulations take turns, so that what else the machine does meets all. One that would need more
    than ``most_bytes`` is not tried; its entry says so.
    """
    layers = layers or Layers()
    shape = graph.shape()
    found: dict[str, Measured | str] = {}
    steps: dict[str, Callable[[], None]] = {}
    sizes: dict[str, int] = {}
    for name in formulations:
        needs = memory(name, shape, layers, _FP32).total
        if needs > most_bytes:
            found[name] = f"needs {needs / 1e9:,.1f} GB"
            advance(1)
            continue
        operator = MODULES[name](graph)
        sizes[name] = _bytes(operator)
        steps[name] = _step(operator, graph.nodes, layers)
    with one_thread():
        best = {name: _seconds(step) for name, step in steps.items()}  # the first warms up
        spent = dict.fromkeys(steps, 0.0)
        for _ in range(_MOST_REPEATS):
            for name, step in steps.items():
                if spent[name] < _ENOUGH_S:
                    took = _seconds(step)
                    spent[name] += took
                    best[name] = min(best[name], took)
    for name in steps:
        found[name] = Measured(name, best[name], sizes[name])
        advance(1)
    return {name: found[name] for name in formulations}


def calibrate(features: int = 64) -> Constants:
    """The ``cpu`` device with what one core here does: products, copies, rows from anywhere."""
    generator = torch.Generator().manual_seed(0)
    rows = 200_000
    with one_thread():
        a, b = (torch.randn(s, generator=generator) for s in ((1024, 1024), (1024, features)))
        product_s = _least(lambda: a @ b)
        x = torch.randn(rows, features, generator=generator)
        y = torch.empty_like(x)
        copy_s = _least(lambda: y.copy_(x))
        where = torch.randint(rows, (rows,), generator=generator)
        fetch_s = _least(lambda: torch.index_select(x, 0, where))
        tiles = torch.randn(512, TILE, TILE, generator=generator)
        strips = torch.randn(512, TILE, features, generator=generator)
        tiles_s = _least(lambda: torch.bmm(tiles, strips))
        small = torch.ones(1, 1)
        launch_s = _least(lambda: small @ small)
    moved = 2 * x.numel() * _FP32
    bandwidth, rate = moved / copy_s, 2 * a.numel() * features / product_s
    return cpu().with_values(
        {
            "flop_per_s": rate,
            "tile_share": min(1.0, 2 * tiles.numel() * features / tiles_s / rate),
            "bandwidth_bytes_per_s": bandwidth,
            "row_share": min(1.0, moved / fetch_s / bandwidth),
            "launch_s": launch_s,
            "load_bytes_per_s": bandwidth,
        }
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, for as long as it lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _step(operator: Any, nodes: int, layers: Layers) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    features = layers.features
    network = [GraphConvolution(features, features, operator) for _ in range(layers.count)]
    x = torch.randn(nodes, features, generator=generator)

    def step() -> None:
        hidden = x
        for layer in network:
            hidden = torch.relu(layer(hidden))
        hidden.sum().backward()

    return step


def _bytes(operator: Any) -> int:
    tensors = [*operator.buffers(), *operator.parameters()]
    matrix = getattr(operator, "matrix", None)
    if matrix is not None and matrix.layout == torch.sparse_csr:
        tensors += [matrix.crow_indices(), matrix.col_indices(), matrix.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _least(work: Callable[[], Any]) -> float:
    best, spent = float("inf"), 0.0
    for _ in range(_MOST_REPEATS):
        took = _seconds(work)
        best, spent = min(best, max(took, 1e-7)), spent + took
        if spent > _ENOUGH_S:
            break
    return best
