"""Kernels on the threads that PyTorch has already.

PyTorch's OpenMP threads wait for their next work by spinning. Threads of our own would share the
processors with them, and each would take twice as long.
"""

import ctypes
import functools
import os
from pathlib import Path

import torch

from fewbits import _kernels

# The libraries that know GOMP_parallel: GNU's, and Intel's and LLVM's, which offer it as well.
_LIBRARIES = ("libgomp*.so*", "libiomp5*.so*", "libomp*.so*")


@functools.cache
def share_torch_threads() -> bool:
    """Run kernels on PyTorch's OpenMP threads from now on; False where it has none that we know."""
    start = _start_of_team()
    if start is None:
        return False
    _kernels.set_team(start)
    # A forked child has the address of the team but not its threads.
    os.register_at_fork(after_in_child=lambda: _kernels.set_team(0))
    return True


def _start_of_team() -> int | None:
    """The address of ``GOMP_parallel`` in the library that PyTorch has loaded."""
    if not hasattr(os, "RTLD_NOLOAD") or "OpenMP" not in torch.__config__.parallel_info():
        return None
    folder = Path(torch.__file__).parent / "lib"
    names = [str(path) for pattern in _LIBRARIES for path in folder.glob(pattern)]
    for name in [*names, "libgomp.so.1"]:
        try:
            library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None
