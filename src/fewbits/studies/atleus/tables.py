"""Tables and figures of the study."""

from collections.abc import Callable
from itertools import product

import numpy as np

from fewbits.machines.atleus import traffic
from fewbits.machines.atleus.constants import CONSTANTS
from fewbits.machines.atleus.machine import build, simulate
from fewbits.machines.atleus.pipeline import Stages
from fewbits.machines.parts.flits import deliver, packets_of
from fewbits.studies import Bars, Lines, Spans, Table
from fewbits.studies.atleus.cases import (
    DIGITAL,
    PAPER_ENERGY,
    PAPER_SPEED,
    Case,
    case,
    job_of,
    measured,
    shown,
)

Bits = dict[str, tuple[float, float]]


def pair_table(cases: list[Case]) -> Table:
    """With which baseline and setting the paper's pair is reached."""
    rows = []
    for name in cases[0].points:
        for label, batch in (("one sequence", 1), ("32 sequences in flight", 32)):
            these = [c for c in cases if c.job.batch == batch and c.job.mode != "decode"]
            fast, speed = _most(these, name, Case.speed)
            lean, energy = _most(these, name, Case.energy)
            both = 2 / 3 <= speed / PAPER_SPEED <= 1.5 and 2 / 3 <= energy / PAPER_ENERGY <= 1.5
            rows.append(
                [name, label, round(speed, 2), fast.label, round(energy, 2), lean.label,
                 "yes" if both else "no"]
            )  # fmt: skip
    columns = ["beside", "setting", "faster, up to", "at", "less energy, up to", "at", "56x/64.5x?"]
    return Table(
        "With which baseline and setting the pair 56x/64.5x is reached, and with which not",
        columns,
        rows,
        "Maxima over networks and lengths, inference and LoRA fine-tuning. Reached: both within a "
        "factor of 1.5.",
    )


def _most(cases: list[Case], name: str, ratio: Callable[[Case, str], float]) -> tuple[Case, float]:
    """The case with the largest ratio beside a baseline, and the ratio."""
    best = max(cases, key=lambda one: ratio(one, name))
    return best, ratio(best, name)


def envelope(cases: list[Case]) -> Table:
    """Least, median and most of every ratio, by baseline and mode."""
    rows = []
    for name in cases[0].points:
        for mode in ("prefill", "finetune", "decode"):
            these = [c for c in cases if c.job.mode == mode]
            speed, energy = [c.speed(name) for c in these], [c.energy(name) for c in these]
            rows.append([name, mode, *(round(float(f(v)), 2) for v in (speed, energy)
                                       for f in (min, np.median, max)),
                         f"{sum(s < 1 for s in speed)} of {len(speed)}"])  # fmt: skip
    heads = ("least", "median", "most")
    columns = ["beside", "mode", *(f"faster, {h}" for h in heads),
               *(f"less energy, {h}" for h in heads), "slower in"]  # fmt: skip
    return Table("Ratios over all workloads: the envelope", columns, rows)


def losses(cases: list[Case]) -> Table:
    """The workloads where a baseline is faster or takes less energy."""
    rows = []
    for one in cases:
        faster = [name for name in one.points if one.speed(name) < 1]
        leaner = [name for name in one.points if one.energy(name) < 1]
        if faster or leaner:
            rows.append([one.label, ", ".join(faster) or "none", ", ".join(leaner) or "none"])
    return Table(
        "Where Atleus loses", ["workload", "faster than Atleus", "less energy than Atleus"], rows
    )


def case_bars(cases: list[Case], what: str, title: str) -> Bars:
    """A ratio of the shown workloads beside the machines that come near."""
    few = shown(cases)
    near = ("AGX Orin", *(name for name in cases[0].points if "tier" in name or "like" in name))
    values = {name: [round(getattr(c, what)(name), 3) for c in few] for name in near}
    note = "Beside the machines that come near; the tables have all."
    return Bars(title, [c.label for c in few], values, "times", note, line=(1.0, "equal"))


