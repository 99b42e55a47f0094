"""Functions whose output is as soon computed again as decoded.

Element by element, normalized over some dimensions, or copied to another order; by the name that
`calls.op_name` gives. What is computed again is computed out of place, and changes no running
statistics.
"""

import enum
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

#: The function to call, and its arguments.
Prepared = tuple[Callable[..., torch.Tensor], tuple[Any, ...], dict[str, Any]]


class Later(enum.Enum):
    """Stands for an argument that is known only when the function has run, or is to run again."""

    MASK = "the mask that the function saved"
    MEAN = "the means that it saved; None if it did not"
    INVERSE = "the inverse standard deviations that it saved; None if it did not"
    EXACT = "whether what it is computed from has lost nothing"


def _as_given(function: Callable[..., torch.Tensor]) -> Callable[..., Prepared]:
    return lambda *args, **kwargs: (function, args, kwargs)


def _activation(function: Callable[..., torch.Tensor]) -> Callable[..., Prepared]:
    """One that may be asked to work in place."""
    return lambda input, *args, inplace=False, **kwargs: (function, (input, *args), kwargs)


def _relu(input: torch.Tensor, inplace: bool = False) -> Prepared:
    # By the mask, zeros are where they were, whatever rounding did to the sign.
    return _masked_relu, (input, Later.MASK), {}


def _masked_relu(input: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return F.relu(input).mul_(mask)


def _dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Prepared:
    if not training or p in (0.0, 1.0):
        raise TypeError("nothing is drawn")
    return _times_mask, (input, Later.MASK, p), {}


def _times_mask(input: torch.Tensor, mask: torch.Tensor, p: float) -> torch.Tensor:
    # Some kernels keep the factors 0 and 1/(1 - p), others only which is which.
    return input * mask * (1 / (1 - p)) if mask.dtype is torch.bool else input * mask


def _batch_norm(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Prepared:
    if not training:
        return F.batch_norm, (input, running_mean, running_var, weight, bias, False, 0.0, eps), {}
    statistics = Later.MEAN, Later.INVERSE
    return _batch_norm_again, (input, *statistics, weight, bias, eps, Later.EXACT), {}


def _batch_norm_again(
    input: torch.Tensor,
    mean: torch.Tensor | None,
    inverse: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
    exact: bool,
) -> torch.Tensor:
    """By the batch's statistics that are there: quick, but not to the last bit."""
    if exact or mean is None or inverse is None:
        return F.batch_norm(input, None, None, weight, bias, True, 0.0, eps)
    return F.batch_norm(input, mean, inverse.pow(-2) - eps, weight, bias, False, 0.0, eps)


def _cast(dtype: torch.dtype) -> Callable[..., Prepared]:
    return lambda input: (torch.Tensor.to, (input, dtype), {})


FUNCTIONS: dict[str, Callable[..., Prepared]] = {
    "gelu": _as_given(F.gelu),
    "sigmoid": _as_given(torch.sigmoid),
    "tanh": _as_given(torch.tanh),
    "softplus": _as_given(F.softplus),
    "log_sigmoid": _as_given(F.logsigmoid),
    "silu": _activation(F.silu),
    "mish": _activation(F.mish),
    "elu": _activation(F.elu),
    "selu": _activation(F.selu),
    "celu": _activation(F.celu),
    "leaky_relu": _activation(F.leaky_relu),
    "hardswish": _activation(F.hardswish),
    "hardsigmoid": _activation(F.hardsigmoid),
    "relu": _relu,
    "dropout": _dropout,
    "layer_norm": _as_given(F.layer_norm),
    "rms_norm": _as_given(F.rms_norm),
    "group_norm": _as_given(F.group_norm),
    "batch_norm": _batch_norm,
    **dict.fromkeys(("add", "iadd", "radd"), _as_given(torch.add)),
    **dict.fromkeys(("mul", "imul", "rmul", "multiply"), _as_given(torch.mul)),
    **dict.fromkeys(("sub", "isub"), _as_given(torch.sub)),
    "rsub": _as_given(torch.rsub),
    "neg": _as_given(torch.neg),
    "square": _as_given(torch.square),
    "pow": _as_given(torch.pow),
    "to": _as_given(torch.Tensor.to),
    "contiguous": _as_given(torch.Tensor.contiguous),
    "clone": _as_given(torch.clone),
    "reshape": _as_given(torch.Tensor.reshape),
    "flatten": _as_given(torch.flatten),
    "float": _cast(torch.float32),
    "half": _cast(torch.float16),
    "bfloat16": _cast(torch.bfloat16),
    "scaled_dot_product_attention": _as_given(F.scaled_dot_product_attention),
}
