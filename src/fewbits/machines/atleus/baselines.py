"""What Atleus is compared with: GPUs, digital systolic stacks, and processing in memory.

Each gives seconds and joules for the same job. A GPU is a roofline: the longer of its products at a
share of its peak, and its bytes at its bandwidth, at full power. The share is calibrated on one
published latency: BERT-base on 512 tokens, 96.6 GFLOP, takes a GTX 1060 of 4.4 TFLOP/s 51.46 ms
(X-Former, 2023), which is 43 %.

A digital stack has systolic tiers only; weights come from HBM, once for a batch. Machines that
compute in memory are modelled by what their papers state, see `Memory`.
"""

from dataclasses import dataclass

from fewbits.machines.atleus import work
from fewbits.machines.atleus.constants import Hardware
from fewbits.machines.atleus.machine import Job
from fewbits.machines.atleus.mapping import matrices
from fewbits.machines.constants import Constant, Constants
from fewbits.machines.parts.systolic import Gemm, spread

#: 96.6 GFLOP / 51.46 ms / 4.4 TFLOP/s
CALIBRATED = 96.6e9 / 51.46e-3 / 4.4e12


@dataclass(frozen=True)
class Point:
    """Seconds and joules of a job on a machine."""

    latency_s: float
    energy_j: float


def needs(job: Job) -> tuple[int, float]:
    """Products of a job, and elements that come from memory once: weights, and earlier keys."""
    net = job.net
    step = 1 if job.mode == "decode" else job.tokens
    gemms = list(work.attention(net, step, job.tokens + (job.mode == "decode"), 128))
    static = work.static_macs(net, step)
    macs = static + work.macs(gemms) + work.macs(list(work.adapters(net, job.trained, step)))
    if job.trained is not None:
        macs += static + work.macs(list(work.attention_backward(net, step, 128)))
        macs += work.macs(list(work.adapters_backward(net, job.trained, step)))
    weights = sum(matrix.weights for matrix in matrices(net)) * (2 if job.trained else 1)
    cache = 2 * net.kv_heads * net.head * job.tokens * job.batch if job.mode == "decode" else 0
    return job.batch * net.layers * macs, float(net.layers * (weights + cache))


@dataclass(frozen=True)
class Gpu:
    """A roofline of ``flops`` in the element type of ``element_bytes``."""

    name: str
    flops: float
    bytes_per_s: float
    power_w: float
    element_bytes: int
    source: str
    share: float = CALIBRATED

    def run(self, job: Job) -> Point:
        """The longer of products and bytes, at full power."""
        macs, elements = needs(job)
        seconds = max(
            2 * macs / (self.flops * self.share), elements * self.element_bytes / self.bytes_per_s
        )
        return Point(seconds, seconds * self.power_w)

    def constants(self) -> tuple[Constant, ...]:
        """What the model rests on."""
        key = self.name.lower().replace(" ", "_").replace(",", "")
        return (
            Constant(f"{key}_flops", self.flops, "1/s", self.source, "cited"),
            Constant(f"{key}_bytes_per_s", self.bytes_per_s, "B/s", self.source, "cited"),
            Constant(f"{key}_power_w", self.power_w, "W", self.source, "cited"),
            Constant(f"{key}_share", self.share, "", "GTX 1060's 51.46 ms in X-Former", "derived"),
        )


GPUS = (
    Gpu("Jetson TX2", 1.33e12, 59.7e9, 15, 2, "data sheet, fp16 without tensor cores"),
    Gpu("Orin Nano 8 GB", 10e12, 68e9, 15, 2, "data sheet, dense fp16"),
    Gpu("AGX Orin", 42.5e12, 204.8e9, 50, 2, "data sheet, dense fp16"),
    Gpu("GTX 1060", 4.4e12, 192e9, 120, 4, "X-Former; data sheet"),
    Gpu("300 W desktop", 38e12, 900e9, 300, 4, "data sheets of 300 W parts, fp32"),
)


