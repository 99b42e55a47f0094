"""Graph networks on a wafer: the poster of Shah et al., remade, and what else one could do.

The poster states three things: PyTorch's dense formulations run on the CS-2, the linear one an
order of magnitude faster than the matmul one; dense storage ends at about 10^5 nodes. The rest here
is what the planner makes of it, beside times measured on the machine that runs the study.
"""

from collections.abc import Sequence

from fewbits.machines.constants import Constants
from fewbits.machines.wafer import (
    FORMULATIONS,
    Layers,
    device,
    fault,
    make_plan,
    memory,
    most_nodes,
    named,
    power_law,
    shape,
    simulate,
)
from fewbits.studies import Advance, Claim, Figure, Lines, Study, Table

LAYERS = Layers(features=64, count=2)
DEGREE = 10
# Where the poster's dense runs end; half of it, and a tenth.
SIZES = (10_000, 50_000, 90_000)
# An order of magnitude: half a decade to either side of 10; "around": half to twice.
DECADE = (3.2, 32.0)
AROUND = (0.5e5, 2e5)
VARIED = ("efficiency", "flop_per_s", "load_bytes_per_s", "bandwidth_bytes_per_s", "steps")
FACTORS = (0.25, 0.5, 2.0, 4.0)
#: Measured: nodes of random graphs. What would take long on a slow machine is left to CSR.
MEASURED = (1_000, 4_000, 20_000, 100_000)
_MOST_BYTES = 0.3e9
STEPS = 3 + len(MEASURED) + 2


def entries(nodes: int) -> int:
    """Of the matrix of a graph of so many nodes."""
    return min(nodes * nodes, nodes * (DEGREE + 1))


def faster(nodes: int, known: Constants) -> float:
    """How many times as long as the linear formulation the matmul one takes on the wafer."""
    graph = shape(nodes, entries(nodes))
    matmul, linear = (
        simulate(name, graph, LAYERS, known).total_latency_s
        for name in ("dense-matmul", "dense-linear")
    )
    return matmul / linear


def study(advance: Advance) -> Study:
    """Remake the poster's statements, plan beyond them, and measure here."""
    known = device("cs2")
    limit = most_nodes("dense-matmul", LAYERS, known, degree=DEGREE)
    claims = [
        Claim("nodes at which dense storage ends", "around 10^5", limit, AROUND, unit="",
              setting="40 GB, fp32"),
        *(
            Claim(f"linear over matmul, {nodes:,} nodes", "an order of magnitude",
                  faster(nodes, known), DECADE, setting=f"{LAYERS.features} features")
            for nodes in SIZES
        ),
    ]  # fmt: skip
    advance(1)
    parts: list[Table | Figure] = [_memory(), _time(known), _sensitivity(known), _picks()]
    advance(2)
    parts += _measured(advance)
    return Study(
        name="wafer",
        title="Graph networks on a wafer",
        source="Shah et al., poster on compression for AI accelerators, with graph networks on the "
        "Cerebras CS-2; no figures but those in its text",
        text=_TEXT,
        claims=claims,
        parts=parts,
        constants=simulate("dense-matmul", shape(1000, 11_000), LAYERS, known).constants,
    )


_TEXT = (
    "A graph convolution multiplies by the graph's matrix. Written as a matrix product, that "
    "matrix is an input of every step and crosses to the wafer each time; written as a linear "
    "layer it is weights, which are loaded once. That is the explanation assumed here: the poster "
    "gives none.",
    "The limit of dense storage follows from capacity alone: the root of 40 GB over 4 bytes. The "
    "speed ratio does not: how much of the wafer's peak such narrow products reach is not known, "
    "and efficiency was chosen so that the ratio is an order of magnitude. The table shows how far "
    "each constant moves it; it can be no more than the steps that share one loading.",
    "Adjacency matrices of large real graphs are more than 99.9 % zeros. A formulation that stores "
    "none of them needs a thousandth of the memory and time, wherever there is one: rows (CSR) on "
    "CPUs and GPUs. On the wafer, dense tiles reach further than dense matrices; sparse products "
    "need kernels in its own language (Becchi, Shah, Di, arXiv 2604.27985: faster than a CPU at "
    "90 % zeros, slower beyond 99 %).",
)


