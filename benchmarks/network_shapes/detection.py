"""Networks for detection, from torchvision's backbones and the papers' heads."""

from collections.abc import Sequence

import torch
import vision
from torch import Tensor, nn

from fewbits.machines.modules import of_module
from fewbits.machines.workload import Workload


def _pair(
    channels: int, middle: int, filters: int, *, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    """A layer that SSD adds behind its backbone: 1x1, then 3x3."""
    return nn.Sequential(
        nn.Conv2d(channels, middle, 1),
        nn.ReLU(),
        nn.Conv2d(middle, filters, 3, stride, padding),
        nn.ReLU(),
    )


class _Ssd(nn.Module):
    """Maps from a backbone and added layers, each with a head for classes and one for boxes."""

    def __init__(
        self,
        backbone: Sequence[nn.Module],
        added: Sequence[nn.Module],
        channels: Sequence[int],
        boxes: Sequence[int],
        classes: int,
        *,
        kernel: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.backbone, self.added = nn.ModuleList(backbone), nn.ModuleList(added)

        def heads(width: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(c, b * width, kernel, stride, kernel // 2)
                for c, b in zip(channels, boxes, strict=True)
            )

        self.classes, self.boxes = heads(classes), heads(4)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for part in self.backbone:
            x = part(x)
            maps.append(x)
        for part in self.added:
            x = part(x)
            maps.append(x)
        return [
            head(found)
            for found, *heads in zip(maps, self.classes, self.boxes, strict=True)
            for head in heads
        ]


def ssd_resnet34() -> Workload:
    """MLPerf's, for images of 1200x1200; its heads give 15130 boxes of 81 classes."""
    import torchvision

    with torch.device("meta"):
        net = torchvision.models.resnet34()
        # The third stage keeps its size, and the fourth is left out.
        net.layer3[0].conv1.stride = net.layer3[0].downsample[0].stride = (1, 1)
        stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        backbone = nn.Sequential(stem, net.layer1, net.layer2, net.layer3)
        added = [
            _pair(256, 256, 512, stride=2, padding=1),
            _pair(512, 256, 512, stride=2, padding=1),
            _pair(512, 128, 256, stride=2, padding=1),
            _pair(256, 128, 256, stride=2),
            _pair(256, 128, 256),
        ]
        channels, boxes = (256, 512, 512, 256, 256, 256), (4, 6, 6, 6, 4, 4)
        module = _Ssd([backbone], added, channels, boxes, 81, kernel=3, stride=3)
    found = module(torch.empty(1, 3, 1200, 1200, device="meta"))
    assert sum(out.shape[1] * out.shape[2] * out.shape[3] for out in found[1::2]) == 4 * 15130
    return of_module(module, torch.empty(1, 3, 1200, 1200, device="meta"))


def _mobilenet_v1() -> list[nn.Module]:
    """Layers of MobileNet v1 up to its last feature map, each a depthwise and a 1x1."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1)]
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
            (1024, 1)]  # fmt: skip
    channels = 32
    for filters, stride in plan:
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)
        layers.append(nn.Sequential(depthwise, nn.ReLU6(), nn.Conv2d(channels, filters, 1)))
        channels = filters
    return layers


def ssd_mobilenet() -> Workload:
    """MLPerf's SSD MobileNet v1, for images of 300x300; 1917 boxes of 91 classes."""
    with torch.device("meta"):
        layers = _mobilenet_v1()
        added = [
            _pair(1024, 256, 512, stride=2, padding=1),
            _pair(512, 128, 256, stride=2, padding=1),
            _pair(256, 128, 256, stride=2, padding=1),
            _pair(256, 64, 128, stride=2, padding=1),
        ]
        backbone = [nn.Sequential(*layers[:12]), nn.Sequential(*layers[12:])]
        channels, boxes = (512, 1024, 512, 256, 256, 128), (3, 6, 6, 6, 6, 6)
        module = _Ssd(backbone, added, channels, boxes, 91, kernel=1, stride=1)
    found = module(torch.empty(1, 3, 300, 300, device="meta"))
    assert sum(out.shape[1] * out.shape[2] * out.shape[3] for out in found[1::2]) == 4 * 1917
    return of_module(module, torch.empty(1, 3, 300, 300, device="meta"))


def rfcn_resnet101() -> Workload:
    """ResNet-101 at stride 16, a proposal network on its fourth stage, 7x7 score maps."""
    import torchvision

    class Rfcn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            net = torchvision.models.resnet101(replace_stride_with_dilation=[False, False, True])
            stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
            self.early = nn.Sequential(stem, net.layer1, net.layer2, net.layer3)
            self.late = net.layer4
            self.proposals = nn.Conv2d(1024, 512, 3, padding=1)
            self.objectness, self.offsets = nn.Conv2d(512, 2 * 12, 1), nn.Conv2d(512, 4 * 12, 1)
            self.reduce = nn.Conv2d(2048, 1024, 1)
            self.scores = nn.Conv2d(1024, 7 * 7 * 81, 1)
            self.boxes = nn.Conv2d(1024, 7 * 7 * 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            early = self.early(x)
            proposals = self.proposals(early).relu()
            late = self.reduce(self.late(early)).relu()
            return (
                self.objectness(proposals),
                self.offsets(proposals),
                self.scores(late),
                self.boxes(late),
            )

    with torch.device("meta"):
        module = Rfcn()
    return of_module(module, torch.empty(1, 3, 600, 1024, device="meta"))


# The import defines what torchvision needs to load.
assert vision
