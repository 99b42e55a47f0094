"""Devices that a graph network may run on, as sets of constants.

``takes_...``: whether its compiler takes a formulation. ``reloads``: whether what a step is given
is brought to the device anew for every step. ``tile_share`` and ``row_share``: what small products
reach of the rate of large ones, and rows from anywhere of the bandwidth, unless all rows fit in
``cache_bytes``.
"""

import math
from collections.abc import Callable

from fewbits.errors import FewbitsError, did_you_mean
from fewbits.machines.constants import Constant, Constants, Kind

_WSE2 = "Cerebras, WSE-2, as reported by AnandTech, 20 April 2021"
_SHARES = {"efficiency", "tile_share", "row_share"}
_FLAGS = {"reloads", "takes_dense-matmul", "takes_dense-linear", "takes_blocked", "takes_csr"}
_FLAGS |= {"takes_gather"}

_Row = tuple[str, float, str, str, Kind]
# The same for all.
_COMMON: tuple[_Row, ...] = (
    ("steps", 100, "", "steps that share one loading of the graph", "assumed"),
    ("element_bytes", 4, "B", "fp32", "assumed"),
)


def _constants(*rows: _Row) -> Constants:
    def constant(row: _Row) -> Constant:
        name = row[0]
        low = 0.0 if name in _FLAGS | {"launch_s"} else 1e-9
        return Constant(*row, low=low, high=1.0 if name in _FLAGS | _SHARES else math.inf)

    return Constants(*map(constant, (*rows, *_COMMON)))


def _takes(formulations: str, source: str, kind: Kind, blocked: str = "") -> tuple[_Row, ...]:
    """Ones and zeros by formulation; ``blocked``: why that one is but assumed to be taken."""

    def row(name: str) -> _Row:
        yes = float(name in formulations.split())
        if name == "blocked" and blocked:
            return f"takes_{name}", yes, "", blocked, "assumed"
        return f"takes_{name}", yes, "", source, kind

    return tuple(map(row, ("dense-matmul", "dense-linear", "csr", "blocked", "gather")))


def cs2() -> Constants:
    """Cerebras CS-2: one wafer, its memory beside its cores."""
    cycle = "850,000 cores, a product and a sum in fp32 each cycle of 1.1 GHz"
    return _constants(
        ("capacity_bytes", 40e9, "B", f"{_WSE2}: 40 GB of SRAM", "cited"),
        ("bandwidth_bytes_per_s", 20e15, "B/s", f"{_WSE2}: 20 PB/s", "cited"),
        ("flop_per_s", 850e3 * 2 * 1.1e9, "FLOP/s", cycle, "assumed"),
        ("efficiency", 0.1, "", "of the peak, for few columns; tuned, see the page", "assumed"),
        ("tile_share", 1.0, "", "cores are small", "assumed"),
        ("row_share", 0.25, "", "over the fabric", "assumed"),
        ("cache_bytes", 1, "B", "none", "derived"),
        ("launch_s", 1e-6, "s", "for each operation", "assumed"),
        ("reloads", 1, "", "a step's inputs are sent to the wafer for it", "assumed"),
        ("load_bytes_per_s", 150e9, "B/s", "Argonne, SC24 tutorial: 1.2 Tbit/s", "cited"),
        ("power_w", 15e3, "W", "ExtremeTech, 2021: heat of the wafer", "cited"),
        *_takes(
            "dense-matmul dense-linear blocked",
            "Shah et al., poster: dense formulations run, PyTorch's sparse tensors do not",
            "paper",
            blocked="not tried by the poster: dense products, and indices that never change",
        ),
    )


def _gpu(
    memory: float, bandwidth: float, flop: float, cache: float, host: float, power: float, name: str
) -> Constants:
    source = f"NVIDIA, {name} data sheet"
    return _constants(
        ("capacity_bytes", memory, "B", source, "cited"),
        ("bandwidth_bytes_per_s", bandwidth, "B/s", source, "cited"),
        ("flop_per_s", flop, "FLOP/s", f"{source}: fp32", "cited"),
        ("efficiency", 0.7, "", "of the peak", "assumed"),
        ("tile_share", 0.5, "", "for batches of small products", "assumed"),
        ("row_share", 0.4, "", "for rows from anywhere", "assumed"),
        ("cache_bytes", cache, "B", source, "cited"),
        ("launch_s", 5e-6, "s", "for each kernel", "assumed"),
        ("reloads", 0, "", "tensors stay on the device", "derived"),
        ("load_bytes_per_s", host, "B/s", "PCI Express of its generation, x16", "derived"),
        ("power_w", power, "W", source, "cited"),
        *_takes("dense-matmul dense-linear csr blocked gather", "PyTorch has all", "derived"),
    )


def a100() -> Constants:
    """NVIDIA A100, 80 GB."""
    return _gpu(80e9, 2.039e12, 19.5e12, 40e6, 32e9, 400, "A100 80GB SXM")


def h100() -> Constants:
    """NVIDIA H100, 80 GB."""
    return _gpu(80e9, 3.35e12, 67e12, 50e6, 64e9, 700, "H100 SXM")


def cpu() -> Constants:
    """One core of a server; ``measure.calibrate`` has the same with what this one does."""
    seen = "one core of a server, by fewbits.machines.wafer.measure.calibrate"
    return _constants(
        ("capacity_bytes", 16e9, "B", "a common size", "assumed"),
        ("bandwidth_bytes_per_s", 40e9, "B/s", seen, "derived"),
        ("flop_per_s", 94e9, "FLOP/s", seen, "derived"),
        ("efficiency", 1.0, "", "what is measured is reached", "derived"),
        ("tile_share", 0.1, "", seen, "derived"),
        ("row_share", 0.1, "", seen, "derived"),
        ("cache_bytes", 4e6, "B", "its second level and its part of the third", "assumed"),
        ("launch_s", 5e-6, "s", "for each operation", "assumed"),
        ("reloads", 0, "", "tensors stay in memory", "derived"),
        ("load_bytes_per_s", 40e9, "B/s", "memory to memory", "derived"),
        ("power_w", 10, "W", "a server's core", "assumed"),
        *_takes("dense-matmul dense-linear csr blocked gather", "PyTorch has all", "derived"),
    )


DEVICES: dict[str, Callable[[], Constants]] = {"cs2": cs2, "a100": a100, "h100": h100, "cpu": cpu}


def device(name: str) -> Constants:
    """A device's constants; ``FewbitsError`` with the nearest name if there is none."""
    if name not in DEVICES:
        hint = did_you_mean(name, DEVICES)
        raise FewbitsError(f"no device is called {name!r}{hint}; known: {', '.join(DEVICES)}")
    return DEVICES[name]()
