"""Serve and fine-tune a model whose weights rest packed, and are unpacked just before use.

model = fewbits.weights.attach(model, "packed.safetensors")  # or attach(model): packs what is there
model(x)  # bit for bit what the unpacked model gives
print(fewbits.weights.report(model))
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewbits.weights.attaching import attach, detach
    from fewbits.weights.kv_cache import PackedCache
    from fewbits.weights.reporting import Report, report
    from fewbits.weights.saving import save
    from fewbits.weights.settings import Settings
    from fewbits.weights.tensor import PackedWeight

_HOMES = {
    "PackedCache": "fewbits.weights.kv_cache",
    "PackedWeight": "fewbits.weights.tensor",
    "Report": "fewbits.weights.reporting",
    "Settings": "fewbits.weights.settings",
    "attach": "fewbits.weights.attaching",
    "detach": "fewbits.weights.attaching",
    "report": "fewbits.weights.reporting",
    "save": "fewbits.weights.saving",
}
__all__ = [
    "PackedCache",
    "PackedWeight",
    "Report",
    "Settings",
    "attach",
    "detach",
    "report",
    "save",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
