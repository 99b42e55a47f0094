"""What the backward pass of each operation really needs of a tensor that it saves.

Read from the derivative formulas of PyTorch (``tools/autograd/derivatives.yaml``, 2.13). Whoever is
not listed needs values, and values may be lossy. Those listed as exact divide by what they saved,
or take it as belonging to something else to the bit.
"""

import enum
import math
from dataclasses import dataclass

import torch

from fewbits.training.calls import Saving


class Need(enum.Enum):
    """What must come back, from least to most; `VALUE` is up to the policy."""

    SHAPE = "shape"  # sizes only: any values will do
    SIGN = "sign"  # whether it is above 0
    INSIDE = "inside"  # whether it is within two bounds
    ZERO = "mask"  # whether it is 0
    TWO = "two values"  # 0, or one other value
    INDEX = "index"  # the place of a maximum in its window
    VALUE = "value"
    LOG = "log"  # values that are used as exp(value)
    LOSSLESS = "lossless"  # every bit, packed
    EXACT = "exact"  # every bit, and used so often or so small that packing would not pay


@dataclass(frozen=True)
class Needs:
    """The needs of one operation.

    ``inputs`` holds for tensors that the operation was given, ``at`` for single positions among its
    arguments, ``made`` for what it computed, ``whole`` for integers and truth values.
    """

    inputs: Need = Need.VALUE
    made: Need = Need.VALUE
    at: tuple[tuple[int | str, Need], ...] = ()
    whole: Need = Need.VALUE


_ZERO = Needs(inputs=Need.ZERO, made=Need.ZERO)  # in place, what it made is its input
_POOL = Needs(inputs=Need.SHAPE, whole=Need.INDEX)
_SIZES = Needs(inputs=Need.SHAPE)
_EXACT = Needs(inputs=Need.EXACT, made=Need.EXACT)
_STATISTICS = Needs(made=Need.EXACT)  # computed of the values, and used beside them
_DIVIDE = Needs(at=((1, Need.EXACT),), made=Need.EXACT)
_DROPOUT = Needs(made=Need.TWO)

OPS: dict[str, Needs] = {
    **dict.fromkeys(("relu",), _ZERO),
    **dict.fromkeys(("leaky_relu",), Needs(inputs=Need.SIGN)),
    **dict.fromkeys(("hardtanh", "relu6"), Needs(inputs=Need.INSIDE)),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _DROPOUT),
    **dict.fromkeys(("feature_dropout", "alpha_dropout", "feature_alpha_dropout"), _STATISTICS),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _POOL),
    **dict.fromkeys(("max_pool1d_with_indices", "max_pool2d_with_indices"), _POOL),
    "max_pool3d_with_indices": _POOL,
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), _SIZES),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _SIZES),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), _SIZES),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm", "layer_norm"), _STATISTICS),
    **dict.fromkeys(("native_batch_norm", "native_layer_norm", "native_group_norm"), _STATISTICS),
    # The fused LSTM keeps an opaque workspace and states that belong to it.
    **dict.fromkeys(("lstm", "rnn_tanh", "rnn_relu"), _STATISTICS),
    "cross_entropy": Needs(made=Need.LOG, at=((1, Need.EXACT),)),
    "log_softmax": Needs(made=Need.LOG),
    "nll_loss": _SIZES,
    "scaled_dot_product_attention": Needs(
        at=((3, Need.LOSSLESS), ("attn_mask", Need.LOSSLESS)), made=Need.EXACT
    ),
    **dict.fromkeys(("div", "true_divide", "truediv", "divide"), _DIVIDE),
    **dict.fromkeys(("rtruediv", "rdiv", "reciprocal", "sqrt", "rsqrt"), _EXACT),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "xlogy", "logit"), _EXACT),
    **dict.fromkeys(("logsumexp", "logaddexp", "logcumsumexp", "cumprod", "prod"), _EXACT),
    **dict.fromkeys(("norm", "vector_norm", "linalg_vector_norm", "normalize"), _EXACT),
    **dict.fromkeys(("cosine_similarity", "cdist", "dist", "pairwise_distance"), _EXACT),
    **dict.fromkeys(("std", "std_mean", "var_mean"), _STATISTICS),
    **dict.fromkeys(("max", "min", "amax", "amin", "median", "aminmax"), _EXACT),  # by equality
    **dict.fromkeys(("float_power", "acos", "asin", "acosh", "atanh", "erfinv"), _EXACT),
    **dict.fromkeys(("pow", "rpow"), _EXACT),  # see `need_of` for powers of 1 and more
    # The gradient is the difference of two tensors that training makes alike.
    **dict.fromkeys(("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"), _EXACT),
    "binary_cross_entropy_with_logits": Needs(at=((1, Need.EXACT),)),
    **dict.fromkeys(("lgamma", "digamma", "polygamma", "ctc_loss"), _EXACT),
    **dict.fromkeys(("fft_fft", "fft_rfft", "linalg_svd", "linalg_eigh", "linalg_qr"), _EXACT),
    **dict.fromkeys(("linalg_inv", "linalg_solve", "linalg_cholesky", "inverse"), _EXACT),
    **dict.fromkeys(("binary_cross_entropy", "kl_div", "poisson_nll_loss"), _EXACT),
    "gaussian_nll_loss": _EXACT,
}
_OTHER = Needs()
CLAMPS = ("clamp", "clip", "clamp_min", "clamp_max")


def need_of(saving: Saving, tensor: torch.Tensor) -> Need:
    """What the operation that runs needs of a tensor it saves."""
    # Other forms of attention save statistics beside what they are of, as the fused one does.
    needs = OPS.get(saving.op, _EXACT if "attention" in saving.op else _OTHER)
    if not tensor.is_floating_point():
        return needs.whole
    if saving.op in CLAMPS and bounds(saving) is not None:
        return Need.INSIDE
    place, args = saving.position, saving.args
    if place is not None:
        if saving.op == "pow" and isinstance(args[-1], int | float) and args[-1] >= 1:
            return Need.VALUE
        return next((need for at, need in needs.at if at == place), needs.inputs)
    first = args[0] if args else None
    if isinstance(first, torch.Tensor) and 8 * tensor.numel() <= first.numel():
        # Much less than what came in: a statistic of it, such as the norm in rms_norm.
        return needs.made if needs.made is Need.TWO else Need.EXACT
    return needs.made


def bounds(saving: Saving) -> tuple[float, float] | None:
    """The bounds of a clamp, infinite where there is none; None where one bit would not do."""
    names = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(saving.op, ("min", "max"))
    given = saving.kwargs | dict(zip(names, saving.args[1:], strict=False))
    low, high = given.get("min"), given.get("max")
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    # Between bounds that a short dtype may round to one there is no number to stand for both.
    narrow = math.isfinite(high - low) and high - low <= 0.05 * max(abs(low), abs(high))
    return None if narrow or low == high or math.isnan(high - low) else (float(low), float(high))
