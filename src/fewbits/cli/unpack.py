"""``fewbits unpack``."""

from pathlib import Path

import typer

from fewbits.cli import console
from fewbits.cli.errors import about
from fewbits.cli.options import (
    LOCAL,
    Base,
    Destination,
    Engine,
    Force,
    Json,
    Quiet,
    Ratios,
    Source,
    Threads,
    Workers,
    total_bytes,
)
from fewbits.cli.outcome import tell
from fewbits.cli.pack import INDEX_SUFFIX, MARK, SUFFIX

EXAMPLE = (
    "fewbits unpack packed.safetensors -o model.safetensors\n\n"
    "fewbits unpack step2000.fewbits.safetensors --base run/step1000.safetensors"
)


def unpack(
    src: Source,
    dst: Destination = None,
    base: Base = None,
    force: Force = False,
    threads: Threads = None,
    workers: Workers = None,
    engine: Engine = LOCAL,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Unpack what pack made: the original files, byte for byte.

    Without -o, model.fewbits.safetensors becomes model.safetensors and a folder X.fewbits
    becomes X. If a folder is not finished, the same command goes on where it ended.

    What was packed with --base needs that base, in any form: the original or packed. It is found
    if it lies beside SRC under the name it had.
    """
    from fewbits.files import unpack_path

    target = dst or default_destination(src)
    watch = console.Stopwatch()
    total = total_bytes(src)
    with about(src, target), console.progress("unpacking", total, quiet=quiet) as advance:
        ratios = Ratios(advance, by_packed=True)
        totals = unpack_path(
            src,
            target,
            threads=threads,
            force=force,
            progress=ratios,
            workers=workers,
            engine=engine.value,
            base=base or (),
        )
    tell(src, target, totals, watch.seconds, as_json=as_json, quiet=quiet)


def default_destination(src: str) -> str:
    """Where ``unpack`` writes when it is not told; usage error if the name does not say."""
    path = Path(src)
    name = path.name
    if "://" not in src:
        if name.endswith(MARK + SUFFIX):
            return str(path.with_name(name.removesuffix(MARK + SUFFIX) + SUFFIX))
        if name.endswith(MARK) and name != MARK:
            return str(path.with_name(name.removesuffix(MARK)))
    kind = "an index" if name.endswith(INDEX_SUFFIX) else f"{src!r}"
    raise typer.BadParameter(f"{kind} needs -o DST: its name does not end in {MARK}{SUFFIX}")
