"""The two tasks on images: a residual convolutional network, and a small vision transformer."""

import torch
from torch import nn
from torch.nn import functional as F

from training_bench.images import test_set, training_set
from training_bench.task import Batch, Blocks, Size, Task, accuracy
from training_bench.transformer import Block

CLASSES = 16


class Residual(nn.Module):
    """Two convolutions with batch normalization, and a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.around = nn.Identity()
        if before != after:
            self.around = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.one(x)))
        return F.relu(self.norm2(self.two(y)) + self.around(x))


def resnet(width: int, depth: int, recompute: bool) -> nn.Module:
    """A stem with max pooling, then stages that halve the image and double the channels."""
    stem = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.MaxPool2d(2),
    )  # fmt: skip
    stages = [Residual(width, width, 1)]
    for stage in range(depth):
        before, after = width << stage, width << (stage + 1)
        stages += [Residual(before, after, 2), Residual(after, after, 1)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width << depth, CLASSES))
    return nn.Sequential(Blocks(stem, *stages, recompute=recompute), head)


class VisionTransformer(nn.Module):
    """64 patches of 4 x 4 pixels, transformer blocks, and the mean of what comes out."""

    def __init__(self, size: Size, recompute: bool) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, size.width, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 64, size.width) * 0.02)
        blocks = [Block(size.width, causal=False) for _ in range(size.depth)]
        self.blocks = Blocks(*blocks, recompute=recompute)
        self.norm, self.head = nn.LayerNorm(size.width), nn.Linear(size.width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(tokens)).mean(1))


class Images(Task):
    """Which of 16 photographs a patch of 32 x 32 pixels is from."""

    metric = "accuracy"

    def batch(self, size: Size, generator: torch.Generator) -> Batch:
        images, labels = training_set()
        chosen = torch.randint(len(labels), (size.batch,), generator=generator)
        return images[chosen], labels[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def score(self, model: nn.Module) -> float:
        images, labels = test_set()
        return accuracy(torch.cat([model(part) for part in images.split(256)]), labels)


class Cnn(Images):
    name = "cnn"
    small = Size(batch=64, width=16, depth=2)
    large = Size(batch=128, width=32, depth=2)
    steps, rate = 600, 1e-2

    def model(self, size: Size, *, recompute: bool = False) -> nn.Module:
        return resnet(size.width, size.depth, recompute)


class Vit(Images):
    name = "vit"
    small = Size(batch=48, width=64, depth=3)
    large = Size(batch=64, width=192, depth=4)
    steps, rate = 600, 3e-3

    def model(self, size: Size, *, recompute: bool = False) -> nn.Module:
        return VisionTransformer(size, recompute)
