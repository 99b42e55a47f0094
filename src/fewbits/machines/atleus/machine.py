"""Atleus: what a transformer takes on a stack of ReRAM tiers and one tier of systolic arrays.

>>> from fewbits.machines.atleus.machine import Job, simulate
>>> from fewbits.machines.atleus.models import find
>>> result = simulate(Job(*find("gpt2-medium"), tokens=1024))
>>> round(1e3 * result.total_latency_s, 1), round(100 * result.extra["share_on_reram"], 2)
(19.8, 92.31)

A layer is a pipeline (`fewbits.machines.atleus.pipeline`) whose stages are paced by

    ReRAM       ceil(input_bits / dac_bits) · read_s / copies           a token
    systolic    cycles of SCALE-Sim's formulas, spread over the arrays   a layer
    network     bits on the fullest link / (flit_bits · clock)           a layer
    memory      bytes / bandwidth of HBM                                 a layer

and the slowest sets the pace. Energy is counted piece by piece, leakage by time.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

import numpy as np

from fewbits.errors import FewbitsError
from fewbits.machines.atleus import traffic, work
from fewbits.machines.atleus.constants import CONSTANTS, Hardware
from fewbits.machines.atleus.heat import heat_map
from fewbits.machines.atleus.mapping import Backward, Mapping, map_network, matrices
from fewbits.machines.atleus.pipeline import Stages, batch_s, layer_s
from fewbits.machines.constants import Constants
from fewbits.machines.parts.noc import Flows, Load, Network
from fewbits.machines.parts.systolic import Gemm, ceil_div, spread
from fewbits.machines.result import Result
from fewbits.machines.transformers import Transformer

Mode = Literal["prefill", "decode", "finetune"]
MODES: tuple[Mode, ...] = ("prefill", "decode", "finetune")
#: Times that a token crosses the network in a layer: to and from each of attention's two products
#: with weights, into, across and out of the feed-forward part.
_TRIPS = 7


@dataclass(frozen=True)
class Job:
    """What is asked of the machine.

    ``prefill`` runs ``tokens`` tokens of each of ``batch`` sequences, ``decode`` one token of each
    with ``tokens`` earlier ones, ``finetune`` one step of training on them.
    """

    name: str
    net: Transformer
    tokens: int = 512
    batch: int = 1
    mode: Mode = "prefill"
    trained: work.Trained | None = None
    backward: Backward = "transposed"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise FewbitsError(f"unknown mode {self.mode!r}: {', '.join(MODES)}")
        if self.net.image is not None:
            raise FewbitsError(f"{self.name} takes images; Atleus runs text models")
        for what, value in (("tokens", self.tokens), ("batch", self.batch)):
            if value < 1:
                raise FewbitsError(f"{what}: {value} is not 1 or more")
        if self.tokens > self.net.positions:
            raise FewbitsError(
                f"{self.tokens} tokens, but {self.name} has {self.net.positions} positions"
            )
        if self.mode == "decode" and not self.net.causal:
            raise FewbitsError(f"{self.name} is an encoder: it does not decode token by token")
        if (self.mode == "finetune") != (self.trained is not None):
            raise FewbitsError("fine-tuning needs to know what is trained, other modes must not")


@dataclass
class Cost:
    """What one layer takes for one sequence, or for one token of each in decoding."""

    stages: Stages
    systolic_s: float
    energy_j: dict[str, float]
    memory_bytes: dict[str, float]
    reram_s: float
    macs: dict[str, int]
    extra_s: float = 0.0
    barrier_s: float = 0.0
    network: Load | None = None

    def layer_s(self, pace_s: float) -> float:
        """Seconds of the layer by itself; ``pace_s`` is what network or memory needs at least."""
        return max(layer_s(self.stages) + self.barrier_s, pace_s) + self.extra_s


@dataclass(frozen=True)
class Machine:
    """Hardware, a job, and how the job lies on the hardware."""

    job: Job
    hardware: Hardware
    mapping: Mapping
    network: Network = field(repr=False)

    @property
    def _step(self) -> int:
        """Tokens of one sequence that run at once."""
        return 1 if self.job.mode == "decode" else self.job.tokens

    @property
    def _token_s(self) -> float:
        """A token on one stage's crossbars."""
        crossbar, c = self.hardware.crossbar, self.hardware.constants
        return ceil_div(int(c["input_bits"]), crossbar.dac_bits) * crossbar.read_s

    def flows(self, layer: int) -> list[Flows]:
        """A layer's flows for one sequence, forward and, where it trains, backward."""
        c = self.hardware.constants
        bits, ratio = int(c["input_bits"]), c["activation_ratio"]
        forward = traffic.layer_flows(self.mapping, layer, self._step, bits, bits).scaled(ratio)
        if self.job.mode != "finetune":
            return [forward]
        return [forward, traffic.backwards(forward, c["gradient_bits"] / bits)]

    def forward(self) -> Cost:
        """One layer, one sequence."""
        job, net, c = self.job, self.job.net, self.hardware.constants
        tokens = self._step
        seen = job.tokens + 1 if job.mode == "decode" else tokens
        attention = list(work.attention(net, tokens, seen, self.hardware.array.rows))
        side = list(work.adapters(net, job.trained, tokens))
        systolic_s = self._systolic_s(attention + side, work.softmax_elements(net, tokens, seen))
        # In decoding both the latest tokens' and the earlier ones' keys and values are moved.
        kv_bits = 2 * net.kv_heads * net.head * c["digital_bits"]
        moved = {}
        if job.mode == "decode":
            moved["cache"] = kv_bits * (seen + 1) / 8
        elif net.causal and job.mode == "prefill":
            moved["cache"] = kv_bits * tokens / 8
        if job.trained is not None:
            kept = work.saved_elements(net, job.trained, tokens) * c["digital_bits"] / 8
            moved["activations"] = kept * c["activation_ratio"]
        memory_s = sum(moved.values()) / c["hbm_bytes_per_s"]
        token_s = self._token_s
        crossbar = self.hardware.crossbar
        energy = self._static_j(tokens, int(c["input_bits"]))
        energy |= self._digital_j(attention + side, tokens, seen)
        return Cost(
            Stages(
                tokens,
                before=token_s / self.mapping.copies,
                # Keys and values of earlier tokens come from memory while scores are counted.
                attention=max(systolic_s, memory_s if job.mode == "decode" else 0.0),
                after=(token_s / self.mapping.copies,) * 3,
                fill=4 * crossbar.pipeline_cycles * crossbar.read_s,
                causal=net.causal,
            ),
            systolic_s=systolic_s,
            energy_j=energy,
            memory_bytes=moved,
            reram_s=tokens * token_s / self.mapping.copies,
            macs={
                "reram": work.static_macs(net, tokens),
                "attention": work.macs(attention),
                "adapters": work.macs(side),
            },
        )

    def backward(self) -> Cost:
        """One layer's backward pass, one sequence; what was kept comes back from memory."""
        job, net, c = self.job, self.job.net, self.hardware.constants
        assert job.trained is not None
        tokens = self._step
        attention = list(work.attention_backward(net, tokens, self.hardware.array.rows))
        side = list(work.adapters_backward(net, job.trained, tokens))
        systolic_s = self._systolic_s(
            attention + side, 2 * work.softmax_elements(net, tokens, tokens)
        )
        crossbar = self.hardware.crossbar
        token_s = ceil_div(int(c["gradient_bits"]), crossbar.dac_bits) * crossbar.read_s
        token_s /= self.mapping.copies
        kept = work.saved_elements(net, job.trained, tokens) * c["digital_bits"] / 8
        energy = self._static_j(tokens, int(c["gradient_bits"]))
        energy |= self._digital_j(attention + side, tokens, tokens)
        return Cost(
            # Feed-forward and output projection, then attention, then query, key and value; with
            # causal attention the last token's gradients are done first, so that all can stream.
            Stages(tokens, token_s, systolic_s, (token_s,) * 3 if net.causal else (),
                   4 * crossbar.pipeline_cycles * crossbar.read_s, net.causal),
            systolic_s=systolic_s,
            energy_j=energy,
            memory_bytes={"activations": kept * c["activation_ratio"]},
            reram_s=tokens * token_s,
            macs={
                "reram": work.static_macs(net, tokens),
                "attention": work.macs(attention),
                "adapters": work.macs(side),
            },
            # Bidirectional: keys' and values' gradients are whole only after the last query's.
            barrier_s=0.0 if net.causal else tokens * token_s,
        )  # fmt: skip

    def _systolic_s(self, gemms: list[Gemm], softmax: int) -> float:
        c = self.hardware.constants
        arrays = int(c["arrays"])
        lanes = arrays * c["softmax_lanes"]
        # Softmax and norms run beside the arrays, on what they have finished.
        return max(spread(gemms, self.hardware.array, arrays), softmax / lanes) / c["clock_hz"]

    def _static_j(self, tokens: int, bits: int) -> dict[str, float]:
        crossbar, found = self.hardware.crossbar, {"reram": 0.0, "dequantize": 0.0}
        for matrix in matrices(self.job.net):
            width = self.mapping.bits(matrix)
            found["reram"] += crossbar.product_j(matrix.k, matrix.n, width, tokens, bits)
            found["dequantize"] += crossbar.scaling_j(matrix.k, matrix.n, tokens)
        return found

    def _digital_j(self, gemms: list[Gemm], tokens: int, seen: int) -> dict[str, float]:
        c, net = self.hardware.constants, self.job.net
        bits = c["digital_bits"]
        operands = sum(self.hardware.array.operands(gemm) for gemm in gemms)
        return {
            "systolic": work.macs(gemms) * self.hardware.product_j(bits),
            "buffers": operands * bits * c["sram_j_per_bit"],
            "softmax and norms": work.softmax_elements(net, tokens, seen) * c["softmax_j"]
            + work.norm_elements(net, tokens) * c["norm_j"],
        }


