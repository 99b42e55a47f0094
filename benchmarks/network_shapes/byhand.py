"""Networks that no library defines, written from their papers."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from fewbits.machines.modules import of_module
from fewbits.machines.workload import Workload, embedding, linear


def alexnet() -> Workload:
    """Krizhevsky et al., 2012, as Caffe and Eyeriss have it: 227x227, two groups."""
    with torch.device("meta"):
        module = nn.Sequential(
            nn.Conv2d(3, 96, 11, 4),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Flatten(),
            nn.Linear(9216, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        )
    return of_module(module, torch.empty(1, 3, 227, 227, device="meta"))


def _convolutions(channels: int, *filters: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in filters:
        layers += [nn.Conv2d(channels, count, 3, padding=1), nn.BatchNorm2d(count), nn.ReLU()]
        channels = count
    return nn.Sequential(*layers)


def segnet() -> Workload:
    """Badrinarayanan et al., 2015: VGG-16's convolutions and their mirror, 12 classes."""

    class SegNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            down = [(3, 64, 64), (64, 128, 128), (128, *[256] * 3), (256, *[512] * 3),
                    (512, *[512] * 3)]  # fmt: skip
            up = [(512, *[512] * 3), (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 64),
                  (64, 64)]  # fmt: skip
            self.down = nn.ModuleList(_convolutions(*plan) for plan in down)
            self.up = nn.ModuleList(_convolutions(*plan) for plan in up)
            self.last = nn.Conv2d(64, 12, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            places = []
            for part in self.down:
                x = part(x)
                size = x.shape
                x, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
                places.append((indices, size))
            for part in self.up:
                indices, size = places.pop()
                x = part(nn.functional.max_unpool2d(x, indices, 2, output_size=size[2:]))
            return self.last(x)

    with torch.device("meta"):
        module = SegNet()
    return of_module(module, torch.empty(1, 3, 360, 480, device="meta"))


def unet() -> Workload:
    """Ronneberger et al., 2015: 572x572 to 388x388, convolutions without padding, 2 classes."""

    def twice(channels: int, filters: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.Conv2d(filters, filters, 3), nn.ReLU()
        )

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [64, 128, 256, 512, 1024]
            pairs = list(pairwise(widths))
            self.down = nn.ModuleList([twice(1, 64), *(twice(a, b) for a, b in pairs)])
            self.raise_ = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
            self.up = nn.ModuleList(twice(b, a) for a, b in reversed(pairs))
            self.last = nn.Conv2d(64, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            kept = []
            for index, part in enumerate(self.down):
                x = part(x if index == 0 else nn.functional.max_pool2d(x, 2))
                kept.append(x)
            kept.pop()
            for raise_, part in zip(self.raise_, self.up, strict=True):
                x, old = raise_(x), kept.pop()
                edge = (old.shape[-1] - x.shape[-1]) // 2
                old = old[..., edge : edge + x.shape[-2], edge : edge + x.shape[-1]]
                x = part(torch.cat([old, x], dim=1))
            return self.last(x)

    with torch.device("meta"):
        module = UNet()
    found = module(torch.empty(1, 1, 572, 572, device="meta"))
    assert found.shape == (1, 2, 388, 388)
    return of_module(module, torch.empty(1, 1, 572, 572, device="meta"))


def _dense(name: str, *widths: int) -> list:
    pairs = enumerate(pairwise(widths))
    return [linear(f"{name}.{index}", 1, a, b) for index, (a, b) in pairs]


def ncf() -> Workload:
    """He et al., 2017, NeuMF with MLPerf's sizes for MovieLens 20M, one pair to score."""
    users, items = 138_493, 26_744
    return Workload(
        "ncf",
        (
            embedding("mf.user", 1, users, 64),
            embedding("mf.item", 1, items, 64),
            embedding("mlp.user", 1, users, 128),
            embedding("mlp.item", 1, items, 128),
            *_dense("mlp", 256, 256, 128, 64),
            linear("predict", 1, 128, 1),
        ),
    )


def wide_and_deep() -> Workload:
    """Cheng et al., 2016: 26 embeddings of 32, 13 numbers, layers of 1024, 512 and 256."""
    return Workload(
        "wide_deep",
        (
            embedding("wide", 26, 26 * 1000, 1),
            embedding("deep.embeddings", 26, 26 * 1000, 32),
            *_dense("deep", 26 * 32 + 13, 1024, 512, 256, 1),
        ),
    )


def bilstm() -> Workload:
    """Wang et al., 2016: a text LSTM and one that joins in the image, each in both directions."""
    words, units, tokens, image = 2538, 1000, 20, 4096
    operations = [
        embedding("words", tokens, words, units),
        linear("image", 1, image, units),
    ]
    for way in ("forward", "backward"):
        for name, inputs in (("text", units), ("joint", 2 * units)):
            operations += [
                linear(f"{way}.{name}.input", tokens, inputs, 4 * units),
                linear(f"{way}.{name}.recurrent", tokens, units, 4 * units),
            ]
        operations.append(linear(f"{way}.predict", tokens, units, words))
    return Workload("bilstm", tuple(operations))
