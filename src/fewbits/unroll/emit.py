"""The generated file: parameters, forward, and the training step, as a person would write them."""

from fewbits.unroll.carried import called
from fewbits.unroll.layout import laid_out
from fewbits.unroll.operations.base import show, size
from fewbits.unroll.optimizers import OPTIMIZERS
from fewbits.unroll.program import Line, Program
from fewbits.unroll.schedule import STAYS_PACKED, Schedule, Step


def emit(schedule: Schedule, *, optimizer: str = "none", source: str = "a text model") -> str:
    """A Python file that needs torch and nothing else."""
    program = schedule.program
    parts = [_parameters(program), _forward(program)]
    if program.graph.loss:
        parts.append(_step(schedule, optimizer))
        if optimizer != "none":
            parts.append(OPTIMIZERS[optimizer])
    body = "\n\n\n".join(parts)
    codecs = {
        rest.codec.name: rest.codec for rest in schedule.plan.values() if rest.codec is not None
    }
    used = [codec.source() for name, codec in sorted(codecs.items())]
    carried = "\n\n\n".join([*used, *called("\n".join([body, *used]), program.profile)])
    head = [_docstring(schedule, source), "import torch"]
    whole = f"{body}\n\n\n{carried}" if carried else body
    if "F." in whole:
        head.append("import torch.nn.functional as F")
    return laid_out("\n".join([head[0], "", *head[1:], "", "", whole]).rstrip() + "\n")


def _docstring(schedule: Schedule, source: str) -> str:
    graph, program = schedule.program.graph, schedule.program
    title = graph.title or "A model"
    count = sum(size(p.shape) for p in graph.parameters.values())
    lines = [
        f'"""{title.rstrip(".")[:90]}.',
        "",
        f"Forward and backward written out by `fewbits unroll` from {source}.",
        f"{count:,} parameters. Between forward and backward, activations of "
        f"{human(schedule.resting_bytes)} rest.",
    ]
    if program.profile == "portable":
        lines += [
            "",
            "Portable: matmul, convolution, elementwise operations and gather, of fixed shapes.",
        ]
    return "\n".join([*lines, '"""'])


def _parameters(program: Program) -> str:
    """The function that makes parameters to start with."""
    lines = [
        "def new_parameters(seed=0):",
        '    """Parameters to start with, by name."""',
        "    generator = torch.Generator().manual_seed(seed)",
        "",
        "    def normal(deviation, *shape):",
        "        return torch.randn(shape, generator=generator) * deviation",
        "",
        "    return {",
    ]
    rows = []
    random = False
    for name, parameter in program.graph.parameters.items():
        shape = ", ".join(map(str, parameter.shape))
        if parameter.deviation:
            random = True
            rows.append(f'        "{name}": normal({parameter.deviation:.6g}, {shape}),')
        else:
            made = "ones" if parameter.constant == 1.0 else "zeros"
            rows.append(f'        "{name}": torch.{made}({shape}),')
    if not random:
        del lines[2:7]
    return "\n".join([*lines, *rows, "    }"])


def _forward(program: Program) -> str:
    from fewbits.unroll.program import only

    wanted = [*program.outputs]
    if program.graph.loss:
        wanted.append(program.names[program.graph.loss])
    lines = only(program.plain, wanted)
    used = {name for line in lines for name in line.reads}
    arguments = ["parameters", *(n for n in program.inputs), *(["seed"] if "seed" in used else [])]
    return "\n".join(
        [
            f"def forward({', '.join(arguments)}):",
            f'    """{_returns(wanted)}, by forward alone."""',
            *(["    p = parameters"] if program.graph.parameters else []),
            *(f"    {_read_later(line, used | set(wanted))}" for line in lines),
            f"    return {', '.join(wanted)}",
        ]
    )


def _read_later(line: Line, used: set[str]) -> str:
    """The line, with an underscore before results that nothing reads."""
    writes = [name if name in used else f"_{name}" for name in line.writes]
    return f"{', '.join(writes)} = {line.code}"


def _returns(names: list[str]) -> str:
    text = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
    return text[0].upper() + text[1:]


def _step(schedule: Schedule, optimizer: str) -> str:
    program = schedule.program
    loss = program.names[program.graph.loss or ""]
    seed = ["seed"] if program.seeded else []
    state = [] if optimizer == "none" else ["state"]
    arguments = ["parameters", *state, *program.inputs, *seed]
    rate = [] if optimizer == "none" else ["lr"]
    gives = "The loss and the gradients of the parameters, by name"
    if optimizer != "none":
        gives = "The loss; parameters and state are updated in place"
    lines = [
        "@torch.no_grad()",
        f"def training_step({', '.join([*arguments, *rate])}):",
        f'    """{gives}."""',
        "    p, g = parameters, {}",
        "",
        "    # Forward.",
    ]
    backward = False
    node = ""
    for step in schedule.steps:
        if step.backward and not backward:
            backward = True
            lines += ["", "    # Backward."]
        elif step.kind == "line" and _part(step.line.node) != node and node:
            lines.append("")
        if step.kind == "line":
            node = _part(step.line.node)
        lines += _written(schedule, step)
    if optimizer == "none":
        return "\n".join([*lines, f"    return {loss}, g"])
    return "\n".join([*lines, "", "    update(p, g, state, lr)", f"    return {loss}"])


def human(count: float) -> str:
    """Bytes in SI units: ``8.4 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _part(node: str) -> str:
    """The block that a node is in; lines of another part stand apart."""
    return node.rpartition(".")[0]


def _written(schedule: Schedule, step: Step) -> list[str]:
    program, line = schedule.program, step.line
    # What is written and never read has no use but to take its place on the left.
    if step.kind == "pack":
        before, after = program.variables[step.name].nbytes, schedule.resting[step.name]
        text = f"    {line.text}  # {human(before)} -> {human(after)}"
    else:
        text = f"    {line.text}{_comment(program, line, step)}"
    frees = [name for name in step.frees if name != program.names.get(program.graph.loss or "")]
    return [text, *([f"    del {', '.join(sorted(frees))}"] if frees else [])]


def _comment(program: Program, line: Line, step: Step) -> str:
    name = line.writes[0]
    if step.backward and step.kind == "line" and name.startswith(("d_", "g[")):
        return ""
    variable = program.variables.get(name)
    if variable is None or size(variable.shape) < 2:
        return ""
    held = "packed" if line.code.startswith(STAYS_PACKED) else human(variable.nbytes)
    return f"  # {show(variable.shape)}, {held}"
