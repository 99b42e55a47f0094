"""Attention under ``torch.compile``: as in `attention`, in operations that a compiler can follow.

Backward rebuilds the probabilities from the decoded q, k and v and applies the gradient of softmax
to them, so for one layer at a time it holds the matrix that the fused kernels avoid. Where dropout
makes the probabilities depend on chance, forward computes them openly too: autograd then saves
them, and what it saves belongs together.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F


def attend_compiled(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """``F.scaled_dot_product_attention`` with the same arguments and the same result."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if dropout_p > 0 or (attn_mask is not None and attn_mask.requires_grad):
        weights = F.dropout(_probabilities(query, key, attn_mask, is_causal, scale), dropout_p)
        return weights.to(value.dtype) @ value
    return _Rebuilt.apply(query, key, value, attn_mask, is_causal, scale)


class _Rebuilt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        causal: bool,
        scale: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value, mask)
        ctx.settings = (causal, scale)
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, scale=scale
        )

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        causal, scale = ctx.settings
        weights = _probabilities(query, key, mask, causal, scale)
        of_weights = (grad @ value.mT).float()
        of_logits = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
        of_logits, weights = of_logits.to(query.dtype), weights.to(query.dtype)
        return (
            _summed(of_logits @ key, query),
            _summed(of_logits.mT @ query, key),
            _summed(weights.mT @ grad, value),
            None,
            None,
            None,
        )


def _probabilities(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    logits = (query @ key.mT).float() * scale
    if causal:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~allowed, -math.inf)
    if mask is not None and mask.dtype is torch.bool:
        logits = logits.masked_fill(~mask, -math.inf)
    elif mask is not None:
        logits = logits + mask
    return torch.softmax(logits, -1).nan_to_num(
        0.0
    )  # a row with nothing allowed attends to nothing


def _summed(grad: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The gradient of a tensor that was broadcast."""
    return grad.sum_to_size(like.shape).to(like.dtype)