def read_table(slow: list[Case], fast: list[Case]) -> Table:
    """Reads of 100 ns and 10 ns beside digital machines."""
    rows = []
    for one, other in zip(slow, fast, strict=True):
        for name in (DIGITAL, "1 systolic tier, 16 bits", "AGX Orin"):
            pairs = (one.speed(name), one.energy(name), other.speed(name), other.energy(name))
            rows += [[one.label, name, *(round(value, 2) for value in pairs)]]
    columns = ["workload", "beside", "faster, 100 ns", "less energy, 100 ns", "faster, 10 ns",
               "less energy, 10 ns"]  # fmt: skip
    note = (
        "100 ns is ISAAC's cycle, 10 ns NeuroSim's default read. Converters are the catch: 128 "
        "columns in 10 ns need ten converters of 1.28 GS/s a crossbar, ten times their area, which "
        "the model does not charge."
    )
    return Table("How the read time decides", columns, rows, note)


def bits_table(bits: Bits) -> Table:
    """Time and energy by bits."""
    rows = [[text, round(s, 3), round(j, 3)] for text, (s, j) in bits.items()]
    return Table("Energy by bits, BERT-large, 512 tokens, relative to 8 bits",
                 ["bits", "time", "energy"], rows,
                 "One copy of the weights. M8F4: attention 8 bits, feed-forward 4.")  # fmt: skip


def bits_lines(bits: Bits) -> Lines:
    """Energy over bits."""
    points = [(8.0, bits["M8F8"][1]), (4.0, bits["M4F4"][1]), (2.0, bits["M2F2"][1])]
    return Lines(
        "Energy over bits",
        {"all weights": points, "in proportion": [(8.0, 1.0), (2.0, 0.25)],
         "M8F4 at its mean of 5.33": [(8 / 3 + 8 / 3, bits["M8F4"][1])],
         "M4F8 at its mean of 6.67": [(4 / 3 + 16 / 3, bits["M4F8"][1])]},
        "mean bits of a weight", "relative to 8 bits",
    )  # fmt: skip


def pipeline() -> Spans:
    """Eight tokens of a causal layer."""
    full = build(job_of("gpt2_medium", 1024, "prefill", 1)).forward().stages
    stages = Stages(8, full.before, full.attention * 8 / 1024, full.after, 0.0, True)
    names = ("query, key, value", "attention", "output", "up", "down")
    done = [0.0] * 5
    spans = []
    for token, services in enumerate(stages.services()):
        arrives = 0.0
        for stage, service in enumerate(services.tolist()):
            start = max(done[stage], arrives)
            arrives = done[stage] = start + service
            kind = "systolic" if stage == 1 else "ReRAM"
            spans.append((names[stage], 1e6 * start, 1e6 * arrives, f"{kind}, token {token % 2}"))
    return Spans("Eight tokens of a GPT-2 Medium layer in the pipeline", spans, "µs")


def energy_bars(cases: list[Case]) -> Bars:
    """Shares of the energy by part."""
    parts = list(dict.fromkeys(part for c in cases for part in c.result.energy_j))
    values = {
        part: [
            round(
                100 * float(np.sum(c.result.energy_j.get(part, 0.0))) / c.result.total_energy_j, 2
            )
            for c in cases
        ]
        for part in parts
    }
    return Bars("Where the energy goes", [c.label for c in cases], values, "%", stacked=True)


def tiers_table() -> Table:
    """Order of tiers and heat sink."""
    rows = []
    for batch, place, sink in product((1, 32), (3, 2, 1, 0), (0.1, 1.0)):
        values = {"systolic_place": place, "sink_k_per_w": sink}
        job = job_of("gpt2_medium", 1024, "prefill", batch)
        extra = simulate(job, CONSTANTS.with_values(values)).extra
        heat = (round(extra[key], 1) for key in ("power_w", "hottest_c", "hottest_reram_c"))
        rows.append([batch, place, sink, *heat, f"{1e4 * extra['read_noise']:.2f}e-4"])
    columns = ["sequences", "systolic tier's place", "sink, K/W", "W", "hottest, C",
               "hottest ReRAM, C", "noise of a read"]  # fmt: skip
    return Table("Order of tiers, heat, and the thermal noise of reading", columns, rows,
                 "Place 0 touches the heat sink. Above 85 C the model ends.")  # fmt: skip


