"""``fewbits trace``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbits.cli import console
from fewbits.cli.errors import about
from fewbits.cli.options import Force, Json, Quiet
from fewbits.cli.user_code import call, fault

EXAMPLE = "fewbits trace model.py:build --data inputs.npy --int8 -o trace.safetensors"


def trace(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="FILE.py:FUNCTION, which gives a torch.nn.Module.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA",
            help="FILE.npy or FILE.npz, its first axis the samples; or FILE.py:FUNCTION, which "
            "gives batches.",
            show_default=False,
        ),
    ],
    dst: Annotated[
        Path, typer.Option("-o", "--output", metavar="DST", help="Where the trace goes.")
    ] = Path("trace.safetensors"),
    samples: Annotated[
        int, typer.Option("--samples", min=1, metavar="N", help="Samples of each layer's input.")
    ] = 9,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize what is in floating point to 8 bits.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Record the weights of a model and samples of what its layers read, as an archive.

    Runs code of the files that are named. `fewbits simulate tensorcore --trace` measures with it.
    """  # fmt: skip
    from fewbits.errors import FewbitsError

    if dst.exists() and not force:
        raise FewbitsError(f"{dst}: exists; --force replaces it")
    try:
        from fewbits import traces

        module = call(model)
        batches = _batches(data, samples)
        with console.progress("tracing", samples, quiet=quiet, steps=True) as advance:
            found = traces.record(
                module, batches, samples=samples, int8=int8, name=Path(model.split(":")[0]).stem,
                advance=advance,
            )  # fmt: skip
    except (FewbitsError, typer.BadParameter):
        raise
    except ModuleNotFoundError as error:
        raise FewbitsError(f"{model}: needs {error.name}, which is not installed") from None
    except Exception as error:
        raise fault(f"{model} with {data}", error) from error
    with about(str(dst)):
        found.save(dst)
        size = dst.stat().st_size
    kept = sum(len(arrays) for arrays in found.inputs.values())
    if as_json:
        console.print_json(
            {"destination": str(dst), "layers": len(found.weights), "samples": kept,
             "bytes": found.nbytes, "packed_bytes": size}
        )  # fmt: skip
    elif not quiet:
        layers = console.plural(len(found.weights), "layer")
        print(
            f"{console.printable(str(dst))}: weights of {layers}, "
            f"{console.plural(kept, 'sample')} of inputs, "
            f"{console.size(found.nbytes)} -> {console.size(size)}"
        )


def _batches(data: str, samples: int) -> Iterator[Any]:
    """Batches of a file: samples one by one, as batches of one."""
    if ":" in data and data.split(":")[0].endswith(".py"):
        yield from call(data)
        return
    import numpy as np
    import torch

    from fewbits.errors import FewbitsError

    with about(data):
        try:
            loaded = np.load(data, allow_pickle=False)
        except (ValueError, EOFError):
            raise FewbitsError(f"{data}: not a .npy or .npz file of plain numbers") from None
    arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    several = isinstance(arrays, dict)
    count = min(len(array) for array in arrays.values()) if several else len(arrays)
    for index in range(min(count, samples)):
        one = slice(index, index + 1)
        if several:
            yield {name: torch.from_numpy(array[one]) for name, array in arrays.items()}
        else:
            yield torch.from_numpy(arrays[one])
