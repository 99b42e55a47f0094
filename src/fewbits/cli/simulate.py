"""``fewbits simulate``: one sub-command a machine.

A machine's sub-command is a function of the machine's name in ``cli/simulate_NAME.py``, beside its
``EXAMPLE``. It is found by the name of its file.
"""

import importlib
import pkgutil
from typing import Annotated

import typer

import fewbits.cli

_PREFIX = "simulate_"

EXAMPLE = "fewbits simulate tensorcore --network resnet50 --weights 0.60 --activations 0.48"

simulate = typer.Typer(
    name="simulate",
    help="Ask a model of a machine what packing changes: time, energy, traffic.",
    epilog=f"Example:  {EXAMPLE}",
)
for _module in sorted(module.name for module in pkgutil.iter_modules(fewbits.cli.__path__)):
    if _module.startswith(_PREFIX):
        _machine = importlib.import_module(f"fewbits.cli.{_module}")
        _command = getattr(_machine, _module.removeprefix(_PREFIX))
        simulate.command(
            help="\n\n".join(" ".join(p.split()) for p in (_command.__doc__ or "").split("\n\n")),
            epilog=f"Example:  {_machine.EXAMPLE}",
        )(_command)


@simulate.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    list_networks: Annotated[
        bool, typer.Option("--list-networks", help="List the networks that come along.")
    ] = False,
) -> None:
    if list_networks:
        _print_networks()
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _print_networks() -> None:
    from rich.table import Table

    from fewbits.cli import console
    from fewbits.machines import networks

    table = Table(box=None, pad_edge=False)
    for head in ("network", "MMAC", "weights", "from"):
        table.add_column(head, justify="right" if head in ("MMAC", "weights") else "left")
    for name in networks.names():
        net = networks.load(name)
        weights = sum(op.weights if op.stored is None else op.stored for op in net.operations)
        made_by = networks.about(name).made_by
        table.add_row(name, f"{net.macs / 1e6:,.1f}", f"{weights / 1e6:,.2f} M", made_by)
    console.show(console.stdout(), table)