@dataclass(frozen=True)
class DigitalStack:
    """``tiers`` tiers like Atleus's systolic one, in ``bits``, and weights from HBM."""

    name: str
    tiers: int
    bits: int

    def run(self, job: Job, constants: Constants) -> Point:
        """Layer after layer; weights stream in beside the products."""
        hardware = Hardware.of(constants.with_values({"digital_bits": self.bits}).recording())
        net, c, array = job.net, hardware.constants, hardware.array
        step = 1 if job.mode == "decode" else job.tokens
        seen = job.tokens + (job.mode == "decode")
        rows = step * job.batch  # of products with weights: all sequences together
        gemms = [Gemm(rows, m.k, m.n) for m in matrices(net)]
        dynamic = [*work.attention(net, step, seen, array.rows)]
        dynamic += work.adapters(net, job.trained, step)
        loads = 1
        if job.trained is not None:
            loads = 2
            gemms += [Gemm(rows, m.n, m.k) for m in matrices(net)]
            dynamic += work.attention_backward(net, step, array.rows)
            dynamic += work.adapters_backward(net, job.trained, step)
        gemms += [Gemm(g.m, g.k, g.n, g.count * job.batch) for g in dynamic]
        weights = sum(matrix.weights for matrix in matrices(net)) * loads
        nbytes = weights * self.bits / 8 * c["weight_ratio"]
        nbytes += 2 * net.kv_heads * net.head * seen * job.batch * self.bits / 8 * net.causal
        if job.trained is not None:
            kept = work.saved_elements(net, job.trained, step) * job.batch
            nbytes += 2 * kept * self.bits / 8 * c["activation_ratio"]
            nbytes += job.trained.parameters(net) * 4 * work.OPTIMIZER_WORDS
        arrays = int(c["arrays"]) * self.tiers
        layer_s = max(spread(gemms, array, arrays) / c["clock_hz"], nbytes / c["hbm_bytes_per_s"])
        operands = sum(array.operands(gemm) for gemm in gemms)
        layer_j = work.macs(gemms) * hardware.product_j(self.bits)
        layer_j += operands * self.bits * c["sram_j_per_bit"]
        layer_j += nbytes * 8 * c["hbm_j_per_bit"]
        layer_j += job.batch * work.softmax_elements(net, step, seen) * c["softmax_j"]
        layer_j += self.tiers * hardware.leakage_w * layer_s
        return Point(net.layers * layer_s, net.layers * layer_j)


STACKS = (
    DigitalStack("4 systolic tiers, 16 bits", 4, 16),
    DigitalStack("4 systolic tiers, 8 bits", 4, 8),
    DigitalStack("1 systolic tier, 16 bits", 1, 16),
)


@dataclass(frozen=True)
class Memory:
    """DRAM banks that multiply: Newton's class, which TransPIM and HAIMA measure themselves with.

    ``macs_per_s`` of a device is the product Newton became (GDDR6-AiM: 32 banks, 16 products each,
    at 1 GHz). HAIMA's abstract states 1.4 to 1.5 times the speed of Newton and TransPIM alike, so a
    TransPIM-like machine has ``speed`` 1 and a HAIMA-like one 1.45. ``devices`` and the energy of a
    product, its operand's row included, are assumed. Keys and values written in training go through
    the same banks, and one that is written does not multiply: ``write_share`` of the time more.
    """

    name: str
    speed: float
    devices: int = 8
    macs_per_s: float = 512e9
    mac_j: float = 3.5e-12
    background_w: float = 8.0
    write_share: float = 0.25

    def run(self, job: Job) -> Point:
        """All products in the banks; no operand is reused between tokens."""
        macs, _ = needs(job)
        seconds = macs / (self.devices * self.macs_per_s * self.speed)
        if job.trained is not None:
            seconds *= 1 + self.write_share
        return Point(seconds, macs * self.mac_j + seconds * self.background_w)

    def constants(self) -> tuple[Constant, ...]:
        """What the model rests on."""
        key = self.name.lower().replace("-", "_").replace(" ", "_")
        abstract = "HAIMA, DAC 2023, abstract: 1.4 to 1.5 times Newton and TransPIM"
        return (
            Constant(f"{key}_speed", self.speed, "", abstract, "cited"),
            Constant(f"{key}_devices", self.devices, "", "of GDDR6-AiM's kind", "assumed"),
            Constant(f"{key}_macs_per_s", self.macs_per_s, "1/s", "GDDR6-AiM, 1 TFLOP/s", "cited"),
            Constant(f"{key}_mac_j", self.mac_j, "J", "a DRAM row's bit, and 16-bit product",
                     "assumed"),
            Constant(f"{key}_background_w", self.background_w, "W", "1 W a device", "assumed"),
            Constant(f"{key}_write_share", self.write_share, "", "training writes operands too",
                     "assumed"),
        )  # fmt: skip


MEMORIES = (Memory("TransPIM-like", 1.0), Memory("HAIMA-like", 1.45))


def all_points(job: Job, constants: Constants) -> dict[str, Point]:
    """Every baseline's seconds and joules for a job."""
    found = {gpu.name: gpu.run(job) for gpu in GPUS}
    found |= {stack.name: stack.run(job, constants) for stack in STACKS}
    return found | {memory.name: memory.run(job) for memory in MEMORIES}


def all_constants() -> tuple[Constant, ...]:
    """What the baselines rest on beside Atleus's own constants."""
    return tuple(constant for one in (*GPUS, *MEMORIES) for constant in one.constants())
