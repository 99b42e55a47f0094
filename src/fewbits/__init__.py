"""Fewbits: tensors in few bits.

>>> import numpy as np, fewbits
>>> array = np.arange(1000, dtype=np.int16).reshape(10, 100)
>>> frame = fewbits.pack(array)
>>> bool((fewbits.unpack(frame) == array).all()), len(frame) < array.nbytes
(True, True)
"""

from fewbits.archive import Archive, load, open, save
from fewbits.errors import CorruptError, FewbitsError
from fewbits.frame import PackedTensor, pack, unpack, unpack_into
from fewbits.lossless.choose import Lossless
from fewbits.lossless.search import find_table
from fewbits.lossless.table import RangeTable

__version__ = "0.1.0"
__all__ = [
    "Archive",
    "CorruptError",
    "FewbitsError",
    "Lossless",
    "PackedTensor",
    "RangeTable",
    "find_table",
    "load",
    "open",
    "pack",
    "save",
    "unpack",
    "unpack_into",
]
