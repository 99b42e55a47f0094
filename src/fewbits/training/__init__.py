"""Train in a fraction of the activation memory: what autograd saves rests packed.

with fewbits.training.pack_activations("int4") as packed:
    loss = model(batch)
loss.backward()
print(packed.report())
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewbits.lossy.policy import Policy, Rule
    from fewbits.training.adaptive import Adaptive
    from fewbits.training.checking import check
    from fewbits.training.forwards import pack_forwards
    from fewbits.training.hooks import pack_activations
    from fewbits.training.report import Report

__all__ = [
    "Adaptive",
    "Policy",
    "Report",
    "Rule",
    "check",
    "pack_activations",
    "pack_forwards",
]

_HOMES = {
    "Adaptive": "fewbits.training.adaptive",
    "Policy": "fewbits.lossy.policy",
    "Report": "fewbits.training.report",
    "Rule": "fewbits.lossy.policy",
    "check": "fewbits.training.checking",
    "pack_activations": "fewbits.training.hooks",
    "pack_forwards": "fewbits.training.forwards",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
