"""Networks for images that torchvision and timm define."""

import torch

from fewbits.machines.modules import of_module
from fewbits.machines.workload import Workload

# torchvision's own build of these two may not load beside a CPU build of torch, and its import
# fails for that; shapes need neither.
for _operation in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operation):
        torch.library.define(
            f"torchvision::{_operation}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )


def side_of(model: str) -> int:
    """Pixels of the side of the images that a network was made for."""
    return 299 if model.startswith("inception") else 224


def torchvision_model(model: str) -> Workload:
    import torchvision

    keywords = {"init_weights": False} if model in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        # The auxiliary heads of GoogLeNet and Inception are for training alone.
        if keywords:
            keywords["aux_logits"] = False
        module = getattr(torchvision.models, model)(**keywords)
    side = side_of(model)
    return of_module(module, torch.empty(1, 3, side, side, device="meta"), name=model)


def timm_model(model: str) -> Workload:
    import timm

    with torch.device("meta"):
        module = timm.create_model(model)
    side = side_of(model)
    return of_module(module, torch.empty(1, 3, side, side, device="meta"), name=model)