def build(job: Job, constants: Constants = CONSTANTS, network: Network | None = None) -> Machine:
    """The machine for a job; ``FewbitsError`` where it does not fit, or SciPy is not there."""
    if find_spec("scipy") is None:
        raise FewbitsError("Atleus's network and heat need SciPy: pip install 'fewbits[machines]'")
    hardware = Hardware.of(constants.recording())
    mapping = map_network(job.net, hardware, job.backward if job.mode == "finetune" else None)
    return Machine(job, hardware, mapping, network or traffic.network(hardware))


def simulate(job: Job, constants: Constants = CONSTANTS, network: Network | None = None) -> Result:
    """Latency, energy and traffic of a job, layer by layer; ``extra`` has what only Atleus has.

    Traffic is what crosses the border to HBM. Layers are alike, so they share time evenly.

    Raises:
        FewbitsError: It does not fit, or settings cannot be built.
    """
    machine = build(job, constants, network)
    return _result(machine)


def _result(machine: Machine) -> Result:
    from fewbits.machines.atleus.report import extra_of

    job, hardware, c = machine.job, machine.hardware, machine.hardware.constants
    layers, batch = job.net.layers, job.batch
    passes = [machine.forward()]
    if job.trained is not None:
        passes.append(machine.backward())
    routes = machine.network.routes(hardware.wires)
    flows = [machine.flows(layer) for layer in range(layers)]
    latency, busy = 0.0, dict.fromkeys(("reram", "systolic", "network", "memory"), 0.0)
    together = []
    for number, cost in enumerate(passes):
        mine = [flow[number] for flow in flows]
        loads = [routes.load(flow, hardware.wires) for flow in mine]
        slowest = max(load.time_s for load in loads)
        cost.extra_s += _TRIPS * max(load.mean_cycles for load in loads) / hardware.wires.clock_hz
        if job.mode == "decode":  # one token: its trips follow each other
            cost.extra_s += slowest
        cost.energy_j["network"] = float(np.mean([load.energy_j for load in loads]))
        together.append(traffic.joined(mine))
        all_layers = routes.load(together[-1], hardware.wires)
        cost.network = all_layers
        memory_s = sum(cost.memory_bytes.values()) / c["hbm_bytes_per_s"]
        network_s = all_layers.fullest_bits / hardware.wires.flit_bits / hardware.wires.clock_hz
        layer = cost.layer_s(max(slowest, memory_s))
        shared = max(cost.systolic_s, network_s / layers, memory_s)
        latency += batch_s(batch, layers, layer, cost.reram_s, shared)
        # Layers' crossbars work side by side, so only the first sequence waits for each in turn.
        busy["reram"] += cost.reram_s * (layers + batch - 1) / layers
        busy["systolic"] += batch * cost.systolic_s
        busy["network"] += batch * network_s / layers
        busy["memory"] += batch * memory_s
    energy: dict[str, float] = {}
    moved: dict[str, float] = {}
    for cost in passes:
        for part, joules in cost.energy_j.items():
            energy[part] = energy.get(part, 0.0) + batch * joules
        for part, nbytes in cost.memory_bytes.items():
            moved[part] = moved.get(part, 0.0) + batch * nbytes
    step_s = _update(machine, energy, moved)
    latency += layers * step_s
    busy["memory"] += step_s
    energy["memory"] = sum(moved.values()) * 8 * c["hbm_j_per_bit"]
    energy["leakage"] = hardware.leakage_w * latency / layers
    all_j = {part: layers * joules for part, joules in energy.items()}
    heat = heat_map(machine, all_j, latency, traffic.joined(together), routes)
    return Result(
        machine="Atleus",
        workload=_title(job, c),
        layers=tuple(f"layer.{index}" for index in range(layers)),
        latency_s=np.full(layers, latency / layers),
        energy_j={part: np.full(layers, joules) for part, joules in energy.items()},
        traffic_bytes={part: np.full(layers, nbytes) for part, nbytes in moved.items()},
        busy_s={part: np.full(layers, seconds) for part, seconds in busy.items()},
        macs=np.full(layers, float(batch * sum(sum(cost.macs.values()) for cost in passes))),
        constants=c.used,
        **extra_of(machine, passes, latency, energy, heat),
    )


