"""The settings that the paper leaves open, and the means over networks in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fewbits.machines import networks
from fewbits.machines.result import Result
from fewbits.machines.tensorcore import Policy, constants, simulate
from fewbits.machines.traffic import NONE
from fewbits.studies.apack.shares import Codec, traffic

CODECS: tuple[Codec, ...] = ("apack", "shapeshifter")
#: Engines four times as fast as described, at the power that is published: as 256 at 1 GHz.
FAST = {"engine_clock_hz": 4e9, "engine_power_at_hz": 4e9}


@dataclass(frozen=True)
class Setting:
    """What the text leaves open. ``values`` replace constants; ``average`` of ``networks``."""

    label: str
    values: Mapping[str, float] = field(default_factory=lambda: dict(FAST))
    policy: Policy = "all"
    averages: bool = False
    networks: Sequence[str] = ()
    geometric: bool = False

    def names(self) -> Sequence[str]:
        """The networks it averages; all of Table II if none are named."""
        return self.networks or networks.of_paper()


@dataclass(frozen=True)
class Outcome:
    """Speedup and energy efficiency by network and codec, and their means."""

    setting: Setting
    speedup: Mapping[Codec, Mapping[str, float]]
    efficiency: Mapping[Codec, Mapping[str, float]]

    def mean(self, what: str, codec: Codec) -> float:
        """The mean over networks."""
        values = list((self.speedup if what == "speedup" else self.efficiency)[codec].values())
        if self.setting.geometric:
            return float(np.exp(np.mean(np.log(values))))
        return float(np.mean(values))


REFERENCE = Setting("reference")


def settings() -> list[Setting]:
    """The reference, then one thing changed at a time."""
    every = networks.of_paper()
    quantizer = {name: (networks.about(name).paper_row or ("", "", ""))[2] for name in every}

    def changed(label: str, **values: float) -> Setting:
        return replace(REFERENCE, label=label, values={**FAST, **values})

    return [
        REFERENCE,
        replace(REFERENCE, label="64 engines of a value a cycle at 1 GHz", values={}),
        replace(
            REFERENCE,
            label="64 engines at 1.5 GHz",
            values={"engine_clock_hz": 1.5e9, "engine_power_at_hz": 1.5e9},
        ),
        replace(REFERENCE, label="64 engines at 2 GHz",
                values={"engine_clock_hz": 2e9, "engine_power_at_hz": 2e9}),
        changed("engines that never bind", engine_values_per_cycle=1e6),
        replace(REFERENCE, label="outputs stay on the chip", policy="reads"),
        replace(REFERENCE, label="activations and weights stay if they fit", policy="fit"),
        changed("transfers do not overlap with products", overlap=0.0),
        changed("DRAM reaches 70 % of its peak", dram_efficiency=0.7),
        changed("DRAM reaches its peak", dram_efficiency=1.0),
        changed("energy on the chip halved", mac_pj=0.225, sram_pj_per_byte=0.75),
        changed("energy on the chip doubled", mac_pj=0.9, sram_pj_per_byte=3.0),
        changed("accelerator at 0.5 GHz", clock_hz=0.5e9),
        changed("accelerator at 2 GHz", clock_hz=2e9),
        replace(REFERENCE, label="60 % and 48 % for every network", averages=True),
        replace(REFERENCE, label="geometric mean", geometric=True),
        replace(
            REFERENCE,
            label="without IntelAI's (their activations are floats)",
            networks=[name for name in every if quantizer[name] != "IntelAI"],
        ),
        replace(
            REFERENCE,
            label="without pruned AlexNet",
            networks=[name for name in every if name != "alexnet_eyeriss"],
        ),
        replace(
            REFERENCE,
            label="torchvision's eight alone",
            networks=[name for name in every if quantizer[name] == "Torchvision"],
        ),
    ]  # fmt: skip


def outcome(setting: Setting) -> Outcome:
    """Run every network plain and packed."""
    c = constants().with_values(setting.values)
    speedup: dict[Codec, dict[str, float]] = {codec: {} for codec in CODECS}
    efficiency: dict[Codec, dict[str, float]] = {codec: {} for codec in CODECS}
    for name in setting.names():
        net = networks.load(name)
        plain = simulate(net, NONE, c, policy=setting.policy)
        for codec in CODECS:
            found = traffic(name, codec, averages=setting.averages)
            packed = simulate(net, found, c, policy=setting.policy)
            speedup[codec][name] = plain.total_latency_s / packed.total_latency_s
            efficiency[codec][name] = plain.total_energy_j / packed.total_energy_j
    return Outcome(setting, speedup, efficiency)


def used_constants() -> Result:
    """A run of the reference, for the constants it used."""
    net = networks.load("resnet50")
    return simulate(net, traffic("resnet50", "apack"), constants().with_values(FAST))
