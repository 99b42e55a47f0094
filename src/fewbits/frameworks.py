"""Tensors of other libraries: NumPy inside, PyTorch and JAX at the border, the same bits in each.

Nothing here imports a library that the caller does not use already.

>>> import numpy as np
>>> array = np.ones(3, np.float16)
>>> as_array(array) is array and converter("np")(array) is array
True
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.values.types import dtype_named, is_packed4

Array = NDArray[Any]


def as_array(tensor: Any) -> Array:
    """A tensor of any library as a NumPy array of the same bits, sharing memory where it can.

    PyTorch tensors may require gradients or lie on another device. Everything else goes the way of
    ``numpy.asarray``, which JAX arrays know, bfloat16 and fp8 included. ``TypeError`` for a PyTorch
    tensor that holds no plain elements (sparse, quantized, meta).
    """
    # Whoever holds a PyTorch tensor has imported PyTorch.
    if isinstance(tensor, getattr(sys.modules.get("torch"), "Tensor", ())):
        return _from_torch(tensor)
    return np.asarray(tensor)


def _from_torch(tensor: Any) -> Array:
    torch = import_module("torch")
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        dtype = dtype_named(name)
        if dtype.isbuiltin == 1:
            return np.asarray(tensor.numpy(force=True))
        if not is_packed4(dtype):
            carrier = getattr(torch, _carrier(dtype).name)
            return np.asarray(tensor.view(carrier).numpy(force=True)).view(dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TypeError(f"cannot read a {tensor.device} tensor of {name}: {reason}") from None
    raise TypeError(f"cannot read a {tensor.device} tensor of {name}")


def to_torch(array: Array) -> Any:
    """A PyTorch tensor over the array's memory; ``TypeError`` if PyTorch has no such dtype."""
    torch = import_module("torch")
    dtype = getattr(torch, array.dtype.name, None)
    if not isinstance(dtype, torch.dtype) or is_packed4(array.dtype) or not array.dtype.isnative:
        raise TypeError(f"PyTorch has no dtype {array.dtype}")
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(_carrier(array.dtype))).view(dtype)


def to_jax(array: Array) -> Any:
    """A JAX array; without ``jax_enable_x64``, JAX narrows 64-bit elements, as it always does.

    ``TypeError`` if JAX has no such dtype.
    """
    jax = import_module("jax")
    try:
        return jax.numpy.asarray(array)
    except TypeError:
        raise TypeError(f"JAX has no dtype {array.dtype}") from None


def _carrier(dtype: np.dtype) -> np.dtype:
    """An integer dtype of the same size, which NumPy and PyTorch both know."""
    return np.dtype(f"i{dtype.itemsize}")


def _same(array: Array) -> Array:
    return array


# By the names that safetensors gives them.
_CONVERTERS: dict[str, Callable[[Array], Any]] = {
    "np": _same,
    "numpy": _same,
    "pt": to_torch,
    "torch": to_torch,
    "flax": to_jax,
    "jax": to_jax,
}


def converts(framework: str) -> bool:
    """Whether ``converter`` knows this name."""
    return framework in _CONVERTERS


def converter(framework: str) -> Callable[[Array], Any]:
    """The function that makes an array a tensor of the framework, ``np``, ``pt`` or ``jax``.

    ``ValueError`` if there is none.
    """
    if framework not in _CONVERTERS:
        raise ValueError(f"unknown framework {framework!r}: there are np, pt and jax")
    return _CONVERTERS[framework]
