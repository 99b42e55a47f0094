"""The engine as a circuit: what the paper's section V draws, and what a system needs around it.

Settings say what to build, ``simulate`` runs it on arrays, ``export`` writes Verilog, ``synthesis``
maps it to gates, ``proofs`` proves what must never happen.

>>> from fewbits.silicon import Settings, cost_of
>>> Settings(rows=8, lookup="divider").table_bits
168
>>> cost_of("encoder").table_bits
336

The circuits need Amaranth (``pip install 'fewbits[silicon]'``), Verilog, area and proofs Yosys and
z3 (``'fewbits[synthesis]'``). ``costs``, which the machine models read, needs neither.
"""

from typing import TYPE_CHECKING, Any

from fewbits.silicon.costs import UnitCost, cost_of, unit_costs
from fewbits.silicon.settings import Settings
from fewbits.silicon.streams import Stream, streams_of, with_payloads

if TYPE_CHECKING:
    from fewbits.silicon import simulate as simulate

__all__ = [
    "Settings",
    "Stream",
    "UnitCost",
    "cost_of",
    "simulate",
    "streams_of",
    "unit_costs",
    "with_payloads",
]


def __getattr__(name: str) -> Any:
    if name == "simulate":  # which needs Amaranth
        from importlib import import_module

        return import_module("fewbits.silicon.simulate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