def network_table() -> Table:
    """Curves and meshes, and the analytic model beside the flits."""
    rows = []
    job, few = job_of("gpt2_medium", 1024, "finetune", 32), job_of("gpt2_medium", 4, "prefill", 1)
    for label, curves in (("space-filling curves on ReRAM tiers", True), ("meshes", False)):
        machine = build(few)
        wires = machine.hardware.wires
        net = traffic.network(machine.hardware, curves=curves)
        routes, flows = net.routes(wires), machine.flows(0)[0]
        sent = deliver(net, routes, wires, packets_of(flows, routes, wires))
        said = routes.load(flows, wires).time_s * wires.clock_hz
        extra = simulate(job, CONSTANTS, net).extra
        share = 1e6 * extra["stage_s"]["network"]
        rows.append([label, len(net.links), int(net.pitches.sum()), round(extra["mean_hops"], 2),
                     round(share, 2), sent.cycles, round(said)])  # fmt: skip
    columns = ["network", "links", "wire, pitches", "mean hops", "fullest link, µs a layer",
               "4 tokens flit by flit, cycles", "the model"]  # fmt: skip
    note = "fewbits simulate atleus --design-noc searches for better ones."
    return Table("Networks", columns, rows, note)


def _deploy_j(one: Case) -> float:
    """Energy of loading the weights and programming them."""
    return float(one.result.extra["load_j"] + one.result.extra["programming_j"])


def packing_table() -> Table:
    """What range tables buy here and on a digital stack."""
    ratios = measured()["packing"]
    rows = []
    for name, mode, tokens, batch in (("gpt2_medium", "finetune", 1024, 32),
                                      ("bert_large", "finetune", 512, 32),
                                      ("gpt2_medium", "decode", 512, 1)):  # fmt: skip
        job = job_of(name, tokens, mode, batch)
        given = {"activation_ratio": ratios["activations"]["all"],
                 "weight_ratio": ratios["weights"]["8"]}  # fmt: skip
        plain, packed = case(job), case(job, CONSTANTS.with_values(given))
        stack = "4 systolic tiers, 8 bits"
        rows.append([
            plain.label, *(round(x, 3) for x in (
                plain.result.total_latency_s / packed.result.total_latency_s,
                plain.result.total_energy_j / packed.result.total_energy_j,
                plain.result.extra["stage_s"]["network"]
                / packed.result.extra["stage_s"]["network"],
                _deploy_j(plain) / _deploy_j(packed),
                plain.points[stack].latency_s / packed.points[stack].latency_s,
                plain.points[stack].energy_j / packed.points[stack].energy_j,
            ))
        ])  # fmt: skip
    note = (
        "Ratios measured on MiniLM (benchmarks/atleus.py packing): 8-bit crossbar codes take "
        f"{ratios['weights']['8']:.3f}, 4-bit {ratios['weights']['4']:.3f}, 8-bit inputs of "
        f"products {ratios['activations']['all']:.3f} of their bytes. In Atleus weights cross the "
        "border once, when they are programmed, and programming itself takes more energy; what "
        "packing saves is links and saved activations (whose ratio is taken to be the same). A "
        "stack without ReRAM moves weights for every token and gains more in decoding."
    )
    columns = ["workload", "faster", "less energy", "lighter links", "less energy to deploy",
               "digital stack: faster", "digital stack: less energy"]  # fmt: skip
    return Table("What packing buys, times", columns, rows, note)


def measured_tables() -> list[Table]:
    """What the benchmarks measured."""
    minilm, lora = measured()["minilm"], measured()["lora"]
    rows = [[label, *(round(row[key], 4) for key in ("cosine", "lowest")),
             round(row["neighbour"], 1)] for label, row in minilm["rows"].items()]  # fmt: skip
    return [
        Table(
            f"MiniLM on crossbars: embeddings of {minilm['sentences']} sentences against fp32",
            ["weights", "mean cosine", "lowest", "same nearest neighbour, %"],
            rows,
            f"The rows 'bit by bit' run every product on the functional crossbars, for "
            f"{minilm['few']} sentences. python benchmarks/atleus.py minilm",
        ),
        Table(
            f"A language model trained here on crossbars ({lora['bits']}), adapters of rank "
            f"{lora['rank']}",
            ["model", "next characters right, %"],
            [[label, round(value, 2)] for label, value in lora["rows"].items()],
            "blind: trained without noise; aware: new noise every step, tested on chips never "
            "seen; chip: trained and tested on one chip. python benchmarks/atleus.py lora",
        ),
    ]
