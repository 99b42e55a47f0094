"""IPUs, one to 64: little memory, very fast, with slow memory behind it.

``simulate`` times a training step, ``make_plan`` says whether to pack activations and how to cut.

>>> from fewbits.machines import ipu, networks
>>> net = networks.load("resnet50")
>>> plain = ipu.simulate(net, ipu.Setting(micro_batch=48))
>>> packed = ipu.simulate(net, ipu.Setting(micro_batch=48, ratio=4))
>>> sorted(plain.stages[0].spilled), plain.step_s > 3 * packed.step_s
(['activations'], True)
"""

from fewbits.machines.ipu.constants import constants
from fewbits.machines.ipu.model import Run, simulate
from fewbits.machines.ipu.planner import Plan, make_plan
from fewbits.machines.ipu.schedules import SCHEDULES, Rounds, make_rounds
from fewbits.machines.ipu.setting import Setting, chop_ratio, with_traffic
from fewbits.machines.ipu.stages import Stage

__all__ = [
    "SCHEDULES",
    "Plan",
    "Rounds",
    "Run",
    "Setting",
    "Stage",
    "chop_ratio",
    "constants",
    "make_plan",
    "make_rounds",
    "simulate",
    "with_traffic",
]
