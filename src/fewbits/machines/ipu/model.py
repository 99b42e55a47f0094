"""A training step on one to 64 IPUs: memory of each stage, what spills, and how long it takes.

IPUs work in bulk-synchronous phases: compute, exchange and streaming do not overlap, and devices
that exchange wait for each other. So times add up, and a round lasts as long as its slowest stage.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constants
from fewbits.machines.ipu.constants import constants as ipu_constants
from fewbits.machines.ipu.memory import CLASSES
from fewbits.machines.ipu.schedules import (
    Floats,
    Rounds,
    make_rounds,
    split,
)
from fewbits.machines.ipu.setting import Setting
from fewbits.machines.ipu.stages import Costs, Stage, make_costs, make_stages
from fewbits.machines.parts.link import ring_all_reduce_bytes
from fewbits.machines.result import Result, Roof
from fewbits.machines.workload import Workload

Balance = Literal["time", "activations"]
WAITING, REDUCING, STATE = "waiting", "all-reduce", "weights and optimizer"


@dataclass(frozen=True)
class Run:
    """A step: its stages, its rounds, and the result in the common form."""

    setting: Setting
    stages: tuple[Stage, ...]
    rounds: Rounds
    round_s: Floats
    room_bytes: float
    result: Result

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.result.total_latency_s

    @property
    def samples_per_s(self) -> float:
        """Samples that all replicas train on in a second."""
        return self.setting.batch / self.step_s

    @property
    def bubble(self) -> float:
        """Share of the rounds' time in which the mean stage waits."""
        busy = self.setting.micro_batches * sum(s.forward_s + s.backward_s for s in self.stages)
        return 1 - busy / (len(self.stages) * float(self.round_s.sum()))

    @property
    def spills(self) -> bool:
        """Does anything go to streaming memory?"""
        return any(stage.spilled for stage in self.stages)


def simulate(
    workload: Workload,
    setting: Setting,
    constants: Constants | None = None,
    *,
    balance: Balance | None = None,
) -> Run:
    """A training step of a network, given by its forward pass, in a setting.

    Stages are cut where the slowest is fastest, or where the fullest holds the least; by default
    whichever makes the shorter step. ``FewbitsError`` if a stage does not fit on its IPU.
    """
    if any(op.phase == "backward" for op in workload.operations):
        raise FewbitsError(f"{workload.name} has a backward pass; the model adds its own")
    if any(op.batch != 1 for op in workload.operations):
        workload = workload.with_batch(1)
    if unknown := set(setting.ratios) - set(workload.names):
        raise FewbitsError(f"{workload.name} has no operation {sorted(unknown)[0]!r}")
    if len(workload) < setting.pipeline:
        raise FewbitsError(
            f"{workload.name} has {len(workload)} operations, too few for {setting.pipeline} stages"
        )
    given = ipu_constants() if constants is None else constants
    runs, faults = [], []
    both: tuple[Balance, ...] = ("time", "activations") if setting.pipeline > 1 else ("time",)
    for one in (balance,) if balance else both:
        try:
            runs.append(_simulate(workload, setting, given.recording(), one))
        except FewbitsError as fault:
            faults.append(fault)
    if not runs:
        raise faults[0]
    return min(runs, key=lambda run: run.step_s)


def _simulate(workload: Workload, setting: Setting, known: Constants, balance: Balance) -> Run:
    costs = make_costs(workload, setting, known)
    cut = split(costs.on_chip_s if balance == "time" else costs.resting, setting.pipeline)
    rounds = make_rounds(
        setting.schedule, stages=setting.pipeline, micro_batches=setting.micro_batches
    )
    room = known["usable_share"] * known["tiles"] * known["tile_bytes"]
    stages = make_stages(workload, setting, known, costs, cut, rounds, room)
    forward = np.array([stage.forward_s for stage in stages])
    backward = np.array([stage.backward_s for stage in stages])
    took = rounds.durations(forward, backward)
    if setting.pipeline > 1:
        took = np.where(took > 0, took + known["sync_s"], 0)
    reduce_s = _reduce_s(setting, known, costs, cut)
    state_s = max(stage.state_s for stage in stages)
    result = _result(workload, setting, known, costs, stages, took.sum(), reduce_s, state_s)
    run = Run(setting, stages, rounds, took, room, result)
    return replace(run, result=replace(result, extra=_extra(run), constants=known.used))


def _reduce_s(setting: Setting, known: Constants, costs: Costs, cut: list[slice]) -> float:
    if setting.replicas == 1:
        return 0.0
    largest = max(float(costs.weights[part].sum()) for part in cut)
    return ring_all_reduce_bytes(largest, setting.replicas) / known["link_bytes_per_s"]


