"""What each network of Table II takes when packed, and who says so.

Three origins, in this order: measured here (``apack_traffic.json``, which
``benchmarks/apack_traffic.py`` writes), said of this network in the paper's text, or the paper's
average. The paper's bar charts have no numbers, so they are no source.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from fewbits.machines import networks
from fewbits.machines.traffic import AVERAGES, Traffic

Codec = Literal["apack", "shapeshifter"]
Tensors = Literal["weights", "activations"]
TENSORS: tuple[Tensors, ...] = ("weights", "activations")
AVERAGE = {constant.name: constant.value for constant in AVERAGES}

#: Shares of the plain size with APack that the paper's text gives (section VII).
STATED_WEIGHTS = {
    "mobilenet_v3": 0.65,
    "shufflenet_v2": 0.88,
    "ssd_resnet34": 0.59,
    "mobilenet_v1": 0.86,
    "ncf": 1 / 1.2,
    "alexnet_eyeriss": 1 / 11.4,  # "to 11.4x": the best of all; its energy, 91 %, tells whose
    "googlenet_eyeriss": 0.27,  # 72 % of the energy is saved, engines' 4.7 % included
}
STATED_ACTIVATIONS = {
    "mobilenet_v3": 0.55,
    "resnext101": 0.41,
    "ncf": 1 / 2.2,
    "googlenet_eyeriss": 0.27,
}
#: Which measured tensors stand for which network.
MEASURED = {"resnet18": "resnet18", "mobilenet_v3": "mobilenet_v3_large", "q8bert": "minilm"}

# ShapeShifter's size beside APack's, by group (section VII-A): 11 % more on IntelAI's weights, and
# 1.51 and 1.34 times on what is neither from IntelAI nor from torchvision. Of torchvision's
# networks the text gives no number: the ratio is measured.
INTEL_WEIGHTS = 1 / 0.89
OTHER_WEIGHTS, OTHER_ACTIVATIONS = 1.51, 1.34
# A group of eight values that packing cannot shorten takes 3 bits more than its 64.
LARGEST = 1 + 3 / 64


@dataclass(frozen=True)
class Share:
    """A share of the plain size, and its origin."""

    value: float
    origin: str


@lru_cache(1)
def measured() -> dict[str, Any]:
    """What the script measured: for each source its title, values, and shares by codec."""
    text = resources.files("fewbits.studies").joinpath("apack_traffic.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def share(name: str, what: Tensors, codec: Codec) -> Share:
    """The share of a network's weights or activations."""
    source = measured().get(MEASURED.get(name, ""), {}).get("shares", {}).get(what, {})
    if codec in source:
        note = "measured" if name != "q8bert" else "measured on MiniLM"
        return Share(source[codec], note)
    stated = STATED_WEIGHTS if what == "weights" else STATED_ACTIVATIONS
    if name in stated:
        apack = Share(stated[name], "paper, text")
    else:
        apack = Share(AVERAGE["weight_traffic" if what == "weights" else "activation_traffic"],
                      "paper, average")  # fmt: skip
    if codec == "apack":
        return apack
    factor, why = _shapeshifter(name, what)
    return Share(min(apack.value * factor, LARGEST), f"APack's x {factor:.2f}: {why}")


def _shapeshifter(name: str, what: str) -> tuple[float, str]:
    row = networks.about(name).paper_row
    quantizer = row[2] if row else ""
    if quantizer == "Torchvision" or (quantizer == "IntelAI" and what == "activations"):
        return torchvision_factor(what), "measured"
    if quantizer == "IntelAI":
        return INTEL_WEIGHTS, "paper, text"
    return (OTHER_WEIGHTS if what == "weights" else OTHER_ACTIVATIONS), "paper, text"


def torchvision_factor(what: str) -> float:
    """ShapeShifter's size through APack's, on the tensors that were measured."""
    names = ("resnet18", "mobilenet_v3_large") if what == "weights" else ("convolutions",)
    found = [measured()[name]["shares"][what] for name in names]
    return float(sum(one["shapeshifter"] / one["apack"] for one in found) / len(found))


def traffic(name: str, codec: Codec, *, averages: bool = False) -> Traffic:
    """The traffic of a network; with ``averages`` the paper's, whatever the network."""
    if averages:
        factors = {"weights": 1.0, "activations": 1.0}
        if codec == "shapeshifter":
            factors = {what: _shapeshifter(name, what)[0] for what in factors}
        return Traffic(
            codec,
            min(AVERAGE["weight_traffic"] * factors["weights"], LARGEST),
            min(AVERAGE["activation_traffic"] * factors["activations"], LARGEST),
            origin="paper",
        )
    return Traffic(
        codec, share(name, "weights", codec).value, share(name, "activations", codec).value,
        origin="paper",
    )  # fmt: skip
