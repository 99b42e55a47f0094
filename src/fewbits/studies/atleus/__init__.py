"""Atleus: which of the paper's claims the model gives, beside which baseline, and which not."""

import numpy as np

from fewbits.machines.atleus import work
from fewbits.machines.atleus.baselines import all_constants
from fewbits.machines.atleus.constants import CONSTANTS
from fewbits.machines.atleus.machine import build
from fewbits.machines.atleus.models import find
from fewbits.studies import Advance, Claim, Figure, Study, Table
from fewbits.studies.atleus import tables
from fewbits.studies.atleus.cases import (
    BATCHES,
    DIGITAL,
    NETWORKS,
    PAIR_BESIDE,
    Case,
    all_cases,
    bits_rows,
    case,
    job_of,
    measured,
    one_by_one,
    shown,
    slope,
)

Bits = tables.Bits
STEPS = len(NETWORKS) * len(BATCHES) + 3


def study(advance: Advance) -> Study:
    """Everything the page holds."""
    cases = all_cases(advance)
    bits = bits_rows()
    advance(1)
    fast = [case(one.job, CONSTANTS.with_values({"read_s": 10e-9})) for one in shown(cases)]
    advance(1)
    parts: tuple[Table | Figure, ...] = (
        tables.pair_table(cases),
        tables.envelope(cases),
        tables.losses(cases),
        tables.case_bars(cases, "speed", "How many times faster (above 1 Atleus wins)"),
        tables.case_bars(cases, "energy", "How many times less energy"),
        tables.read_table(shown(cases), fast),
        tables.bits_table(bits),
        tables.bits_lines(bits),
        tables.pipeline(),
        tables.energy_bars(shown(cases)),
        tables.tiers_table(),
        tables.network_table(),
        tables.packing_table(),
        *tables.measured_tables(),
    )
    advance(1)
    used = {c.name: c for one in shown(cases) for c in one.result.constants}
    return Study(
        name="atleus",
        title="Atleus, a stack of ReRAM and systolic tiers, remade",
        source="P. Dhingra, J. R. Doppa, P. P. Pande, Atleus: Accelerating Transformers on the "
        "Edge Enabled by 3D Heterogeneous Manycore Architectures, arXiv:2501.09588, 2025. Its full "
        "text was not at hand: constant by constant the page says what rests on a reader's summary "
        "of it, what on other publications, and what is derived or assumed.",
        text=_text(cases, bits),
        claims=_claims(cases, bits),
        parts=parts,
        constants=(*used.values(), *all_constants()),
    )


def _claims(cases: list[Case], bits: Bits) -> list[Claim]:
    net = find("gpt2_medium")[1]
    lora = 1024 * 32 * 2 * net.hidden
    static, pairs = work.static_macs(net, 1024), 1024 * 1024 * net.attention
    edge = one_by_one(cases)
    speed = max(c.speed(PAIR_BESIDE) for c in edge)
    energy = max(c.energy(PAIR_BESIDE) for c in edge)
    mapping = build(job_of("gpt2_medium", 1024, "prefill", 1)).mapping
    haima = {
        mode: float(np.mean([c.speed("HAIMA-like") for c in edge if c.job.mode == mode]))
        for mode in ("prefill", "finetune")
    }
    beside = f"up to, beside a {PAIR_BESIDE}, one sequence, four networks, 128 to 1024 tokens"
    return [
        Claim("operations on ReRAM, GPT-2 Medium, 1024 tokens", "91.9 %",
              100 * work.share_on_reram(net, 1024, lora), (91.8, 92.0), " %",
              "causal pairs counted once, LoRA once a target"),
        Claim("static products over dynamic ones", "12x", static / pairs, (11.9, 12.1), "x",
              "GPT-2 Medium, 1024 tokens"),
        Claim("24 layers on three tiers at 8 bits", "fit", mapping.fill, (0.9, 1.0), " of all",
              "GPT-2 Medium; tiers inferred"),
        Claim("speedup over a GPU", "up to 56x", speed, (40, 80), "x", beside),
        Claim("energy efficiency over a GPU", "up to 64.5x", energy, (45, 90), "x", beside),
        Claim("GPU's power over Atleus's", "1.15x", energy / speed, (0.75, 1.5), "x",
              "the ratio of the two maxima"),
        Claim("energy of M8F4 over M4F8", "below 1", bits["M8F4"][1] / bits["M4F8"][1],
              (0.5, 0.999), "x", "BERT-large, 512 tokens, no copies"),
        Claim("slope of energy over bits", "below 1, near linear", slope(bits), (0.5, 0.99), "",
              "M8F8, M4F4, M2F2"),
        Claim("HAIMA-like falls back in fine-tuning", "yes", haima["finetune"] / haima["prefill"],
              (1.0, 3.0), "x", "mean ratio in fine-tuning over inference"),
        Claim("accuracy lost on noisy crossbars after noise-aware LoRA", "below 0.5 %", _lora_gap(),
              (-5.0, 0.5), " points", "on the chip itself, 1 % noise of cells, a small model"),
    ]  # fmt: skip


