"""The stages of a pipeline: what their operations cost, what they hold, and how long they take."""

from dataclasses import dataclass

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.machines.constants import Constants
from fewbits.machines.ipu.memory import Needs, place
from fewbits.machines.ipu.schedules import Floats, Rounds
from fewbits.machines.ipu.setting import COPIES, Setting, flop_per_value
from fewbits.machines.workload import Workload


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of each operation for one micro-batch, on the chip, in NumPy arrays."""

    forward_s: Floats
    backward_s: Floats
    encode_s: Floats
    decode_s: Floats
    weights: Floats
    touched: Floats  # weights that are read; rows of an embedding, mostly
    resting: Floats  # activations that it saves, after packing
    tensor: Floats  # the largest that it reads or writes, plain
    work: Floats  # at once: gradients in and out, and what is unpacked for them
    edge: Floats  # what it hands on
    macs: Floats  # forward and backward

    @property
    def on_chip_s(self) -> Floats:
        """Seconds forward and backward, with packing."""
        return self.forward_s + self.backward_s + self.encode_s + self.decode_s


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline: its operations, memory and seconds for one micro-batch."""

    operations: slice
    needs: Needs
    stash: int
    spilled: frozenset[str]
    forward_s: float
    backward_s: float
    spill_s: float  # of forward and backward together, in them
    link_s: float
    state_s: float  # for optimizer state, once a step
    edge_bytes: float = 0.0


def make_costs(workload: Workload, setting: Setting, known: Constants) -> Costs:
    """What a network's operations cost in a setting."""
    batch, size = setting.micro_batch, setting.element_bytes
    peak = known["peak_fp16_flop_per_s" if size == 2 else "peak_fp32_flop_per_s"]
    compute, codec = known["compute_efficiency"] * peak, known["codec_efficiency"] * peak
    backward_macs = workload.column(lambda op: sum(step.macs for step in op.backward()))
    macs = workload.column(lambda op: op.macs)
    inputs = workload.column(lambda op: op.inputs)
    outputs = workload.column(lambda op: op.outputs)
    weights = workload.column(lambda op: op.weights if op.stored is None else op.stored)
    read = workload.column(lambda op: op.weights * (batch if op.kind == "embedding" else 1))
    saved = workload.column(lambda op: op.inputs if op.saved is None else op.saved) * batch
    passes = (inputs + outputs) * size * batch / known["sram_bytes_per_s"]
    ratios = workload.column(lambda op: setting.ratios.get(op.name, setting.ratio))
    flop = np.array([flop_per_value(setting.codec, float(ratio)) for ratio in ratios])
    coding = saved * np.maximum(flop / codec, (ratios != 1) * 2 * size / known["sram_bytes_per_s"])
    # Packed tensors are unpacked one at a time.
    tensor = np.maximum(inputs, outputs) * size * batch
    return Costs(
        forward_s=np.maximum(2 * macs * batch / compute, passes),
        backward_s=np.maximum(2 * backward_macs * batch / compute, 2 * passes),
        encode_s=coding,
        decode_s=coding,
        weights=weights * size,
        touched=np.minimum(weights, read) * size,
        resting=saved * size / ratios,
        tensor=tensor,
        work=(inputs + outputs) * size * batch + np.where(ratios != 1, tensor, 0),
        edge=outputs * size * batch,
        macs=(macs + backward_macs) * batch,
    )


def make_stages(
    workload: Workload,
    setting: Setting,
    known: Constants,
    costs: Costs,
    cut: list[slice],
    rounds: Rounds,
    room: float,
) -> tuple[Stage, ...]:
    """Place every stage's tensors, then time it with its share of the streaming memory."""
    copies = COPIES[setting.optimizer]
    needs, spilled = [], []
    for index, (part, stash) in enumerate(zip(cut, rounds.stash, strict=True)):
        weights, resting = float(costs.weights[part].sum()), float(costs.resting[part].sum())
        need = Needs(
            weights, float(costs.touched[part].sum()), weights, copies * weights,
            float(stash) * resting, resting,
            *(float(column[part].max()) for column in (costs.work, costs.touched, costs.tensor)),
        )  # fmt: skip
        name = workload.name
        name += f", stage {index + 1} of {len(cut)}," if len(cut) > 1 else ""
        needs.append(need)
        spilled.append(place(need, room, setting.micro_batches, name))
    bandwidth = _streaming(setting, known, needs, spilled)
    link = known["link_bytes_per_s"]
    stages: list[Stage] = []
    for index, (part, need, gone) in enumerate(zip(cut, needs, spilled, strict=True)):
        moved = need.moved(gone, 1)
        spill = (moved["activations"] + moved["weights"]) / bandwidth
        ratio = setting.ratio if setting.pack_links else 1.0
        after = float(costs.edge[part.stop - 1]) if index < len(cut) - 1 else 0.0
        before = float(costs.edge[part.start - 1]) if index else 0.0
        # Activations go on, gradients come back; a device sends and receives at once.
        onward, back = max(before, after) / ratio / link, max(before, after) / link
        forward = float((costs.forward_s + costs.encode_s)[part].sum()) + spill / 2 + onward
        backward = float((costs.backward_s + costs.decode_s)[part].sum()) + spill / 2 + back
        stages.append(
            Stage(part, need, int(rounds.stash[index]), gone, forward, backward, spill,
                  onward + back, moved["optimizer"] / bandwidth, after * (1 + 1 / ratio))
        )  # fmt: skip
    return tuple(stages)


def _streaming(
    setting: Setting, known: Constants, needs: list[Needs], spilled: list[frozenset[str]]
) -> float:
    """Bytes a second that one device gets: those of a machine that stream do so at once."""
    size = int(known["machine_devices"])
    streams = [bool(gone) for gone in spilled] * setting.replicas
    held = [need.streamed(gone) for need, gone in zip(needs, spilled, strict=True)]
    held *= setting.replicas
    machines = range(0, len(streams), size)
    for start in machines:
        total = sum(held[start : start + size])
        most = known["streaming_bytes"]
        if total > most:
            raise FewbitsError(
                f"does not fit: {total / 1e9:,.0f} GB for a machine's {most / 1e9:,.0f} GB of "
                "streaming memory"
            )
    at_once = max(1, *(sum(streams[start : start + size]) for start in machines))
    return min(known["port_bytes_per_s"], known["streaming_bytes_per_s"] / at_once)
