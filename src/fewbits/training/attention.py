"""Attention that saves q, k, v and the mask, and rebuilds the rest from what comes back.

The fused kernels also save their output and the logarithm of the softmax's denominator. The
gradient uses them as if they belonged to q and k; beside a lossy q and k they do not, the
recomputed probabilities no longer sum to 1, and gradients grow without bound (int4 at logits of 57:
a norm 10^7 times too large, and NaN). So backward runs the forward again, on the decoded q, k and
v, with the same random numbers, and differentiates that.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> torch.Tensor:
    """``F.scaled_dot_product_attention`` with the same arguments and the same result."""
    settings = {"dropout_p": dropout_p, "is_causal": is_causal, **options}
    tensors = (query, key, value, attn_mask)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _Attend.apply(query, key, value, attn_mask, settings)
    return F.scaled_dot_product_attention(query, key, value, attn_mask, **settings)


def fused_attention(*args: Any, **kwargs: Any) -> torch.Tensor:
    """Attention as it is, under a name by which all that it saves is held exact."""
    return F.scaled_dot_product_attention(*args, **kwargs)


def node_of(output: torch.Tensor) -> Any:
    """The autograd node of what `attend` returned, or None for other tensors."""
    node = output.grad_fn
    return node if getattr(node, "_forward_cls", None) is _Attend else None


def output_again(node: Any) -> torch.Tensor:
    """The output from the decoded q, k and v; the node's own backward will need no more."""
    node.again = _again(node)
    output: torch.Tensor = node.again[1].detach()
    return output


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        settings: dict[str, Any],
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value, mask)
        ctx.settings = settings
        ctx.device = query.device
        ctx.chance = _chance(query.device) if settings["dropout_p"] > 0 else None
        ctx.autocast = autocast_now(query.device)
        ctx.again = None
        return F.scaled_dot_product_attention(query, key, value, mask, **settings)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        twice = torch.is_grad_enabled()  # a gradient of the gradient is wanted
        needed = ctx.needs_input_grad[:4]
        (tensors, output), ctx.again = (not twice and ctx.again) or _again(ctx, twice), None
        wanted = [x for x, need in zip(tensors, needed, strict=True) if need]
        found = iter(torch.autograd.grad(output, wanted, grad, create_graph=twice))
        return *(next(found) if need else None for need in needed), None


def _again(ctx: Any, twice: bool = False) -> tuple[list[torch.Tensor | None], torch.Tensor]:
    """The forward once more, followed by autograd: its tensors and its output."""
    attention: Any = F.scaled_dot_product_attention
    # The fused kernels' backward has no derivative of its own; plain operations have.
    kernel = sdpa_kernel(SDPBackend.MATH) if twice else contextlib.nullcontext()
    own = saved_tensors_hooks(lambda x: x, lambda x: x)  # what this saves is used at once
    with torch.enable_grad(), _replayed(ctx.chance, ctx.device), ctx.autocast, kernel, own:
        tensors = [
            # A view of its own for each: q and k may be one tensor, with two gradients.
            x if x is None else x.view_as(x) if twice else x.detach().requires_grad_(need)
            for x, need in zip(ctx.saved_tensors, ctx.needs_input_grad[:4], strict=True)
        ]
        return tensors, attention(*tensors, **ctx.settings)


def autocast_now(device: torch.device) -> Any:
    """Autocast as it is now, to be entered again later."""
    if not torch.is_autocast_enabled(device.type):
        return contextlib.nullcontext()
    return torch.autocast(
        device.type,
        dtype=torch.get_autocast_dtype(device.type),
    )


def _chance(device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device)


@contextlib.contextmanager
def _replayed(chance: torch.Tensor | None, device: torch.device) -> Iterator[None]:
    """The device's random numbers from an earlier state on, then as if nothing was drawn."""
    if chance is None:
        yield
        return
    devices = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices, device_type=kind):
        if device.type == "cpu":
            torch.set_rng_state(chance)
        else:
            torch.get_device_module(device).set_rng_state(chance, device)
        yield