def _memory() -> Lines:
    sizes = [round(10 ** (step / 4)) for step in range(8, 26)]
    found: dict[str, Sequence[tuple[float, float]]] = {
        name: [
            (n, memory(name, shape(n, entries(n)), LAYERS, 4).total / 1e9) for n in sizes
        ]
        for name in FORMULATIONS
    }  # fmt: skip
    found["40 GB of the wafer"] = [(sizes[0], 40), (sizes[-1], 40)]
    return Lines(
        "Memory of a training step", found, "nodes", "GB", log_x=True, log_y=True,
        note=f"{DEGREE} edges a node, {LAYERS.features} features, {LAYERS.count} layers, fp32.",
    )  # fmt: skip


def _time(known: Constants) -> Lines:
    found: dict[str, Sequence[tuple[float, float]]] = {}
    sizes = [round(10 ** (step / 4)) for step in range(8, 22)]
    for name in FORMULATIONS:
        points = []
        for n in sizes:
            graph = shape(n, entries(n))
            if not fault(name, graph, LAYERS, known):
                points.append((n, 1e3 * simulate(name, graph, LAYERS, known).total_latency_s))
        if points:
            found[name] = points
    return Lines("Time of a step on the CS-2", found, "nodes", "ms", log_x=True, log_y=True)


def _sensitivity(known: Constants) -> Table:
    rows: list[list[object]] = [["as stated", "", *(faster(n, known) for n in SIZES)]]
    for name in VARIED:
        for factor in FACTORS:
            value = min(factor * known[name], known.describe(name).high)
            moved = known.with_values({name: value})
            rows.append([name, f"x {factor:g}", *(faster(n, moved) for n in SIZES)])
    return Table(
        "Linear over matmul: what each constant carries",
        ("constant", "", *(f"{n:,} nodes" for n in SIZES)),
        rows,
        note=f"The band is {DECADE[0]:.1f} to {DECADE[1]:.1f}.",
    )


def _picks() -> Table:
    rows = []
    for nodes in (1_000, 20_000, 90_000, 1_000_000):
        graph = shape(nodes, entries(nodes))
        for name in ("cs2", "h100", "cpu"):
            known = device(name)
            if all(fault(f, graph, LAYERS, known) for f in FORMULATIONS):
                rows.append([f"{nodes:,}", name, "none fits", ""])
                continue
            plan = make_plan(graph, LAYERS, known, name=name)
            rows.append([f"{nodes:,}", name, plan.best, plan.reason.split(": ", 1)[1]])
    return Table("What the planner takes", ("nodes", "device", "formulation", "why"), rows)


def _measured(advance: Advance) -> list[Table]:
    """Times on this machine beside those that its own constants predict; none without PyTorch."""
    try:
        from fewbits.machines.wafer import measure
    except ModuleNotFoundError:
        advance(len(MEASURED) + 2)
        return []
    here = measure.calibrate(LAYERS.features)
    random = (power_law(n, degree=DEGREE) for n in MEASURED)
    rows, predicted = [], []
    for graph in (named("karate"), named("les-miserables"), *random):
        timed = measure.measure(graph, LAYERS, most_bytes=_MOST_BYTES)
        plan = make_plan(graph.shape(), LAYERS, here, name="here")
        row: list[object] = [graph.name, f"{graph.entries:,}"]
        row += [one if isinstance(one, str) else 1e3 * one.step_s for one in timed.values()]
        rows.append([*row, plan.best])
        times = {name: 1e3 * result.total_latency_s for name, result in plan.results.items()}
        predicted.append([*row[:2], *(times.get(name, plan.faults.get(name)) for name in timed)])
        advance(1)
    return [
        Table(
            "Measured here: CPU ms of a training step on one core",
            ("graph", "entries", *FORMULATIONS, "the planner takes"),
            rows,
        ),
        Table(
            "The same as the planner predicts it",
            ("graph", "entries", *FORMULATIONS),
            predicted,
            note="By a calibration it knows this machine's rates for large products, small "
            "products, copies, and rows from anywhere; it knows none of the times above.",
        ),
    ]
