"""The networks: where each one's definition is, and its row in APack's Table II."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import byhand
import detection
import vision

from fewbits.machines.workload import Workload

Row = tuple[str, str, str]
Build = Callable[[], Workload]


@dataclass(frozen=True)
class Source:
    title: str
    made_by: str
    build: Build
    paper_row: Row | None = None
    note: str = ""


def _vision(title: str, model: str, row: Row | None = None) -> Source:
    side = vision.side_of(model)
    made_by = f"torchvision.models.{model}, {side} x {side}"
    return Source(title, made_by, lambda: vision.torchvision_model(model), row)


def _timm(title: str, model: str, row: Row) -> Source:
    side = vision.side_of(model)
    made_by = f"timm's {model}, {side} x {side}"
    return Source(title, made_by, lambda: vision.timm_model(model), row)


def _four_bits() -> Workload:
    """ResNet-18 with 4 bits, except in the first and the last layer."""
    net = vision.torchvision_model("resnet18")
    last = len(net) - 1
    return replace(
        net,
        operations=tuple(
            op if index in (0, last) else replace(op, weight_bits=4, activation_bits=4)
            for index, op in enumerate(net.operations)
        ),
    )


TORCHVISION: Row = ("ImageNet", "int8", "Torchvision")
INTEL: Row = ("ImageNet", "int8", "IntelAI")
PRUNED: Row = ("ImageNet", "int8/Pruned", "per-layer")
SOURCES = {
    "googlenet": _vision("GoogLeNet", "googlenet", TORCHVISION),
    "inception_v3": _vision("Inception v3", "inception_v3", TORCHVISION),
    "mobilenet_v2": _vision("MobileNet v2", "mobilenet_v2", TORCHVISION),
    "mobilenet_v3": _vision("MobileNet v3 large", "mobilenet_v3_large", TORCHVISION),
    "resnet18": _vision("ResNet-18", "resnet18", TORCHVISION),
    "resnet50": _vision("ResNet-50", "resnet50", TORCHVISION),
    "resnext101": _vision("ResNeXt-101 32x8d", "resnext101_32x8d", TORCHVISION),
    "shufflenet_v2": _vision("ShuffleNet v2 x1.0", "shufflenet_v2_x1_0", TORCHVISION),
    "inception_v4": _timm("Inception v4", "inception_v4", INTEL),
    "mobilenet_v1": _timm("MobileNet v1", "mobilenetv1_100", INTEL),
    "resnet101": _vision("ResNet-101", "resnet101", INTEL),
    "rfcn_resnet101": Source(
        "R-FCN ResNet-101",
        "by hand from Dai et al., R-FCN, 2016: torchvision's ResNet-101 and the paper's heads, "
        "600 x 1024",
        detection.rfcn_resnet101,
        ("COCO", "int8", "IntelAI"),
        "12 boxes a place, boxes for all classes alike; pooling of scores multiplies nothing",
    ),
    "ssd_resnet34": Source(
        "SSD ResNet-34",
        "by hand from Liu et al., SSD, 2016, in the sizes of MLPerf's inference benchmark, "
        "1200 x 1200; checked against its 15130 boxes",
        detection.ssd_resnet34,
        ("COCO", "int8", "IntelAI"),
    ),
    "wide_deep": Source(
        "Wide & Deep",
        "by hand from Cheng et al., 2016",
        byhand.wide_and_deep,
        ("Kaggle Display Advertising", "int8", "IntelAI"),
        "tables of 1000 rows for each of 26 features are assumed",
    ),
    "ncf": Source(
        "NCF",
        "by hand from He et al., 2017, NeuMF in MLPerf's sizes for MovieLens 20M",
        byhand.ncf,
        ("ml-20m", "int8", "IntelLabs Distiller+Per-Layer"),
        "one pair of user and item",
    ),
    "resnet18_pact": Source(
        "ResNet-18 PACT",
        "torchvision.models.resnet18, 224 x 224; 4 bits but for the first and the last layer "
        "(Choi et al., 2018)",
        _four_bits,
        ("ImageNet", "int4/int8", "IntelLabs Distiller+Per Layer"),
    ),
    "ssd_mobilenet": Source(
        "SSD MobileNet",
        "by hand from Liu et al., SSD, 2016, and Howard et al., MobileNets, 2017, in the sizes of "
        "MLPerf's inference benchmark, 300 x 300; checked against its 1917 boxes",
        detection.ssd_mobilenet,
        ("COCO", "int8", "MLPerf+Per Layer"),
    ),
    "mobilenet": replace(
        _timm("MobileNet (MLPerf)", "mobilenetv1_100", ("ImageNet", "int8", "MLPerf")),
        note="the shapes of MobileNet v1; another quantizer",
    ),
    "bilstm": Source(
        "Bidirectional LSTM captioner",
        "by hand from Wang et al., Image Captioning with Deep Bidirectional LSTMs, 2016",
        byhand.bilstm,
        ("Flickr8k", "int8", "per-layer"),
        "20 words of 2538, 1000 units and image features of 4096 are assumed; weights are read "
        "once for all words, as the paper says of each layer",
    ),
    "segnet": Source(
        "SegNet",
        "by hand from Badrinarayanan et al., SegNet, 2015, 360 x 480",
        byhand.segnet,
        ("CamVid", "int8", "per layer"),
    ),
    "resnet18_q": replace(
        _vision("ResNet-18-Q", "resnet18", ("ImageNet", "int8", "per-layer")),
        note="the shapes of ResNet-18; precisions below 8 bits are stored in 8",
    ),
    "alexnet_eyeriss": Source(
        "AlexNet-Eyeriss",
        "by hand from Krizhevsky et al., 2012, as in Caffe, 227 x 227",
        byhand.alexnet,
        PRUNED,
        "pruned weights are zeros: shapes stay",
    ),
    "googlenet_eyeriss": replace(
        _vision("GoogLeNet-Eyeriss", "googlenet", ("ImageNet", "int8/Pruned", "per layer")),
        note="pruned weights are zeros: shapes stay",
    ),
    "resnet34": _vision("ResNet-34", "resnet34"),
    "alexnet": _vision("AlexNet", "alexnet"),
    "unet": Source("U-Net", "by hand from Ronneberger et al., 2015, 572 x 572", byhand.unet),
}
