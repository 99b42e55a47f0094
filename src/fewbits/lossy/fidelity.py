"""How close a decoded tensor is to the original, as one number from 0 to 1."""

import torch


def fidelity(original: torch.Tensor, decoded: torch.Tensor) -> float:
    """``clip(1 - RMSE / std, 0, 1)`` of two tensors of one shape, over their finite elements.

    1 is equal; 0 is an error as large as that of the mean in every place. A constant tensor has no
    std: 1 if it is decoded exactly, else 0. Elements that are not finite in the original count as
    an error when they did not come back the same.
    """
    x, y = original.detach().double(), decoded.detach().double()
    finite = torch.isfinite(x)
    kept = torch.where(finite, torch.isfinite(y), (x == y) | (x.isnan() & y.isnan()))
    if not bool(kept.all()):
        return 0.0
    x, y = x[finite], y[finite]
    error = float((x - y).square().mean().sqrt()) if x.numel() else 0.0
    if error == 0.0:
        return 1.0
    spread = float(x.std(correction=0))
    return min(max(1.0 - error / spread, 0.0), 1.0) if spread > 0 else 0.0
