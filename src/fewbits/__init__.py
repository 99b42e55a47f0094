"""Fewbits: tensors in few bits.

>>> import numpy as np, fewbits
>>> array = np.arange(1000, dtype=np.int16).reshape(10, 100)
>>> frame = fewbits.pack(array)
>>> bool((fewbits.unpack(frame) == array).all()), len(frame) < array.nbytes
(True, True)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewbits.archive import Archive, load, open, save
    from fewbits.errors import CorruptError, FewbitsError
    from fewbits.frame import PackedTensor, pack, unpack, unpack_into
    from fewbits.loaders import install, uninstall
    from fewbits.lossless.choose import Lossless
    from fewbits.lossless.search import find_table
    from fewbits.lossless.table import RangeTable
    from fewbits.profiles import Profile, profile
    from fewbits.stream import StreamReader, StreamWriter

__version__ = "0.1.0"
__all__ = [
    "Archive",
    "CorruptError",
    "FewbitsError",
    "Lossless",
    "PackedTensor",
    "Profile",
    "RangeTable",
    "StreamReader",
    "StreamWriter",
    "find_table",
    "install",
    "load",
    "open",
    "pack",
    "profile",
    "save",
    "uninstall",
    "unpack",
    "unpack_into",
]

# Names are imported when first used, so that `fewbits --help` does not wait for NumPy.
_HOMES = {
    "fewbits.archive": ("Archive", "load", "open", "save"),
    "fewbits.errors": ("CorruptError", "FewbitsError"),
    "fewbits.frame": ("PackedTensor", "pack", "unpack", "unpack_into"),
    "fewbits.loaders": ("install", "uninstall"),
    "fewbits.lossless.choose": ("Lossless",),
    "fewbits.lossless.search": ("find_table",),
    "fewbits.lossless.table": ("RangeTable",),
    "fewbits.profiles": ("Profile", "profile"),
    "fewbits.stream": ("StreamReader", "StreamWriter"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


# Rooms that are reached by their name alone: ``fewbits.training.pack_activations``.
_ROOMS = ("machines", "traces", "training", "weights")


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
