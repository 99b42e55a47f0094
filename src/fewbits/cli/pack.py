"""``fewbits pack``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

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

EXAMPLE = (
    "fewbits pack model.safetensors -o packed.safetensors\n\n"
    "fewbits pack checkpoint -o s3://bucket/packed --workers 4\n\n"
    "fewbits pack step2000.safetensors --base step1000.safetensors"
)
MARK = ".fewbits"
SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"


class _Effort(StrEnum):
    FAST = "fast"
    SMALL = "small"


class _Coder(StrEnum):
    RANS = "rans"
    ARITHMETIC = "arithmetic"


class _Search(StrEnum):
    OPTIMAL = "optimal"
    PAPER = "paper"


def pack(
    src: Source,
    dst: Destination = None,
    base: Base = None,
    force: Force = False,
    threads: Threads = None,
    workers: Workers = None,
    engine: Engine = LOCAL,
    effort: Annotated[
        _Effort, typer.Option(help="fast, or small to try all that may save a little.")
    ] = _Effort.FAST,
    rows: Annotated[
        int | None,
        typer.Option(help="Most rows a range table may have.", show_default="16; small: 64"),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            help="Most classes of rows, each with a table of its own.", show_default="8; small: 16"
        ),
    ] = None,
    count_bits: Annotated[
        int | None,
        typer.Option(
            metavar="M", help="Counts out of 2^M (default: tries several).", show_default=False
        ),
    ] = None,
    coder: Annotated[_Coder, typer.Option(help="What turns rows into bits.")] = _Coder.RANS,
    search: Annotated[_Search, typer.Option(help="How tables are found.")] = _Search.OPTIMAL,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack a safetensors file or a folder of them, bit for bit.

    Without -o, model.safetensors becomes model.fewbits.safetensors and a folder X becomes
    X.fewbits. Every tensor is unpacked again and compared before the result takes its name.

    With --workers, processes share the files of a folder, or the tensors of a file, and the result
    is the same. If a folder is not finished, the same command goes on where it ended. SRC and DST
    may be URLs that fsspec knows.

    With --base, an earlier checkpoint (packed or not; a folder for a folder), only what changed
    since is packed, where that is smaller. Unpacking then needs the base: it is found if it lies
    beside the result under the name it had, else say --base again.
    """
    from fewbits.files import pack_path
    from fewbits.lossless.choose import Lossless

    try:
        codec = Lossless(
            coder="rans" if coder is _Coder.RANS else "arithmetic",
            effort="fast" if effort is _Effort.FAST else "small",
            rows=rows,
            classes=classes,
            count_bits=count_bits,
            search="optimal" if search is _Search.OPTIMAL else "paper",
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    target = dst or default_destination(src)
    watch = console.Stopwatch()
    with about(src, target), console.progress("packing", total_bytes(src), quiet=quiet) as advance:
        ratios = Ratios(advance, by_packed=False)
        totals = pack_path(
            src,
            target,
            codec=codec,
            threads=threads,
            force=force,
            progress=ratios,
            workers=workers,
            engine=engine.value,
            base=base or (),
        )
    seconds, mean = watch.seconds, ratios.mean
    tell(src, target, totals, seconds, mean_ratio=mean, as_json=as_json, quiet=quiet)


def default_destination(src: str) -> str:
    """Where ``pack`` writes when it is not told."""
    if "://" in src:
        raise typer.BadParameter("a remote source needs -o DST")
    path = Path(src)
    if path.name.endswith(INDEX_SUFFIX):
        return str(path.with_name(path.name.removesuffix(INDEX_SUFFIX) + MARK))
    if path.is_dir():
        whole = path if path.name not in ("", "..") else path.resolve()
        return str(whole.with_name(whole.name + MARK))
    return str(path.with_name(path.name.removesuffix(SUFFIX) + MARK + SUFFIX))