def _lora_gap() -> float:
    """Percent lost against the ideal with noise-aware adapters, at 1 % noise of the cells."""
    rows = measured()["lora"]["rows"]
    ideal = rows["ideal: adapters in fp32, no noise"]
    return float(ideal - rows["cell noise 1 %, chip"])


def _text(cases: list[Case], bits: Bits) -> list[str]:
    edge = one_by_one(cases)
    best = {
        name: (max(c.speed(name) for c in edge), max(c.energy(name) for c in edge))
        for name in edge[0].points
    }
    pair, agx, desk = best[PAIR_BESIDE], best["AGX Orin"], best["300 W desktop"]
    lost = sum(c.speed(DIGITAL) < 1 for c in cases)
    decode = [c.speed(DIGITAL) for c in cases if c.job.mode == "decode"]
    share = [c.result.extra["reram_share_of_energy"] for c in edge]
    return [
        f"The pair 56x and 64.5x: beside a {PAIR_BESIDE}, an edge GPU of 15 W without tensor "
        f"cores, one sequence at a time, the model reaches up to {pair[0]:.0f}x and "
        f"{pair[1]:.0f}x. "
        "Which GPU the paper took is not known to us, and this one of five was found by trying: "
        "that is plausible, not confirmed. Beside an AGX Orin, which has tensor cores, it is up to "
        f"{agx[0]:.1f}x and {agx[1]:.1f}x; beside a 300 W desktop GPU {desk[0]:.1f}x and "
        f"{desk[1]:.0f}x.",
        "Where an all-digital stack wins: with ISAAC's read of 100 ns, four tiers of the same "
        f"systolic arrays are faster in {lost} of {len(cases)} cases, at about the same energy in "
        f"16 bits and with less in 8. Atleus is {min(decode):.1f} to {max(decode):.1f} times as "
        "fast in decoding, where weights never move. A read of 10 ns brings the two about even "
        "(see the table): what decides are two numbers that nobody has published.",
        "Known disagreement: the summary says that ReRAM takes a minority of the energy. Here it "
        f"is {100 * min(share):.0f} to {100 * max(share):.0f} %. With half of ISAAC's tile power "
        "it would be near one half.",
        f"Fewer bits: M8F4 takes {100 * bits['M8F4'][1]:.0f} % of the energy of 8 bits everywhere, "
        f"M4F8 {100 * bits['M4F8'][1]:.0f} %. Where spare crossbars hold copies, 4 bits everywhere "
        "are also nearly twice as fast. What fewer bits do to accuracy is in the measured tables: "
        "without training, MiniLM does not survive 4 bits, since a crossbar's scale is coarser "
        "than a group's of 64.",
    ]
