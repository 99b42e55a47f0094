"""``fewbits verify``."""

import sys
from typing import Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import EXIT_FAILURE, about
from fewbits.cli.options import (
    LOCAL,
    Base,
    Engine,
    Json,
    Quiet,
    Ratios,
    Source,
    Threads,
    Workers,
    total_bytes,
)

EXAMPLE = "fewbits verify packed.safetensors"


def verify(
    src: Source,
    base: Base = None,
    threads: Threads = None,
    workers: Workers = None,
    engine: Engine = LOCAL,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode every tensor of packed files and check every checksum; writes nothing.

    Goes on after a damaged file, so that one run over a folder tells about all of them. What was
    packed with --base is checked together with its base.
    """
    from fewbits.errors import FewbitsError
    from fewbits.files import verify_each

    results: list[dict[str, Any]] = []
    with about(src), console.progress("verifying", total_bytes(src), quiet=quiet) as advance:
        for file in verify_each(
            src,
            threads=threads,
            progress=Ratios(advance, by_packed=True),
            workers=workers,
            engine=engine.value,
            base=base or (),
        ):
            found: dict[str, Any] = {"path": file.path, "ok": True, "error": None}
            try:
                with about(file.path):
                    if file.error:
                        raise file.error
                found |= {
                    "tensors": file.tensors,
                    "deltas": file.deltas,
                    "bytes": file.bytes_in,
                    "plain_bytes": file.bytes_out,
                }
            except FewbitsError as error:
                found |= {"ok": False, "error": str(error)}
            results.append(found)
    fine = all(found["ok"] for found in results)
    if as_json:
        console.print_json({"ok": fine, "files": results})
    for found in results:
        if not found["ok"]:
            print(f"fewbits: error: {' '.join(found['error'].splitlines())}", file=sys.stderr)
        elif not (quiet or as_json):
            print(
                f"OK  {console.printable(found['path'])}: "
                f"{console.plural(found['tensors'], 'tensor')}, "
                f"{console.size(found['bytes'])}, {console.size(found['plain_bytes'])} unpacked"
            )
    if not fine:
        raise typer.Exit(EXIT_FAILURE)