def _result(
    workload: Workload,
    setting: Setting,
    known: Constants,
    costs: Costs,
    stages: tuple[Stage, ...],
    rounds_s: float,
    reduce_s: float,
    state_s: float,
) -> Result:
    """The step as rows that add up: operations, then what is nobody's.

    An operation's latency is what it adds to the mean device's time; the time in which devices
    wait for the slowest or for the pipeline to fill is a row of its own.
    """
    count, micro, depth = len(workload), setting.micro_batches, setting.pipeline
    spill, link, traffic = _moved(setting, costs, stages)
    compute, coding = costs.forward_s + costs.backward_s, costs.encode_s + costs.decode_s
    own = micro / depth * (compute + coding + spill + link)
    tail = [max(0.0, rounds_s - float(own.sum())), reduce_s, state_s]

    def row(values: Floats, *last: float) -> Floats:
        return np.concatenate((micro / depth * values, last))

    latency = np.concatenate((own, tail))
    streamed = traffic["optimizer"] + traffic["activations"] + traffic["weights"]
    crossed = traffic["links"] + traffic["all-reduce"]
    peak = known["peak_fp16_flop_per_s" if setting.element_bytes == 2 else "peak_fp32_flop_per_s"]
    share = known["streaming_bytes_per_s"] / min(known["machine_devices"], setting.devices)
    bandwidth = min(known["port_bytes_per_s"], share)
    return Result(
        machine="ipu",
        workload=workload.name,
        layers=(*workload.names, WAITING, REDUCING, STATE),
        latency_s=latency,
        energy_j={
            "devices": latency * known["device_w"] * setting.devices,
            "streaming": streamed * known["streaming_j_per_byte"],
            "links": crossed * known["link_j_per_byte"],
        },
        traffic_bytes=traffic,
        busy_s={
            "compute": row(compute, 0, 0, 0),
            "codec": row(coding, 0, 0, 0),
            "streaming": row(spill, 0, 0, state_s),
            "link": row(link, 0, reduce_s, 0),
            "waiting": row(np.zeros(count), tail[0], 0, 0),
        },
        # Stages that wait for each other are under no common roof.
        macs=np.concatenate((micro * setting.replicas * costs.macs, np.zeros(3)))
        if depth == 1
        else None,
        roof=Roof(setting.devices * peak / 2, setting.devices * bandwidth) if depth == 1 else None,
    )


def _moved(
    setting: Setting, costs: Costs, stages: tuple[Stage, ...]
) -> tuple[Floats, Floats, dict[str, Floats]]:
    """Seconds of a micro-batch that operations stream and wait for links, and bytes of a step."""
    count, micro = len(costs.macs), setting.micro_batches
    spill, link = np.zeros(count), np.zeros(count)
    traffic = {name: np.zeros(count + 3) for name in (*CLASSES, "links", "all-reduce")}
    for stage in stages:
        part = stage.operations
        if "activations" in stage.spilled:
            traffic["activations"][part] = 2 * micro * costs.resting[part]
        if "weights" in stage.spilled:
            traffic["weights"][part] = 4 * micro * costs.touched[part]
        traffic["optimizer"][-1] += stage.needs.moved(stage.spilled, micro)["optimizer"]
        streamed = (traffic["activations"] + traffic["weights"])[part]
        spill[part] = stage.spill_s * streamed / max(streamed.sum(), 1.0)
        link[part.stop - 1] += stage.link_s
        traffic["links"][part.stop - 1] = micro * stage.edge_bytes
    traffic["all-reduce"][-2] = ring_all_reduce_bytes(float(costs.weights.sum()), setting.replicas)
    return spill, link, {name: values * setting.replicas for name, values in traffic.items()}


def _extra(run: Run) -> dict[str, Any]:
    """What only this machine has to say, for JSON."""
    names = run.result.layers
    return {
        "setting": asdict(run.setting),
        "batch": run.setting.batch,
        "samples_per_s": run.samples_per_s,
        "waiting_share": run.bubble,
        "room_bytes": run.room_bytes,
        "stages": [
            {
                "first": names[stage.operations.start],
                "last": names[stage.operations.stop - 1],
                "stash": stage.stash,
                "on_chip_bytes": stage.needs.on_chip(stage.spilled),
                "streamed_bytes": stage.needs.streamed(stage.spilled),
                "spilled": sorted(stage.spilled),
                "forward_s": stage.forward_s,
                "backward_s": stage.backward_s,
            }
            for stage in run.stages
        ],
    }
