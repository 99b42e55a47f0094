"""The workloads of the study, and what Atleus and every baseline take for each."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any

import numpy as np

from fewbits.machines.atleus import work
from fewbits.machines.atleus.baselines import Point, all_points
from fewbits.machines.atleus.constants import CONSTANTS
from fewbits.machines.atleus.machine import Job, simulate
from fewbits.machines.atleus.mapping import check_targets, mixed_bits
from fewbits.machines.atleus.models import find
from fewbits.machines.constants import Constants
from fewbits.machines.result import Result
from fewbits.studies import Advance

NETWORKS = ("roberta_base", "bert_large", "gpt2_medium", "bloom_560m")
TOKENS = (128, 512, 1024)
BATCHES = (1, 32)
BITS = ("M8F8", "M8F4", "M4F8", "M4F4", "M2F2")
#: Beside this GPU, one sequence at a time, the paper's pair of numbers comes out.
PAIR_BESIDE = "Jetson TX2"
PAPER_SPEED, PAPER_ENERGY = 56.0, 64.5
DIGITAL = "4 systolic tiers, 16 bits"


@dataclass(frozen=True)
class Case:
    """A job with what Atleus and every baseline take for it."""

    job: Job
    result: Result
    points: dict[str, Point]

    def speed(self, name: str) -> float:
        """How many times faster Atleus is."""
        return self.points[name].latency_s / self.result.total_latency_s

    def energy(self, name: str) -> float:
        """How many times less energy Atleus takes."""
        return self.points[name].energy_j / self.result.total_energy_j

    @property
    def label(self) -> str:
        """Network, mode, tokens, batch."""
        job = self.job
        return f"{job.name} {job.mode} {job.tokens}" + (f" x {job.batch}" * (job.batch > 1))


def job_of(name: str, tokens: int, mode: str, batch: int) -> Job:
    """A job; fine-tuning with LoRA of rank 32 on query and value, as the paper's."""
    _, net = find(name)
    trained = None
    if mode == "finetune":
        trained = work.Trained("lora", 32, check_targets(("query", "value"), net))
    return Job(name, net, tokens, batch, mode, trained)  # type: ignore[arg-type]


def case(job: Job, constants: Constants = CONSTANTS) -> Case:
    """Run a job everywhere."""
    return Case(job, simulate(job, constants), all_points(job, constants))


@cache
def measured() -> dict[str, Any]:
    """What ``benchmarks/atleus.py --write`` measured."""
    text = (resources.files(__package__) / "measured.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def all_cases(advance: Advance) -> list[Case]:
    """Every network, length, batch and mode; ``advance(1)`` after each network and batch."""
    cases: list[Case] = []
    for name, batch in product(NETWORKS, BATCHES):
        net = find(name)[1]
        lengths = [tokens for tokens in TOKENS if tokens <= net.positions]
        modes = ("prefill", "finetune", "decode") if net.causal else ("prefill", "finetune")
        cases += [case(job_of(name, t, mode, batch)) for t in lengths for mode in modes]
        advance(1)
    return cases


def shown(cases: list[Case]) -> list[Case]:
    """One or two for each mode, for tables that compare settings."""
    wanted = {
        ("bert_large", "prefill", 512, 1),
        ("gpt2_medium", "prefill", 1024, 1),
        ("gpt2_medium", "finetune", 1024, 1),
        ("gpt2_medium", "finetune", 1024, 32),
        ("gpt2_medium", "decode", 512, 1),
    }
    return [c for c in cases if (c.job.name, c.job.mode, c.job.tokens, c.job.batch) in wanted]


def one_by_one(cases: list[Case]) -> list[Case]:
    """Inference and fine-tuning of one sequence, the paper's kind of workload."""
    return [c for c in cases if c.job.batch == 1 and c.job.mode != "decode"]


def bits_rows() -> dict[str, tuple[float, float]]:
    """Time and energy by bits, relative to M8F8, with one copy of the weights for each."""
    found = {}
    for text in BITS:
        attention, feedforward = mixed_bits(text)
        given = {"attention_bits": attention, "feedforward_bits": feedforward, "most_copies": 1}
        result = simulate(job_of("bert_large", 512, "prefill", 1), CONSTANTS.with_values(given))
        found[text] = (result.total_latency_s, result.total_energy_j)
    whole = found["M8F8"]
    return {text: (s / whole[0], j / whole[1]) for text, (s, j) in found.items()}


def slope(bits: dict[str, tuple[float, float]]) -> float:
    """Of energy over bits, both relative to 8."""
    points = [(0.25, bits["M2F2"][1]), (0.5, bits["M4F4"][1]), (1.0, bits["M8F8"][1])]
    share, energy = np.array(points).T
    return float(np.polyfit(share, energy, 1)[0])
