"""What Atleus has to say beside time, energy and traffic: fit, stages, network, heat, wear."""

from typing import TYPE_CHECKING, Any

from fewbits.machines.atleus import work
from fewbits.machines.atleus.heat import Heat
from fewbits.machines.atleus.mapping import matrices
from fewbits.machines.atleus.pipeline import balance

if TYPE_CHECKING:
    from fewbits.machines.atleus.machine import Cost, Machine

_ZERO_C = 273.15


def extra_of(
    machine: "Machine",
    passes: list["Cost"],
    latency_s: float,
    energy: dict[str, float],
    heat: Heat,
) -> dict[str, Any]:
    """The fields ``extra`` and ``notes`` of a result; ``energy`` is a layer's."""
    job, mapping = machine.job, machine.mapping
    forward = passes[0]
    step = 1 if job.mode == "decode" else job.tokens
    total_j = sum(energy.values())
    extra: dict[str, Any] = {
        "share_on_reram": _share_on_reram(machine, forward),
        "power_w": total_j * job.net.layers / latency_s,
        "reram_share_of_energy": (energy["reram"] + energy["dequantize"]) / total_j,
        "tokens_per_s": job.batch * step / latency_s,
        "crossbars_needed": mapping.needed,
        "crossbars": machine.hardware.crossbars,
        "copies": mapping.copies,
        "fill": mapping.fill,
        **_stages(machine, forward),
        "kernel_macs": {
            kind: job.batch * job.net.layers * sum(cost.macs[kind] for cost in passes)
            for kind in forward.macs
        },
        **_heat(heat),
        **_wear(machine, latency_s),
        **_deployment(machine),
    }
    return {"extra": extra, "notes": tuple(_notes(machine, extra))}


def _share_on_reram(machine: "Machine", forward: "Cost") -> float:
    job = machine.job
    if job.mode == "decode":
        return forward.macs["reram"] / sum(forward.macs.values())
    return work.share_on_reram(job.net, job.tokens, forward.macs["adapters"])


def _stages(machine: "Machine", forward: "Cost") -> dict[str, Any]:
    """What each resource takes for a layer and a sequence, and the network's figures."""
    hardware, network = machine.hardware, forward.network
    bits_per_s = hardware.wires.flit_bits * hardware.wires.clock_hz
    full = network.fullest_bits / machine.job.net.layers if network else 0.0
    stages = {
        "reram": forward.reram_s,
        "systolic": forward.systolic_s,
        "network": full / bits_per_s,
        "memory": sum(forward.memory_bytes.values()) / hardware.constants["hbm_bytes_per_s"],
    }
    return {
        "stage_s": stages,
        "balance": balance(list(stages.values())),
        "mean_hops": network.mean_hops if network else 0.0,
        "links": len(machine.network.links),
    }


def _heat(heat: Heat) -> dict[str, Any]:
    """Temperatures in C, power in W."""
    return {
        "hottest_c": heat.hottest_k - _ZERO_C,
        "hottest_reram_c": heat.reram_k - _ZERO_C,
        "read_noise": heat.read_noise,
        "tier_c": (heat.temperature_k.max((1, 2)) - _ZERO_C).tolist(),
        "tier_w": heat.power_w.sum((1, 2)).tolist(),
        "core_c": (heat.temperature_k - _ZERO_C).tolist(),
        "core_w": heat.power_w.tolist(),
    }


def _wear(machine: "Machine", latency_s: float) -> dict[str, Any]:
    """Writes of a cell in one run, and how long the cells last if the job repeats.

    ``keys_in_reram_lifetime_s``: if keys and values stood in ReRAM, written once a sequence.
    """
    crossbar, writes = machine.hardware.crossbar, _writes_a_cell(machine)
    return {
        "reram_writes_a_cell": writes,
        "lifetime_s": crossbar.lifetime_s(writes / latency_s),
        "keys_in_reram_lifetime_s": crossbar.lifetime_s(machine.job.batch / latency_s),
    }


def _deployment(machine: "Machine") -> dict[str, Any]:
    """Loading the weights, packed, and programming them, which is not."""
    mapping, net, c = machine.mapping, machine.job.net, machine.hardware.constants
    crossbar = machine.hardware.crossbar
    bits = [(matrix.weights, mapping.bits(matrix)) for matrix in matrices(net)]
    load_bytes = c["weight_ratio"] * net.layers * sum(n * width / 8 for n, width in bits)
    programmed_j = sum(crossbar.programming(n, width).energy_j for n, width in bits)
    return {
        "programming_j": mapping.written * net.layers * programmed_j,
        "load_bytes": load_bytes,
        "load_s": load_bytes / c["hbm_bytes_per_s"],
        "load_j": load_bytes * 8 * c["hbm_j_per_bit"],
    }


def _writes_a_cell(machine: "Machine") -> float:
    """Writes of a cell in one run of the job: none but where all weights are trained."""
    trained = machine.job.trained
    full = trained is not None and trained.tuning == "full"
    return float(machine.hardware.crossbar.write_pulses) if full else 0.0


def _notes(machine: "Machine", extra: dict[str, Any]) -> list[str]:
    job = machine.job
    notes = [
        f"{100 * extra['share_on_reram']:.1f} % of the products run on ReRAM; weights fill "
        f"{extra['crossbars_needed']} of {extra['crossbars']} crossbars"
        + (f", {extra['copies']} copies" if extra["copies"] > 1 else ""),
        "a layer and sequence: "
        + ", ".join(f"{name} {1e6 * s:.1f} us" for name, s in extra["stage_s"].items()),
        f"{extra['power_w']:.1f} W; hottest core {extra['hottest_c']:.1f} C, "
        f"hottest ReRAM core {extra['hottest_reram_c']:.1f} C",
    ]
    if extra["hottest_c"] > machine.hardware.constants["most_k"] - _ZERO_C:
        notes.append(
            "warning: hotter than the model reaches; a better heat sink or a slower clock is needed"
        )
    if job.trained is not None:
        if job.trained.tuning == "full":
            notes.append(
                f"training all weights writes every cell {extra['reram_writes_a_cell']:g} times a "
                f"step: worn out after {duration(extra['lifetime_s'])}"
            )
        else:
            notes.append(
                "no cell is written while adapters are trained; keys and values written to ReRAM "
                f"would wear it out in {duration(extra['keys_in_reram_lifetime_s'])}"
            )
    return notes


def duration(seconds: float) -> str:
    """``5.5 hours``, in the unit that fits."""
    for unit, length in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