def _update(machine: Machine, energy: dict[str, float], moved: dict[str, float]) -> float:
    """What a step of training does once for a layer; seconds, and its joules and bytes noted."""
    job, c = machine.job, machine.hardware.constants
    if job.trained is None:
        return 0.0
    count = job.trained.parameters(job.net)
    moved["optimizer"] = count * 4.0 * work.OPTIMIZER_WORDS
    seconds = moved["optimizer"] / c["hbm_bytes_per_s"]
    if job.trained.tuning == "full":
        programmed = [
            machine.hardware.crossbar.programming(matrix.weights, machine.mapping.bits(matrix))
            for matrix in matrices(job.net)
        ]
        written = machine.mapping.written
        energy["programming"] = written * sum(one.energy_j for one in programmed)
        power_s = energy["programming"] / c["write_power_w"]
        seconds += max(max(one.latency_s for one in programmed) / job.net.layers, power_s)
    return seconds


def _title(job: Job, constants: Constants) -> str:
    bits = f"M{constants['attention_bits']:g}F{constants['feedforward_bits']:g}"
    what = {
        "prefill": f"{job.tokens} tokens",
        "decode": f"a token after {job.tokens}",
        "finetune": f"a step of fine-tuning on {job.tokens} tokens",
    }[job.mode]
    return f"{job.name}, {what}, batch {job.batch}, {bits}"
